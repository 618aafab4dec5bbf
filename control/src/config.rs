//! Flags and environment variables; nothing else reads them.

use std::net::IpAddr;

use mesh_core::{cluster::ClusterName, identity::TrustDomain};
use mesh_dataplane::clock::ClockConfig;

/// The control plane of a cluster
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-control", version)]
#[group(id = "control")]
pub struct Config {
    /// Log and admin port
    #[command(flatten)]
    pub runtime: mesh_runtime::Config,
    /// What the cluster is called
    #[arg(long, env = "MESH_CLUSTER")]
    pub cluster: ClusterName,
    /// The name of its root of trust
    #[arg(long, env = "MESH_TRUST_DOMAIN")]
    pub trust_domain: TrustDomain,
    /// Where Certify, the control streams and the export streams are served
    #[arg(long, env = "MESH_LISTEN_IP", default_value = "0.0.0.0")]
    pub listen_ip: IpAddr,
    /// The clock that it goes by
    #[command(flatten)]
    pub clock: ClockConfig,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        super::Config::command().debug_assert();
    }
}
