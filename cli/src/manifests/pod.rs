//! What the pods of the mesh's programs have in common.

use mesh_api::names;
use mesh_core::ports;
use serde_json::{Value, json};

use super::images::Images;

/// Volume with the local roots.
pub(crate) const ROOTS_VOLUME: &str = "mesh-roots";
/// Volume with the token for Certify.
pub(crate) const IDENTITY_VOLUME: &str = "mesh-identity";
/// Name of the admin port.
pub(crate) const ADMIN_PORT: &str = "mesh-admin";

/// A Deployment of one of the mesh's programs.
pub(crate) struct Program {
    /// Name of the Deployment, of its account, its container and its image.
    pub(crate) name: &'static str,
    /// Where it runs.
    pub(crate) namespace: &'static str,
    /// How many.
    pub(crate) replicas: u16,
    /// Seconds it gets to end what it does.
    pub(crate) grace_seconds: u16,
    /// Whether it calls the API server.
    pub(crate) calls_api_server: bool,
    /// Ports it listens on, with their names, besides the admin port.
    pub(crate) ports: Vec<(&'static str, u16)>,
    /// Environment besides what tells it who it is.
    pub(crate) env: Vec<Value>,
    /// Requests and limits.
    pub(crate) resources: Value,
    /// Whether it asks mesh-control for its certificate.
    pub(crate) has_mesh_identity: bool,
}

impl Program {
    /// The Deployment.
    pub(crate) fn deployment(&self, images: &Images) -> Value {
        let labels = json!({"app": self.name});
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                // A new one is ready before an old one goes.
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
                },
                "template": {
                    "metadata": {
                        "labels": labels,
                        "annotations": {names::INJECT: "disabled"},
                    },
                    "spec": self.pod(images),
                },
            },
        })
    }

    fn pod(&self, images: &Images) -> Value {
        let mut pod = json!({
            "serviceAccountName": self.name,
            "automountServiceAccountToken": self.calls_api_server,
            "enableServiceLinks": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": self.grace_seconds,
            "containers": [self.container(images)],
        });
        if self.has_mesh_identity {
            pod["volumes"] = identity_volumes().into();
        }
        pod
    }

    fn container(&self, images: &Images) -> Value {
        let mut env = downward_env();
        env.extend(self.env.iter().cloned());
        let mut container_ports: Vec<Value> = self.ports.iter().map(container_port).collect();
        container_ports.push(container_port(&(ADMIN_PORT, ports::ADMIN)));
        let mut container = json!({
            "name": self.name,
            "image": images.of(self.name),
            "imagePullPolicy": "IfNotPresent",
            "env": env,
            "ports": container_ports,
            "livenessProbe": probe("/live", 10, 3),
            "readinessProbe": probe("/ready", 2, 2),
            "resources": self.resources,
            "securityContext": unprivileged(),
        });
        if self.has_mesh_identity {
            container["volumeMounts"] = identity_mounts().into();
        }
        container
    }
}

/// Requests, and a limit on memory alone: a limit on CPU would only add delay.
pub(crate) fn resources(cpu: &str, memory: &str, memory_limit: &str) -> Value {
    json!({
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"memory": memory_limit},
    })
}

/// No root, no capability, no writable file, default system calls.
pub(crate) fn unprivileged() -> Value {
    json!({
        "runAsUser": names::PROXY_UID,
        "runAsGroup": names::PROXY_UID,
        "runAsNonRoot": true,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// An HTTP probe of the admin port, with a deadline of 2 s.
pub(crate) fn probe(path: &str, period_seconds: u16, failure_threshold: u16) -> Value {
    json!({
        "httpGet": {"path": path, "port": ports::ADMIN},
        "periodSeconds": period_seconds,
        "failureThreshold": failure_threshold,
        "timeoutSeconds": 2,
    })
}

/// A port that a container names.
pub(crate) fn container_port((name, port): &(&str, u16)) -> Value {
    json!({"name": name, "containerPort": port, "protocol": "TCP"})
}

/// Who the pod is, for the program in it.
pub(crate) fn downward_env() -> Vec<Value> {
    [
        ("MESH_POD_NAME", "metadata.name"),
        ("MESH_POD_NAMESPACE", "metadata.namespace"),
        ("MESH_POD_IP", "status.podIPs"),
    ]
    .into_iter()
    .map(|(name, path)| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}))
    .collect()
}

/// The local roots, and a token that nobody but Certify accepts.
pub(crate) fn identity_volumes() -> Vec<Value> {
    vec![
        json!({
            "name": ROOTS_VOLUME,
            "configMap": {"name": names::ROOTS_CONFIG_MAP},
        }),
        json!({
            "name": IDENTITY_VOLUME,
            "projected": {"sources": [{"serviceAccountToken": {
                "audience": names::TOKEN_AUDIENCE, "expirationSeconds": 3600, "path": "token",
            }}]},
        }),
    ]
}

/// Where the programs find [`identity_volumes`].
pub(crate) fn identity_mounts() -> Vec<Value> {
    vec![
        json!({"name": ROOTS_VOLUME, "mountPath": "/var/run/mesh.dev/roots", "readOnly": true}),
        json!({"name": IDENTITY_VOLUME, "mountPath": "/var/run/mesh.dev/identity", "readOnly": true}),
    ]
}
