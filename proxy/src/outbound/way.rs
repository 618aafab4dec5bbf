//! How endpoints are reached, and the connections to their sidecars.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use mesh_core::{destination::Endpoint, link::Links};
use mesh_dataplane::peer::{Peer, PeerAddress, PeerConnection, PeerError, PeerSlot, Peers};
use mesh_wire::mesh1::Reason;
use tracing::debug;

use super::{Outbound, balancer::EndpointState};

/// How an endpoint is reached.
pub(crate) enum Way {
    Mesh(Peer),
    Plain(SocketAddr),
}

/// Where the connections to an endpoint's sidecar are, of each pool that has
/// had any.
#[derive(Default)]
pub(crate) struct Ways(Mutex<Vec<KnownWay>>);

struct KnownWay {
    slot: PeerSlot,
    /// The links of then: with others it may be another way.
    links: Option<Arc<Links>>,
}

impl KnownWay {
    fn holds(&self, links: Option<&Arc<Links>>) -> bool {
        let same = match (&self.links, links) {
            (Some(then), Some(now)) => Arc::ptr_eq(then, now),
            (None, None) => true,
            _ => false,
        };
        same && !self.slot.is_forgotten()
    }
}

impl Ways {
    fn open(
        &self,
        peers: &Peers,
        links: Option<&Arc<Links>>,
        now: Instant,
    ) -> Option<PeerConnection> {
        let ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ways.iter().find(|known| peers.has_given(&known.slot))?;
        if known.holds(links) {
            peers.open_connection(&known.slot, now)
        } else {
            None
        }
    }

    fn learn(&self, peers: &Peers, known: KnownWay) {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ways.retain(|other| !peers.has_given(&other.slot));
        ways.push(known);
    }
}

impl Outbound {
    /// An open connection to the sidecar of `endpoint`, if there is one; it is not
    /// looked for any further.
    pub(super) fn kept(&self, endpoint: &EndpointState, now: Instant) -> Option<PeerConnection> {
        let links = self.links.borrow();
        endpoint.ways.open(&self.peers, links.as_ref(), now)
    }

    /// A connection to the sidecar of `endpoint`, opened if need be.
    pub(super) async fn connect(
        self: &Arc<Self>,
        endpoint: &Arc<EndpointState>,
        peer: Peer,
    ) -> Result<PeerConnection, PeerError> {
        let known = KnownWay {
            slot: self.peers.slot(&peer),
            links: self.links.borrow().clone(),
        };
        let open = self.peers.open_connection(&known.slot, Instant::now());
        endpoint.ways.learn(&self.peers, known);
        match open {
            Some(open) => Ok(open),
            None => self.connect_anew(endpoint, peer).await,
        }
    }

    /// Opens one, or waits for one that is being opened. That it cannot be had is noted
    /// and counted, also when whoever asked has given up by then.
    async fn connect_anew(
        self: &Arc<Self>,
        endpoint: &Arc<EndpointState>,
        peer: Peer,
    ) -> Result<PeerConnection, PeerError> {
        let identity = peer.identity.clone();
        let (this, endpoint) = (self.clone(), endpoint.clone());
        // It ends within the deadline of a connection.
        let opening = tokio::spawn(async move {
            let result = this.peers.connection(&peer).await;
            if let Err(error) = &result {
                debug!(%error, "endpoint");
                let refused = error.refused_by_gateway();
                let reason = refused.map_or_else(|| error.reason(), Reason::as_str);
                this.metrics.attempt_failed(reason);
                match refused {
                    Some(Reason::UnknownEndpoint) => endpoint.refused(Instant::now()),
                    _ => endpoint.failed(Instant::now()),
                }
            }
            result
        });
        opening
            .await
            .unwrap_or(Err(PeerError::Timeout { identity }))
    }

    /// How the sidecar of `endpoint` is reached; plain if it has none.
    pub(crate) fn way(&self, endpoint: &Endpoint) -> Way {
        let Some(mesh) = &endpoint.mesh else {
            return Way::Plain(endpoint.address);
        };
        let links = self.links.borrow();
        let linked = match (endpoint.address.ip(), &*links) {
            (IpAddr::V6(address), Some(links)) => links.endpoint(address),
            _ => None,
        };
        let address = match linked {
            Some((link, id)) => PeerAddress::Linked(link, id),
            None => PeerAddress::Direct((endpoint.address.ip(), mesh.port).into()),
        };
        Way::Mesh(Peer {
            address,
            identity: mesh.identity.clone(),
        })
    }
}
