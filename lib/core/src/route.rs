//! Routes of a Service, as the Gateway API has them: which rule of its HTTP
//! routes a request is for, and which of its TLS routes a connection.
//!
//! How a rule is told from others is in [`matching`], with the expressions of
//! [`pattern`]; what it does to messages is in [`filter`]. TLS routes are in
//! [`tls`].

pub mod filter;
pub mod matching;
pub mod pattern;
pub mod tls;

use std::{cmp::Reverse, sync::Arc, time::Duration};

use self::{
    filter::{HeaderChanges, Redirect, Rewrite},
    matching::{RequestHead, RequestMatch},
};
use crate::destination::{Distribution, choose};

/// The routes of one Service, in order of precedence among equal matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRoutes {
    routes: Vec<HttpRoute>,
    /// Every match of every rule, the one that wins first.
    order: Vec<Place>,
}

/// One HTTPRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRoute {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// In its own order.
    pub rules: Vec<Rule>,
}

/// What is done with some requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Any of these makes a request one of them; empty means all requests.
    pub matches: Vec<RequestMatch>,
    /// What happens to the request's headers.
    pub request_headers: HeaderChanges,
    /// What happens to the answer's headers.
    pub response_headers: HeaderChanges,
    /// Where they go.
    pub action: Action,
}

/// Where a rule's requests go.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// To a Service.
    Forward(Forward),
    /// Back to the client, with another address.
    Redirect(Redirect),
    /// Nowhere: what the rule asks for is not supported, so that each is
    /// answered with 500.
    Fail,
}

/// Requests that go to one of several Services.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// What happens to the request's target.
    pub rewrite: Rewrite,
    /// How long the answer may take to begin.
    pub timeout: Option<Duration>,
    /// Who answers.
    pub shares: Shares,
}

/// The Services among which a rule's requests or connections are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// How one of the backends is chosen.
    pub distribution: Distribution,
    /// In order of preference.
    pub backends: Vec<RuleBackend>,
}

/// A share of what a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleBackend {
    /// Which of the destination's route backends; none if the Service that is
    /// named does not exist.
    pub backend: Option<usize>,
    /// Its share under [`Distribution::RandomAvailable`]; 0 means never.
    pub weight: u32,
}

/// What a request or a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This of the destination's route backends.
    Backend(usize),
    /// A Service that does not exist: a request is answered with 500.
    Missing,
    /// No backend has an endpoint: a request is answered with 503.
    Unavailable,
}

/// The rule that a request is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picked<'a> {
    /// What to do.
    pub rule: &'a Rule,
    /// Why it is this rule.
    pub matched: &'a RequestMatch,
}

/// A match of a rule of a route, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    route: usize,
    rule: usize,
    matched: usize,
}

impl HttpRoutes {
    /// Routes of which the earlier wins where their matches are equal (the
    /// older one, then by name).
    #[must_use]
    pub fn new(mut routes: Vec<HttpRoute>) -> Self {
        let mut order = Vec::new();
        for (route, of_route) in routes.iter_mut().enumerate() {
            for (rule, of_rule) in of_route.rules.iter_mut().enumerate() {
                if of_rule.matches.is_empty() {
                    of_rule.matches.push(RequestMatch::default());
                }
                for (matched, found) in of_rule.matches.iter().enumerate() {
                    let place = Place {
                        route,
                        rule,
                        matched,
                    };
                    order.push((Reverse(found.precedence()), place));
                }
            }
        }
        // Stable: what is equal keeps the order of routes and rules.
        order.sort_by_key(|(precedence, _)| *precedence);
        Self {
            routes,
            order: order.into_iter().map(|(_, place)| place).collect(),
        }
    }

    /// Whether the Service has no route at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The routes, in order.
    #[must_use]
    pub fn routes(&self) -> &[HttpRoute] {
        &self.routes
    }

    /// The rule for `request`: of those that match the most specific one, as
    /// the Gateway API orders them; none means 404.
    #[must_use]
    pub fn pick(&self, request: &RequestHead<'_>) -> Option<Picked<'_>> {
        self.order
            .iter()
            .filter_map(|place| self.at(*place))
            .find(|picked| picked.matched.matches(request))
    }

    fn at(&self, place: Place) -> Option<Picked<'_>> {
        let rule = self.routes.get(place.route)?.rules.get(place.rule)?;
        let matched = rule.matches.get(place.matched)?;
        Some(Picked { rule, matched })
    }
}

impl Shares {
    /// The backend for what comes next. `available` says of each of the
    /// destination's route backends whether it has a usable endpoint now;
    /// `dice` is a random number.
    ///
    /// By weight, a Service that does not exist keeps its share (of failures),
    /// and one without endpoints leaves its share to the others. In order, both
    /// are skipped.
    #[must_use]
    pub fn choose(&self, available: impl Fn(usize) -> bool, dice: u64) -> Choice {
        let missing = match self.distribution {
            Distribution::FirstAvailable => self.backends.iter().all(|b| b.backend.is_none()),
            Distribution::RandomAvailable => self.is_for_missing(dice),
        };
        if missing {
            return Choice::Missing;
        }
        let total = self.total(|_| true).max(1);
        let is_available = |at: usize| self.backend(at).is_some_and(&available);
        let weight = |at: usize| self.backends.get(at).map_or(0, |backend| backend.weight);
        let length = self.backends.len();
        // What the first throw has left of the dice is the second.
        choose(
            self.distribution,
            length,
            weight,
            is_available,
            dice / total,
        )
        .and_then(|at| self.backend(at))
        .map_or(Choice::Unavailable, Choice::Backend)
    }

    fn is_for_missing(&self, dice: u64) -> bool {
        let missing = self.total(|backend| backend.backend.is_none());
        dice.checked_rem(self.total(|_| true))
            .is_some_and(|thrown| thrown < missing)
    }

    fn total(&self, counts: impl Fn(&RuleBackend) -> bool) -> u64 {
        let counted = self.backends.iter().filter(|backend| counts(backend));
        counted.map(|backend| u64::from(backend.weight)).sum()
    }

    fn backend(&self, at: usize) -> Option<usize> {
        self.backends.get(at)?.backend
    }
}

#[cfg(test)]
mod tests;
