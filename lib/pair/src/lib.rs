//! A pair of sidecars: client, outbound proxy A, mutual TLS, inbound proxy B,
//! and a server; A in one network namespace, B in another, joined by a veth.
//! The proxies are the product's own programs, redirected to as in a pod, and
//! what they know comes from a scripted control plane that speaks the real API.
//! Needs root and `ip`.
//!
//! For tests from outside and for the bench, never for what is shipped. It
//! starts no client, no server and no cluster.
//!
//! Main types: [`pair::Pair`], all of it; [`namespace::Site`], the place alone;
//! [`control::ControlPlane`], who tells sidecars what they know;
//! [`process::Program`], a program that ends with its owner.

pub mod capture;
pub mod control;
pub mod identity;
pub mod namespace;
pub mod pair;
pub mod process;
pub mod sidecar;
pub mod wait;
