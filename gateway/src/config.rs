//! Flags and environment variables; nothing else reads them.

use std::{net::SocketAddr, time::Duration};

use mesh_dataplane::{control::WorkloadConfig, limits::GatewayLimits};
use mesh_runtime::WorkerCount;

/// The one door between clusters
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-gateway", version)]
#[group(id = "gateway")]
pub struct Config {
    /// Log and admin port
    #[command(flatten)]
    pub runtime: mesh_runtime::Config,
    /// Identity and control plane
    #[command(flatten)]
    pub workload: WorkloadConfig,
    /// The public port
    #[arg(long, env = "MESH_GATEWAY_ADDR", default_value = "0.0.0.0:4143")]
    pub gateway_addr: SocketAddr,
    /// Name or address of the mesh-control that serves export streams
    #[arg(
        long,
        env = "MESH_EXPORTS_HOST",
        default_value = "mesh-control.mesh-system.svc"
    )]
    pub exports_host: String,
    /// How many threads carry connections, at most 128; 0 is one for each processor
    /// that the gateway may use, of the whole node unless it has a CPU limit
    #[arg(long, env = "MESH_WORKERS", default_value = "1")]
    pub workers: WorkerCount,
    /// What it bears of others
    #[command(flatten)]
    pub limits: GatewayLimits,
    /// How many seconds after SIGTERM connections are still accepted: what
    /// routes them here learns of the end meanwhile
    #[arg(long, env = "MESH_SETTLE_SECONDS", default_value = "3")]
    pub settle_seconds: u64,
    /// How many seconds tunnels may take to end after that
    #[arg(long, env = "MESH_GRACE_SECONDS", default_value = "25")]
    pub grace_seconds: u64,
}

impl Config {
    pub(crate) const fn settle(&self) -> Duration {
        Duration::from_secs(self.settle_seconds)
    }

    pub(crate) const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}
