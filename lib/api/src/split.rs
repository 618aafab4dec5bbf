//! `TrafficSplit` of the Service Mesh Interface, `split.smi-spec.io/v1alpha2`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sends what is meant for one Service to several.
///
/// Weighted as the specification says, or, with the annotation
/// `mesh.dev/primary-service`, to the primary while it has a usable endpoint
/// and else to the next in order.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "split.smi-spec.io",
    version = "v1alpha2",
    kind = "TrafficSplit",
    plural = "trafficsplits",
    namespaced
)]
pub struct TrafficSplitSpec {
    /// The Service that clients call, in the same namespace.
    pub service: String,
    /// The Services that answer, in the same namespace.
    pub backends: Vec<TrafficSplitBackend>,
}

/// One Service that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficSplitBackend {
    /// Its name.
    pub service: String,
    /// Its share.
    #[serde(default)]
    pub weight: u32,
}
