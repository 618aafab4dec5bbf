//! The data path's HTTP/1 and HTTP/2 (RFC 9110, 9112, 9113, 7541, 8441), as
//! protocol cores without I/O: bytes and the time go in, events and bytes come
//! out.
//!
//! It opens no socket, starts no task, reads no clock and keeps no input: a
//! driver does that. It does not route, retry or authorize either; it decides
//! what is a message, how much of it may come, and when a peer does too much.
//! It is strict: what two readers could read differently is refused.
//!
//! Main items: [`connection::Connection`], the same for both versions and both
//! roles; [`head::Head`], one request or answer; [`event::Event`];
//! [`limits::Limits`], everything that is bounded.

pub mod connection;
pub mod event;
pub mod fault;
mod h1;
mod h2;
pub mod head;
pub mod limits;
mod output;
mod raw;
