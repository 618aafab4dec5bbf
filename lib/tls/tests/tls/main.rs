//! Handshakes over in-memory pipes, between our own sides and against peers
//! that break the rules.

mod certificates;
mod handshakes;
mod hostile;
mod names;
mod versions;
