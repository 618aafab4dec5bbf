//! What a Link's status says.

use mesh_api::link::{LinkCondition, LinkStatus};

use crate::{desired::Refused, feed::Health, mirror::ServiceName};

/// What one pass of a link's controller found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Whether the peer can be reached.
    pub(crate) reachable: Reachable,
    /// Whether the mirrors are what the peer exports.
    pub(crate) synced: Synced,
    /// Names that are taken, and by whom; none before the first snapshot.
    pub(crate) conflicts: Option<Vec<TakenName>>,
    /// How many mirrors exist.
    pub(crate) services: usize,
    /// The cluster that we know under this name; as before, if none.
    pub(crate) cluster_uid: Option<String>,
}

/// The condition `Reachable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reachable {
    /// Nobody tries.
    NotImporting,
    /// As the feed says.
    Feed(Health),
}

/// The condition `Synced`, the worst first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    /// The link imports nothing.
    NotImporting,
    /// The Link cannot be used.
    InvalidLink(String),
    /// The API server refuses our writes.
    Failing(String),
    /// There has been no snapshot yet.
    Waiting,
    /// Another cluster answers under this name.
    AnotherCluster(String),
    /// The last snapshot is no longer confirmed by the feed.
    Stale,
    /// So many mirrors are no longer exported, but that is not believed yet.
    HeldBack(usize),
    /// So many Services cannot be mirrored because their names are taken.
    NamesTaken(usize),
    /// Some Services cannot be mirrored.
    Incomplete(Vec<Refused>),
    /// So many Services are exported, and all is well.
    Done(usize),
}

/// A mirror's name that another owner has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TakenName {
    /// The name.
    pub(crate) name: ServiceName,
    /// The Link that has it; somebody else, if none.
    pub(crate) link: Option<String>,
}

/// The status to write, if it differs from the one that is `there`. Conditions
/// of others are kept.
pub(crate) fn status(
    there: Option<&LinkStatus>,
    findings: &Findings,
    now: &str,
) -> Option<LinkStatus> {
    let old = there.cloned().unwrap_or_default();
    let mut new = LinkStatus {
        services: u32::try_from(findings.services).unwrap_or(u32::MAX),
        cluster_uid: findings
            .cluster_uid
            .clone()
            .or_else(|| old.cluster_uid.clone()),
        ..old.clone()
    };
    set(&mut new.conditions, reachable(&findings.reachable), now);
    set(&mut new.conditions, synced(&findings.synced), now);
    if let Some(taken) = &findings.conflicts {
        set(&mut new.conditions, conflicts(taken), now);
    }
    (there != Some(&new)).then_some(new)
}

struct Condition {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn new(
        kind: &'static str,
        status: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status,
            reason,
            message: message.into(),
        }
    }
}

fn reachable(reachable: &Reachable) -> Condition {
    let condition = |status, reason, message: &str| {
        Condition::new("Reachable", status, reason, shorten(message, MAX_MESSAGE))
    };
    match reachable {
        Reachable::NotImporting => condition(
            "Unknown",
            "NotImporting",
            "This link imports nothing, so its gateway is not asked.",
        ),
        Reachable::Feed(Health::Connecting) => {
            condition("Unknown", "Connecting", "There has been no answer yet.")
        }
        Reachable::Feed(Health::Alive) => {
            condition("True", "Connected", "The peer's feed is alive.")
        }
        Reachable::Feed(Health::Lost(reason)) => condition(
            "False",
            "FeedLost",
            &format!("The peer's feed is lost: {reason}. Trying again."),
        ),
    }
}

fn synced(synced: &Synced) -> Condition {
    let (status, reason, message) = match synced {
        Synced::NotImporting => (
            "True",
            "NotImporting",
            "This link imports nothing, so it has no mirrors.".into(),
        ),
        Synced::InvalidLink(why) => ("False", "InvalidLink", format!("The Link is wrong: {why}.")),
        Synced::Failing(why) => (
            "False",
            "Failing",
            format!("The API server refuses writes: {why}. Trying again."),
        ),
        Synced::Waiting => (
            "Unknown",
            "Waiting",
            "The peer has not said yet what it exports. Existing mirrors are kept.".into(),
        ),
        Synced::AnotherCluster(uid) => (
            "False",
            "AnotherCluster",
            format!(
                "Another cluster (uid {}) answers for this link. Mirrors are kept as they are \
                 until it has answered for a minute.",
                escape(uid)
            ),
        ),
        Synced::Stale => (
            "False",
            "Stale",
            "The peer's feed is lost. Mirrors are kept as it described them last.".into(),
        ),
        Synced::HeldBack(count) => (
            "False",
            "RemovalHeldBack",
            format!(
                "{count} mirrors are no longer exported, all at once. They are removed when the \
                 peer says the same again, a minute later."
            ),
        ),
        Synced::NamesTaken(count) => (
            "False",
            "NamesTaken",
            format!(
                "{count} of the exported Services are not mirrored, because their names are \
                 taken: see the condition Conflicts."
            ),
        ),
        Synced::Incomplete(refused) => ("False", "Incomplete", incomplete(refused)),
        Synced::Done(count) => (
            "True",
            "Synced",
            format!("All {count} exported Services are mirrored."),
        ),
    };
    Condition::new("Synced", status, reason, shorten(&message, MAX_MESSAGE))
}

fn incomplete(refused: &[Refused]) -> String {
    let services = if refused.len() == 1 {
        "Service is"
    } else {
        "Services are"
    };
    let list = refused
        .iter()
        .map(|refused| format!("{} ({})", escape(&refused.remote), refused.reason));
    format!(
        "{} exported {services} not mirrored: {}.",
        refused.len(),
        some_of(list)
    )
}

fn conflicts(taken: &[TakenName]) -> Condition {
    if taken.is_empty() {
        let message = "No mirror's name is taken.";
        return Condition::new("Conflicts", "False", "None", message);
    }
    let list = taken.iter().map(|taken| match &taken.link {
        Some(link) => format!("{} (the Link {link} has it)", taken.name),
        None => format!("{} (a Service that the mesh did not make)", taken.name),
    });
    let message = format!(
        "These names are taken, and nothing was changed: {}. Rename or remove what has them, or \
         stop exporting the Services.",
        some_of(list)
    );
    Condition::new("Conflicts", "True", "NameTaken", message)
}

/// The first few of a list, and how many more there are.
fn some_of(list: impl ExactSizeIterator<Item = String>) -> String {
    let more = list.len().saturating_sub(EXAMPLES);
    let mut text = list.take(EXAMPLES).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// The peer's text without its control characters, and not too much of it.
fn escape(text: &str) -> String {
    let visible: String = text
        .chars()
        .take(MAX_NAME)
        .flat_map(char::escape_default)
        .collect();
    shorten(&visible, MAX_NAME)
}

fn shorten(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.into();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

fn set(conditions: &mut Vec<LinkCondition>, new: Condition, now: &str) {
    let there = conditions.iter_mut().find(|there| there.r#type == new.kind);
    let since = there.as_ref().filter(|there| there.status == new.status);
    let condition = LinkCondition {
        r#type: new.kind.into(),
        status: new.status.into(),
        reason: new.reason.into(),
        message: new.message,
        last_transition_time: since
            .map_or(now, |there| &there.last_transition_time)
            .into(),
    };
    match there {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}

/// So many Services are named in a message.
const EXAMPLES: usize = 5;
/// Characters; a namespace and a name with a slash.
const MAX_NAME: usize = 127;
/// Characters of a condition's message.
const MAX_MESSAGE: usize = 1024;

#[cfg(test)]
mod tests;
