//! The whole gateway on loopback: real TLS, real HTTP/2, the table and the
//! links set by the test.

mod blind;
mod carried;
mod exports;
mod far;
mod limits;
mod peers;
mod probed;
mod refused;
mod rotation;
mod tunnels;
mod withdrawn;
mod workers;
mod world;
