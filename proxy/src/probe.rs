//! The page `/probe?address=IP:PORT` of the admin port: what discovery says of
//! an address, and whether the sidecars there let this pod in, tried now. Without
//! an address it tells who this sidecar is, and what time it is here.
//!
//! It dials only what discovery names, never reaches an application, and
//! leaves no trace in what the sidecar has learnt of endpoints.

use std::{net::SocketAddr, sync::Arc};

use mesh_core::destination::{Backend, Endpoint};
use mesh_dataplane::{
    own::Own,
    peer::{Peer, ProbeAnswer},
};
use mesh_runtime::{PageResult, Query};
use mesh_tls::Tls;
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, timeout},
};

use crate::outbound::{
    Outbound, Way,
    target::{Kind, Route, State},
};

/// What a probe needs.
#[derive(Clone)]
pub(crate) struct Prober {
    pub(crate) tls: Tls,
    pub(crate) outbound: Arc<Outbound>,
}

/// The page.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    own: Own,
    kind: &'static str,
    backends: Vec<BackendReport>,
}

#[derive(Debug, Serialize)]
struct BackendReport {
    service: String,
    port: u16,
    cluster: Option<String>,
    weight: u32,
    known: bool,
    endpoints: usize,
    tried: Vec<Attempt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Attempt {
    endpoint: String,
    outcome: &'static str,
    reason: String,
    text: String,
    millis: u64,
}

impl Prober {
    /// Answers the page.
    pub(crate) async fn answer(self, query: Query) -> PageResult {
        let Some(address) = query.value("address") else {
            return written(&Own::of(&self.tls));
        };
        let address = address.parse();
        let address: SocketAddr = address.map_err(|_| "ask for /probe?address=IP:PORT")?;
        if self.outbound.check_address(address).is_err() {
            return Err("this address may not be dialled through the sidecar");
        }
        let state = self.outbound.discovery.ask(address).await;
        let backends = match &state {
            None => Vec::new(),
            Some(state) => self.backends(state).await,
        };
        let report = Report {
            own: Own::of(&self.tls),
            kind: kind(state.as_deref()),
            backends,
        };
        written(&report)
    }

    /// All backends, some endpoints of each tried at the same time.
    async fn backends(&self, state: &State) -> Vec<BackendReport> {
        let mut reports = Vec::new();
        let mut attempts = JoinSet::new();
        for (at, (backend, route)) in backends(state).into_iter().enumerate() {
            reports.push(described(backend, route));
            for endpoint in route.balancer.endpoints().take(MOST_ENDPOINTS) {
                let (this, endpoint) = (self.clone(), endpoint.clone());
                let name = name_of(&endpoint, backend);
                attempts.spawn(async move { (at, this.attempt(name, &endpoint).await) });
            }
        }
        while let Some(done) = attempts.join_next().await {
            if let Ok((at, attempt)) = done {
                reports[at].tried.push(attempt);
            }
        }
        for report in &mut reports {
            report.tried.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        }
        reports
    }

    async fn attempt(&self, endpoint: String, at: &Endpoint) -> Attempt {
        let start = Instant::now();
        let (outcome, reason, text) = match self.outbound.way(at) {
            Way::Plain(_) => ("unmeshed", String::new(), String::new()),
            Way::Mesh(peer) => timeout(ATTEMPT, self.ask(&peer, at.address.port()))
                .await
                .unwrap_or_else(|_| failed("timeout", "no answer in time")),
        };
        Attempt {
            endpoint,
            outcome,
            reason,
            text,
            millis: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn ask(&self, peer: &Peer, port: u16) -> (&'static str, String, String) {
        let connection = match self.outbound.peers.connection(peer).await {
            Ok(connection) => connection,
            Err(error) => return failed(error.reason(), &error.to_string()),
        };
        match connection.probe(port).await {
            Ok(ProbeAnswer::Admitted) => ("admitted", String::new(), String::new()),
            Ok(ProbeAnswer::Refused(reason)) => ("refused", reason.as_str().into(), String::new()),
            Ok(ProbeAnswer::Unknown) => ("unknown", String::new(), String::new()),
            Err(error) => failed("stream", &error.to_string()),
        }
    }
}

fn written(page: &impl Serialize) -> PageResult {
    serde_json::to_string(page).map_err(|_| "the answer cannot be written")
}

fn failed(reason: &str, text: &str) -> (&'static str, String, String) {
    ("failed", reason.into(), text.into())
}

/// What may answer, by HTTPRoutes or without, each Service and port once.
fn backends(state: &State) -> Vec<(&Backend, &Route)> {
    let Kind::Service {
        backends,
        own,
        route_backends,
        routed,
        ..
    } = &state.kind
    else {
        return Vec::new();
    };
    let mut found: Vec<(&Backend, &Route)> = backends.iter().zip(own).collect();
    for (backend, route) in route_backends.iter().zip(routed) {
        if !found
            .iter()
            .any(|(known, _)| known.service == backend.service)
        {
            found.push((backend, route));
        }
    }
    found.truncate(MOST_BACKENDS);
    found
}

fn described(backend: &Backend, route: &Route) -> BackendReport {
    BackendReport {
        service: format!("{}/{}", backend.service.namespace, backend.service.name),
        port: backend.service.port,
        cluster: backend.cluster.as_ref().map(ToString::to_string),
        weight: backend.weight,
        known: backend.is_known,
        endpoints: route.balancer.endpoints().count(),
        tried: Vec::new(),
    }
}

/// The pod; another cluster's have no name here.
fn name_of(endpoint: &Endpoint, backend: &Backend) -> String {
    match (&*endpoint.pod, &backend.cluster) {
        ("", Some(cluster)) => format!("an endpoint of {cluster}"),
        ("", None) => "an endpoint".into(),
        (pod, _) => pod.into(),
    }
}

const fn kind(state: Option<&State>) -> &'static str {
    match state {
        None => "undiscovered",
        Some(state) => match &state.kind {
            Kind::Unknown => "unknown",
            Kind::UndefinedPort => "undefined-port",
            Kind::Pod(_) => "pod",
            Kind::Service { .. } => "service",
        },
    }
}

/// Tried per backend.
const MOST_ENDPOINTS: usize = 3;
/// As many as `explain` looks at.
const MOST_BACKENDS: usize = 16;
/// With the first answer of discovery, below the deadline of the page.
const ATTEMPT: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests {

    use mesh_core::{
        destination::{Destination, Distribution, Protocol, Service, ServiceRef},
        route::{HttpRoutes, tls::TlsRoutes},
    };

    use super::*;
    use crate::outbound::target::States;

    fn backend(name: &str, port: u16) -> Backend {
        let service = ServiceRef {
            namespace: "shop".into(),
            name: name.into(),
            port,
        };
        Backend::own(service, 1, Vec::new())
    }

    #[test]
    fn what_routes_lead_to_is_tried_too_each_service_and_port_once() {
        let own = backend("web", 80);
        let service = Service {
            reference: own.service.clone(),
            protocol: Protocol::Detect,
            distribution: Distribution::FirstAvailable,
            backends: vec![own],
            routes: HttpRoutes::default(),
            tls_routes: TlsRoutes::default(),
            route_backends: vec![
                backend("web", 80),
                backend("web-east", 80),
                backend("web", 81),
            ],
        };
        let state = States::default().state(Destination::Service(service));
        let found = backends(&state);
        let found: Vec<_> = found
            .iter()
            .map(|(backend, _)| (&*backend.service.name, backend.service.port))
            .collect();
        assert_eq!(found, [("web", 80), ("web-east", 80), ("web", 81)]);
    }
}
