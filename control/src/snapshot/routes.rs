//! HTTPRoutes, as far as they are attached to Services.

mod rules;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::ResourceExt as _;
use mesh_api::route::{self as api, HTTPRoute};
use mesh_core::route::{Action, HttpRoute, Rule, pattern::MOST_PATTERNS};

use self::rules::{Converted, convert};
use super::Name;

/// Routes of one Service that count; there is a limit to what sidecars take.
const MOST_ROUTES: usize = 100;

/// A route, for one Service that it is attached to.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    /// The only port that is meant.
    pub(crate) port: Option<u16>,
    pub(crate) route: Arc<Route>,
}

/// An HTTPRoute.
#[derive(Debug)]
pub(crate) struct Route {
    /// What sidecars are told, but for its backends: those are positions in
    /// `services`.
    pub(crate) route: HttpRoute,
    pub(crate) services: Vec<RouteService>,
    /// How many regular expressions it has.
    pub(crate) patterns: usize,
}

/// What a backend's reference says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteService {
    /// The Service that the route is attached to.
    Parent,
    Named(Name, u16),
    /// Nothing that can be used.
    Unusable,
}

/// An HTTPRoute, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct RouteObject {
    pub(crate) object: Arc<HTTPRoute>,
    pub(crate) problems: Vec<Problem>,
    /// It has a rule that does something else than to fail.
    pub(crate) is_usable: bool,
    /// Services that have as many older routes, or regular expressions in
    /// them, as count.
    pub(crate) crowded: BTreeSet<Name>,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Which of the route's, from 1 on.
    pub(crate) rule: usize,
    pub(crate) effect: Effect,
    /// For a person.
    pub(crate) reason: String,
}

/// What comes of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The rule does not count: it cannot be said which requests it is for.
    Dropped,
    /// Its requests are answered with 500.
    Failing,
    /// The share of one of its backends is.
    FailingShare,
    /// The field has none, and all else holds.
    None,
}

/// All routes.
#[derive(Default)]
pub(super) struct Routes {
    /// By Service, the oldest first.
    pub(super) attached: HashMap<Name, Vec<Attached>>,
    pub(super) objects: BTreeMap<Name, RouteObject>,
}

/// A route is attached to Services of its own namespace only, and not at all if
/// none of its rules does something else than to fail: it is not accepted then,
/// and what is not accepted has no effect.
pub(super) fn routes(objects: &[Arc<HTTPRoute>]) -> Routes {
    let mut sorted: Vec<_> = objects.iter().collect();
    sorted.sort_by_key(|object| {
        let made = object.metadata.creation_timestamp.clone();
        (made, object.namespace(), object.name_any())
    });
    let mut routes = Routes::default();
    for object in sorted {
        routes.add(object);
    }
    routes
}

impl Routes {
    fn add(&mut self, object: &Arc<HTTPRoute>) {
        let name = (object.namespace().unwrap_or_default(), object.name_any());
        let mut found = RouteObject {
            object: object.clone(),
            problems: Vec::new(),
            is_usable: false,
            crowded: BTreeSet::new(),
        };
        if found.is_of_services() {
            let Converted { route, problems } = convert(object);
            found.problems = problems;
            let usable = |rule: &Rule| !matches!(rule.action, Action::Fail);
            found.is_usable = route.route.rules.iter().any(usable);
            if found.is_usable {
                found.crowded = self.attach(object, route);
            }
        }
        self.objects.insert(name, found);
    }

    /// Gives back the Services that have no room for it beside older routes.
    fn attach(&mut self, object: &HTTPRoute, route: Route) -> BTreeSet<Name> {
        let mut crowded = BTreeSet::new();
        let route = Arc::new(route);
        for (service, port) in parents(object) {
            let attached = self.attached.entry(service.clone()).or_default();
            let of_older: usize = attached.iter().map(|older| older.route.patterns).sum();
            let has_room = of_older + route.patterns <= MOST_PATTERNS;
            if attached.len() < MOST_ROUTES && has_room {
                let route = route.clone();
                attached.push(Attached { port, route });
            } else {
                crowded.insert(service);
            }
        }
        crowded
    }
}

impl RouteObject {
    /// Whether any of its parents is a Service; else it is not for us.
    fn is_of_services(&self) -> bool {
        let mut parents = self.object.spec.parent_refs.iter();
        parents.any(api::ParentRef::is_service)
    }
}

fn parents(object: &HTTPRoute) -> Vec<(Name, Option<u16>)> {
    let namespace = object.namespace().unwrap_or_default();
    let own = |parent: &&api::ParentRef| {
        let named = parent.namespace.as_ref();
        parent.is_service()
            && parent.section_name.is_none()
            && named.is_none_or(|named| *named == namespace)
    };
    let parents = object.spec.parent_refs.iter().filter(own);
    parents
        .filter_map(|parent| {
            let port = parent.port.map(u16::try_from).transpose().ok()?;
            Some(((namespace.clone(), parent.name.clone()), port))
        })
        .collect()
}
