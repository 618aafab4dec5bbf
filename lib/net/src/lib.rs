//! TCP as the data path wants it: listeners, accept loops that survive a lack
//! of file descriptors, connections shared out among threads, the original
//! destination of redirected connections, and socket options.
//!
//! It knows no protocol and no configuration. All of it is safe code; a
//! `splice` of sockets would be the first thing here to need more.
//!
//! Main items: [`listen::listen`], [`accept::Acceptor`], [`spread::Spread`],
//! [`original::original_destination`], [`replay::Replay`], [`discard::poll_discard`],
//! [`pass_writes!`].

pub mod accept;
pub mod discard;
pub mod listen;
pub mod original;
mod pass;
pub mod replay;
pub mod socket;
pub mod spread;
