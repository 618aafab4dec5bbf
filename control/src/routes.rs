//! What HTTPRoutes and TLSRoutes mean for the clients of a Service.

pub(crate) mod status;

use std::collections::HashMap;

use mesh_core::{
    destination::Backend,
    route::{
        Action, HttpRoute, HttpRoutes, RuleBackend, Shares,
        tls::{TlsRoute, TlsRoutes},
    },
};

use crate::{
    destination::{Remote, backend},
    snapshot::{Attached, Name, Route, RouteService, Snapshot},
};

/// The routes of a Service's port.
pub(crate) struct Routes {
    pub(crate) http: HttpRoutes,
    pub(crate) tls: TlsRoutes,
    /// The Services that they lead to.
    pub(crate) backends: Vec<Backend>,
}

pub(crate) fn routes(snapshot: &Snapshot, remote: &Remote, parent: &Name, port: u16) -> Routes {
    let mut resolving = Resolving {
        snapshot,
        parent: (parent, port),
        found: Vec::new(),
    };
    let http = attached(&snapshot.routes, parent, port);
    let http: Vec<_> = http.map(|route| resolving.http(route)).collect();
    let tls = attached(&snapshot.tls_routes, parent, port);
    let tls: Vec<_> = tls.map(|route| resolving.tls(route)).collect();
    let backends = resolving
        .found
        .into_iter()
        .map(|(name, port)| backend(snapshot, remote, name, port, 1));
    Routes {
        http: HttpRoutes::new(http),
        tls: TlsRoutes::new(tls),
        backends: backends.collect(),
    }
}

/// Those that are attached to the port.
fn attached<'a, M>(
    routes: &'a HashMap<Name, Vec<Attached<M>>>,
    parent: &Name,
    port: u16,
) -> impl Iterator<Item = &'a Route<M>> {
    let routes = routes.get(parent).map_or(&[][..], Vec::as_slice);
    let attached = routes.iter();
    attached
        .filter(move |attached| attached.port.is_none_or(|only| only == port))
        .map(|attached| &*attached.route)
}

struct Resolving<'a> {
    snapshot: &'a Snapshot,
    parent: (&'a Name, u16),
    /// Every Service that exists, once.
    found: Vec<(Name, u16)>,
}

impl Resolving<'_> {
    fn http(&mut self, route: &Route<HttpRoute>) -> HttpRoute {
        let mut resolved = route.route.clone();
        for rule in &mut resolved.rules {
            if let Action::Forward(forward) = &mut rule.action {
                self.shares(route, &mut forward.shares);
            }
        }
        resolved
    }

    fn tls(&mut self, route: &Route<TlsRoute>) -> TlsRoute {
        let mut resolved = route.route.clone();
        self.shares(route, &mut resolved.shares);
        resolved
    }

    fn shares<M>(&mut self, route: &Route<M>, shares: &mut Shares) {
        for backend in &mut shares.backends {
            *backend = self.backend(&route.services, *backend);
        }
    }

    fn backend(&mut self, services: &[RouteService], member: RuleBackend) -> RuleBackend {
        let service = member.backend.and_then(|at| services.get(at));
        let (name, port) = match service {
            Some(RouteService::Parent) => self.parent,
            Some(RouteService::Named(name, port)) => (name, *port),
            Some(RouteService::Unusable) | None => {
                return RuleBackend {
                    backend: None,
                    ..member
                };
            }
        };
        let declared = self.snapshot.services.get(name);
        let exists = declared.is_some_and(|s| s.ports.iter().any(|declared| declared.port == port));
        RuleBackend {
            backend: exists.then(|| self.position(name, port)),
            ..member
        }
    }

    fn position(&mut self, name: &Name, port: u16) -> usize {
        let same = |known: &(Name, u16)| known.0 == *name && known.1 == port;
        self.found.iter().position(same).unwrap_or_else(|| {
            self.found.push((name.clone(), port));
            self.found.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_core::{
        destination::{Destination, Distribution, Service},
        route::{Choice, Forward, Rule},
    };

    use super::*;
    use crate::{
        destination::{destination, is_known},
        fixtures::{CLUSTER_IPS, snapshot, split},
    };

    fn name(service: &str) -> Name {
        ("shop".to_owned(), service.to_owned())
    }

    /// A route of `web` that leads to `services`, in this order.
    fn attached(services: Vec<RouteService>, port: Option<u16>) -> Attached<HttpRoute> {
        let backends = (0..services.len()).map(|at| RuleBackend {
            backend: Some(at),
            weight: 1,
        });
        let forward = Forward {
            rewrite: Default::default(),
            timeout: None,
            shares: Shares {
                distribution: Distribution::FirstAvailable,
                backends: backends.collect(),
            },
        };
        let rule = Rule {
            matches: Vec::new(),
            request_headers: Default::default(),
            response_headers: Default::default(),
            action: Action::Forward(forward),
        };
        let route = HttpRoute {
            namespace: "shop".into(),
            name: "web".into(),
            rules: vec![rule],
        };
        let route = Arc::new(Route {
            route,
            services,
            size: 0,
        });
        Attached { port, route }
    }

    fn named(service: &str) -> RouteService {
        RouteService::Named(name(service), 80)
    }

    fn meaning(snapshot: &Snapshot) -> Service {
        let address = format!("{}:80", CLUSTER_IPS.web).parse().unwrap();
        match destination(snapshot, &Remote::new(), address) {
            Destination::Service(service) => service,
            other => unreachable!("{other:?} is no Service"),
        }
    }

    fn forward(service: &Service) -> &Forward {
        match &service.routes.routes()[0].rules[0].action {
            Action::Forward(forward) => forward,
            Action::Redirect(_) | Action::Fail => unreachable!("it forwards"),
        }
    }

    #[test]
    fn r12_a_route_leads_to_services_of_here_and_of_linked_clusters() {
        let mut snapshot = snapshot();
        let services = vec![
            named("nowhere"),
            RouteService::Unusable,
            named("web-north"),
            RouteService::Parent,
            named("web-north"),
        ];
        let route = attached(services, None);
        snapshot.routes.insert(name("web"), vec![route]);
        let service = meaning(&snapshot);
        let names: Vec<_> = service
            .route_backends
            .iter()
            .map(|b| &*b.service.name)
            .collect();
        assert_eq!(names, ["web-north", "web"]);
        let positions = forward(&service).shares.backends.iter().map(|b| b.backend);
        let expected = [None, None, Some(0), Some(1), Some(0)];
        assert_eq!(positions.collect::<Vec<_>>(), expected);
        // North has not been heard yet, and would be waited for.
        assert!(!is_known(&Destination::Service(service.clone())));
        let has_endpoints = |at: usize| !service.route_backends[at].endpoints.is_empty();
        assert_eq!(
            forward(&service).shares.choose(has_endpoints, 0),
            Choice::Backend(1)
        );
    }

    #[test]
    fn a_route_stands_beside_a_split_which_is_for_what_is_no_http() {
        let mut snapshot = snapshot();
        let route = attached(vec![named("web")], Some(80));
        snapshot.routes.insert(name("web"), vec![route]);
        let own = meaning(&snapshot);
        assert_eq!(own.backends.len(), 1);
        assert!(!own.routes.is_empty());
        snapshot.splits.insert(name("web"), split(None));
        let both = meaning(&snapshot);
        assert_eq!((both.backends.len(), both.route_backends.len()), (2, 1));
    }

    #[test]
    fn a_tls_route_leads_beside_an_http_route_to_the_same_services() {
        let mut snapshot = snapshot();
        let backends =
            [Some(0), Some(1), Some(2)].map(|backend| RuleBackend { backend, weight: 1 });
        let route = TlsRoute {
            namespace: "shop".into(),
            name: "web".into(),
            hostnames: vec!["web.example".parse().unwrap()],
            shares: Shares {
                distribution: Distribution::FirstAvailable,
                backends: backends.to_vec(),
            },
        };
        let services = vec![named("web-north"), named("nowhere"), RouteService::Parent];
        let tls = |port| Attached {
            port,
            route: Arc::new(Route {
                route: route.clone(),
                services: services.clone(),
                size: 1,
            }),
        };
        let http = attached(vec![named("web")], None);
        snapshot.routes.insert(name("web"), vec![http]);
        let both = vec![tls(Some(80)), tls(Some(443))];
        snapshot.tls_routes.insert(name("web"), both);
        let service = meaning(&snapshot);
        let names: Vec<_> = service
            .route_backends
            .iter()
            .map(|b| &*b.service.name)
            .collect();
        assert_eq!(names, ["web", "web-north"]);
        let [route] = service.tls_routes.routes() else {
            unreachable!("one is for this port");
        };
        let positions = route.shares.backends.iter().map(|b| b.backend);
        assert_eq!(positions.collect::<Vec<_>>(), [Some(1), None, Some(0)]);
    }

    #[test]
    fn a_route_for_another_port_means_nothing_here() {
        let mut snapshot = snapshot();
        let route = attached(vec![named("web")], Some(81));
        snapshot.routes.insert(name("web"), vec![route]);
        assert!(meaning(&snapshot).routes.is_empty());
    }
}
