//! Links: the other clusters this one is joined to.

use std::{net::Ipv6Addr, sync::Arc};

use crate::{
    cluster::ClusterName,
    endpoint::{EndpointId, LinkPrefix},
    identity::{SpiffeId, TrustDomain},
};

/// One linked cluster, as the data plane needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The name of the Link object.
    pub name: Arc<str>,
    /// The peer.
    pub cluster: ClusterName,
    /// The peer's root of trust.
    pub trust_domain: TrustDomain,
    /// Root certificates of the peer, DER.
    pub roots: Vec<Vec<u8>>,
    /// The peer's door.
    pub gateway: Gateway,
    /// Addresses that stand for the peer's endpoints.
    pub prefix: LinkPrefix,
    /// The peer's mesh-control: may read our feed.
    pub control: SpiffeId,
    /// The peer's mesh-mirror: may read our feed.
    pub mirror: SpiffeId,
    /// Whether this cluster uses the peer's exports.
    pub import: bool,
    /// Whether the peer may use this cluster's exports.
    pub export: bool,
}

/// Where and who the gateway of a peer is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gateway {
    /// IP addresses or host names.
    pub hosts: Vec<Arc<str>>,
    /// Its public port.
    pub port: u16,
    /// Whom its certificate must name.
    pub identity: SpiffeId,
    /// The name sent in the ClientHello.
    pub server_name: Arc<str>,
}

/// All links of this cluster, and its own trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// This cluster's name.
    pub cluster: ClusterName,
    /// This cluster's trust domain.
    pub trust_domain: TrustDomain,
    /// Root certificates of this cluster, DER.
    pub roots: Vec<Vec<u8>>,
    /// The peers, no two with the same prefix or trust domain.
    pub links: Vec<Arc<Link>>,
}

impl Links {
    /// The link and endpoint that `address` stands for, if any.
    #[must_use]
    pub fn endpoint(&self, address: Ipv6Addr) -> Option<(Arc<Link>, EndpointId)> {
        self.links
            .iter()
            .find_map(|link| Some((link.clone(), link.prefix.endpoint(address)?)))
    }

    /// The link to the peer of this trust domain.
    #[must_use]
    pub fn by_trust_domain(&self, trust_domain: &TrustDomain) -> Option<&Arc<Link>> {
        self.links
            .iter()
            .find(|link| link.trust_domain == *trust_domain)
    }

    /// The link to this cluster.
    #[must_use]
    pub fn by_cluster(&self, cluster: &ClusterName) -> Option<&Arc<Link>> {
        self.links.iter().find(|link| link.cluster == *cluster)
    }
}
