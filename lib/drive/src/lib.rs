//! Sockets for the data path's protocol cores (`mesh-http`), on tokio.
//!
//! Each connection has one task, its *driver*: it reads and writes the socket,
//! once per wake-up, and keeps the deadlines. What comes on a stream goes into
//! the hands of whoever holds its [`exchange::Exchange`], or straight on to the
//! stream of another connection it was joined to: no task, no queue and no copy
//! but into that connection's output lies between.
//!
//! A connection whose output has grown wakes its driver, which runs behind the
//! tasks that are due already, so that what they say is written together. What
//! it holds is lent: the buffer that is read into belongs to the thread, and one
//! to write from is kept only while there is something in it.
//!
//! All connections that are joined to each other belong to one thread's runtime:
//! what comes is passed on in the order in which it came because nobody else runs
//! between. A program with several threads has connections of its own on each, and
//! a connection belongs to the thread that it was made on; streams that are not
//! joined may be used on any.
//!
//! It does not route, retry or authorize, and opens no socket.
//!
//! Main items: [`conduit`], connections of each kind; [`exchange::Exchange`],
//! one request and its answer, or one stream of bytes; [`stream::ByteStream`],
//! the same as a socket for code that wants one; [`buffers`], where what was
//! lent is given back.

pub mod buffers;
pub mod conduit;
mod crumbs;
mod driver;
pub mod exchange;
mod growth;
mod join;
mod passing;
mod patience;
pub mod ping;
mod protocols;
mod slot;
pub mod socket;
pub mod stream;
