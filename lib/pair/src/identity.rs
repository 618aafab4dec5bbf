//! Who the workloads are.

/// The trust domain of both.
pub const TRUST_DOMAIN: &str = "pair";
/// Whoever is behind A.
pub const CLIENT: &str = "spiffe://pair/ns/shop/sa/client";
/// Whoever is behind B.
pub const SERVER: &str = "spiffe://pair/ns/shop/sa/web";
/// The control plane of whatever trust domain, without that.
pub const CONTROL: &str = "ns/mesh-system/sa/mesh-control";
/// The trust domain of the client, where it is of another cluster than the server.
pub const FAR_TRUST_DOMAIN: &str = "far";
/// That client.
pub const FAR_CLIENT: &str = "spiffe://far/ns/shop/sa/client";
/// The gateway of the server's cluster.
pub const GATEWAY: &str = "spiffe://pair/ns/mesh-multicluster/sa/mesh-gateway";
