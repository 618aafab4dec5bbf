//! mesh-control, and what a cluster is called.

use mesh_api::names;
use mesh_core::{cluster::ClusterName, identity::TrustDomain, ports};
use serde_json::{Value, json};

use super::{
    images::Images,
    namespace::{cluster_role, namespace, role, service_account},
    pod::{Program, resources},
};

/// The control plane of the cluster `cluster`.
pub(crate) fn objects(
    cluster: &ClusterName,
    trust_domain: &TrustDomain,
    images: &Images,
) -> Vec<Value> {
    let mut objects = vec![
        namespace(names::SYSTEM_NAMESPACE),
        service_account(names::CONTROL, names::SYSTEM_NAMESPACE),
    ];
    objects.extend(cluster_role(
        names::CONTROL,
        names::SYSTEM_NAMESPACE,
        cluster_rules(),
    ));
    objects.extend(role(
        names::CONTROL,
        names::SYSTEM_NAMESPACE,
        namespace_rules(),
    ));
    objects.push(config(cluster, trust_domain));
    objects.push(service());
    objects.push(program().deployment(images));
    objects
}

fn program() -> Program {
    Program {
        name: names::CONTROL,
        namespace: names::SYSTEM_NAMESPACE,
        replicas: 1,
        grace_seconds: 15,
        calls_api_server: true,
        ports: PORTS.to_vec(),
        env: vec![
            config_env("MESH_CLUSTER", CLUSTER_KEY),
            config_env("MESH_TRUST_DOMAIN", TRUST_DOMAIN_KEY),
        ],
        resources: resources("50m", "64Mi", "512Mi"),
        has_mesh_identity: false,
    }
}

/// Keys of the ConfigMap `mesh-config`.
pub(crate) const CLUSTER_KEY: &str = "cluster";
/// See [`CLUSTER_KEY`].
pub(crate) const TRUST_DOMAIN_KEY: &str = "trust-domain";

const PORTS: [(&str, u16); 3] = [
    ("certify", ports::CERTIFY),
    ("control", ports::CONTROL),
    ("exports", ports::EXPORTS),
];

fn config(cluster: &ClusterName, trust_domain: &TrustDomain) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names::CONFIG_CONFIG_MAP, "namespace": names::SYSTEM_NAMESPACE},
        "data": {CLUSTER_KEY: cluster.as_str(), TRUST_DOMAIN_KEY: trust_domain.as_str()},
    })
}

fn config_env(variable: &str, key: &str) -> Value {
    json!({
        "name": variable,
        "valueFrom": {"configMapKeyRef": {"name": names::CONFIG_CONFIG_MAP, "key": key}},
    })
}

fn service() -> Value {
    let ports: Vec<Value> = PORTS
        .iter()
        .map(|(name, port)| json!({"name": name, "port": port, "targetPort": name}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": names::CONTROL, "namespace": names::SYSTEM_NAMESPACE},
        "spec": {"selector": {"app": names::CONTROL}, "ports": ports},
    })
}

fn cluster_rules() -> Value {
    json!([
        {
            "apiGroups": [""],
            "resources": ["services", "pods", "namespaces"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["split.smi-spec.io"],
            "resources": ["trafficsplits"],
            "verbs": ["get", "list", "watch"],
        },
        // Installed by others, if at all.
        {
            "apiGroups": ["gateway.networking.k8s.io"],
            "resources": ["httproutes", "tlsroutes"],
            "verbs": ["get", "list", "watch"],
        },
        // What becomes of them.
        {
            "apiGroups": ["gateway.networking.k8s.io"],
            "resources": ["httproutes/status", "tlsroutes/status"],
            "verbs": ["patch"],
        },
        {
            "apiGroups": ["mesh.dev"],
            "resources": [
                "links",
                "servers",
                "authorizationpolicies",
                "meshtlsauthentications",
                "networkauthentications",
            ],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["mesh.dev"],
            "resources": ["links/status"],
            "verbs": ["get", "patch", "update"],
        },
        // What becomes of policies.
        {
            "apiGroups": ["mesh.dev"],
            "resources": [
                "servers/status",
                "authorizationpolicies/status",
                "meshtlsauthentications/status",
                "networkauthentications/status",
            ],
            "verbs": ["patch"],
        },
        // The condition of Services that ask to be exported.
        {"apiGroups": [""], "resources": ["services/status"], "verbs": ["patch"]},
        // The roots, in each meshed namespace. A name cannot restrict "create".
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [names::ROOTS_CONFIG_MAP],
            "verbs": ["get", "list", "watch", "patch", "update"],
        },
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["tokenreviews"],
            "verbs": ["create"],
        },
    ])
}

fn namespace_rules() -> Value {
    json!([
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [names::ROOT_SECRET, names::ENDPOINT_KEY_SECRET],
            "verbs": ["get"],
        },
        // A rotation puts another root in its place.
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [names::ROOT_SECRET],
            "verbs": ["update"],
        },
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        // What comes of that, and what is wrong with the root.
        {
            "apiGroups": ["events.k8s.io"],
            "resources": ["events"],
            "verbs": ["create", "patch"],
        },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "create", "update", "patch", "list", "watch"],
        },
    ])
}
