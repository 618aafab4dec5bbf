//! The backends of a route, from what people write to what sidecars do.

use kube::ResourceExt as _;
use mesh_api::{names, route::BackendRef};
use mesh_core::{
    destination::Distribution,
    route::{RuleBackend, Shares},
};

use super::{RouteKind, RouteService};

/// The backends of a route that is being read.
pub(super) struct Members {
    namespace: String,
    /// They are in order, this one first.
    primary: Option<String>,
    /// Those of all rules so far.
    pub(super) services: Vec<RouteService>,
}

impl Members {
    pub(super) fn of(object: &impl RouteKind) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            primary: object.annotations().get(names::PRIMARY_SERVICE).cloned(),
            services: Vec::new(),
        }
    }

    /// Those of the next rule; nobody named means the parent.
    pub(super) fn shares(&mut self, named: &[BackendRef]) -> Shares {
        let mut members: Vec<_> = named.iter().collect();
        let distribution = match &self.primary {
            None => Distribution::RandomAvailable,
            Some(primary) => {
                // A stable sort: the others keep their order.
                members.sort_by_key(|member| member.name != *primary);
                Distribution::FirstAvailable
            }
        };
        let mut backends: Vec<_> = members
            .into_iter()
            .map(|member| {
                let weight = u32::try_from(member.weight.unwrap_or(1)).unwrap_or_default();
                self.backend(self.service(member), weight)
            })
            .collect();
        if backends.is_empty() {
            backends.push(self.backend(RouteService::Parent, 1));
        }
        Shares {
            distribution,
            backends,
        }
    }

    fn backend(&mut self, service: RouteService, weight: u32) -> RuleBackend {
        self.services.push(service);
        RuleBackend {
            backend: Some(self.services.len() - 1),
            weight,
        }
    }

    fn service(&self, member: &BackendRef) -> RouteService {
        let port = member.port.and_then(|port| u16::try_from(port).ok());
        match port {
            Some(port) if member.is_service() && member.filters.is_empty() => {
                let namespace = member.namespace.as_ref().unwrap_or(&self.namespace);
                RouteService::Named((namespace.clone(), member.name.clone()), port)
            }
            _ => RouteService::Unusable,
        }
    }
}
