use mesh_core::{
    destination::{Backend, Destination, Distribution, Endpoint, Protocol, Service, ServiceRef},
    route::{
        HttpRoutes, RuleBackend, Shares,
        tls::{TlsRoute, TlsRoutes},
    },
};

use super::*;
use crate::outbound::target::States;

fn backend(name: &str, ports: &[u16]) -> Backend {
    let service = ServiceRef {
        namespace: "shop".into(),
        name: name.into(),
        port: 443,
    };
    let endpoint = |port: &u16| Endpoint {
        address: ([10, 42, 0, 9], *port).into(),
        mesh: None,
        authority: None,
        weight: 1,
        pod: "".into(),
        zone: "".into(),
    };
    Backend::own(service, 1, ports.iter().map(endpoint).collect())
}

fn route(hostname: &str, distribution: Distribution, backends: &[Option<usize>]) -> TlsRoute {
    let backends = backends.iter().map(|backend| RuleBackend {
        backend: *backend,
        weight: 1,
    });
    TlsRoute {
        namespace: "shop".into(),
        name: "web".into(),
        hostnames: vec![hostname.parse().unwrap()],
        shares: Shares {
            distribution,
            backends: backends.collect(),
        },
    }
}

/// A Service at port 1, whose routes lead to 2 and 3.
fn state(states: &States, routes: Vec<TlsRoute>) -> State {
    states.state(Destination::Service(Service {
        reference: backend("web", &[]).service,
        protocol: Protocol::Detect,
        distribution: Distribution::FirstAvailable,
        backends: vec![backend("web", &[1])],
        routes: HttpRoutes::default(),
        tls_routes: TlsRoutes::new(routes),
        route_backends: vec![
            backend("two", &[2]),
            backend("three", &[3]),
            backend("empty", &[]),
        ],
    }))
}

/// The port that a connection goes to, or the label under which it is refused.
fn picked(state: &State, spoken: &Spoken) -> Result<u16, &'static str> {
    match pick(state, spoken, &Tried::default(), Instant::now()) {
        Ok((_, endpoint)) => Ok(endpoint.endpoint().address.port()),
        Err(ended) => Err(ended.refusal().unwrap()),
    }
}

fn tls(name: &str) -> Spoken {
    Spoken::Tls(Some(name.into()))
}

#[test]
fn tls_goes_where_its_server_name_leads_and_all_else_to_the_service() {
    use Distribution::{FirstAvailable, RandomAvailable};
    let states = States::default();
    let routes = vec![
        route("two.example", RandomAvailable, &[Some(0)]),
        route("*.example", FirstAvailable, &[Some(2), Some(1)]),
        route("gone.example", RandomAvailable, &[None]),
        route("empty.example", RandomAvailable, &[Some(2)]),
    ];
    let led = state(&states, routes);
    assert!(led.leads_by_server_name());
    for (spoken, expected) in [
        (tls("two.example"), Ok(2)),
        // The first has no endpoint.
        (tls("x.example"), Ok(3)),
        (tls("gone.example"), Err("missing_backend")),
        (tls("empty.example"), Err("no_endpoint")),
        (tls("other.org"), Err("no_route")),
        (Spoken::Tls(None), Err("no_route")),
        (Spoken::Opaque, Ok(1)),
    ] {
        assert_eq!(picked(&led, &spoken), expected, "{spoken:?}");
    }
    let unled = state(&states, Vec::new());
    assert!(!unled.leads_by_server_name());
    for spoken in [tls("two.example"), Spoken::Tls(None), Spoken::Opaque] {
        assert_eq!(picked(&unled, &spoken), Ok(1), "{spoken:?}");
    }
}

#[test]
fn r3_the_next_attempt_is_at_another_of_the_routes_backends() {
    for distribution in [Distribution::FirstAvailable, Distribution::RandomAvailable] {
        let states = States::default();
        let both = route("web.example", distribution, &[Some(0), Some(1)]);
        let state = state(&states, vec![both]);
        let mut tried = Tried::default();
        let mut next = || {
            let (_, endpoint) = pick(&state, &tls("web.example"), &tried, Instant::now()).unwrap();
            let port = endpoint.endpoint().address.port();
            tried.add(endpoint);
            port
        };
        let mut ports = [next(), next()];
        ports.sort_unstable();
        assert_eq!(ports, [2, 3], "{distribution:?}");
    }
}
