//! The custom resources.

use kube::CustomResourceExt;
use mesh_api::{link::Link, split::TrafficSplit};
use serde_json::Value;

/// All custom resource definitions that the mesh brings.
///
/// # Errors
/// If one cannot be written as JSON, which no input can cause.
pub(crate) fn definitions() -> serde_json::Result<Vec<Value>> {
    [Link::crd(), TrafficSplit::crd()]
        .iter()
        .map(serde_json::to_value)
        .collect()
}
