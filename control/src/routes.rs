//! What HTTPRoutes mean for the clients of a Service.

pub(crate) mod status;

use mesh_core::{
    destination::Backend,
    route::{Action, HttpRoute, HttpRoutes, RuleBackend},
};

use crate::{
    destination::{Remote, backend},
    snapshot::{Name, Route, RouteService, Snapshot},
};

/// The routes of a Service's port, and the Services that they lead to.
pub(crate) fn routes(
    snapshot: &Snapshot,
    remote: &Remote,
    parent: &Name,
    port: u16,
) -> (HttpRoutes, Vec<Backend>) {
    let attached = snapshot.routes.get(parent).into_iter().flatten();
    let attached = attached.filter(|attached| attached.port.is_none_or(|only| only == port));
    let mut resolving = Resolving {
        snapshot,
        parent: (parent, port),
        found: Vec::new(),
    };
    let routes: Vec<_> = attached
        .map(|attached| resolving.route(&attached.route))
        .collect();
    let backends = resolving
        .found
        .into_iter()
        .map(|(name, port)| backend(snapshot, remote, name, port, 1));
    (HttpRoutes::new(routes), backends.collect())
}

struct Resolving<'a> {
    snapshot: &'a Snapshot,
    parent: (&'a Name, u16),
    /// Every Service that exists, once.
    found: Vec<(Name, u16)>,
}

impl Resolving<'_> {
    fn route(&mut self, route: &Route) -> HttpRoute {
        let mut resolved = route.route.clone();
        for rule in &mut resolved.rules {
            if let Action::Forward(forward) = &mut rule.action {
                for backend in &mut forward.backends {
                    *backend = self.backend(route, *backend);
                }
            }
        }
        resolved
    }

    fn backend(&mut self, route: &Route, member: RuleBackend) -> RuleBackend {
        let service = member.backend.and_then(|at| route.services.get(at));
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
        snapshot::Attached,
    };

    fn name(service: &str) -> Name {
        ("shop".to_owned(), service.to_owned())
    }

    /// A route of `web` that leads to `services`, in this order.
    fn attached(services: Vec<RouteService>, port: Option<u16>) -> Attached {
        let backends = (0..services.len()).map(|at| RuleBackend {
            backend: Some(at),
            weight: 1,
        });
        let forward = Forward {
            rewrite: Default::default(),
            timeout: None,
            distribution: Distribution::FirstAvailable,
            backends: backends.collect(),
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
            patterns: 0,
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
        let positions = forward(&service).backends.iter().map(|b| b.backend);
        let expected = [None, None, Some(0), Some(1), Some(0)];
        assert_eq!(positions.collect::<Vec<_>>(), expected);
        // North has not been heard yet, and would be waited for.
        assert!(!is_known(&Destination::Service(service.clone())));
        let has_endpoints = |at: usize| !service.route_backends[at].endpoints.is_empty();
        assert_eq!(
            forward(&service).choose(has_endpoints, 0),
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
    fn a_route_for_another_port_means_nothing_here() {
        let mut snapshot = snapshot();
        let route = attached(vec![named("web")], Some(81));
        snapshot.routes.insert(name("web"), vec![route]);
        assert!(meaning(&snapshot).routes.is_empty());
    }
}
