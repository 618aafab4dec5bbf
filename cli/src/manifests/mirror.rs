//! mesh-mirror: makes local Services of what linked clusters export.

use mesh_api::names;
use serde_json::{Value, json};

use super::{
    images::Images,
    namespace::{cluster_role, role, service_account},
    pod::{Program, resources},
};

/// The mirror of a cluster.
pub(crate) fn objects(images: &Images) -> Vec<Value> {
    let mut objects = vec![service_account(
        names::MIRROR,
        names::MULTICLUSTER_NAMESPACE,
    )];
    objects.extend(cluster_role(
        names::MIRROR,
        names::MULTICLUSTER_NAMESPACE,
        cluster_rules(),
    ));
    objects.extend(role(
        names::MIRROR,
        names::MULTICLUSTER_NAMESPACE,
        namespace_rules(),
    ));
    objects.push(program().deployment(images));
    objects
}

fn program() -> Program {
    Program {
        name: names::MIRROR,
        namespace: names::MULTICLUSTER_NAMESPACE,
        replicas: 1,
        grace_seconds: 15,
        calls_api_server: true,
        ports: Vec::new(),
        env: Vec::new(),
        resources: resources("20m", "64Mi", "256Mi"),
        has_mesh_identity: true,
    }
}

fn cluster_rules() -> Value {
    json!([
        {
            "apiGroups": [""],
            "resources": ["services"],
            "verbs": ["get", "list", "watch", "create", "patch", "update", "delete"],
        },
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["mesh.dev"], "resources": ["links"], "verbs": ["get", "list", "watch"]},
        {
            "apiGroups": ["mesh.dev"],
            "resources": ["links/status"],
            "verbs": ["get", "patch", "update"],
        },
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    ])
}

fn namespace_rules() -> Value {
    json!([{
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "create", "update", "patch", "list", "watch"],
    }])
}
