//! Names of labels, annotations, namespaces and objects.

/// Namespace of the control plane.
pub const SYSTEM_NAMESPACE: &str = "mesh-system";
/// Namespace of gateway and mirror.
pub const MULTICLUSTER_NAMESPACE: &str = "mesh-multicluster";

/// On a Service: `"true"` shares it with linked clusters.
pub const EXPORTED: &str = "mesh.dev/exported";
/// Type of the condition on such a Service that says what became of it.
pub const EXPORTED_CONDITION: &str = "mesh.dev/Exported";
/// On a Service: the only clusters that it is shared with, comma separated.
pub const EXPORT_TO: &str = "mesh.dev/export-to";
/// On a mirror Service: the cluster that serves it. Never exported.
pub const MIRRORED_FROM: &str = "mesh.dev/mirrored-from";
/// On a mirror Service: `<namespace>/<name>` of the remote Service.
pub const REMOTE_SERVICE: &str = "mesh.dev/remote-service";
/// On whatever a controller of ours made: who made it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`] on mirror Services.
pub const MIRROR_CONTROLLER: &str = "mesh-mirror";
/// On a mirror Service: the uid of the Link that it was made for.
pub const LINK_UID: &str = "mesh.dev/link-uid";
/// On a TrafficSplit or HTTPRoute: the backend to prefer.
pub const PRIMARY_SERVICE: &str = "mesh.dev/primary-service";
/// Annotation on a pod template or namespace: `enabled` or `disabled`.
pub const INJECT: &str = "mesh.dev/inject";
/// Label that the injector puts on a meshed pod.
pub const MESHED: &str = "mesh.dev/meshed";
/// On a Service or a pod: ports whose bytes are not looked at.
pub const OPAQUE_PORTS: &str = "mesh.dev/opaque-ports";
/// On a pod: inbound ports that bypass the sidecar.
pub const SKIP_INBOUND_PORTS: &str = "mesh.dev/skip-inbound-ports";
/// On a pod: outbound ports that bypass the sidecar.
pub const SKIP_OUTBOUND_PORTS: &str = "mesh.dev/skip-outbound-ports";
/// On a pod: what its sidecar bears, as `header-bytes=128Ki,idle-time=10m`.
pub const LIMITS: &str = "mesh.dev/limits";
/// On a pod, else its namespace: who may reach ports that no Server is about.
pub const DEFAULT_INBOUND_POLICY: &str = "mesh.dev/default-inbound-policy";

/// ConfigMap in each meshed namespace: [`ROOTS_BUNDLE`], [`ROOTS_TRUST_DOMAIN`].
pub const ROOTS_CONFIG_MAP: &str = "mesh-roots";
/// Key: the local roots, PEM.
pub const ROOTS_BUNDLE: &str = "ca.crt";
/// Key: the name of the local trust domain.
pub const ROOTS_TRUST_DOMAIN: &str = "trust-domain";
/// On a namespace: `"true"` asks for [`ROOTS_CONFIG_MAP`] there.
pub const ROOTS_WANTED: &str = "mesh.dev/roots";

/// Secret in [`SYSTEM_NAMESPACE`], type `kubernetes.io/tls`: the root.
pub const ROOT_SECRET: &str = "mesh-root";
/// Annotation on [`ROOT_SECRET`]: what the user wants of a rotation (`begin`,
/// `use`, `use-now`, `finish`, `finish-now`); mesh-control takes it off.
pub const ROTATE_ROOT: &str = "mesh.dev/rotate-root";
/// Annotation on [`ROOT_SECRET`]: when the phase began, in Unix seconds.
pub const ROTATE_ROOT_SINCE: &str = "mesh.dev/rotate-root-since";
/// Annotation on [`ROOT_SECRET`]: `begun` or `used`, during a rotation.
pub const ROTATE_ROOT_PHASE: &str = "mesh.dev/rotate-root-phase";
/// Annotation on [`ROOT_SECRET`]: why the last wish was not carried out.
pub const ROTATE_ROOT_REFUSED: &str = "mesh.dev/rotate-root-refused";
/// Secret in [`SYSTEM_NAMESPACE`], key `key`: 32 random bytes for endpoint ids.
pub const ENDPOINT_KEY_SECRET: &str = "mesh-endpoint-key";
/// ConfigMap in [`SYSTEM_NAMESPACE`]: `cluster`, `trust-domain`.
pub const CONFIG_CONFIG_MAP: &str = "mesh-config";
/// Deployment, Service and ServiceAccount of the control plane.
pub const CONTROL: &str = "mesh-control";
/// Deployment, Service and ServiceAccount of the gateway.
pub const GATEWAY: &str = "mesh-gateway";
/// Deployment and ServiceAccount of the mirror.
pub const MIRROR: &str = "mesh-mirror";
/// The sidecar's container.
pub const PROXY_CONTAINER: &str = "mesh-proxy";
/// The init container that redirects traffic to the sidecar.
pub const REDIRECT_CONTAINER: &str = "mesh-redirect";
/// The user the sidecar runs as; its own traffic is not redirected.
pub const PROXY_UID: i64 = 2102;
/// Audience of the tokens that Certify accepts.
pub const TOKEN_AUDIENCE: &str = "identity.mesh.dev";
