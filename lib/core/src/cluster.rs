//! Clusters and the names that their Services get elsewhere.

use std::{fmt, str::FromStr, sync::Arc};

use crate::identity::is_dns_label;

/// The name under which a cluster is known here: a DNS label, since it becomes
/// part of Service names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The local name of the Service `service` of this cluster.
    ///
    /// # Errors
    /// If the name would be longer than the 63 bytes that Kubernetes gives a
    /// Service, or if `service` is no Service's name.
    pub fn mirror_name(&self, service: &str) -> Result<String, InvalidMirrorName> {
        let name = format!("{service}-{self}");
        if name.len() > 63 {
            return Err(InvalidMirrorName::TooLong(name));
        }
        if !is_dns_label(service) || !is_dns_label(&name) {
            return Err(InvalidMirrorName::Illegal(name));
        }
        Ok(name)
    }
}

impl FromStr for ClusterName {
    type Err = InvalidClusterName;

    fn from_str(name: &str) -> Result<Self, InvalidClusterName> {
        if is_dns_label(name) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidClusterName)
        }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name is not a DNS label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster's name is 1 to 63 of a-z, 0-9 and '-', and neither starts nor ends with '-'")]
pub struct InvalidClusterName;

/// Why a remote Service can have no local name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMirrorName {
    /// Kubernetes allows 63 bytes.
    #[error("the name {0} is longer than 63 characters")]
    TooLong(String),
    /// Not a DNS label.
    #[error("the name {0:?} is not a DNS label")]
    Illegal(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_named_for_its_service_and_cluster() {
        let east: ClusterName = "east".parse().unwrap();
        assert_eq!(east.mirror_name("web").unwrap(), "web-east");
    }

    #[test]
    fn m5_names_that_kubernetes_would_refuse_are_refused_here() {
        let east: ClusterName = "east".parse().unwrap();
        let long = "a".repeat(59);
        assert!(matches!(
            east.mirror_name(&long),
            Err(InvalidMirrorName::TooLong(_))
        ));
        for bad in ["", "Web", "web.x", "-web", "../web"] {
            assert!(matches!(
                east.mirror_name(bad),
                Err(InvalidMirrorName::Illegal(_))
            ));
        }
    }
}
