//! Handshakes over in-memory pipes, between our own sides and against peers
//! that break the rules.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod certificates;
mod clocks;
mod handshakes;
mod hellos;
mod hostile;
mod huge;
mod names;
mod resumption;
mod rotations;
mod sessions;
mod versions;
