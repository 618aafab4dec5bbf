//! What the client does, and what client and back end have in common.

pub(crate) mod bulk;
pub(crate) mod carrier;
pub(crate) mod closed;
pub(crate) mod handshakes;
pub(crate) mod idle;
pub(crate) mod open;
pub(crate) mod payload;
pub(crate) mod requests;
pub(crate) mod session;
pub(crate) mod short;
pub(crate) mod window;
