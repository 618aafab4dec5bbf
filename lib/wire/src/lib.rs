//! Bytes and headers, decided without I/O: what protocol a connection speaks,
//! and what travels on `mesh/1`, the transport between our programs.
//!
//! It reads no socket and keeps no state: callers pass the bytes or the header
//! map they have, and ask again when they have more.
//!
//! Main items: [`detect::detect`] and [`hello::client_hello`], the names and values
//! in [`mesh1`], and what must be taken out of a message before it goes on, in
//! [`forward`].

pub mod detect;
pub mod forward;
pub mod hello;
pub mod mesh1;
