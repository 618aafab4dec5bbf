//! Finds the pods in an object.

use mesh_api::names;
use serde_json::Value;

use super::{
    Note, Outcome,
    pod::{self, InvalidPod},
};
use crate::{manifests::images::Images, text::escaped};

/// Why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{workload}: {reason}")]
pub(super) struct RefusedObject {
    workload: String,
    reason: InvalidPod,
}

/// Adds the sidecar to each pod that `object` makes, and notes what was done.
/// Objects that make no pods are left as they are.
///
/// # Errors
/// The first pod that cannot have one.
pub(super) fn inject(
    object: &mut Value,
    images: &Images,
    notes: &mut Vec<Note>,
) -> Result<(), RefusedObject> {
    if let Some(items) = list_items(object) {
        return items
            .iter_mut()
            .try_for_each(|item| inject(item, images, notes));
    }
    let Some(path) = template_path(object) else {
        return Ok(());
    };
    let workload = workload_name(object);
    let outcome = if in_system_namespace(object) {
        Outcome::LeftAlone("its namespace is never meshed")
    } else {
        let mut missing = Value::Null;
        let template = object.pointer_mut(path).unwrap_or(&mut missing);
        pod::inject(template, images).map_err(|reason| RefusedObject {
            workload: workload.clone(),
            reason,
        })?
    };
    notes.push(Note { workload, outcome });
    Ok(())
}

fn list_items(object: &mut Value) -> Option<&mut Vec<Value>> {
    let is_list = object.get("kind")?.as_str()?.ends_with("List");
    object.get_mut("items").filter(|_| is_list)?.as_array_mut()
}

/// Where the pod, or its template, is in an object of this kind.
fn template_path(object: &Value) -> Option<&'static str> {
    let api_version = object.get("apiVersion")?.as_str()?;
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, object.get("kind")?.as_str()?) {
        ("", "Pod") => Some(""),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

fn workload_name(object: &Value) -> String {
    let part = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let kind = part("/kind").unwrap_or_default().to_ascii_lowercase();
    let name = part("/metadata/name")
        .or_else(|| part("/metadata/generateName"))
        .unwrap_or("(no name)");
    format!("{kind}/{}", escaped(name))
}

fn in_system_namespace(object: &Value) -> bool {
    let ours = [names::SYSTEM_NAMESPACE, names::MULTICLUSTER_NAMESPACE];
    object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .is_some_and(|name| name == "kube-system" || ours.contains(&name))
}
