//! What is worth an Event: said once when it begins and once when it ends, in
//! numbers, and about each topic at most once a minute.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{
    feed::Health,
    plan::Action,
    status::{Findings, Reachable, Synced, conflicts_message, synced_message},
};

/// An Event to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// One word for programs.
    pub(crate) reason: &'static str,
    /// Whether somebody should do something.
    pub(crate) warning: bool,
    /// For people.
    pub(crate) text: String,
}

/// What has been told of one link, and what waits to be.
#[derive(Debug, Default)]
pub(crate) struct News {
    done: Done,
    topics: BTreeMap<Topic, Told>,
}

/// Writes that succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    created: usize,
    repaired: usize,
    removed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Mirrors,
    Feed,
    Cluster,
    Removals,
    Conflicts,
    Refused,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    /// What people believe now; that all is well, if none.
    state: Option<State>,
    waits: bool,
}

/// How a topic stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// Equal states are told once.
    key: String,
    note: Note,
}

impl Done {
    pub(crate) const fn count(&mut self, action: &Action) {
        match action {
            Action::Create { .. } => self.created += 1,
            Action::Update { .. } => self.repaired += 1,
            Action::Delete { .. } => self.removed += 1,
        }
    }

    fn note(self) -> Option<Note> {
        let parts = [
            (self.created, "created"),
            (self.repaired, "updated"),
            (self.removed, "removed"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, verb)| format!("{count} {verb}"))
            .collect();
        let text = format!("Mirror Services: {}.", parts.join(", "));
        (!parts.is_empty()).then(|| normal("MirrorsChanged", text))
    }
}

impl News {
    /// What to say after a look that found this and did that.
    pub(crate) fn after(&mut self, findings: &Findings, done: Done, now: Instant) -> Vec<Note> {
        self.done.created += done.created;
        self.done.repaired += done.repaired;
        self.done.removed += done.removed;
        let mut notes = Vec::new();
        let told = self.topics.entry(Topic::Mirrors).or_default();
        if let Some(note) = self.done.note()
            && told.may_speak(now)
        {
            self.done = Done::default();
            notes.push(note);
        }
        for (topic, state) in states(findings) {
            let told = self.topics.entry(topic).or_default();
            notes.extend(told.change(state, now));
        }
        notes
    }

    /// When to look again, because something waits to be told.
    pub(crate) fn due(&self) -> Option<Instant> {
        let waiting = self.topics.values().filter(|told| told.waits);
        waiting.filter_map(|told| Some(told.at? + QUIET)).min()
    }
}

impl Told {
    fn may_speak(&mut self, now: Instant) -> bool {
        let quiet = self.at.is_none_or(|at| now.duration_since(at) >= QUIET);
        self.waits = !quiet;
        if quiet {
            self.at = Some(now);
        }
        quiet
    }

    fn change(&mut self, state: State, now: Instant) -> Option<Note> {
        let key = |state: &State| state.key.clone();
        // That all is well from the beginning is no news.
        let before = self.state.as_ref().map(key).unwrap_or_default();
        if before == state.key {
            self.waits = false;
            return None;
        }
        if !self.may_speak(now) {
            return None;
        }
        self.state = Some(state.clone());
        Some(state.note)
    }
}

/// How the topics stand on which there is knowledge.
fn states(findings: &Findings) -> Vec<(Topic, State)> {
    let known = [
        (Topic::Feed, feed(&findings.reachable)),
        (Topic::Cluster, cluster(&findings.synced)),
        (Topic::Removals, removals(&findings.synced)),
        (Topic::Conflicts, conflicts(findings)),
        (Topic::Refused, refused(findings)),
    ];
    let known = known.into_iter();
    known
        .filter_map(|(topic, state)| Some((topic, state?)))
        .collect()
}

fn feed(reachable: &Reachable) -> Option<State> {
    match reachable {
        Reachable::NotImporting | Reachable::Feed(Health::Connecting) => None,
        Reachable::Feed(Health::Alive) => well("FeedBack", "The peer's feed is back."),
        Reachable::Feed(Health::Lost(reason)) => trouble(
            "lost",
            "FeedLost",
            format!("The peer's feed is lost: {reason}. Its mirrors stay as they are."),
        ),
    }
}

fn cluster(synced: &Synced) -> Option<State> {
    match synced {
        Synced::AnotherCluster(uid) => trouble(uid, "AnotherCluster", synced_message(synced)),
        Synced::NotImporting
        | Synced::InvalidLink(_)
        | Synced::Failing(_)
        | Synced::Waiting
        | Synced::Stale => None,
        Synced::HeldBack(_) | Synced::NamesTaken(_) | Synced::Incomplete(_) | Synced::Done(_) => {
            well(
                "ClusterKnown",
                "The cluster that answers for this link is believed.",
            )
        }
    }
}

fn removals(synced: &Synced) -> Option<State> {
    match synced {
        Synced::HeldBack(_) => trouble("held", "RemovalsHeldBack", synced_message(synced)),
        Synced::NotImporting
        | Synced::InvalidLink(_)
        | Synced::Failing(_)
        | Synced::Waiting
        | Synced::AnotherCluster(_)
        | Synced::Stale => None,
        Synced::NamesTaken(_) | Synced::Incomplete(_) | Synced::Done(_) => well(
            "RemovalsReleased",
            "No removal is held back any more: the peer has confirmed or taken back what it said.",
        ),
    }
}

fn conflicts(findings: &Findings) -> Option<State> {
    let taken = findings.conflicts.as_ref()?;
    if taken.is_empty() {
        return well("ConflictsOver", "No mirror's name is taken any more.");
    }
    let text = conflicts_message(taken);
    trouble(&text, "NamesTaken", text.clone())
}

fn refused(findings: &Findings) -> Option<State> {
    match (&findings.synced, findings.refused) {
        (Synced::Incomplete(_), _) => {
            let text = synced_message(&findings.synced);
            trouble(&text, "ServicesRefused", text.clone())
        }
        (_, Some(0)) => well("AllAccepted", "No exported Service is refused any more."),
        _ => None,
    }
}

fn well(reason: &'static str, text: &str) -> Option<State> {
    Some(State {
        key: String::new(),
        note: normal(reason, text.into()),
    })
}

fn trouble(key: &str, reason: &'static str, text: String) -> Option<State> {
    Some(State {
        key: key.into(),
        note: Note {
            reason,
            warning: true,
            text,
        },
    })
}

const fn normal(reason: &'static str, text: String) -> Note {
    Note {
        reason,
        warning: false,
        text,
    }
}

/// After an Event about a topic, before the next.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
