//! What others have written, through a pair of the product's sidecars: client, A,
//! mutual TLS, B, server, in two network namespaces. Needs root, `ip`, and the
//! programs that `tools/install-peers pairs` gets:
//!
//!     cargo build --profile quick -p mesh-proxy -p mesh-redirect -p mesh-gateway
//!     cargo test --profile quick -p mesh-interop --features netns --test pairs
//!
//! Each test starts a pair of its own and reports cases. All results are written
//! to `interop/results.txt` in cargo's target folder. A case that fails has to be in
//! `known-failures.txt` with the reason, and one that is there has to fail.

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, not in their helpers"
)]

mod apache;
mod attacks;
mod bytes;
mod content;
mod crossing;
mod curl;
mod envoy;
mod grpc;
mod h2load;
mod h2spec;
mod haproxy;
mod hostile;
mod http2;
mod messages;
mod nginx;
mod origin;
mod ours;
mod place;
mod postgres;
mod quiet;
mod redis;
mod report;
mod software;
mod streams;
mod tls;
mod tunnels;
mod web;
mod wire;
