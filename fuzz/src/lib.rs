//! What has to hold for every input, as functions of bytes: they panic when it
//! does not. libFuzzer looks for such bytes; `tools/fuzz` runs it.
//!
//! Each module is one target. The first bytes of an input choose what is tried,
//! the others are what comes from the network. The same input always does the
//! same.

pub mod certificate;
pub mod chain;
pub mod head;
pub mod hpack;
pub mod http1;
pub mod http2;
pub mod names;
pub mod pair;
pub mod session;
pub mod wire;

mod choices;
mod endure;
mod rules;
mod side;
