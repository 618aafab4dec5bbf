//! Our Kubernetes API: the custom resources of the group `mesh.dev`, those of
//! others that we read, and the names of labels, annotations and objects.
//!
//! It talks to no API server; `mesh-kube` does.
//!
//! Main types: [`link::Link`], [`split::TrafficSplit`], [`route::HTTPRoute`],
//! [`policy::Server`] with what admits clients to it; [`names`] has the rest.

pub mod link;
pub mod names;
pub mod policy;
pub mod route;
pub mod split;
pub mod time;
