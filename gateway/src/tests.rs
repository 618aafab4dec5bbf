//! The whole gateway on loopback: real TLS, real HTTP/2, the table and the
//! links set by the test.

mod blind;
mod exports;
mod peers;
mod probed;
mod refused;
mod rotation;
mod tunnels;
mod withdrawn;
mod world;
