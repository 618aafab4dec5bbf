//! Flags and environment variables; nothing else reads them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mesh_core::{authorization::DefaultPolicy, inbound::InboundPolicy};
use mesh_dataplane::{control::WorkloadConfig, limits::SidecarLimits};
use mesh_runtime::WorkerCount;

/// The sidecar of a meshed pod
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "mesh-proxy", version)]
#[group(id = "proxy")]
pub struct Config {
    /// Log and admin port
    #[command(flatten)]
    pub runtime: mesh_runtime::Config,
    /// Identity and control plane
    #[command(flatten)]
    pub workload: WorkloadConfig,
    /// Where the application's own connections arrive, redirected
    #[arg(long, env = "MESH_OUTBOUND_ADDR", default_value = "127.0.0.1:4140")]
    pub outbound_addr: SocketAddr,
    /// Where connections to the pod arrive, redirected or from peers
    #[arg(long, env = "MESH_INBOUND_ADDR", default_value = "0.0.0.0:4143")]
    pub inbound_addr: SocketAddr,
    /// The pod's addresses
    #[arg(long, env = "MESH_POD_IP", value_delimiter = ',', required = true)]
    pub pod_ips: Vec<IpAddr>,
    /// The pod's name
    #[arg(long, env = "MESH_POD_NAME")]
    pub pod_name: String,
    /// The pod's namespace
    #[arg(long, env = "MESH_POD_NAMESPACE")]
    pub pod_namespace: String,
    /// How many threads carry connections, at most 128; 0 is one for each processor
    /// that the sidecar may use, of the whole node unless it has a CPU limit
    #[arg(long, env = "MESH_WORKERS", default_value = "1")]
    pub workers: WorkerCount,
    /// What it bears of others
    #[command(flatten)]
    pub limits: SidecarLimits,
    /// Whether each request and connection is logged, on the target `access`,
    /// unless the log's filter says so itself
    #[arg(long, env = "MESH_ACCESS_LOG")]
    pub access_log: bool,
    /// How many seconds connections may take to end after SIGTERM
    #[arg(long, env = "MESH_GRACE_SECONDS", default_value = "25")]
    pub grace_seconds: u64,
    /// Who may reach the pod before the control plane has said it; nobody,
    /// unless it is given
    #[arg(long, env = "MESH_DEFAULT_INBOUND_POLICY")]
    pub default_inbound_policy: Option<DefaultPolicy>,
}

impl Config {
    /// The log's filter, access log included.
    pub(crate) fn log(&self) -> String {
        crate::access::filter(&self.runtime.log, self.access_log)
    }

    pub(crate) const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    /// What holds before the control plane has said anything. A namespace's
    /// default is not known here, so that without one nobody is admitted; no
    /// application runs before its sidecar has a policy.
    pub(crate) fn first_policy(&self) -> InboundPolicy {
        self.default_inbound_policy
            .map(InboundPolicy::of_default)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};
    use mesh_core::limits::Limit;

    use super::Config;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Config::command().debug_assert();
    }

    /// A sidecar of a pod, with these flags.
    fn config(flags: &[&str]) -> Result<Config, clap::Error> {
        let pod = "mesh-proxy --pod-ips 10.42.0.9 --pod-name web-0 --pod-namespace shop";
        Config::try_parse_from(pod.split(' ').chain(flags.iter().copied()))
    }

    #[test]
    fn there_is_one_worker_unless_more_are_asked_for() {
        assert_eq!(config(&[]).unwrap().workers.get(), 1);
        assert_eq!(config(&["--workers", "4"]).unwrap().workers.get(), 4);
    }

    #[test]
    fn a_limit_may_be_set() {
        let limits = config(&["--limit-header-lines", "20"]).unwrap().limits.0;
        assert_eq!(limits.get(Limit::HeaderLines), 20);
        let said = config(&["--limit-header-lines", "7"]).unwrap_err();
        assert!(said.to_string().contains("not from 8 to 128"), "{said}");
    }

    #[test]
    fn a_wrong_number_of_workers_is_refused_with_what_would_be_right() {
        for wrong in ["--workers=-1", "--workers=129", "--workers=many"] {
            let said = config(&[wrong]).unwrap_err().to_string();
            assert!(said.contains("a whole number from 1 to 128"), "{said}");
        }
    }
}
