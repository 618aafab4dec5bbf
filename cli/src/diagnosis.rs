//! Why a call does or does not get through, hop by hop.
//!
//! Three steps, apart from each other: [`read`] asks one or two clusters and
//! the probes of mesh-mirror and of a sidecar; [`facts`] is what they said, as
//! plain data; [`diagnose`] turns it into a list of hops. `explain` and
//! `multicluster check` are the same engine with and without a call.
//!
//! A hop is good only if something was seen that shows it. What could not be
//! seen is [`State::Unknown`], never good.

mod call;
pub(crate) mod facts;
mod gateway;
mod link;
pub(crate) mod name;
pub(crate) mod probe;
mod program;
pub(crate) mod read;
mod remote;
pub(crate) mod render;
mod route;

use serde::Serialize;

use self::facts::Facts;

/// One step of the way, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Hop {
    /// Which step.
    pub(crate) place: Place,
    /// The link or backend that it concerns; empty if there is only one.
    pub(crate) about: String,
    /// How it is.
    pub(crate) state: State,
    /// What was seen.
    pub(crate) text: String,
    /// What to do; empty if nothing.
    pub(crate) advice: String,
}

/// The steps, in the order in which a call takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Place {
    /// The pod that calls, with its sidecar.
    Client,
    /// DNS.
    Name,
    /// mesh-control of this cluster.
    Control,
    /// The Service that the name leads to.
    Service,
    /// A TrafficSplit, an HTTPRoute, or a rule of one.
    Route,
    /// The Link, and whether the peer knows us.
    Link,
    /// mesh-mirror of this cluster.
    Mirror,
    /// The peer's gateway.
    Gateway,
    /// The peer's mesh-control.
    PeerControl,
    /// Whether the peer shares the Service with us.
    Export,
    /// The pods that serve it.
    Endpoints,
    /// A connection to their sidecars, with the client's identity.
    Connection,
    /// Whether those sidecars let the client in.
    Policy,
}

/// How a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    /// Something was seen that shows that it works.
    Good,
    /// It is broken.
    Broken,
    /// It is broken because a later hop is.
    Follows,
    /// It is broken, and something else stands in for it.
    Warning,
    /// It could not be seen.
    Unknown,
}

/// What all hops together come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Broken,
    /// Something is broken, and calls get through all the same.
    Degraded,
    Unknown,
}

/// The hops of the call, or of the links alone.
pub(crate) fn diagnose(facts: &Facts) -> Vec<Hop> {
    let mut hops = match &facts.call {
        Some(call) => call::hops(facts, call),
        None => link::all(facts),
    };
    settle(&mut hops);
    hops
}

/// The hop to repair first.
pub(crate) fn first_broken(hops: &[Hop]) -> Option<usize> {
    hops.iter().position(|hop| hop.state == State::Broken)
}

/// The first hop that something else stands in for.
pub(crate) fn first_warning(hops: &[Hop]) -> Option<usize> {
    hops.iter().position(|hop| hop.state == State::Warning)
}

/// Good only if every hop is.
pub(crate) fn verdict(hops: &[Hop]) -> Verdict {
    // Nothing is known to stand in for what is broken.
    let lost = |hop: &Hop| hop.place == Place::Route && hop.state == State::Unknown;
    if first_broken(hops).is_some() {
        Verdict::Broken
    } else if hops.iter().any(lost) {
        Verdict::Unknown
    } else if first_warning(hops).is_some() {
        Verdict::Degraded
    } else if hops.is_empty() || hops.iter().any(|hop| hop.state != State::Good) {
        Verdict::Unknown
    } else {
        Verdict::Good
    }
}

/// A hop that was thought to follow from a later one, and none is broken, is
/// broken itself.
fn settle(hops: &mut [Hop]) {
    let last = hops.iter().rposition(|hop| hop.state == State::Broken);
    for (at, hop) in hops.iter_mut().enumerate() {
        if hop.state == State::Follows && last.is_none_or(|last| last < at) {
            hop.state = State::Broken;
        }
    }
}

/// What a hop comes to; [`Finding::at`] gives it its place.
#[derive(Clone, Debug)]
struct Finding {
    state: State,
    text: String,
    advice: String,
}

impl Finding {
    fn good(text: impl Into<String>) -> Self {
        Self::new(State::Good, text.into(), String::new())
    }

    fn broken(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(State::Broken, text.into(), advice.into())
    }

    fn follows(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(State::Follows, text.into(), advice.into())
    }

    fn warning(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(State::Warning, text.into(), advice.into())
    }

    fn unknown(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(State::Unknown, text.into(), advice.into())
    }

    /// Something could not be read.
    fn unread(error: &str) -> Self {
        Self::unknown(error, "")
    }

    const fn new(state: State, text: String, advice: String) -> Self {
        Self {
            state,
            text,
            advice,
        }
    }

    fn at(self, place: Place, about: &str) -> Hop {
        Hop {
            place,
            about: about.into(),
            state: self.state,
            text: self.text,
            advice: self.advice,
        }
    }
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
