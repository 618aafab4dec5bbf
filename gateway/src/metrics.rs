//! What the gateway counts. Label values come from closed sets, from verified
//! identities of linked trust domains and from the table, never from what a
//! client sends.

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
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closed {
    trust_domain: String,
    service: String,
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    trust_domain: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    trust_domain: String,
    service: String,
    direction: &'static str,
}

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

    pub(crate) fn tunnel_refused(&self, trust_domain: &str, reason: &'static str) {
        let trust_domain = trust_domain.to_owned();
        self.tunnels_refused
            .get_or_create(&Refused {
                trust_domain,
                reason,
            })
            .inc();
    }

    /// Counts a tunnel as opened, and as open while what is returned lives.
    pub(crate) fn tunnel(&self, way: Way) -> TunnelMetrics {
        self.tunnels_opened.get_or_create(&way).inc();
        let open = OpenGuard::new(&self.tunnels_open.get_or_create(&way));
        let bytes = |direction| {
            self.bytes
                .get_or_create(&Direction {
                    trust_domain: way.trust_domain.clone(),
                    service: way.service.clone(),
                    direction,
                })
                .clone()
        };
        TunnelMetrics {
            carried: Carried {
                up: bytes("up"),
                down: bytes("down"),
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
            trust_domain: std::mem::take(&mut self.way.trust_domain),
            service: std::mem::take(&mut self.way.service),
            end: self.end,
        };
        self.closed.get_or_create(&closed).inc();
    }
}

/// Bytes of a tunnel: `up` to the upstream, `down` from it.
#[derive(Clone, Default)]
pub(crate) struct Carried {
    pub(crate) up: Counter,
    pub(crate) down: Counter,
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

    #[test]
    fn a_tunnel_is_counted_from_its_opening_to_its_end() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let tunnel = metrics.tunnel(Way {
            trust_domain: "west".to_owned(),
            service: "shop/web".to_owned(),
        });
        tunnel.carried.up.inc_by(7);
        let way = r#"trust_domain="west",service="shop/web""#;
        let text = shown(&registry);
        assert!(text.contains(&format!("mesh_gateway_open_tunnels{{{way}}} 1")));
        tunnel.finish("done");

        let text = shown(&registry);
        for wanted in [
            format!("mesh_gateway_tunnels_opened_total{{{way}}} 1"),
            format!("mesh_gateway_open_tunnels{{{way}}} 0"),
            format!(r#"mesh_gateway_tunnels_closed_total{{{way},end="done"}} 1"#),
            format!(r#"mesh_gateway_carried_bytes_total{{{way},direction="up"}} 7"#),
        ] {
            assert!(text.contains(&wanted), "{wanted} is not in\n{text}");
        }
    }

    #[test]
    fn a_tunnel_whose_task_was_dropped_is_still_counted_as_ended() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        drop(metrics.tunnel(Way {
            trust_domain: "west".to_owned(),
            service: "shop/web".to_owned(),
        }));
        assert!(shown(&registry).contains(r#"end="dropped"} 1"#));
    }
}
