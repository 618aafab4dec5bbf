//! What the sidecar counts. Label values come from closed sets, from discovery
//! or from verified identities, never from what an application sends.

mod links;

use std::sync::{Arc, OnceLock};

use mesh_core::destination::Backend;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

pub(crate) use self::links::LinkMetrics;

/// All counters. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    open: Family<Direction, Gauge>,
    requests: Family<RequestLabels, Counter>,
    streams: Family<StreamLabels, Counter>,
    refused: Family<Refused, Counter>,
    audited: Counter,
    attempts_failed: Family<Refused, Counter>,
    pub(crate) links: LinkMetrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    direction: &'static str,
    reason: &'static str,
}

/// Where requests and streams went, and their counters, looked up once.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackendLabels {
    labels: StreamLabels,
    answered: Arc<[OnceLock<Counter>; CLASSES.len()]>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    direction: &'static str,
    /// `namespace/name` of the Service, or for inbound the client's identity.
    peer: String,
    /// The linked cluster that served it; empty for the own.
    cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    direction: &'static str,
    peer: String,
    cluster: String,
    status: &'static str,
}

impl BackendLabels {
    pub(crate) fn outbound(backend: &Backend) -> Self {
        let service = &backend.service;
        Self::of(StreamLabels {
            direction: "outbound",
            peer: format!("{}/{}", service.namespace, service.name),
            cluster: backend
                .cluster
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
        })
    }

    /// `namespace/name`, or the client.
    pub(crate) fn service(&self) -> &str {
        &self.labels.peer
    }

    /// The linked cluster; empty for the own.
    pub(crate) fn cluster(&self) -> &str {
        &self.labels.cluster
    }

    pub(crate) fn inbound(client: impl ToString) -> Self {
        Self::of(StreamLabels {
            direction: "inbound",
            peer: client.to_string(),
            cluster: String::new(),
        })
    }

    pub(crate) fn pod() -> Self {
        Self::of(StreamLabels {
            direction: "outbound",
            ..StreamLabels::default()
        })
    }

    fn of(labels: StreamLabels) -> Self {
        Self {
            labels,
            answered: Arc::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let proxy = registry.sub_registry_with_prefix("mesh_proxy");
        let open = metrics.open.clone();
        proxy.register("open_connections", "Connections that are open", open);
        let requests = metrics.requests.clone();
        proxy.register("requests", "HTTP requests that were answered", requests);
        let streams = metrics.streams.clone();
        proxy.register("tcp_streams", "TCP connections that were carried", streams);
        let refused = metrics.refused.clone();
        proxy.register(
            "refused",
            "Connections and requests that were refused",
            refused,
        );
        proxy.register(
            "audited",
            "Connections and requests that only an audit policy let in",
            metrics.audited.clone(),
        );
        proxy.register(
            "attempts_failed",
            "Attempts to reach an endpoint that failed before anything was sent",
            metrics.attempts_failed.clone(),
        );
        proxy.register_collector(Box::new(metrics.links.clone()));
        metrics
    }

    /// Counts a connection as open for as long as the guard lives.
    pub(crate) fn open(&self, direction: &'static str) -> OpenGuard {
        let gauge = self.open.get_or_create(&Direction { direction }).clone();
        gauge.inc();
        OpenGuard(gauge)
    }

    pub(crate) fn answered(&self, labels: &BackendLabels, status: u16) {
        let class = class(status);
        let known = labels.answered.get(class);
        if let Some(counter) = known.and_then(OnceLock::get) {
            counter.inc();
            return;
        }
        let StreamLabels {
            direction,
            peer,
            cluster,
        } = labels.labels.clone();
        let counter = self.requests.get_or_create(&RequestLabels {
            direction,
            peer,
            cluster,
            status: CLASSES.get(class).copied().unwrap_or_default(),
        });
        counter.inc();
        if let Some(known) = known {
            known.get_or_init(|| counter.clone());
        }
    }

    pub(crate) fn carried(&self, labels: &BackendLabels) {
        self.streams.get_or_create(&labels.labels).inc();
    }

    pub(crate) fn refused(&self, direction: &'static str, reason: &'static str) {
        let labels = Refused { direction, reason };
        self.refused.get_or_create(&labels).inc();
    }

    pub(crate) fn audited(&self) {
        self.audited.inc();
    }

    pub(crate) fn attempt_failed(&self, reason: &'static str) {
        let labels = Refused {
            direction: "outbound",
            reason,
        };
        self.attempts_failed.get_or_create(&labels).inc();
    }
}

/// An open connection.
pub(crate) struct OpenGuard(Gauge);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How answers are told apart.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Which of [`CLASSES`] a status is of.
const fn class(status: u16) -> usize {
    match status {
        100..200 => 0,
        200..300 => 1,
        300..400 => 2,
        400..500 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let guard = metrics.open("inbound");
        let labels = BackendLabels::inbound("spiffe://west/ns/shop/sa/web");
        metrics.answered(&labels, 404);
        metrics.answered(&labels.clone(), 410);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains(r#"mesh_proxy_open_connections{direction="inbound"} 1"#));
        assert!(text.contains(r#"status="4xx"} 2"#), "{text}");
        drop(guard);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains(r#"mesh_proxy_open_connections{direction="inbound"} 0"#));
    }
}
