//! Mutual TLS between the mesh's programs: who we are, whom we trust, and the
//! handshake that turns a byte stream into a stream with a verified peer.
//!
//! TLS 1.3 only, aws-lc-rs only, no resumption, no early data, ALPN required.
//! A peer is known by the one SPIFFE id in its leaf certificate, and its chain
//! is checked against the bundle of *that id's* trust domain, never against a
//! pool of all roots.
//!
//! This crate issues nothing (mesh-control does), reads no file and opens no
//! socket: bundles, certificates and byte streams come in. It is the only user
//! of rustls in the workspace.
//!
//! rustls shakes hands; what is said afterwards is sealed and opened here, with
//! aws-lc's ciphers and rustls's keys, since a sidecar does little else.
//!
//! Main types: [`Tls`], the replaceable certificate and trust with the four
//! handshakes; [`Session`], what comes of them; [`Trust`], the bundles by trust domain; [`Certificate`] and
//! [`KeyRequest`], our own identity; [`Clock`], the time that all of them go by.

mod buffers;
mod certificate;
mod chain;
mod clock;
mod configs;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshake;
mod leaf;
mod provider;
mod records;
mod session;
mod tls;
mod trust;
mod verify;

pub use certificate::{Certificate, InvalidCertificate, KeyGenerationFailed, KeyRequest};
pub use chain::PeerChain;
pub use clock::Clock;
pub use error::{Refusal, TlsError};
pub use session::Session;
pub use tls::{HANDSHAKE_TIMEOUT, Tls};
pub use trust::{InvalidBundle, RootCertificate, Trust, fingerprint, parse_bundle};

/// ALPN of the transport between sidecars and gateways.
pub const ALPN_MESH: &[u8] = b"mesh/1";

/// ALPN of HTTP/2, which the gRPC ports of mesh-control speak.
pub const ALPN_H2: &[u8] = b"h2";
