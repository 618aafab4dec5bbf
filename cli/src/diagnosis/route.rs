//! Rules about routes: whether they count, and what their rules lead to.

use super::{
    Finding, Hop, Place, State,
    call::behind,
    facts::{Accepted, Backend, Call, Facts, Goal, Route, RouteKind, RouteRule, RuleBackend},
    settle,
};

/// Whether HTTP requests follow routes, and not a TrafficSplit or the Service itself.
pub(super) fn leads(call: &Call) -> bool {
    let routes = call.routes.as_deref().unwrap_or_default();
    let of_requests = |route: &Route| route.kind == RouteKind::Http && route.counts();
    routes.iter().any(of_requests)
}

/// The hops of all routes, and those behind them.
pub(super) fn hops(facts: &Facts, call: &Call) -> Vec<Hop> {
    let routes = match &call.routes {
        Err(error) => return vec![Finding::unread(error).at(Place::Route, "")],
        Ok(routes) => routes,
    };
    let counting: Vec<&Route> = routes.iter().filter(|route| route.counts()).collect();
    let backends = call.route_backends.iter();
    let mut ways: Vec<Ways<'_>> = backends
        .filter(|backend| counting.iter().any(|route| route.uses(backend)))
        .map(|backend| Ways::new(facts, call, backend))
        .collect();
    let mut hops = Vec::new();
    for route in routes {
        hops.extend(accepted(route).map(|finding| finding.at(Place::Route, &route.name)));
        if route.counts() {
            hops.extend(rules(route, &mut ways));
        }
    }
    if leads(call) {
        hops.extend(split(call).map(|finding| finding.at(Place::Route, "")));
    }
    hops.extend(ways.into_iter().flat_map(Ways::into_hops));
    hops
}

/// How a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Works,
    /// Its hops say why not.
    Broken,
    /// There is no such Service and port.
    Missing,
    /// Its hops say what could not be seen.
    Unknown,
    /// There are more backends than are looked at.
    Unvisited,
}

impl Seen {
    /// What these hops to a backend come to.
    fn of(hops: &[Hop]) -> Self {
        let any = |state: State| hops.iter().any(|hop| hop.state == state);
        if hops.is_empty() {
            Self::Missing
        } else if any(State::Broken) || any(State::Follows) {
            Self::Broken
        } else if any(State::Unknown) {
            Self::Unknown
        } else {
            Self::Works
        }
    }

    const fn in_words(self) -> &'static str {
        match self {
            Self::Works => "",
            Self::Broken => " (broken)",
            Self::Missing => " (no such Service and port)",
            Self::Unknown => " (not known)",
            Self::Unvisited => " (not looked at)",
        }
    }
}

/// A backend, and the hops to it.
struct Ways<'a> {
    backend: &'a Backend,
    hops: Vec<Hop>,
    seen: Seen,
    /// Nothing stands in for it in some rule.
    is_needed: bool,
}

impl<'a> Ways<'a> {
    fn new(facts: &Facts, call: &Call, backend: &'a Backend) -> Self {
        let mut hops = behind(facts, call, backend, &backend.name);
        settle(&mut hops);
        Self {
            backend,
            seen: Seen::of(&hops),
            hops,
            is_needed: false,
        }
    }

    fn is(&self, named: &RuleBackend) -> bool {
        named.is(self.backend)
    }

    /// What is broken and not needed is a warning.
    fn into_hops(self) -> Vec<Hop> {
        let mut hops = self.hops;
        for hop in &mut hops {
            if !self.is_needed && matches!(hop.state, State::Broken | State::Follows) {
                hop.state = State::Warning;
            }
        }
        hops
    }
}

impl RuleBackend {
    fn seen(&self, ways: &[Ways<'_>]) -> Seen {
        match ways.iter().find(|way| way.is(self)) {
            Some(way) => way.seen,
            None if self.port.is_none() => Seen::Missing,
            None => Seen::Unvisited,
        }
    }

    fn is(&self, backend: &Backend) -> bool {
        self.namespace == backend.namespace
            && self.name == backend.name
            && self.port == backend.port
    }
}

impl RouteKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Tls => "TLSRoute",
        }
    }

    /// As kubectl knows it.
    const fn word(self) -> &'static str {
        match self {
            Self::Http => "httproute",
            Self::Tls => "tlsroute",
        }
    }
}

impl Route {
    pub(super) fn counts(&self) -> bool {
        !matches!(self.accepted, Some(Accepted::No(_)))
    }

    /// The backends of one of its rules that get requests.
    pub(super) fn used<'a>(&self, rule: &'a RouteRule) -> Vec<&'a RuleBackend> {
        let backends: &'a [RuleBackend] = match &rule.goal {
            Goal::Dropped | Goal::Failing(_) | Goal::Redirect => &[],
            Goal::Backends(backends) => backends,
        };
        let is_used = |backend: &&RuleBackend| self.is_ordered || backend.weight > 0;
        backends.iter().filter(is_used).collect()
    }

    fn uses(&self, backend: &Backend) -> bool {
        let mut used = self.rules.iter().flat_map(|rule| self.used(rule));
        used.any(|named| named.is(backend))
    }

    fn edit(&self) -> String {
        let (namespace, name, kind) = (&self.namespace, &self.name, self.kind.word());
        format!("correct it: `kubectl -n {namespace} edit {kind} {name}`")
    }
}

/// What mesh-control says against the route.
fn accepted(route: &Route) -> Option<Finding> {
    let (kind, name) = (route.kind.name(), &route.name);
    match &route.accepted {
        Some(Accepted::Yes) => None,
        Some(Accepted::Partially(why)) => {
            let text = format!("{kind} {name} counts in part: {why}");
            Some(Finding::warning(text, route.edit()))
        }
        Some(Accepted::No(why)) => {
            let text = format!("{kind} {name} is not accepted: {why}");
            Some(Finding::broken(text, route.edit()))
        }
        None => Some(Finding::unknown(
            format!("mesh-control has not said what it makes of {kind} {name}"),
            format!(
                "see its log, and whether it may write {}s/status",
                route.kind.word()
            ),
        )),
    }
}

/// The split, which is for what is no HTTP.
fn split(call: &Call) -> Option<Finding> {
    let split = call.split.as_ref().ok()?.as_ref()?;
    let text = format!(
        "TrafficSplit {} is for what is no HTTP only: requests follow the HTTPRoutes",
        split.name
    );
    Some(Finding::good(text))
}

fn rules(route: &Route, ways: &mut [Ways<'_>]) -> Vec<Hop> {
    let several = route.rules.len() > 1;
    let numbered = route.rules.iter().enumerate();
    numbered
        .filter_map(|(at, rule)| {
            let about = if several {
                format!("{} {}", route.name, at + 1)
            } else {
                route.name.clone()
            };
            Some(of_rule(route, rule, ways)?.at(Place::Route, &about))
        })
        .collect()
}

/// None if the rule is dropped: that is said of the route.
fn of_rule(route: &Route, rule: &RouteRule, ways: &mut [Ways<'_>]) -> Option<Finding> {
    let requests = &rule.requests;
    match &rule.goal {
        Goal::Dropped => None,
        Goal::Failing(why) => {
            let text = format!("{requests}: answers with 500: {why}");
            Some(Finding::broken(text, route.edit()))
        }
        Goal::Redirect => Some(Finding::good(format!("{requests}: redirected"))),
        Goal::Backends(_) => Some(forwarding(route, rule, ways)),
    }
}

fn forwarding(route: &Route, rule: &RouteRule, ways: &mut [Ways<'_>]) -> Finding {
    let requests = &rule.requests;
    let used = route.used(rule);
    if used.is_empty() {
        let text = format!("{requests}: the rule sends nothing to any backend");
        return Finding::broken(text, "give one a weight");
    }
    let seen: Vec<Seen> = used.iter().map(|named| named.seen(ways)).collect();
    let members = used.iter().zip(&seen);
    let members = members.map(|(named, seen)| member(route, named, *seen));
    let separator = if route.is_ordered { ", then " } else { ", " };
    let members = members.collect::<Vec<_>>().join(separator);
    let text = format!("{requests}: {members}");
    let has = |wanted: Seen| seen.contains(&wanted);
    let advice = if has(Seen::Missing) {
        route.edit()
    } else if has(Seen::Broken) || has(Seen::Unknown) {
        "see below".to_owned()
    } else {
        String::new()
    };
    let is_broken = has(Seen::Broken) || has(Seen::Missing);
    let is_unknown = has(Seen::Unknown) || has(Seen::Unvisited);
    match (has(Seen::Works), is_unknown, is_broken) {
        (true, false, false) => return Finding::good(text),
        (true, _, true) => return Finding::warning(text, advice),
        // What was not seen may work, and may not.
        (_, true, _) => return Finding::unknown(text, advice),
        (false, false, _) => {}
    }
    for way in ways.iter_mut() {
        way.is_needed |= used.iter().any(|named| way.is(named));
    }
    if has(Seen::Broken) {
        Finding::follows(text, advice)
    } else {
        Finding::broken(text, advice)
    }
}

/// A backend with its share, and what is wrong with it.
fn member(route: &Route, named: &RuleBackend, seen: Seen) -> String {
    let name = if named.namespace == route.namespace {
        named.name.clone()
    } else {
        format!("{}/{}", named.namespace, named.name)
    };
    let share = if route.is_ordered {
        String::new()
    } else {
        format!(" {}", named.weight)
    };
    format!("{name}{share}{}", seen.in_words())
}

#[cfg(test)]
mod tests;
