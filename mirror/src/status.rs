//! What a Link's status says.

use std::time::Duration;

use mesh_api::link::{LinkCondition, LinkGatewayStatus, LinkServices, LinkStatus};

use crate::{
    desired::Refused,
    feed::Health,
    gateways::{Probed, differ},
    introduction::Observed,
    mirror::ServiceName,
};

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
    /// How many exported Services are refused; as before, if none.
    pub(crate) refused: Option<usize>,
    /// The peer's gateway; as before, if none.
    pub(crate) gateways: Option<Vec<Probed>>,
    /// What the peer says of itself; as before, if none.
    pub(crate) observed: Option<Observed>,
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

impl Synced {
    /// Whether it speaks of what the peer said that the Link names.
    pub(crate) const fn is_of_the_peer(&self) -> bool {
        match self {
            Self::NotImporting
            | Self::InvalidLink(_)
            | Self::Failing(_)
            | Self::Waiting
            | Self::AnotherCluster(_) => false,
            Self::Stale
            | Self::HeldBack(_)
            | Self::NamesTaken(_)
            | Self::Incomplete(_)
            | Self::Done(_) => true,
        }
    }
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
        services: services(findings, old.services),
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
    if let Some(probed) = &findings.gateways {
        new.gateways = gateways(&old.gateways, probed, now);
    }
    if let Some(observed) = &findings.observed {
        new.bundle.clone_from(&observed.bundle);
        new.gateway_addresses.clone_from(&observed.addresses);
        new.observed_spec = Some(observed.spec.clone());
    }
    new.message = message(findings, &new);
    if there == Some(&new) {
        return None;
    }
    new.last_change = Some(now.into());
    Some(new)
}

fn services(findings: &Findings, old: LinkServices) -> LinkServices {
    let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
    let conflicting = findings.conflicts.as_ref().map(Vec::len);
    LinkServices {
        mirrored: number(findings.services),
        refused: findings.refused.map_or(old.refused, number),
        conflicting: conflicting.map_or(old.conflicting, number),
    }
}

/// What did not change stays as it was written: how long an answer takes is
/// not worth a write.
fn gateways(old: &[LinkGatewayStatus], probed: &[Probed], now: &str) -> Vec<LinkGatewayStatus> {
    let gateway = |probed: &Probed| {
        let old = old.iter().find(|old| old.address == probed.address);
        let old = old.filter(|old| old.alive == probed.alive);
        let written = old.and_then(|old| old.latency_ms);
        let shown = written.map(|ms| Duration::from_millis(ms.into()));
        LinkGatewayStatus {
            address: probed.address.clone(),
            alive: probed.alive,
            latency_ms: if differ(shown, probed.latency) {
                probed.latency.map(to_ms)
            } else {
                written
            },
            last_change: old.map_or(now, |old| &old.last_change).into(),
        }
    };
    probed.iter().map(gateway).collect()
}

/// Rounded up: an answer takes some time.
fn to_ms(latency: Duration) -> u32 {
    u32::try_from(latency.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// The one sentence to read: what is wrong first, and else how much is well.
fn message(findings: &Findings, status: &LinkStatus) -> String {
    let condition = |kind| status.conditions.iter().find(|c| c.r#type == kind);
    let wrong = |kind, good| condition(kind).filter(|c: &&LinkCondition| c.status != good);
    let trouble = match &findings.reachable {
        Reachable::NotImporting => None,
        Reachable::Feed(_) => wrong("Reachable", "True"),
    };
    if let Some(trouble) = trouble.or_else(|| wrong("Synced", "True")) {
        return trouble.message.clone();
    }
    let dead = status.gateways.iter().filter(|gateway| !gateway.alive);
    let dead: Vec<&str> = dead.map(|gateway| gateway.address.as_str()).collect();
    if !dead.is_empty() {
        let list = shorten(&dead.join(", "), MAX_NAME);
        return format!("The peer is reached, but not at every address of its gateway: {list}.");
    }
    condition("Synced").map_or_else(String::new, |synced| synced.message.clone())
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

/// The message of the condition `Synced`.
pub(crate) fn synced_message(state: &Synced) -> String {
    synced(state).message
}

/// The message of the condition `Conflicts`.
pub(crate) fn conflicts_message(taken: &[TakenName]) -> String {
    conflicts(taken).message
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
