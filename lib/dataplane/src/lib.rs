//! What proxy, gateway, mirror and control plane share towards the mesh: a
//! program's identity and its streams from the control plane, tunnels through
//! gateways, and pooled `mesh/1` connections to sidecars.
//!
//! It decides nothing about routes or policy, and serves nothing.
//!
//! Main types: [`control::ControlPlane`], [`tunnel::Tunnels`], [`peer::Peers`].

pub mod channel;
pub mod clock;
pub mod control;
pub mod crowd;
pub mod health;
pub mod limits;
pub mod links;
pub mod message;
pub mod own;
pub mod peer;
mod renewal;
pub mod resolve;
pub mod stream;
pub mod trust;
pub mod tunnel;
mod tunnel_stream;

pub use tunnel_stream::{TunnelRefused, TunnelStream};
