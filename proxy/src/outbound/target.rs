//! A destination as connections use it: with the state of its endpoints.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use mesh_core::{
    destination::{
        Backend, Destination, Distribution, Endpoint, MeshPeer, Protocol, choose_backend,
    },
    route::{HttpRoutes, tls::TlsRoutes},
};
use tokio::sync::watch;

use super::balancer::{Balancer, Choosy, EndpointState, Fallback, Reach, Tried};
use crate::metrics::BackendLabels;

/// What an address means at one time.
pub(crate) struct State {
    pub(crate) kind: Kind,
    pub(crate) protocol: Protocol,
}

pub(crate) enum Kind {
    Unknown,
    UndefinedPort,
    Pod(Route),
    Service {
        distribution: Distribution,
        backends: Vec<Backend>,
        own: Vec<Route>,
        /// What HTTP requests are led by instead, if there is any route.
        routes: HttpRoutes,
        /// What TLS connections are led by instead, if there is any route.
        tls_routes: TlsRoutes,
        route_backends: Vec<Backend>,
        routed: Vec<Route>,
    },
}

/// The endpoints of one backend, and how it is counted.
pub(crate) struct Route {
    pub(crate) balancer: Balancer,
    pub(crate) labels: BackendLabels,
}

/// An address, and what it means now. Clones share it.
#[derive(Clone)]
pub(crate) struct Target(pub(crate) watch::Receiver<Option<Arc<State>>>);

impl Target {
    /// What it means now.
    pub(crate) fn current(&self) -> Arc<State> {
        self.0.borrow().clone().unwrap_or_else(|| {
            Arc::new(State {
                kind: Kind::Unknown,
                protocol: Protocol::Opaque,
            })
        })
    }
}

impl State {
    /// Whether a TLS connection goes where the server name leads that it asks for.
    pub(crate) fn leads_by_server_name(&self) -> bool {
        match &self.kind {
            Kind::Service { tls_routes, .. } => !tls_routes.is_empty(),
            Kind::Unknown | Kind::UndefinedPort | Kind::Pod(_) => false,
        }
    }

    /// The endpoint for the next attempt after those that were `tried`, and its
    /// route; none if no backend has any endpoint.
    pub(crate) fn pick(&self, tried: &Tried, now: Instant) -> Option<(&Route, Arc<EndpointState>)> {
        match &self.kind {
            Kind::Unknown | Kind::UndefinedPort => None,
            Kind::Pod(route) => Some((route, route.balancer.pick(tried, now)?)),
            Kind::Service {
                distribution,
                backends,
                own,
                ..
            } => {
                let route = Choosy::ALL.into_iter().find_map(|choosy| {
                    let has = |route: &Route| route.balancer.has(choosy, tried, now);
                    choose(*distribution, backends, own, has)
                })?;
                Some((route, route.balancer.pick(tried, now)?))
            }
        }
    }
}

fn choose<'a>(
    distribution: Distribution,
    backends: &[Backend],
    routes: &'a [Route],
    available: impl Fn(&Route) -> bool,
) -> Option<&'a Route> {
    let is_available = |backend: &Backend| {
        let at = backends
            .iter()
            .position(|other| std::ptr::eq(other, backend));
        at.and_then(|at| routes.get(at)).is_some_and(&available)
    };
    let at = choose_backend(distribution, backends, is_available, rand::random())?;
    routes.get(at)
}

/// Makes states out of what discovery says, and carries over what was learnt
/// about endpoints that stay.
#[derive(Default)]
pub(crate) struct States {
    known: Mutex<Known>,
    reach: Option<Reach>,
}

/// What is carried over.
#[derive(Default)]
struct Known {
    endpoints: HashMap<Key, Arc<EndpointState>>,
    backends: Vec<Backend>,
}

/// What tells endpoints apart: where it is, and who is there.
type Key = (SocketAddr, Option<MeshPeer>);

impl States {
    /// States whose endpoints are usable only while they are in reach.
    pub(crate) fn within(reach: Reach) -> Self {
        Self {
            reach: Some(reach),
            ..Self::default()
        }
    }

    pub(crate) fn state(&self, destination: Destination) -> State {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let destination = known.completed(destination);
        let mut next = HashMap::new();
        let mut state = |endpoint: &Endpoint| {
            let key = (endpoint.address, endpoint.mesh.clone());
            // What several backends have in common they share.
            let same = |state: &&Arc<EndpointState>| *state.endpoint() == *endpoint;
            let state = next.get(&key).filter(same);
            let state = state.or_else(|| known.endpoints.get(&key).filter(same));
            let state = match state {
                Some(state) => state.clone(),
                None => {
                    let state = EndpointState::new(endpoint.clone());
                    Arc::new(state.within(self.reach.clone()))
                }
            };
            next.insert(key, state.clone());
            state
        };
        let mut balancer = |backend: &Backend| {
            let endpoints = backend.endpoints.iter().map(&mut state).collect();
            let fallback = backend.fallback.as_ref().map(|whole| Fallback {
                endpoint: state(whole),
                is_stale: backend.is_stale || !backend.is_known,
            });
            Balancer::new(endpoints, fallback)
        };
        let state = match destination {
            Destination::Unknown => State {
                kind: Kind::Unknown,
                protocol: Protocol::Opaque,
            },
            Destination::UndefinedPort => State {
                kind: Kind::UndefinedPort,
                protocol: Protocol::Opaque,
            },
            Destination::Pod { endpoint, protocol } => State {
                kind: Kind::Pod(Route {
                    balancer: Balancer::new(vec![state(&endpoint)], None),
                    labels: BackendLabels::pod(),
                }),
                protocol,
            },
            Destination::Service(service) => {
                let mut route = |backend: &Backend| Route {
                    balancer: balancer(backend),
                    labels: BackendLabels::outbound(backend),
                };
                State {
                    kind: Kind::Service {
                        distribution: service.distribution,
                        own: service.backends.iter().map(&mut route).collect(),
                        backends: service.backends,
                        routes: service.routes,
                        tls_routes: service.tls_routes,
                        routed: service.route_backends.iter().map(route).collect(),
                        route_backends: service.route_backends,
                    },
                    protocol: service.protocol,
                }
            }
        };
        known.endpoints = next;
        state
    }
}

impl Known {
    /// With the last endpoints of the backends of which the control plane has
    /// not heard since it started.
    fn completed(&mut self, mut destination: Destination) -> Destination {
        let Destination::Service(service) = &mut destination else {
            self.backends.clear();
            return destination;
        };
        let backends = service.backends.iter_mut();
        let backends = backends.chain(&mut service.route_backends);
        for backend in backends.filter(|backend| !backend.is_known) {
            let same = |last: &&Backend| {
                last.service == backend.service && last.cluster == backend.cluster
            };
            if let Some(last) = self.backends.iter().find(same) {
                backend.endpoints.clone_from(&last.endpoints);
                backend.fallback.clone_from(&last.fallback);
            }
        }
        let backends = service.backends.iter().chain(&service.route_backends);
        self.backends = backends.cloned().collect();
        destination
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::destination::{Service, ServiceRef};

    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint {
            address: ([10, 42, 0, 9], port).into(),
            mesh: None,
            authority: None,
            weight: 1,
            pod: "".into(),
            zone: "".into(),
        }
    }

    fn service(backends: &[(&str, &[u16])]) -> Destination {
        let reference = |name: &str| ServiceRef {
            namespace: "shop".into(),
            name: name.into(),
            port: 80,
        };
        let backends = backends.iter().map(|(name, ports)| {
            let endpoints = ports.iter().map(|port| endpoint(*port)).collect();
            Backend::own(reference(name), 1, endpoints)
        });
        Destination::Service(Service {
            reference: reference("web"),
            protocol: Protocol::Detect,
            distribution: Distribution::FirstAvailable,
            backends: backends.collect(),
            routes: HttpRoutes::default(),
            tls_routes: TlsRoutes::default(),
            route_backends: Vec::new(),
        })
    }

    fn picked(state: &State, now: Instant) -> Option<u16> {
        state
            .pick(&Tried::default(), now)
            .map(|(_, endpoint)| endpoint.endpoint().address.port())
    }

    #[test]
    fn r12_a_backend_that_is_empty_or_down_is_skipped_at_once() {
        let (states, now) = (States::default(), Instant::now());
        let state = states.state(service(&[("web-east", &[1]), ("web", &[2])]));
        assert_eq!(picked(&state, now), Some(1));

        let (_, east) = state.pick(&Tried::default(), now).unwrap();
        east.failed(now);
        assert_eq!(picked(&state, now), Some(2));

        let empty = states.state(service(&[("web-east", &[]), ("web", &[2])]));
        assert_eq!(picked(&empty, now), Some(2));
        let none = states.state(service(&[("web-east", &[]), ("web", &[])]));
        assert_eq!(picked(&none, now), None);
    }

    #[test]
    fn r11_what_the_control_plane_does_not_know_yet_stays_as_it_was() {
        let (states, now) = (States::default(), Instant::now());
        let unheard = || {
            let mut destination = service(&[("web-east", &[])]);
            if let Destination::Service(service) = &mut destination {
                service.backends[0].is_known = false;
            }
            destination
        };
        assert_eq!(picked(&states.state(unheard()), now), None);
        states.state(service(&[("web-east", &[1])]));
        for _ in 0..2 {
            assert_eq!(picked(&states.state(unheard()), now), Some(1));
        }
        let gone = states.state(service(&[("web-east", &[])]));
        assert_eq!(picked(&gone, now), None, "it is known to be empty");
    }

    #[test]
    fn r1_a_backend_behind_a_lost_link_is_skipped_without_an_attempt() {
        let is_lost = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = is_lost.clone();
        let lost = move || seen.load(std::sync::atomic::Ordering::Relaxed);
        let reach = move |endpoint: &Endpoint, _: Instant| endpoint.address.port() != 1 || !lost();
        let (states, now) = (States::within(Arc::new(reach)), Instant::now());
        let state = states.state(service(&[("web-east", &[1]), ("web", &[2])]));
        assert_eq!(picked(&state, now), Some(1));
        is_lost.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(picked(&state, now), Some(2));
        let alone = states.state(service(&[("web-east", &[1])]));
        assert_eq!(picked(&alone, now), Some(1), "there is nothing else");
        is_lost.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(picked(&state, now), Some(1));
    }

    #[test]
    fn r11_while_the_feed_is_lost_what_stands_for_the_whole_export_is_tried() {
        let (states, now) = (States::default(), Instant::now());
        let east = |change: fn(&mut Backend)| {
            let mut destination = service(&[("web-east", &[1]), ("web", &[2])]);
            if let Destination::Service(service) = &mut destination {
                service.backends[0].fallback = Some(endpoint(99));
                change(&mut service.backends[0]);
            }
            states.state(destination)
        };
        let heard = east(|_| ());
        heard.pick(&Tried::default(), now).unwrap().1.refused(now);
        assert_eq!(picked(&heard, now), Some(99), "before the next backend");
        let stale = east(|east| east.is_stale = true);
        assert_eq!(picked(&stale, now), Some(99), "the refusal is remembered");
        let restarted = east(|east| {
            *east = Backend::own(east.service.clone(), 1, Vec::new());
            east.is_known = false;
        });
        assert_eq!(picked(&restarted, now), Some(99), "it was known before");
        let empty = east(|east| east.endpoints.clear());
        assert_eq!(picked(&empty, now), Some(2), "east itself says it is empty");
    }

    #[test]
    fn r13_when_all_are_down_one_is_tried_all_the_same() {
        let (states, now) = (States::default(), Instant::now());
        let state = states.state(service(&[("web", &[1])]));
        state.pick(&Tried::default(), now).unwrap().1.failed(now);
        assert_eq!(picked(&state, now), Some(1));
    }

    #[test]
    fn what_was_learnt_of_an_endpoint_outlives_an_update() {
        let (states, now) = (States::default(), Instant::now());
        let state = states.state(service(&[("web", &[1, 2])]));
        let Kind::Service { own, .. } = &state.kind else {
            unreachable!("a service");
        };
        own[0].balancer.pick(&Tried::default(), now).unwrap();
        let first = states.state(service(&[("web", &[1])]));
        let (_, before) = first.pick(&Tried::default(), now).unwrap();
        let second = states.state(service(&[("web", &[1, 3])]));
        before.failed(now);
        for _ in 0..20 {
            assert_eq!(picked(&second, now), Some(3), "the failure is remembered");
        }
    }
}
