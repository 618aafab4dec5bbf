//! The whole gateway on loopback: real TLS, real HTTP/2, the table and the
//! links set by the test.

mod peers;
mod probed;
mod refused;
mod tunnels;
mod withdrawn;
mod world;
