//! What the gateway counts. Label values come from closed sets, from verified
//! identities of linked trust domains and from the table, never from what a
//! client sends.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use mesh_core::identity::SpiffeId;
use mesh_drive::exchange;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// All counters. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    connections: Family<Client, Gauge>,
    handshakes_refused: Family<Why, Counter>,
    connections_ended: Family<Why, Counter>,
    tunnels_opened: Family<Way, Counter>,
    tunnels_open: Family<Way, Gauge>,
    tunnels_closed: Family<Closed, Counter>,
    tunnels_refused: Family<Refused, Counter>,
    bytes: Family<Direction, Counter>,
    clients: Clients,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Client {
    trust_domain: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

/// From whom a tunnel comes, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Way {
    pub(crate) trust_domain: String,
    /// `namespace/name` of the exported Service, or `exports`.
    pub(crate) service: String,
    /// The cluster at the other end.
    pub(crate) link: String,
    /// The client's identity, or [`OTHER`].
    pub(crate) client: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closed {
    #[prometheus(flatten)]
    way: Way,
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    trust_domain: String,
    reason: &'static str,
    link: String,
    client: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    #[prometheus(flatten)]
    way: Way,
    direction: &'static str,
}

/// The identities that are counted by name: those that came first, each with
/// the Service that it asked for. A peer has any number of identities, and our
/// memory has not.
#[derive(Clone, Default)]
struct Clients(Arc<Mutex<HashSet<(String, String)>>>);

impl Clients {
    /// `client` if it has a place, or [`OTHER`].
    fn name(&self, client: String, service: &str) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = (client, service.to_owned());
        if known.contains(&pair) {
            return pair.0;
        }
        if known.len() >= MOST_CLIENTS {
            return OTHER.to_owned();
        }
        known.insert(pair.clone());
        pair.0
    }
}

/// Pairs of identity and Service that are counted apart.
const MOST_CLIENTS: usize = 2_000;
/// Stands for all that are not.
const OTHER: &str = "other";

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let gateway = registry.sub_registry_with_prefix("mesh_gateway");
        gateway.register(
            "open_connections",
            "Connections of verified clients that are open",
            metrics.connections.clone(),
        );
        gateway.register(
            "handshakes_refused",
            "Connections refused before they had an identity",
            metrics.handshakes_refused.clone(),
        );
        gateway.register(
            "connections_ended",
            "Connections of verified clients that have ended",
            metrics.connections_ended.clone(),
        );
        gateway.register(
            "tunnels_opened",
            "Tunnels that were opened",
            metrics.tunnels_opened.clone(),
        );
        gateway.register(
            "open_tunnels",
            "Tunnels that are open",
            metrics.tunnels_open.clone(),
        );
        gateway.register(
            "tunnels_closed",
            "Tunnels that have ended, and how",
            metrics.tunnels_closed.clone(),
        );
        gateway.register(
            "tunnels_refused",
            "Streams that became no tunnel",
            metrics.tunnels_refused.clone(),
        );
        gateway.register_with_unit(
            "carried",
            "Bytes carried in tunnels, to and from the upstream",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        metrics
    }

    /// Counts a verified client's connection as open while the guard lives.
    pub(crate) fn connection(&self, trust_domain: &str) -> OpenGuard {
        let trust_domain = trust_domain.to_owned();
        OpenGuard::new(&self.connections.get_or_create(&Client { trust_domain }))
    }

    pub(crate) fn handshake_refused(&self, reason: &'static str) {
        self.handshakes_refused.get_or_create(&Why { reason }).inc();
    }

    pub(crate) fn connection_ended(&self, reason: &'static str) {
        self.connections_ended.get_or_create(&Why { reason }).inc();
    }

    pub(crate) fn tunnel_refused(&self, client: &SpiffeId, link: String, reason: &'static str) {
        let refused = Refused {
            trust_domain: client.trust_domain().to_string(),
            reason,
            link,
            client: self.clients.name(client.to_string(), reason),
        };
        self.tunnels_refused.get_or_create(&refused).inc();
    }

    /// Counts a tunnel as opened, and as open while what is returned lives.
    pub(crate) fn tunnel(&self, mut way: Way) -> TunnelMetrics {
        way.client = self.clients.name(way.client, &way.service);
        self.tunnels_opened.get_or_create(&way).inc();
        let open = OpenGuard::new(&self.tunnels_open.get_or_create(&way));
        let bytes = |direction| {
            self.bytes
                .get_or_create(&Direction {
                    way: way.clone(),
                    direction,
                })
                .clone()
        };
        TunnelMetrics {
            carried: Carried {
                up: bytes("up"),
                down: bytes("down"),
                counted: exchange::Carried::default(),
            },
            _open: open,
            closed: self.tunnels_closed.clone(),
            way,
            end: "dropped",
        }
    }
}

/// The counters of one tunnel, looked up once.
pub(crate) struct TunnelMetrics {
    pub(crate) carried: Carried,
    _open: OpenGuard,
    closed: Family<Closed, Counter>,
    way: Way,
    end: &'static str,
}

impl TunnelMetrics {
    /// The tunnel has ended so.
    pub(crate) fn finish(mut self, end: &'static str) {
        self.end = end;
    }
}

impl Drop for TunnelMetrics {
    fn drop(&mut self) {
        let closed = Closed {
            way: self.way.clone(),
            end: self.end,
        };
        self.closed.get_or_create(&closed).inc();
    }
}

/// Bytes of a tunnel: `up` to the upstream, `down` from it.
pub(crate) struct Carried {
    up: Counter,
    down: Counter,
    counted: exchange::Carried,
}

impl Carried {
    /// So much is it that the connection to the upstream has carried.
    pub(crate) fn count(&mut self, carried: exchange::Carried) {
        let counted = std::mem::replace(&mut self.counted, carried);
        self.up.inc_by(carried.sent.saturating_sub(counted.sent));
        let down = carried.received.saturating_sub(counted.received);
        self.down.inc_by(down);
    }
}

/// Something that is open.
pub(crate) struct OpenGuard(Gauge);

impl OpenGuard {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    fn way() -> Way {
        Way {
            trust_domain: "west".to_owned(),
            service: "shop/web".to_owned(),
            link: "west".to_owned(),
            client: "spiffe://west/ns/shop/sa/web".to_owned(),
        }
    }

    #[test]
    fn a_tunnel_is_counted_from_its_opening_to_its_end() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let mut tunnel = metrics.tunnel(way());
        for (sent, received) in [(3, 0), (7, 2), (7, 2)] {
            tunnel.carried.count(exchange::Carried { received, sent });
        }
        let way = r#"trust_domain="west",service="shop/web",link="west",client="spiffe://west/ns/shop/sa/web""#;
        let text = shown(&registry);
        assert!(text.contains(&format!("mesh_gateway_open_tunnels{{{way}}} 1")));
        tunnel.finish("done");

        let text = shown(&registry);
        for wanted in [
            format!("mesh_gateway_tunnels_opened_total{{{way}}} 1"),
            format!("mesh_gateway_open_tunnels{{{way}}} 0"),
            format!(r#"mesh_gateway_tunnels_closed_total{{{way},end="done"}} 1"#),
            format!(r#"mesh_gateway_carried_bytes_total{{{way},direction="up"}} 7"#),
            format!(r#"mesh_gateway_carried_bytes_total{{{way},direction="down"}} 2"#),
        ] {
            assert!(text.contains(&wanted), "{wanted} is not in\n{text}");
        }
    }

    #[test]
    fn a_tunnel_whose_task_was_dropped_is_still_counted_as_ended() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        drop(metrics.tunnel(way()));
        assert!(shown(&registry).contains(r#"end="dropped"} 1"#));
    }

    #[test]
    fn g10_identities_beyond_a_number_are_counted_together() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        for n in 0..=MOST_CLIENTS {
            let client: SpiffeId = format!("spiffe://west/ns/shop/sa/web-{n}").parse().unwrap();
            let of_client = Way {
                client: client.to_string(),
                ..way()
            };
            drop(metrics.tunnel(of_client));
            metrics.tunnel_refused(&client, "west".to_owned(), "unknown-endpoint");
        }
        let text = shown(&registry);
        let opened = text
            .lines()
            .filter(|line| line.contains("tunnels_opened_total{"));
        let refused = text
            .lines()
            .filter(|line| line.contains("tunnels_refused_total{"));
        assert!(opened.count() + refused.count() <= MOST_CLIENTS + 2);
        assert!(text.contains(r#"client="other""#));
    }
}
