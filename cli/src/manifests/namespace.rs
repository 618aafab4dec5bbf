//! Namespaces and accounts.

use mesh_api::names;
use serde_json::{Value, json};

/// A namespace of our own. mesh-control keeps the roots in it, and pods in it
/// are not meshed.
pub(crate) fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {names::ROOTS_WANTED: "true"},
            "annotations": {names::INJECT: "disabled"},
        },
    })
}

/// The account that `program` runs as.
pub(crate) fn service_account(program: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": program, "namespace": namespace},
    })
}

/// Cluster-wide rights of `program`: the role and its binding.
pub(crate) fn cluster_role(program: &str, namespace: &str, rules: Value) -> [Value; 2] {
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": program},
            "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": program},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": program,
            },
            "subjects": [subject(program, namespace)],
        }),
    ]
}

/// Rights of `program` in its own namespace: the role and its binding.
pub(crate) fn role(program: &str, namespace: &str, rules: Value) -> [Value; 2] {
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": program, "namespace": namespace},
            "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": program, "namespace": namespace},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": program,
            },
            "subjects": [subject(program, namespace)],
        }),
    ]
}

fn subject(program: &str, namespace: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": program, "namespace": namespace})
}
