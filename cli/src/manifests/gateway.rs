//! mesh-gateway: the one door between clusters.

use mesh_api::names;
use mesh_core::ports;
use serde_json::{Value, json};

use super::{
    images::Images,
    namespace::service_account,
    pod::{Program, resources},
};

/// What the user decides about the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// How many.
    pub(crate) replicas: u16,
    /// How its port is reached from outside.
    pub(crate) service_type: ServiceType,
}

/// Types of Services that can be reached from another cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ServiceType {
    /// An address from the cloud.
    #[value(name = "LoadBalancer")]
    LoadBalancer,
    /// A port of each node.
    #[value(name = "NodePort")]
    NodePort,
    /// Reachable by means of one's own.
    #[value(name = "ClusterIP")]
    ClusterIp,
}

/// The gateway of a cluster.
pub(crate) fn objects(options: &Options, images: &Images) -> Vec<Value> {
    vec![
        service_account(names::GATEWAY, names::MULTICLUSTER_NAMESPACE),
        service(options.service_type),
        program(options.replicas).deployment(images),
    ]
}

/// Name of its public port.
const PORT: &str = "mesh-gateway";

fn program(replicas: u16) -> Program {
    Program {
        name: names::GATEWAY,
        namespace: names::MULTICLUSTER_NAMESPACE,
        replicas,
        // Tunnels get time to move to another replica.
        grace_seconds: 30,
        calls_api_server: false,
        ports: vec![(PORT, ports::INBOUND)],
        env: Vec::new(),
        resources: resources("50m", "32Mi", "400Mi"),
        has_mesh_identity: true,
    }
}

fn service(service_type: ServiceType) -> Value {
    let service_type = match service_type {
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::NodePort => "NodePort",
        ServiceType::ClusterIp => "ClusterIP",
    };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": names::GATEWAY, "namespace": names::MULTICLUSTER_NAMESPACE},
        "spec": {
            "type": service_type,
            "selector": {"app": names::GATEWAY},
            "ports": [{
                "name": PORT, "port": ports::INBOUND, "targetPort": PORT, "protocol": "TCP",
            }],
        },
    })
}
