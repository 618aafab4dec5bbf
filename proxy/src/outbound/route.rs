//! What becomes of a request: which backend it goes to, what it is changed to,
//! or what is answered instead, by the routes of its Service if it has any.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, StatusCode, Uri, request::Parts, uri::Authority};
use mesh_core::route::{
    Action, Choice, Forward, HttpRoutes, Picked, Shares, filter::HeaderChanges,
    matching::RequestHead,
};
use mesh_dataplane::message::{Response, convert};
use mesh_http::head::{Head, Invalid};

use super::{
    balancer::{Choosy, EndpointState, Tried},
    http::head::Asking,
    target::{Kind, Route, State},
};
use crate::{body::answer, metrics::Metrics};

/// Where a request is sent.
pub(super) struct Sending<'a> {
    pub(super) backend: &'a Route,
    pub(super) endpoint: Arc<EndpointState>,
    /// What its rule makes of it; none if the Service has no routes.
    pub(super) changes: Option<Changes<'a>>,
}

/// What a rule makes of a request that it forwards.
#[derive(Clone, Copy)]
pub(super) struct Changes<'a> {
    picked: Picked<'a>,
    forward: &'a Forward,
}

/// What is answered instead of sending a request.
#[derive(Debug, PartialEq)]
pub(super) enum Instead<'a> {
    /// No rule is for it.
    NoRoute,
    /// Its rule asks for something that is not supported.
    Unsupported,
    /// It would have gone to a Service that does not exist.
    MissingBackend,
    /// No backend has an endpoint.
    NoEndpoint,
    /// The request has no form that rules can look at.
    Malformed,
    /// The client is sent elsewhere.
    Redirect {
        status: StatusCode,
        location: HeaderValue,
        changes: &'a HeaderChanges,
    },
}

/// What becomes of the request now, after it was `tried` elsewhere.
pub(super) fn decide<'a>(
    state: &'a State,
    asking: &Asking,
    tried: &Tried,
    now: Instant,
) -> Result<Sending<'a>, Instead<'a>> {
    let (Some(routes), Kind::Service { routed, .. }) = (routes(state), &state.kind) else {
        let (backend, endpoint) = state.pick(tried, now).ok_or(Instead::NoEndpoint)?;
        return Ok(Sending {
            backend,
            endpoint,
            changes: None,
        });
    };
    let head = asking.parts().ok_or(Instead::Malformed)?;
    let picked = routes.pick(&request_head(head)).ok_or(Instead::NoRoute)?;
    let forward = match &picked.rule.action {
        Action::Fail => return Err(Instead::Unsupported),
        Action::Redirect(redirect) => {
            let target = head.uri.path_and_query();
            let location = head
                .uri
                .authority()
                .zip(target)
                .and_then(|(authority, target)| {
                    redirect.location(authority, target, picked.matched)
                });
            return Err(Instead::Redirect {
                status: redirect.status,
                location: location.ok_or(Instead::Unsupported)?,
                changes: &picked.rule.response_headers,
            });
        }
        Action::Forward(forward) => forward,
    };
    let (backend, endpoint) = share(&forward.shares, routed, tried, now)?;
    Ok(Sending {
        backend,
        endpoint,
        changes: Some(Changes { picked, forward }),
    })
}

/// How long the answer to the request may take to begin.
pub(super) fn time_limit(state: &State, asking: &Asking) -> Option<Duration> {
    let routes = routes(state)?;
    let picked = routes.pick(&request_head(asking.parts()?))?;
    match &picked.rule.action {
        Action::Forward(forward) => forward.timeout,
        Action::Redirect(_) | Action::Fail => None,
    }
}

/// The routes of a Service that has any.
fn routes(state: &State) -> Option<&HttpRoutes> {
    match &state.kind {
        Kind::Service { routes, .. } if !routes.is_empty() => Some(routes),
        Kind::Service { .. } | Kind::Pod(_) | Kind::Unknown | Kind::UndefinedPort => None,
    }
}

fn request_head(head: &Parts) -> RequestHead<'_> {
    RequestHead {
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    }
}

/// Why a rule leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Nowhere {
    /// To a Service that does not exist.
    Missing,
    /// None of its backends has an endpoint.
    NoEndpoint,
}

/// The backend for what comes next by `shares` of `backends`, and its endpoint.
pub(super) fn share<'a>(
    shares: &Shares,
    backends: &'a [Route],
    tried: &Tried,
    now: Instant,
) -> Result<(&'a Route, Arc<EndpointState>), Nowhere> {
    let dice = rand::random();
    let choices = Choosy::ALL.into_iter().map(|choosy| {
        let has = |backend: &Route| backend.balancer.has(choosy, tried, now);
        shares.choose(|at| backends.get(at).is_some_and(has), dice)
    });
    let mut possible = choices.filter(|choice| *choice != Choice::Unavailable);
    let backend = match possible.next().unwrap_or(Choice::Unavailable) {
        Choice::Backend(at) => backends.get(at).ok_or(Nowhere::Missing)?,
        Choice::Missing => return Err(Nowhere::Missing),
        Choice::Unavailable => return Err(Nowhere::NoEndpoint),
    };
    let endpoint = backend.balancer.pick(tried, now);
    Ok((backend, endpoint.ok_or(Nowhere::NoEndpoint)?))
}

impl From<Nowhere> for Instead<'_> {
    fn from(nowhere: Nowhere) -> Self {
        match nowhere {
            Nowhere::Missing => Self::MissingBackend,
            Nowhere::NoEndpoint => Self::NoEndpoint,
        }
    }
}

impl Changes<'_> {
    /// The authority that the rule asks for.
    pub(super) const fn authority(&self) -> Option<&Authority> {
        self.forward.rewrite.authority.as_ref()
    }

    /// Changes the request's path and headers.
    pub(super) fn apply<B>(&self, request: &mut Request<B>) {
        self.picked
            .rule
            .request_headers
            .apply(request.headers_mut());
        let Some(change) = &self.forward.rewrite.path else {
            return;
        };
        let mut parts = request.uri().clone().into_parts();
        let target = parts.path_and_query.take();
        // A path that is none stays as it was.
        parts.path_and_query = target.map(|target| {
            let changed = change.target(&target, self.picked.matched);
            changed.unwrap_or(target)
        });
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }

    /// Changes the answer's headers.
    pub(super) fn apply_to_answer(&self, head: &mut Head) {
        apply_to_answer(&self.picked.rule.response_headers, head);
    }
}

/// Changes that make no answer that can be sent are not made.
fn apply_to_answer(changes: &HeaderChanges, head: &mut Head) {
    if *changes == HeaderChanges::default() {
        return;
    }
    let mut fields = convert::fields(head);
    changes.apply(&mut fields);
    if let Ok(changed) = convert::with_fields(head, &fields) {
        *head = changed;
    }
}

/// Tells the client where else to go.
fn redirect(
    status: StatusCode,
    location: &HeaderValue,
    changes: &HeaderChanges,
) -> Result<Response, Invalid> {
    let mut response = answer(status, "it is elsewhere");
    apply_to_answer(changes, &mut response.head);
    response.head.remove(b"location");
    response.head.push(b"location", location.as_bytes())?;
    Ok(response)
}

impl Instead<'_> {
    /// The answer, counted.
    pub(super) fn answer(self, metrics: &Metrics) -> Response {
        let (reason, status, message) = match self {
            Self::NoRoute => ("no_route", StatusCode::NOT_FOUND, "no route matches"),
            Self::Unsupported => (
                "unsupported_route",
                StatusCode::INTERNAL_SERVER_ERROR,
                "the route is not supported",
            ),
            Self::MissingBackend => (
                "missing_backend",
                StatusCode::INTERNAL_SERVER_ERROR,
                "the route's backend does not exist",
            ),
            Self::NoEndpoint => (
                "no_endpoint",
                StatusCode::SERVICE_UNAVAILABLE,
                "the Service has no endpoint",
            ),
            Self::Malformed => (
                "malformed",
                StatusCode::BAD_REQUEST,
                "no route can look at the request",
            ),
            Self::Redirect {
                status,
                location,
                changes,
            } => match redirect(status, &location, changes) {
                Ok(response) => return response,
                Err(_) => (
                    "unsupported_route",
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the route's redirection cannot be told",
                ),
            },
        };
        metrics.refused("outbound", reason);
        answer(status, message)
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::{
        destination::{
            Backend, Destination, Distribution, Endpoint, Protocol, Service, ServiceRef,
        },
        route::{
            HttpRoute, Rule, RuleBackend,
            filter::{PathChange, Redirect, Rewrite},
            matching::{PathMatch, RequestMatch},
            tls::TlsRoutes,
        },
    };
    use mesh_drive::conduit::Version;

    use super::*;
    use crate::outbound::target::States;

    fn reference(name: &str) -> ServiceRef {
        ServiceRef {
            namespace: "shop".into(),
            name: name.into(),
            port: 80,
        }
    }

    /// A backend with one endpoint at each of `ports`.
    fn service_at(name: &str, ports: &[u16]) -> Backend {
        let endpoints = ports.iter().map(|port| Endpoint {
            address: ([10, 42, 0, 9], *port).into(),
            mesh: None,
            authority: None,
            weight: 1,
            pod: "".into(),
            zone: "".into(),
        });
        Backend::own(reference(name), 1, endpoints.collect())
    }

    fn rule(prefix: &str, action: Action) -> Rule {
        let path = PathMatch::Prefix(prefix.into());
        Rule {
            matches: vec![RequestMatch {
                path,
                ..RequestMatch::default()
            }],
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            action,
        }
    }

    fn forward(distribution: Distribution, backends: &[Option<usize>]) -> Forward {
        let backends = backends.iter().map(|backend| RuleBackend {
            backend: *backend,
            weight: 1,
        });
        Forward {
            rewrite: Rewrite::default(),
            timeout: None,
            shares: Shares {
                distribution,
                backends: backends.collect(),
            },
        }
    }

    fn destination(rules: Vec<Rule>, east: &[u16], west: &[u16]) -> Destination {
        let route = HttpRoute {
            namespace: "shop".into(),
            name: "web".into(),
            rules,
        };
        let routes = if route.rules.is_empty() {
            HttpRoutes::default()
        } else {
            HttpRoutes::new(vec![route])
        };
        Destination::Service(Service {
            reference: reference("web"),
            protocol: Protocol::Detect,
            distribution: Distribution::FirstAvailable,
            backends: vec![service_at("web", west)],
            routes,
            tls_routes: TlsRoutes::default(),
            route_backends: vec![service_at("web-east", east), service_at("web", west)],
        })
    }

    fn asking(path: &str) -> Asking {
        let head = Head::request("GET", "web", path).unwrap();
        Asking::prepared(head, Version::Http1).unwrap()
    }

    /// The port that a request goes to.
    fn sent(state: &State, path: &str, now: Instant) -> Result<u16, u16> {
        match decide(state, &asking(path), &Tried::default(), now) {
            Ok(sending) => Ok(sending.endpoint.endpoint().address.port()),
            Err(instead) => Err(instead.answer(&Metrics::default()).status()),
        }
    }

    fn ordered() -> Vec<Rule> {
        let forward = forward(Distribution::FirstAvailable, &[Some(0), Some(1)]);
        vec![rule("/", Action::Forward(forward))]
    }

    #[test]
    fn r1_r12_an_ordered_route_goes_on_to_the_next_backend_at_once() {
        let (states, now) = (States::default(), Instant::now());
        let state = states.state(destination(ordered(), &[1], &[2]));
        assert_eq!(sent(&state, "/", now), Ok(1));
        let asking = asking("/");
        let first = decide(&state, &asking, &Tried::default(), now)
            .ok()
            .unwrap();
        first.endpoint.failed(now);
        assert_eq!(sent(&state, "/", now), Ok(2));
        let empty = states.state(destination(ordered(), &[], &[2]));
        assert_eq!(sent(&empty, "/", now), Ok(2));
        let none = states.state(destination(ordered(), &[], &[]));
        assert_eq!(sent(&none, "/", now), Err(503));
    }

    #[test]
    fn r3_the_next_attempt_goes_to_another_backend_than_the_one_that_failed() {
        let (states, now) = (States::default(), Instant::now());
        for distribution in [Distribution::FirstAvailable, Distribution::RandomAvailable] {
            let forward = forward(distribution, &[Some(0), Some(1)]);
            let rules = vec![rule("/", Action::Forward(forward))];
            let state = states.state(destination(rules, &[1], &[2]));
            let (asking, mut tried) = (asking("/"), Tried::default());
            let mut next = || {
                let sending = decide(&state, &asking, &tried, now).ok().unwrap();
                let port = sending.endpoint.endpoint().address.port();
                tried.add(sending.endpoint);
                port
            };
            let mut ports = [next(), next()];
            ports.sort_unstable();
            assert_eq!(ports, [1, 2], "{distribution:?}");
        }
    }

    #[test]
    fn what_is_learnt_of_an_endpoint_is_known_to_every_rule_and_to_tcp() {
        let (states, now) = (States::default(), Instant::now());
        let state = states.state(destination(ordered(), &[1], &[2, 3]));
        let (_, west) = state.pick(&Tried::default(), now).unwrap();
        west.failed(now);
        let only_west = vec![rule(
            "/",
            Action::Forward(forward(Distribution::RandomAvailable, &[Some(1)])),
        )];
        let state = states.state(destination(only_west, &[1], &[2, 3]));
        for _ in 0..20 {
            let other = 5 - west.endpoint().address.port();
            assert_eq!(sent(&state, "/", now), Ok(other));
        }
    }

    #[test]
    fn without_a_rule_it_is_404_and_without_routes_the_service_itself() {
        let (states, now) = (States::default(), Instant::now());
        let rules = vec![
            rule("/bad", Action::Fail),
            rule(
                "/gone",
                Action::Forward(forward(Distribution::RandomAvailable, &[None])),
            ),
        ];
        let state = states.state(destination(rules, &[1], &[2]));
        for (path, status) in [("/else", 404), ("/bad", 500), ("/gone/x", 500)] {
            assert_eq!(sent(&state, path, now), Err(status));
        }
        let plain = states.state(destination(Vec::new(), &[1], &[2]));
        assert_eq!(sent(&plain, "/else", now), Ok(2));
        // Opaque connections know no routes.
        let opaque = state.pick(&Tried::default(), now).unwrap().1;
        assert_eq!(opaque.endpoint().address.port(), 2);
    }

    #[test]
    fn a_rule_changes_the_request_that_it_forwards() {
        let (states, now) = (States::default(), Instant::now());
        let mut forward = forward(Distribution::RandomAvailable, &[Some(0)]);
        forward.timeout = Some(Duration::from_secs(2));
        forward.rewrite = Rewrite {
            authority: Some("other".parse().unwrap()),
            path: Some(PathChange::Prefix("/v2".into())),
        };
        let mut rule = rule("/v1", Action::Forward(forward));
        let added = (
            http::HeaderName::from_static("x-a"),
            HeaderValue::from_static("1"),
        );
        rule.request_headers = HeaderChanges::new(vec![added], vec![], vec![]).unwrap();
        let state = states.state(destination(vec![rule], &[1], &[2]));
        let asking = asking("/v1/a?b=c");
        let changes = decide(&state, &asking, &Tried::default(), now)
            .ok()
            .unwrap()
            .changes
            .unwrap();
        let mut request = Request::get("http://web/v1/a?b=c").body(()).unwrap();
        changes.apply(&mut request);
        assert_eq!(request.uri(), "http://web/v2/a?b=c");
        assert_eq!(request.headers()["x-a"], "1");
        assert_eq!(changes.authority().unwrap(), "other");
        assert_eq!(time_limit(&state, &asking), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_redirect_is_answered_here() {
        let (states, now) = (States::default(), Instant::now());
        let redirect = Redirect {
            scheme: Some(http::uri::Scheme::HTTPS),
            host: None,
            path: None,
            port: None,
            status: StatusCode::MOVED_PERMANENTLY,
        };
        let rules = vec![rule("/", Action::Redirect(redirect))];
        let state = states.state(destination(rules, &[1], &[2]));
        let asking = asking("/a");
        let instead = decide(&state, &asking, &Tried::default(), now)
            .err()
            .unwrap();
        let response = instead.answer(&Metrics::default());
        assert_eq!(response.status(), 301);
        let location = response.head.get_single(b"location");
        assert_eq!(location, Some(&b"https://web/a"[..]));
    }
}
