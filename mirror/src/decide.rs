//! One look at everything: what a link's controller does next, and what it has
//! to say. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use mesh_api::link::{Direction, Link};
use mesh_core::{cluster::ClusterName, link as model};
use mesh_tls::parse_bundle;
use tokio::time::Instant;

use crate::{
    desired::{self, Importer, Refused},
    feed::{Feed, Health, Received},
    gateways::Probed,
    introduction::observe,
    local::Objects,
    mirror::ServiceName,
    plan::{Action, Conflict, Plan, owned_by, plan, removals},
    removal::{Answerer, CONFIRMATION, Doubt, Removals, Said},
    status::{Findings, Reachable, Synced, TakenName},
};

/// What a link's controller remembers from one look to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    doubt: Doubt,
    /// The cluster that answers under the link's name, once it is believed.
    cluster_uid: Option<String>,
}

impl Memory {
    /// Starts with what the Link's status has kept.
    pub(crate) fn new(link: &Link) -> Self {
        let kept = link.status.as_ref();
        Self {
            doubt: Doubt::default(),
            cluster_uid: kept.and_then(|status| status.cluster_uid.clone()),
        }
    }
}

/// What to do and to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Writes to Services.
    pub(crate) actions: Vec<Action>,
    /// For the Link's status.
    pub(crate) findings: Findings,
    /// Ask the peer once more, then: something waits for its confirmation.
    pub(crate) ask_again: Option<Instant>,
}

/// Decides for `link`, from what is known of this cluster and of the peer.
pub(crate) fn decide(
    memory: &mut Memory,
    link: &Link,
    objects: &Objects,
    feed: &Feed,
    gateways: Option<&[Probed]>,
) -> Decision {
    let mut decision = mirrors(memory, link, objects, feed);
    let findings = &mut decision.findings;
    findings.gateways = match findings.reachable {
        Reachable::NotImporting => Some(Vec::new()),
        Reachable::Feed(_) => gateways.map(<[_]>::to_vec),
    };
    if let Some(received) = &feed.received
        && feed.health == Health::Alive
        && findings.synced.is_of_the_peer()
        && is_of_the_spec(&received.link, link)
    {
        let alive = gateways.unwrap_or_default().iter().filter(|g| g.alive);
        let alive = alive.map(|gateway| gateway.address.as_str()).collect();
        let said = &received.snapshot.introduction;
        findings.observed = Some(observe(link, said, &alive));
    }
    decision
}

/// Whether a feed by way of `by` was asked as `link` says now. An edited spec
/// takes a while to reach us through mesh-control, and the peer goes on for as
/// long at the place that the edit gave up.
fn is_of_the_spec(by: &model::Link, link: &Link) -> bool {
    link.to_model(parse_bundle).is_ok_and(|now| now == *by)
}

/// What to do about the mirrors.
fn mirrors(memory: &mut Memory, link: &Link, objects: &Objects, feed: &Feed) -> Decision {
    let link_uid = link.uid().unwrap_or_default();
    if !imports(link) {
        let plan = plan(&link_uid, &BTreeMap::new(), objects.services());
        return Decision::quiet(
            objects,
            &link_uid,
            Reachable::NotImporting,
            Synced::NotImporting,
        )
        .with(plan.actions, Some(Vec::new()));
    }
    let reachable = Reachable::Feed(feed.health.clone());
    let quiet = |synced| Decision::quiet(objects, &link_uid, reachable.clone(), synced);
    let cluster: ClusterName = match link.spec.cluster.parse() {
        Ok(cluster) => cluster,
        Err(error) => return quiet(Synced::InvalidLink(format!("spec.cluster: {error}"))),
    };
    let forbidden = || forbidden(link, objects, &link_uid);
    let Some(received) = &feed.received else {
        return quiet(Synced::Waiting).known(memory).with(forbidden(), None);
    };
    if is_stranger(memory, received) {
        let uid = received.snapshot.cluster_uid.clone();
        let mut decision = quiet(Synced::AnotherCluster(uid))
            .known(memory)
            .with(forbidden(), None);
        decision.ask_again = Some(received.at + CONFIRMATION);
        return decision;
    }
    let sides = Sides {
        link,
        link_uid: &link_uid,
        cluster: &cluster,
        objects,
        received,
        is_alive: feed.health == Health::Alive,
    };
    let outcome = sides.compare(memory);
    let synced = outcome.synced(&feed.health, received);
    let mut decision = quiet(synced).known(memory).with(
        outcome.plan.actions,
        Some(taken(objects, &outcome.plan.conflicts)),
    );
    decision.findings.refused = Some(outcome.refused.len() + received.snapshot.left_out);
    let last = received.at.max(received.changed);
    decision.ask_again = (outcome.held > 0).then(|| last + CONFIRMATION);
    decision
}

/// Takes away what this cluster's own Link forbids: that needs no word of the
/// peer.
fn forbidden(link: &Link, objects: &Objects, link_uid: &str) -> Vec<Action> {
    let allowed = &link.spec.namespaces;
    removals(link_uid, objects.services(), |name| {
        desired::is_forbidden(allowed, &name.namespace)
    })
}

/// Whether the link brings anything here.
pub(crate) const fn imports(link: &Link) -> bool {
    match link.spec.direction {
        Direction::Both | Direction::Import => true,
        Direction::Export | Direction::TrustOnly => false,
    }
}

impl Decision {
    /// Does nothing, and says this.
    fn quiet(objects: &Objects, link_uid: &str, reachable: Reachable, synced: Synced) -> Self {
        Self {
            actions: Vec::new(),
            findings: Findings {
                reachable,
                synced,
                conflicts: None,
                services: owned_by(objects.services(), link_uid).count(),
                cluster_uid: None,
                refused: None,
                gateways: None,
                observed: None,
            },
            ask_again: None,
        }
    }

    fn known(mut self, memory: &Memory) -> Self {
        self.findings.cluster_uid.clone_from(&memory.cluster_uid);
        self
    }

    fn with(mut self, actions: Vec<Action>, conflicts: Option<Vec<TakenName>>) -> Self {
        self.actions = actions;
        self.findings.conflicts = conflicts;
        self
    }
}

/// Asks for belief in the cluster that answered, and remembers it if given.
fn is_stranger(memory: &mut Memory, received: &Received) -> bool {
    let answering = &received.snapshot.cluster_uid;
    let known = memory.cluster_uid.as_deref();
    match memory.doubt.answerer(known, answering, received.at) {
        Answerer::Stranger => true,
        Answerer::Known => {
            memory.cluster_uid = Some(answering.clone());
            false
        }
    }
}

/// The two things to compare: what is here and what the peer says.
struct Sides<'a> {
    link: &'a Link,
    link_uid: &'a str,
    cluster: &'a ClusterName,
    objects: &'a Objects,
    received: &'a Received,
    /// Whether the peer still says so.
    is_alive: bool,
}

struct Outcome {
    plan: Plan,
    refused: Vec<Refused>,
    /// Mirrors that go as soon as their removal is believed.
    held: usize,
}

impl Sides<'_> {
    fn compare(&self, memory: &mut Memory) -> Outcome {
        let services = self.objects.services();
        let held_now: BTreeSet<ServiceName> = owned_by(services, self.link_uid)
            .map(|(name, _)| name.clone())
            .collect();
        let importer = Importer {
            cluster: self.cluster,
            link_uid: self.link_uid,
            allowed: &self.link.spec.namespaces,
            namespaces: &self.objects.namespaces(),
            held: &held_now,
            quota: QUOTA,
        };
        let desired = desired::desired(&importer, &self.received.snapshot);
        let missing: BTreeSet<ServiceName> = held_now
            .iter()
            .filter(|name| !desired.mirrors.contains_key(name))
            .filter(|name| !desired::is_forbidden(&self.link.spec.namespaces, &name.namespace))
            .cloned()
            .collect();
        let removals = if self.is_alive {
            let said = Said {
                at: self.received.at,
                changed: self.received.changed,
            };
            memory.doubt.removals(missing, held_now.len(), said)
        } else {
            // Another leader may have heard of them since.
            Removals::none(missing)
        };
        let mut plan = plan(self.link_uid, &desired.mirrors, services);
        plan.actions
            .retain(|action| !removals.held.contains(action.name()));
        Outcome {
            plan,
            refused: desired.refused,
            held: if self.is_alive {
                removals.held.len()
            } else {
                0
            },
        }
    }
}

impl Outcome {
    fn synced(&self, health: &Health, received: &Received) -> Synced {
        if self.held > 0 {
            Synced::HeldBack(self.held)
        } else if *health != Health::Alive {
            Synced::Stale
        } else if !self.refused.is_empty() {
            Synced::Incomplete(self.refused.clone())
        } else if !self.plan.conflicts.is_empty() {
            Synced::NamesTaken(self.plan.conflicts.len())
        } else {
            Synced::Done(received.snapshot.services.len())
        }
    }
}

fn taken(objects: &Objects, conflicts: &[Conflict]) -> Vec<TakenName> {
    let link_name = |uid: &String| {
        let link = objects.links().get(uid);
        link.map_or_else(|| "that was deleted".into(), |link| link.name_any())
    };
    conflicts
        .iter()
        .map(|conflict| TakenName {
            name: conflict.name.clone(),
            link: conflict.owner.as_ref().map(link_name),
        })
        .collect()
}

/// Mirrors of one link: far more than clusters share, and few enough for the
/// API server and our memory.
const QUOTA: usize = 5000;

#[cfg(test)]
pub(crate) mod tests;
