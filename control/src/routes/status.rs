//! What a route is told: the conditions of its status, Service by Service.

use kube::ResourceExt as _;
use mesh_api::route::{BackendRef, ParentRef};

use crate::{
    conditions::{Verdict, Verdicts},
    snapshot::{Effect, Name, Problem, RouteKind, RouteObject, Service, ServicePort, Snapshot},
};

/// Accepted, or why not: reasons of the Gateway API.
const ACCEPTED: &str = "Accepted";
const NO_MATCHING_PARENT: &str = "NoMatchingParent";
const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
/// Ours: the Service has as many routes as a sidecar takes.
const TOO_MANY_ROUTES: &str = "TooManyRoutes";

/// The same for backends.
const RESOLVED_REFS: &str = "ResolvedRefs";
const INVALID_KIND: &str = "InvalidKind";
const BACKEND_NOT_FOUND: &str = "BackendNotFound";

/// Some rules do as they say, and others do not.
const PARTIALLY_INVALID: &str = "PartiallyInvalid";

/// The conditions that `route` should have, for each parent that is a Service.
pub(crate) fn verdicts<K: RouteKind>(
    snapshot: &Snapshot,
    route: &RouteObject<K>,
) -> Vec<(ParentRef, Verdicts)> {
    let resolved = resolved(snapshot, route);
    let parents = route.object.parent_refs().iter();
    let services = parents.filter(|parent| parent.is_service());
    services
        .map(|parent| {
            let accepted = accepted(snapshot, route, parent);
            let partially = accepted.holds.then(|| partially_invalid(route)).flatten();
            let verdicts = [Some(accepted), Some(resolved.clone()), partially];
            let verdicts = Verdicts {
                generation: route.object.meta().generation,
                verdicts: verdicts.into_iter().flatten().collect(),
            };
            (parent.clone(), verdicts)
        })
        .collect()
}

fn accepted<K: RouteKind>(
    snapshot: &Snapshot,
    route: &RouteObject<K>,
    parent: &ParentRef,
) -> Verdict {
    let refusal = not_attached(snapshot, route, parent).or_else(|| useless(route));
    match refusal {
        Some((reason, message)) => Verdict::new(ACCEPTED, false, reason, message),
        None => Verdict::new(ACCEPTED, true, ACCEPTED, in_use(route)),
    }
}

/// Why the route does not count for a parent, whatever its rules are.
fn not_attached<K: RouteKind>(
    snapshot: &Snapshot,
    route: &RouteObject<K>,
    parent: &ParentRef,
) -> Option<(&'static str, String)> {
    let own = route.object.namespace().unwrap_or_default();
    let service: Name = (
        parent.namespace.clone().unwrap_or_else(|| own.clone()),
        parent.name.clone(),
    );
    let named = format!("{}/{}", service.0, service.1);
    if service.0 != own {
        let message = format!("Routes count for Services of their own namespace only, here {own}.");
        return Some((UNSUPPORTED_VALUE, message));
    }
    if parent.section_name.is_some() {
        let message = "sectionName is not supported: name the port by its number.".to_owned();
        return Some((UNSUPPORTED_VALUE, message));
    }
    let Some(found) = snapshot.services.get(&service) else {
        return Some((NO_MATCHING_PARENT, format!("There is no Service {named}.")));
    };
    if let Some(refusal) = not_followed::<K>(found, &named, parent.port) {
        return Some(refusal);
    }
    route.crowded.contains(&service).then(|| {
        let message = format!("Service {named} has so many older routes that no more count.");
        (TOO_MANY_ROUTES, message)
    })
}

/// Why nobody can follow routes to this port of a Service, or to any if none is
/// named.
fn not_followed<K: RouteKind>(
    service: &Service,
    named: &str,
    port: Option<i32>,
) -> Option<(&'static str, String)> {
    if service.is_headless {
        let message = format!(
            "Service {named} is headless: its clients call pods, and routes lead calls to an \
             address of the Service."
        );
        return Some((UNSUPPORTED_VALUE, message));
    }
    let is_meant = |number: u16| port.is_none_or(|port| i32::from(number) == port);
    let mut meant = service.ports.iter().filter(|one| is_meant(one.port));
    let number = port.map_or_else(String::new, |port| format!(" {port}"));
    let Some(first) = meant.next() else {
        let message = format!("Service {named} has no TCP port{number}.");
        return Some((NO_MATCHING_PARENT, message));
    };
    let is_unfollowed = |one: &ServicePort| !K::is_followed(one.protocol);
    (is_unfollowed(first) && meant.all(is_unfollowed)).then(|| {
        let (state, why) = K::UNFOLLOWED;
        let which = match port {
            Some(port) => format!("Port {port} of Service {named} is {state}"),
            None => format!("All ports of Service {named} are {state}"),
        };
        (UNSUPPORTED_VALUE, format!("{which}: {why}."))
    })
}

/// Why none of the rules is of use.
fn useless<K: RouteKind>(route: &RouteObject<K>) -> Option<(&'static str, String)> {
    if route.is_usable {
        return None;
    }
    let broken = broken(route);
    let message = if broken.is_empty() {
        "It has no rules.".to_owned()
    } else {
        broken
    };
    Some((UNSUPPORTED_VALUE, message))
}

fn in_use<K: RouteKind>(route: &RouteObject<K>) -> String {
    let ignored = route.problems.iter().filter(|p| p.effect == Effect::None);
    let ignored = sentences(ignored);
    if ignored.is_empty() {
        "Clients of this Service follow the route.".to_owned()
    } else {
        format!("Clients of this Service follow the route. {ignored}")
    }
}

fn partially_invalid<K: RouteKind>(route: &RouteObject<K>) -> Option<Verdict> {
    let broken = broken(route);
    (!broken.is_empty()).then(|| Verdict::new(PARTIALLY_INVALID, true, UNSUPPORTED_VALUE, broken))
}

fn broken<K: RouteKind>(route: &RouteObject<K>) -> String {
    sentences(route.problems.iter().filter(|p| p.effect != Effect::None))
}

fn sentences<'a>(problems: impl Iterator<Item = &'a Problem>) -> String {
    problems.map(sentence).collect::<Vec<_>>().join(" ")
}

/// The Gateway API wants the first two words of a rule that does not count.
fn sentence(problem: &Problem) -> String {
    let Problem { rule, reason, .. } = problem;
    match problem.effect {
        Effect::Dropped => format!("Dropped Rule {rule}: {reason}."),
        Effect::Failing => format!("Rule {rule} answers with 500: {reason}."),
        Effect::FailingShare => format!("Rule {rule} answers its share with 500: {reason}."),
        Effect::None => format!("Rule {rule}: {reason} and has no effect."),
    }
}

fn resolved<K: RouteKind>(snapshot: &Snapshot, route: &RouteObject<K>) -> Verdict {
    let own = route.object.namespace().unwrap_or_default();
    let backends = route.object.backend_refs();
    let mut unresolved: Vec<_> = backends
        .filter_map(|backend| unresolved(snapshot, &own, backend))
        .collect();
    unresolved.sort();
    unresolved.dedup();
    // What is no Service can never be one: that is said first.
    unresolved.sort_by_key(|(reason, _)| *reason != INVALID_KIND);
    match unresolved.first() {
        None => {
            let message = "All backends exist.".to_owned();
            Verdict::new(RESOLVED_REFS, true, RESOLVED_REFS, message)
        }
        Some((reason, _)) => {
            let messages: Vec<_> = unresolved.iter().map(|(_, text)| text.as_str()).collect();
            Verdict::new(RESOLVED_REFS, false, reason, messages.join(" "))
        }
    }
}

/// Why a backend cannot be used, if it cannot.
fn unresolved(
    snapshot: &Snapshot,
    own: &str,
    backend: &BackendRef,
) -> Option<(&'static str, String)> {
    if !backend.is_service() {
        let kind = backend.kind.as_deref().unwrap_or_default();
        let message = format!("Backend {} is a {kind}, and no Service.", backend.name);
        return Some((INVALID_KIND, message));
    }
    let namespace = backend.namespace.as_deref().unwrap_or(own);
    let name = (namespace.to_owned(), backend.name.clone());
    let named = format!("{namespace}/{}", backend.name);
    let message = match (snapshot.services.get(&name), backend.port) {
        (None, _) => format!("There is no Service {named}."),
        (Some(_), None) => format!("The backend {named} needs a port."),
        (Some(found), Some(port)) => {
            let mut ports = found.ports.iter();
            if ports.any(|one| i32::from(one.port) == port) {
                return None;
            }
            format!("Service {named} has no TCP port {port}.")
        }
    };
    Some((BACKEND_NOT_FOUND, message))
}

#[cfg(test)]
mod tests;
