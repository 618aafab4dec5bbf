//! What our programs say to each other: the messages and services of
//! `mesh.v1` (`proto/mesh/v1/mesh.proto`), and their conversions from and to
//! the types of `mesh-core`.
//!
//! It re-uses the messages of `linkerd2-proxy-api` where they fit, and does no
//! I/O: clients and servers are in `mesh-dataplane` and `mesh-control`.
//!
//! Main modules: [`v1`], the generated code, and [`convert`].

pub mod convert;

/// Generated from `proto/mesh/v1/mesh.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic
)]
pub mod v1 {
    include!("gen/mesh.v1.rs");
}
