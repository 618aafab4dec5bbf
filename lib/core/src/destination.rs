//! What discovery says of an address, and the choice among backends.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    cluster::ClusterName,
    identities::Identities,
    route::{HttpRoutes, tls::TlsRoutes},
};

/// What to do with connections to one original destination.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// Forward to the original address as it is, without TLS.
    Unknown,
    /// The Service has no such port: refuse.
    UndefinedPort,
    /// A pod addressed by its own IP.
    Pod {
        /// The pod.
        endpoint: Endpoint,
        /// How to read the bytes of a connection.
        protocol: Protocol,
    },
    /// A Service: balance over its backends.
    Service(Service),
}

/// A Service as its clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name, for metrics and logs.
    pub reference: ServiceRef,
    /// How to read the bytes of a connection.
    pub protocol: Protocol,
    /// How one of several backends is chosen.
    pub distribution: Distribution,
    /// In order of preference.
    pub backends: Vec<Backend>,
    /// What HTTP requests are led by instead, if there is any route.
    pub routes: HttpRoutes,
    /// What TLS connections are led by instead, if there is any route.
    pub tls_routes: TlsRoutes,
    /// The Services that routes lead to, by position.
    pub route_backends: Vec<Backend>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceRef {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The Service's own port.
    pub port: u16,
}

/// How the bytes of a connection are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// By looking at the first bytes.
    Detect,
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge, gRPC included.
    Http2,
    /// Not at all.
    Opaque,
}

/// How a backend is chosen among those that have a usable endpoint now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// The first in order.
    FirstAvailable,
    /// At random, by weight.
    RandomAvailable,
}

/// A Service that answers for another, or for itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Its name, for metrics and logs.
    pub service: ServiceRef,
    /// Share under [`Distribution::RandomAvailable`]; 0 means never.
    pub weight: u32,
    /// The linked cluster that serves it; none for the own cluster.
    pub cluster: Option<ClusterName>,
    /// Where it is served.
    pub endpoints: Vec<Endpoint>,
    /// False while the control plane cannot tell where: it has started and not
    /// yet heard from the linked cluster. What was known before still holds.
    pub is_known: bool,
    /// Stands for the whole export of a linked cluster: its gateway picks the
    /// pod. For when the endpoints are refused, or stale.
    pub fallback: Option<Endpoint>,
    /// True while the linked cluster is silent: the endpoints are those that it
    /// named last.
    pub is_stale: bool,
}

impl Backend {
    /// One of the own cluster.
    #[must_use]
    pub const fn own(service: ServiceRef, weight: u32, endpoints: Vec<Endpoint>) -> Self {
        Self {
            service,
            weight,
            cluster: None,
            endpoints,
            is_known: true,
            fallback: None,
            is_stale: false,
        }
    }
}

/// One place that serves a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's address and the application's port; for a linked cluster an
    /// address in the link's prefix.
    pub address: SocketAddr,
    /// How its sidecar is spoken to; none if it has none.
    pub mesh: Option<MeshPeer>,
    /// What the request's authority becomes, if not what the client said.
    pub authority: Option<Arc<str>>,
    /// Relative capacity.
    pub weight: u32,
    /// Name of the pod, for logs; empty for a linked cluster's.
    pub pod: Arc<str>,
    /// Where it runs; empty if that is not known.
    pub zone: Arc<str>,
}

/// The sidecar in front of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeshPeer {
    /// Whom its certificate must name.
    pub identity: Identities,
    /// The port on which it takes `mesh/1`.
    pub port: u16,
}

/// Picks the backend for the next request: an index into `backends`, or none
/// if no backend is usable. `available` says of each backend whether it has a
/// usable endpoint now; `dice` is a random number.
///
/// A backend without a usable endpoint is skipped, never waited for.
#[must_use]
pub fn choose_backend(
    distribution: Distribution,
    backends: &[Backend],
    available: impl Fn(&Backend) -> bool,
    dice: u64,
) -> Option<usize> {
    let weight = |at: usize| backends.get(at).map_or(0, |backend| backend.weight);
    let is_available = |at: usize| backends.get(at).is_some_and(&available);
    choose(distribution, backends.len(), weight, is_available, dice)
}

/// The same of `count` backends that are known by position only.
pub(crate) fn choose(
    distribution: Distribution,
    count: usize,
    weight: impl Fn(usize) -> u32,
    available: impl Fn(usize) -> bool,
    dice: u64,
) -> Option<usize> {
    match distribution {
        Distribution::FirstAvailable => (0..count).find(|at| available(*at)),
        Distribution::RandomAvailable => {
            let weight = |at: usize| {
                if available(at) {
                    u64::from(weight(at))
                } else {
                    0
                }
            };
            let total: u64 = (0..count).map(weight).sum();
            let mut left = dice.checked_rem(total)?;
            (0..count).find(|at| {
                let weight = weight(*at);
                let hit = left < weight;
                left = left.saturating_sub(weight);
                hit
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(name: &str, weight: u32) -> Backend {
        let service = ServiceRef {
            namespace: "shop".into(),
            name: name.into(),
            port: 80,
        };
        Backend::own(service, weight, Vec::new())
    }

    fn choices(
        distribution: Distribution,
        weights: &[u32],
        up: &[bool],
        dice: u64,
    ) -> Option<usize> {
        let names = ["a", "b", "c"];
        let backends: Vec<_> = names
            .iter()
            .zip(weights)
            .map(|(n, w)| backend(n, *w))
            .collect();
        let is_up = |b: &Backend| {
            let at = names.iter().position(|n| **n == *b.service.name).unwrap();
            up[at]
        };
        choose_backend(distribution, &backends, is_up, dice)
    }

    #[test]
    fn r12_an_empty_backend_is_skipped_at_once() {
        use Distribution::{FirstAvailable, RandomAvailable};
        let first = |up: &[bool]| choices(FirstAvailable, &[1, 1, 1], up, 0);
        assert_eq!(first(&[true, true, true]), Some(0));
        assert_eq!(first(&[false, true, true]), Some(1));
        assert_eq!(first(&[false, false, true]), Some(2));
        assert_eq!(first(&[false, false, false]), None);
        for dice in 0..100 {
            let chosen = choices(RandomAvailable, &[1, 1, 1], &[true, false, true], dice);
            assert_ne!(chosen, Some(1));
            assert!(chosen.is_some());
        }
    }

    #[test]
    fn weights_are_shares() {
        let mut counts = [0; 3];
        for dice in 0..100 {
            let at = choices(
                Distribution::RandomAvailable,
                &[70, 30, 0],
                &[true, true, true],
                dice,
            );
            counts[at.unwrap()] += 1;
        }
        assert_eq!(counts, [70, 30, 0]);
    }

    #[test]
    fn a_backend_of_weight_zero_is_never_a_fallback() {
        let chosen = choices(Distribution::RandomAvailable, &[1, 0], &[false, true], 7);
        assert_eq!(chosen, None);
    }
}
