//! HTTPRoutes and TLSRoutes, as far as they are attached to Services.

mod members;
mod rules;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::{Resource, ResourceExt as _};
use mesh_api::route::{BackendRef, ParentRef, RouteStatus};
use mesh_core::destination::Protocol;

use super::{Name, Snapshot};

/// Routes of one kind and Service that count; there is a limit to what sidecars take.
const MOST_ROUTES: usize = 100;

/// A kind of routes of the Gateway API.
pub(crate) trait RouteKind: Resource<DynamicType = ()> {
    /// What sidecars are told of one, but for its backends: those are positions in
    /// [`Route::services`].
    type Meaning;

    /// All routes of a Service may have so much together of what takes memory in
    /// every sidecar that calls it; [`Route::size`] is of one.
    const MOST_SIZE: usize;

    /// What a port is called where nobody follows them, and why.
    const UNFOLLOWED: (&'static str, &'static str);

    /// Those of this kind.
    fn of(snapshot: &Snapshot) -> &BTreeMap<Name, RouteObject<Self>>
    where
        Self: Sized;

    fn parent_refs(&self) -> &[ParentRef];

    fn backend_refs(&self) -> impl Iterator<Item = &BackendRef>;

    fn status(&self) -> Option<&RouteStatus>;

    /// Whether clients of a port that speaks this follow them.
    fn is_followed(protocol: Protocol) -> bool;

    fn convert(&self) -> Converted<Self::Meaning>;
}

/// What a route came to.
pub(crate) struct Converted<M> {
    route: Route<M>,
    problems: Vec<Problem>,
    /// It has a rule that does something else than to fail.
    is_usable: bool,
}

/// A route, for one Service that it is attached to.
#[derive(Debug, Clone)]
pub(crate) struct Attached<M> {
    /// The only port that is meant.
    pub(crate) port: Option<u16>,
    pub(crate) route: Arc<Route<M>>,
}

/// An HTTPRoute or a TLSRoute.
#[derive(Debug)]
pub(crate) struct Route<M> {
    pub(crate) route: M,
    pub(crate) services: Vec<RouteService>,
    /// How many regular expressions or host names it has.
    pub(crate) size: usize,
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

/// A route as it is written, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct RouteObject<K> {
    pub(crate) object: Arc<K>,
    pub(crate) problems: Vec<Problem>,
    /// It has a rule that does something else than to fail.
    pub(crate) is_usable: bool,
    /// Services that have as many older routes, or as much of what takes memory in
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

/// All routes of a kind.
pub(super) struct Routes<K: RouteKind> {
    /// By Service, the oldest first.
    pub(super) attached: HashMap<Name, Vec<Attached<K::Meaning>>>,
    pub(super) objects: BTreeMap<Name, RouteObject<K>>,
}

/// A route is attached to Services of its own namespace only, and not at all if
/// none of its rules does something else than to fail: it is not accepted then,
/// and what is not accepted has no effect.
pub(super) fn routes<K: RouteKind>(objects: &[Arc<K>]) -> Routes<K> {
    let mut sorted: Vec<_> = objects.iter().collect();
    sorted.sort_by_key(|object| {
        let made = object.meta().creation_timestamp.clone();
        (made, object.namespace(), object.name_any())
    });
    let mut routes = Routes {
        attached: HashMap::new(),
        objects: BTreeMap::new(),
    };
    for object in sorted {
        routes.add(object);
    }
    routes
}

impl<K: RouteKind> Routes<K> {
    fn add(&mut self, object: &Arc<K>) {
        let name = (object.namespace().unwrap_or_default(), object.name_any());
        let mut found = RouteObject {
            object: object.clone(),
            problems: Vec::new(),
            is_usable: false,
            crowded: BTreeSet::new(),
        };
        if found.is_of_services() {
            let converted = object.convert();
            found.problems = converted.problems;
            found.is_usable = converted.is_usable;
            if found.is_usable {
                found.crowded = self.attach(object, converted.route);
            }
        }
        self.objects.insert(name, found);
    }

    /// Gives back the Services that have no room for it beside older routes.
    fn attach(&mut self, object: &K, route: Route<K::Meaning>) -> BTreeSet<Name> {
        let mut crowded = BTreeSet::new();
        let route = Arc::new(route);
        for (service, port) in parents(object) {
            let attached = self.attached.entry(service.clone()).or_default();
            let of_older: usize = attached.iter().map(|older| older.route.size).sum();
            let has_room = of_older + route.size <= K::MOST_SIZE;
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

impl<K: RouteKind> RouteObject<K> {
    /// Whether any of its parents is a Service; else it is not for us.
    fn is_of_services(&self) -> bool {
        let mut parents = self.object.parent_refs().iter();
        parents.any(ParentRef::is_service)
    }
}

fn parents<K: RouteKind>(object: &K) -> Vec<(Name, Option<u16>)> {
    let namespace = object.namespace().unwrap_or_default();
    let own = |parent: &&ParentRef| {
        let named = parent.namespace.as_ref();
        parent.is_service()
            && parent.section_name.is_none()
            && named.is_none_or(|named| *named == namespace)
    };
    let parents = object.parent_refs().iter().filter(own);
    parents
        .filter_map(|parent| {
            let port = parent.port.map(u16::try_from).transpose().ok()?;
            Some(((namespace.clone(), parent.name.clone()), port))
        })
        .collect()
}
