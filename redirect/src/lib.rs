//! Redirects a pod's TCP traffic to its sidecar: writes nftables rules into
//! the network namespace that it runs in, and ends.
//!
//! It runs no other program and needs none in its image: the rules are
//! encoded here and given to the kernel by netlink in one transaction, so that
//! a pod has all of them or none. A second run leaves the same rules. It does
//! not touch UDP, nor any table but `inet mesh`, and it does not watch what
//! becomes of its rules.
//!
//! Main items: [`config::Config`], [`rules::ruleset`] (which rules),
//! [`encode::encode`] (as bytes), [`kernel::install`].

pub mod config;
pub mod encode;
pub mod kernel;
pub mod rules;
