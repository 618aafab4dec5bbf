//! The objects that the mesh is made of, as `kubectl apply` takes them.
//!
//! They hold no key, depend on no cluster, and the same options give the same
//! objects.

pub(crate) mod control;
pub(crate) mod crds;
pub(crate) mod gateway;
pub(crate) mod images;
pub(crate) mod mirror;
pub(crate) mod namespace;
pub(crate) mod pod;

#[cfg(test)]
mod tests;
