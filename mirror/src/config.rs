//! Flags and environment variables.

use mesh_dataplane::control::WorkloadConfig;

/// What mesh-mirror is told at its start.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "mesh-mirror",
    version,
    about = "Mirrors the exported Services of linked clusters"
)]
pub struct Config {
    /// Log and admin port.
    #[command(flatten)]
    pub runtime: mesh_runtime::Config,
    /// How to become somebody in the mesh.
    #[command(flatten)]
    pub workload: WorkloadConfig,
    /// The name of this pod: who holds the Lease
    #[arg(long, env = "MESH_POD_NAME")]
    pub pod_name: String,
    /// The namespace of this pod: where the Lease is
    #[arg(long, env = "MESH_POD_NAMESPACE", default_value = "mesh-multicluster")]
    pub pod_namespace: String,
}
