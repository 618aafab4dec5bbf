//! The status of routes whose parent is a Service.

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::api::{Patch, PatchParams};
use mesh_api::route::{CONTROLLER_NAME, ParentRef, RouteParentStatus};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Kept, Verdicts, for_version};
use crate::{
    routes::status::verdicts,
    snapshot::{Name, RouteKind, RouteObject, Snapshot},
};

/// Who writes.
const FIELD_MANAGER: &str = "mesh-control-routes";

/// What a route should be told, and is not.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Due {
    /// That of the object which this is about: the list is written as a whole,
    /// and others write into it too.
    version: Option<String>,
    /// What other controllers say.
    others: Vec<Value>,
    ours: Vec<OfParent>,
}

/// What is said of one parent.
#[derive(Clone, Debug, PartialEq)]
struct OfParent {
    parent: ParentRef,
    verdicts: Verdicts,
    standing: Vec<Condition>,
}

impl<K> Kept for K
where
    K: RouteKind<Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    type Due = Due;

    fn due(snapshot: &Snapshot) -> BTreeMap<Name, Due> {
        let routes = K::of(snapshot).iter();
        routes
            .filter_map(|(name, route)| Some((name.clone(), due(snapshot, route)?)))
            .collect()
    }

    fn patch(due: &Due, now: &Time) -> (PatchParams, Patch<Value>) {
        let status = json!({"parents": due.parents(now)});
        for_version(FIELD_MANAGER, due.version.as_deref(), &status)
    }
}

/// What is not said of a route, or is said and should not be.
fn due<K: RouteKind>(snapshot: &Snapshot, route: &RouteObject<K>) -> Option<Due> {
    let status = route.object.status();
    let entries = status.map_or(&[][..], |status| &status.parents);
    let (standing, others): (Vec<&Value>, Vec<&Value>) = entries
        .iter()
        .partition(|entry| entry["controllerName"] == CONTROLLER_NAME);
    let standing: Vec<Option<RouteParentStatus>> = standing
        .into_iter()
        .map(|entry| serde_json::from_value(entry.clone()).ok())
        .collect();
    let ours: Vec<OfParent> = verdicts(snapshot, route)
        .into_iter()
        .map(|(parent, verdicts)| {
            let mut readable = standing.iter().flatten();
            let same = readable.find(|entry| entry.parent_ref == parent);
            OfParent {
                standing: same
                    .map(|entry| entry.conditions.clone())
                    .unwrap_or_default(),
                parent,
                verdicts,
            }
        })
        .collect();
    let is_right = |parent: &OfParent| parent.verdicts.are(&parent.standing);
    if standing.len() == ours.len() && ours.iter().all(is_right) {
        return None;
    }
    Some(Due {
        version: route.object.meta().resource_version.clone(),
        others: others.into_iter().cloned().collect(),
        ours,
    })
}

impl Due {
    /// The whole list.
    fn parents(&self, now: &Time) -> Vec<Value> {
        let ours = self.ours.iter().map(|of_parent| {
            json!(RouteParentStatus {
                parent_ref: of_parent.parent.clone(),
                controller_name: CONTROLLER_NAME.to_owned(),
                conditions: of_parent.verdicts.conditions(&of_parent.standing, now),
            })
        });
        self.others.iter().cloned().chain(ours).collect()
    }
}
