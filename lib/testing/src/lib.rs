//! What the tests of several crates, and the bench, need. Else only ever a
//! dev-dependency: it panics on every surprise.
//!
//! Main type: [`ca::TestRoot`], a root of trust that issues good certificates,
//! and bad ones on request; [`dns::TestDns`], a name server that says what it is
//! told to; [`peers::program`], a program of others; [`chance::Chance`], numbers.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used)]

pub mod ca;
pub mod chance;
pub mod dns;
pub mod peers;
