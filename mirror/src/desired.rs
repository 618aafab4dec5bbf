//! Which mirrors a link should have: the rules, as one function over values.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use mesh_core::{
    cluster::{ClusterName, InvalidMirrorName},
    identity::is_dns_label,
};

use crate::{
    export::{Export, InvalidOffer, Snapshot},
    mirror::{Mirror, ServiceName},
};

/// What the rules ask of the Link and of this cluster.
pub(crate) struct Importer<'a> {
    /// The peer, as it is called here.
    pub(crate) cluster: &'a ClusterName,
    /// The uid of the Link.
    pub(crate) link_uid: &'a str,
    /// Namespaces that may hold mirrors; all, if empty.
    pub(crate) allowed: &'a [String],
    /// The namespaces that exist here and are not being deleted.
    pub(crate) namespaces: &'a BTreeSet<String>,
    /// The mirrors that this link has now: under a quota they stay.
    pub(crate) held: &'a BTreeSet<ServiceName>,
    /// How many mirrors the link may have.
    pub(crate) quota: usize,
}

/// What should be, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    /// The mirrors that should exist.
    pub(crate) mirrors: BTreeMap<ServiceName, Mirror>,
    /// Exported Services that have no mirror here, and why.
    pub(crate) refused: Vec<Refused>,
}

/// An exported Service without a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its namespace and name there, unchecked.
    pub(crate) remote: String,
    /// Why.
    pub(crate) reason: Refusal,
}

/// Why an exported Service gets no mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No namespace can have this name.
    NamespaceName,
    /// The mesh never writes to this namespace.
    NamespaceForbidden,
    /// The Link does not list this namespace.
    NamespaceNotAllowed,
    /// It will be mirrored when somebody makes the namespace.
    NamespaceMissing,
    /// Kubernetes would refuse the mirror's name.
    Name(InvalidMirrorName),
    /// Kubernetes would refuse the mirror's ports.
    Offer(InvalidOffer),
    /// The peer names one Service twice.
    Twice,
    /// The link has its fill.
    Quota(usize),
}

/// The mirrors that the link should have for `snapshot`.
pub(crate) fn desired(importer: &Importer<'_>, snapshot: &Snapshot) -> Desired {
    let mut desired = Desired::default();
    for export in &snapshot.services {
        let outcome = mirror(importer, export).and_then(|(name, mirror)| {
            if desired.mirrors.contains_key(&name) {
                return Err(Refusal::Twice);
            }
            desired.mirrors.insert(name, mirror);
            Ok(())
        });
        if let Err(reason) = outcome {
            desired.refused.push(Refused {
                remote: format!("{}/{}", export.namespace, export.name),
                reason,
            });
        }
    }
    apply_quota(importer, &mut desired);
    desired
}

fn mirror(importer: &Importer<'_>, export: &Export) -> Result<(ServiceName, Mirror), Refusal> {
    let namespace = export.namespace.as_str();
    check_namespace(importer, namespace)?;
    let name = importer
        .cluster
        .mirror_name(&export.name)
        .map_err(Refusal::Name)?;
    let offer = export.offer.clone().map_err(Refusal::Offer)?;
    let mirror = Mirror {
        cluster: importer.cluster.to_string(),
        link_uid: importer.link_uid.into(),
        remote: format!("{namespace}/{}", export.name),
        ports: offer.ports,
        opaque_ports: offer.opaque_ports,
    };
    Ok((ServiceName::new(namespace, &name), mirror))
}

fn check_namespace(importer: &Importer<'_>, namespace: &str) -> Result<(), Refusal> {
    if !is_dns_label(namespace) {
        return Err(Refusal::NamespaceName);
    }
    if is_the_cluster_s(namespace) {
        return Err(Refusal::NamespaceForbidden);
    }
    if !is_allowed(importer.allowed, namespace) {
        return Err(Refusal::NamespaceNotAllowed);
    }
    if !importer.namespaces.contains(namespace) {
        return Err(Refusal::NamespaceMissing);
    }
    Ok(())
}

/// Whether this cluster's own rules leave no mirror in a namespace, whatever the
/// peer says.
pub(crate) fn is_forbidden(allowed: &[String], namespace: &str) -> bool {
    is_the_cluster_s(namespace) || !is_allowed(allowed, namespace)
}

fn is_the_cluster_s(namespace: &str) -> bool {
    namespace.starts_with("kube-") || namespace.starts_with("mesh-")
}

/// `allowed` are those that the Link lists; all, if it lists none.
fn is_allowed(allowed: &[String], namespace: &str) -> bool {
    allowed.is_empty() || allowed.iter().any(|one| one == namespace)
}

/// Takes away what is over the quota; mirrors that exist are the last to go.
fn apply_quota(importer: &Importer<'_>, desired: &mut Desired) {
    let over = desired.mirrors.len().saturating_sub(importer.quota);
    if over == 0 {
        return;
    }
    let mut order: Vec<ServiceName> = desired.mirrors.keys().cloned().collect();
    order.sort_by_key(|name| !importer.held.contains(name));
    for name in order.split_off(order.len() - over) {
        if let Some(mirror) = desired.mirrors.remove(&name) {
            desired.refused.push(Refused {
                remote: mirror.remote,
                reason: Refusal::Quota(importer.quota),
            });
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamespaceName => f.write_str("its namespace is no DNS label"),
            Self::NamespaceForbidden => {
                f.write_str("nothing is mirrored to namespaces named kube-* and mesh-*")
            }
            Self::NamespaceNotAllowed => {
                f.write_str("the Link's spec.namespaces does not list its namespace")
            }
            Self::NamespaceMissing => f.write_str(
                "its namespace does not exist in this cluster; it is mirrored once it does",
            ),
            Self::Name(InvalidMirrorName::TooLong(_)) => {
                f.write_str("its name here would be longer than 63 characters")
            }
            Self::Name(InvalidMirrorName::Illegal(_)) => f.write_str("its name is no DNS label"),
            Self::Offer(invalid) => invalid.fmt(f),
            Self::Twice => f.write_str("the feed names it twice; the first is mirrored"),
            Self::Quota(quota) => write!(f, "the link has its {quota} mirrors already"),
        }
    }
}

#[cfg(test)]
mod tests;
