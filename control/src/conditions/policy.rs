//! The status of Servers, AuthorizationPolicies and authentications.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use mesh_api::policy::{AuthorizationPolicy, MeshTLSAuthentication, NetworkAuthentication, Server};
use serde_json::{Value, json};

use super::{Kept, Verdicts, for_version};
use crate::{
    policy::{
        Kind,
        status::{TYPES, Told},
    },
    snapshot::{Name, Snapshot},
};

/// Who writes.
const FIELD_MANAGER: &str = "mesh-control-policies";

/// What an object should be told, and is not.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Due {
    /// That of the object which this is about.
    version: Option<String>,
    verdicts: Verdicts,
    /// The conditions that are ours, and those that are not.
    standing: Vec<Condition>,
    others: Vec<Condition>,
}

impl Kept for Server {
    type Due = Due;

    fn due(snapshot: &Snapshot) -> BTreeMap<Name, Due> {
        all_due(snapshot, Kind::Server)
    }

    fn patch(due: &Due, now: &Time) -> (PatchParams, Patch<Value>) {
        due.patch(now)
    }
}

impl Kept for AuthorizationPolicy {
    type Due = Due;

    fn due(snapshot: &Snapshot) -> BTreeMap<Name, Due> {
        all_due(snapshot, Kind::AuthorizationPolicy)
    }

    fn patch(due: &Due, now: &Time) -> (PatchParams, Patch<Value>) {
        due.patch(now)
    }
}

impl Kept for MeshTLSAuthentication {
    type Due = Due;

    fn due(snapshot: &Snapshot) -> BTreeMap<Name, Due> {
        all_due(snapshot, Kind::MeshTlsAuthentication)
    }

    fn patch(due: &Due, now: &Time) -> (PatchParams, Patch<Value>) {
        due.patch(now)
    }
}

impl Kept for NetworkAuthentication {
    type Due = Due;

    fn due(snapshot: &Snapshot) -> BTreeMap<Name, Due> {
        all_due(snapshot, Kind::NetworkAuthentication)
    }

    fn patch(due: &Due, now: &Time) -> (PatchParams, Patch<Value>) {
        due.patch(now)
    }
}

/// Nothing while policies cannot be read: what is missing may be there.
fn all_due(snapshot: &Snapshot, kind: Kind) -> BTreeMap<Name, Due> {
    let told = snapshot.policies.iter().flat_map(|policies| &policies.told);
    told.filter(|((of, _), _)| *of == kind)
        .filter_map(|((_, name), told)| Some((name.clone(), due(told)?)))
        .collect()
}

fn due(told: &Told) -> Option<Due> {
    let is_ours = |condition: &Condition| TYPES.contains(&condition.type_.as_str());
    let (standing, others) = told.standing.iter().cloned().partition(is_ours);
    let due = Due {
        version: told.version.clone(),
        verdicts: told.verdicts(),
        standing,
        others,
    };
    (!due.verdicts.are(&due.standing)).then_some(due)
}

impl Due {
    fn patch(&self, now: &Time) -> (PatchParams, Patch<Value>) {
        let mut conditions = self.verdicts.conditions(&self.standing, now);
        conditions.extend(self.others.iter().cloned());
        let status = json!({"conditions": conditions});
        for_version(FIELD_MANAGER, self.version.as_deref(), &status)
    }
}
