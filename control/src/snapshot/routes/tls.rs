//! The host names and the rule of a TLSRoute, from what people write to what sidecars
//! do.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use mesh_api::route::{BackendRef, ParentRef, RouteStatus, TLSRoute};
use mesh_core::{
    destination::Protocol,
    route::tls::{Hostname, MOST_HOSTNAMES, TlsRoute},
};

use super::{
    Converted, Effect, Name, Problem, Route, RouteKind, RouteObject, Snapshot, members::Members,
};

impl RouteKind for TLSRoute {
    type Meaning = TlsRoute;

    const MOST_SIZE: usize = MOST_HOSTNAMES;

    const UNFOLLOWED: (&'static str, &'static str) =
        ("declared HTTP/2", "TLS is not looked for there");

    fn of(snapshot: &Snapshot) -> &BTreeMap<Name, RouteObject<Self>> {
        &snapshot.tls_route_objects
    }

    fn parent_refs(&self) -> &[ParentRef] {
        &self.spec.parent_refs
    }

    fn backend_refs(&self) -> impl Iterator<Item = &BackendRef> {
        self.spec.rules.iter().flat_map(|rule| &rule.backend_refs)
    }

    fn status(&self) -> Option<&RouteStatus> {
        self.status.as_ref()
    }

    fn is_followed(protocol: Protocol) -> bool {
        protocol != Protocol::Http2
    }

    fn convert(&self) -> Converted<TlsRoute> {
        let mut problems = Vec::new();
        let mut problem = |rule, effect, reason| {
            problems.push(Problem {
                rule,
                effect,
                reason,
            });
        };
        let mut hostnames: Vec<Hostname> = Vec::new();
        for name in &self.spec.hostnames {
            match name.parse() {
                Ok(hostname) => hostnames.push(hostname),
                Err(_) => {
                    let reason = format!("the host name {name:?} is malformed");
                    problem(1, Effect::None, reason);
                }
            }
        }
        if hostnames.is_empty() {
            let reason = "the route names no host for which it is".to_owned();
            problem(1, Effect::Dropped, reason);
        }
        for (_, number) in self.spec.rules.iter().zip(1..).skip(1) {
            problem(
                number,
                Effect::Dropped,
                "a TLSRoute has one rule".to_owned(),
            );
        }
        let mut members = Members::of(self);
        let rule = self.spec.rules.first();
        let shares = members.shares(rule.map_or(&[], |rule| &rule.backend_refs));
        Converted {
            is_usable: rule.is_some() && !hostnames.is_empty(),
            route: Route {
                size: hostnames.len(),
                route: TlsRoute {
                    namespace: self.namespace().unwrap_or_default().into(),
                    name: self.name_any().into(),
                    hostnames,
                    shares,
                },
                services: members.services,
            },
            problems,
        }
    }
}
