//! What to do to get from the Services that exist to those that should.

use std::collections::{BTreeMap, BTreeSet};

use crate::mirror::{Actual, Mirror, Owned, ServiceName};

/// One write to the API server. A write to an existing Service holds only for
/// the version that the decision was made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Fails if a Service of that name has appeared.
    Create {
        /// Where.
        name: ServiceName,
        /// What.
        mirror: Mirror,
    },
    /// Brings a Service of ours back to what it should say.
    Update {
        /// Which.
        name: ServiceName,
        /// What it should say.
        mirror: Mirror,
        /// The version that was looked at.
        resource_version: String,
    },
    /// Removes a Service of ours.
    Delete {
        /// Which.
        name: ServiceName,
        /// Its uid.
        uid: String,
        /// The version that was looked at.
        resource_version: String,
    },
}

impl Action {
    /// The Service that it is about.
    pub(crate) const fn name(&self) -> &ServiceName {
        match self {
            Self::Create { name, .. } | Self::Update { name, .. } | Self::Delete { name, .. } => {
                name
            }
        }
    }
}

/// What to do, and what is in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In order of names.
    pub(crate) actions: Vec<Action>,
    /// Wanted names that another owner has.
    pub(crate) conflicts: Vec<Conflict>,
}

/// A wanted name that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The name.
    pub(crate) name: ServiceName,
    /// Who has it: the uid of another Link, or somebody else.
    pub(crate) owner: Option<String>,
}

/// What to do so that the mirrors of the link `link_uid` are those of
/// `desired`.
///
/// `actual` holds all Services of this cluster, whoever made them. Nothing
/// that the link does not own is written to: an owner keeps a name for as long
/// as it has it. A Service of ours that is being deleted is waited for.
pub(crate) fn plan(
    link_uid: &str,
    desired: &BTreeMap<ServiceName, Mirror>,
    actual: &BTreeMap<ServiceName, Actual>,
) -> Plan {
    let mut plan = Plan::default();
    for (name, mirror) in desired {
        match actual.get(name) {
            None => plan.actions.push(Action::Create {
                name: name.clone(),
                mirror: mirror.clone(),
            }),
            Some(Actual::Ours(owned)) if owned.link_uid == link_uid => {
                plan.actions.extend(repair(name, owned, mirror));
            }
            Some(Actual::Ours(owned)) => plan.conflict(name, Some(&owned.link_uid)),
            Some(Actual::Foreign) => plan.conflict(name, None),
        }
    }
    let superfluous = owned_by(actual, link_uid).filter(|(name, _)| !desired.contains_key(name));
    plan.actions
        .extend(superfluous.filter_map(|(name, owned)| delete(name, owned)));
    plan
}

impl Plan {
    fn conflict(&mut self, name: &ServiceName, owner: Option<&String>) {
        self.conflicts.push(Conflict {
            name: name.clone(),
            owner: owner.cloned(),
        });
    }
}

/// What to do about mirrors whose Link is gone: remove them.
///
/// `links` has the uids of all Links, whatever their direction.
pub(crate) fn orphans(
    links: &BTreeSet<String>,
    actual: &BTreeMap<ServiceName, Actual>,
) -> Vec<Action> {
    owned(actual)
        .filter(|(_, owned)| !links.contains(&owned.link_uid))
        .filter_map(|(name, owned)| delete(name, owned))
        .collect()
}

/// What to do so that the link has none of those mirrors any more.
pub(crate) fn removals(
    link_uid: &str,
    actual: &BTreeMap<ServiceName, Actual>,
    unwanted: impl Fn(&ServiceName) -> bool,
) -> Vec<Action> {
    owned_by(actual, link_uid)
        .filter(|(name, _)| unwanted(name))
        .filter_map(|(name, owned)| delete(name, owned))
        .collect()
}

/// The Services that the link has.
pub(crate) fn owned_by<'a>(
    actual: &'a BTreeMap<ServiceName, Actual>,
    link_uid: &str,
) -> impl Iterator<Item = (&'a ServiceName, &'a Owned)> {
    owned(actual).filter(move |(_, owned)| owned.link_uid == link_uid)
}

fn owned(actual: &BTreeMap<ServiceName, Actual>) -> impl Iterator<Item = (&ServiceName, &Owned)> {
    actual.iter().filter_map(|(name, actual)| match actual {
        Actual::Ours(owned) => Some((name, owned)),
        Actual::Foreign => None,
    })
}

fn repair(name: &ServiceName, owned: &Owned, mirror: &Mirror) -> Option<Action> {
    let differs = owned.mirror.as_ref() != Some(mirror);
    (differs && !owned.terminating).then(|| Action::Update {
        name: name.clone(),
        mirror: mirror.clone(),
        resource_version: owned.resource_version.clone(),
    })
}

fn delete(name: &ServiceName, owned: &Owned) -> Option<Action> {
    (!owned.terminating).then(|| Action::Delete {
        name: name.clone(),
        uid: owned.uid.clone(),
        resource_version: owned.resource_version.clone(),
    })
}

#[cfg(test)]
mod tests;
