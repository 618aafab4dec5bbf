//! Flags and environment variables.

use mesh_dataplane::control::WorkloadConfig;

/// What mesh-mirror is told at its start.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "mesh-mirror",
    version,
    about = "Mirrors the exported Services of linked clusters"
)]
// A group of its own name: the flattened configurations are called Config too.
#[group(id = "mirror")]
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

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn flags_and_variables_do_not_clash() {
        Config::command().debug_assert();
    }

    #[test]
    fn a_pod_needs_to_say_only_its_name() {
        let config = Config::try_parse_from(["mesh-mirror", "--pod-name", "mirror-0"]).unwrap();
        assert_eq!(config.pod_namespace, "mesh-multicluster");
        assert!(Config::try_parse_from(["mesh-mirror"]).is_err());
    }
}
