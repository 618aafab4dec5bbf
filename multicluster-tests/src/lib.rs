//! The lab: real Kubernetes clusters on one Linux machine, joined by a network
//! namespace that plays the internet.
//!
//! It starts and stops clusters, makes images of the workspace's programs,
//! opens ports between clusters, captures what crosses and makes their paths
//! bad. It is no part of the product, and it talks to nothing but this machine
//! and the package registries.
//!
//! Main types: [`lab::Lab`], [`cluster::Cluster`], [`capture::Capture`],
//! [`fault::path::PathFault`].

pub mod addresses;
pub mod agent;
pub mod binaries;
pub mod capture;
pub mod cluster;
pub mod command;
pub mod demo;
pub mod fault;
pub mod gateway_api;
pub mod images;
pub mod lab;
pub mod machine;
pub mod network;
pub mod paths;
mod pki;
pub mod preflight;
mod process;
pub mod relay;
mod teardown;
pub mod third_party;
