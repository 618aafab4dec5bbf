//! Decides what linking two clusters changes in each.

use kube::{ResourceExt, core::ObjectMeta};
use mesh_api::{
    link::{Direction, Link, LinkGateway, LinkPeers, LinkSpec},
    names,
};
use mesh_core::{cluster::ClusterName, endpoint::LinkPrefix, identity::SpiffeId};

use super::{
    dns::DnsChange,
    facts::{Door, Facts},
    prefix,
};

/// What linking changes in one cluster.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// The context of the cluster that gets the Link.
    pub(super) context: String,
    /// The name of that cluster.
    pub(super) cluster: ClusterName,
    /// The Link.
    pub(super) link: Link,
    /// Whether it is new.
    pub(super) change: Change,
    /// SHA-256 of the peer's roots.
    pub(super) fingerprints: Vec<String>,
    /// What happens to names such as `web.east`.
    pub(super) dns: DnsChange,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

/// What happens to a Link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// There was none.
    Create,
    /// There was another.
    Update,
    /// It is as it should be.
    None,
}

/// Both sides of a link.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// In the cluster of the current context.
    pub(super) local: Side,
    /// In the peer.
    pub(super) remote: Side,
}

/// Why two clusters cannot be linked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Both are called the same.
    #[error(
        "the clusters behind the contexts {0} and {1} are both called {2}: \
         are they one cluster? Else install one of them with another --cluster"
    )]
    SameCluster(String, String, String),
    /// Both have the same trust domain.
    #[error(
        "both clusters have the trust domain {0}: install one of them with another --trust-domain"
    )]
    SameTrustDomain(String),
    /// The peer is called something else.
    #[error("the cluster behind the context {context} calls itself {actual}, not {expected}")]
    OtherCluster {
        /// The context of the peer.
        context: String,
        /// The name that the user gave.
        expected: String,
        /// Its own name.
        actual: String,
    },
    /// The side that is called has no gateway.
    #[error(
        "context {0}: there is no gateway: run \
         `mesh multicluster install | kubectl --context {0} apply -f -` first"
    )]
    NoGateway(String),
    /// Another Link leads to the same trust domain.
    #[error("context {context}: Link {link} already leads to the trust domain {trust_domain}")]
    TrustDomainTaken {
        /// Where.
        context: String,
        /// The other Link.
        link: String,
        /// What it leads to.
        trust_domain: String,
    },
}

/// What it takes to link `local` to `remote`; `direction` is local's.
///
/// # Errors
/// If these two cannot be linked.
pub(super) fn plan(local: &Facts, remote: &Facts, direction: Direction) -> Result<Plan, Refused> {
    if local.cluster == remote.cluster {
        return Err(Refused::SameCluster(
            local.context.clone(),
            remote.context.clone(),
            local.cluster.to_string(),
        ));
    }
    if local.trust_domain == remote.trust_domain {
        return Err(Refused::SameTrustDomain(local.trust_domain.to_string()));
    }
    Ok(Plan {
        local: side(local, remote, direction)?,
        remote: side(remote, local, opposite(direction))?,
    })
}

/// Checks that the peer is the cluster that the user meant.
///
/// # Errors
/// If it has another name.
pub(super) fn require_name(remote: &Facts, expected: &str) -> Result<(), Refused> {
    if remote.cluster.as_str() == expected {
        return Ok(());
    }
    Err(Refused::OtherCluster {
        context: remote.context.clone(),
        expected: expected.into(),
        actual: remote.cluster.to_string(),
    })
}

const fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Both => Direction::Both,
        Direction::Import => Direction::Export,
        Direction::Export => Direction::Import,
        Direction::TrustOnly => Direction::TrustOnly,
    }
}

const fn imports(direction: Direction) -> bool {
    match direction {
        Direction::Both | Direction::Import => true,
        Direction::Export | Direction::TrustOnly => false,
    }
}

/// What changes in `here`, where the Link to `peer` is kept.
fn side(here: &Facts, peer: &Facts, direction: Direction) -> Result<Side, Refused> {
    let name = peer.cluster.as_str();
    if let Some(other) = other_link_to(here, peer) {
        return Err(Refused::TrustDomainTaken {
            context: here.context.clone(),
            link: other.name_any(),
            trust_domain: peer.trust_domain.to_string(),
        });
    }
    let existing = here.links.iter().find(|link| link.name_any() == name);
    let spec = spec(here, peer, direction, existing)?;
    let change = match existing {
        None => Change::Create,
        Some(existing) if same(&existing.spec, &spec) => Change::None,
        Some(_) => Change::Update,
    };
    Ok(Side {
        context: here.context.clone(),
        cluster: here.cluster.clone(),
        link: Link {
            metadata: ObjectMeta {
                name: Some(name.into()),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        },
        change,
        fingerprints: peer.fingerprints.clone(),
        dns: if imports(direction) {
            here.dns.with(&peer.cluster)
        } else {
            here.dns.without(&peer.cluster)
        },
        warnings: warnings(here, peer, direction),
    })
}

fn spec(
    here: &Facts,
    peer: &Facts,
    direction: Direction,
    existing: Option<&Link>,
) -> Result<LinkSpec, Refused> {
    let door = match &peer.gateway {
        Some(door) => door.clone(),
        None if imports(direction) => return Err(Refused::NoGateway(peer.context.clone())),
        None => Door {
            addresses: Vec::new(),
            port: mesh_core::ports::INBOUND,
        },
    };
    Ok(LinkSpec {
        cluster: peer.cluster.to_string(),
        trust_domain: peer.trust_domain.to_string(),
        bundle: peer.bundle.clone(),
        gateway: LinkGateway {
            addresses: door.addresses,
            port: door.port,
            identity: identity(peer, names::MULTICLUSTER_NAMESPACE, names::GATEWAY),
            server_name: format!("gateway.{}.mesh", peer.cluster),
        },
        peers: LinkPeers {
            control: identity(peer, names::SYSTEM_NAMESPACE, names::CONTROL),
            mirror: identity(peer, names::MULTICLUSTER_NAMESPACE, names::MIRROR),
        },
        prefix: chosen_prefix(here, peer, existing).to_string(),
        direction,
        namespaces: Vec::new(),
    })
}

fn identity(peer: &Facts, namespace: &str, service_account: &str) -> String {
    SpiffeId::new(&peer.trust_domain, namespace, service_account)
        .expect("our own namespaces and accounts have legal names")
        .to_string()
}

/// The prefix that the Link has, if it is its own; else a new one.
fn chosen_prefix(here: &Facts, peer: &Facts, existing: Option<&Link>) -> LinkPrefix {
    let name = peer.cluster.as_str();
    let taken: Vec<LinkPrefix> = here
        .links
        .iter()
        .filter(|link| link.name_any() != name)
        .filter_map(|link| link.spec.prefix.parse().ok())
        .collect();
    existing
        .and_then(|link| link.spec.prefix.parse().ok())
        .filter(|prefix| !taken.contains(prefix))
        .unwrap_or_else(|| prefix::allocate(&peer.cluster, &taken))
}

/// Whether nothing would change; `namespaces` is the user's own.
fn same(existing: &LinkSpec, wanted: &LinkSpec) -> bool {
    let ours = LinkSpec {
        namespaces: Vec::new(),
        ..existing.clone()
    };
    ours == *wanted
}

fn other_link_to<'a>(here: &'a Facts, peer: &Facts) -> Option<&'a Link> {
    here.links.iter().find(|link| {
        link.name_any() != peer.cluster.as_str()
            && link.spec.trust_domain == peer.trust_domain.as_str()
    })
}

fn warnings(here: &Facts, peer: &Facts, direction: Direction) -> Vec<String> {
    let mut warnings = Vec::new();
    let name = peer.cluster.as_str();
    if imports(direction) && here.namespaces.iter().any(|namespace| namespace == name) {
        warnings.push(format!(
            "context {}: there is a namespace {name}: where a Service web-{name} exists, the name \
             web.{name} means that Service and no longer web in the namespace {name}",
            here.context
        ));
    }
    let shared = here
        .fingerprints
        .iter()
        .any(|root| peer.fingerprints.contains(root));
    if shared {
        warnings.push(format!(
            "{} and {} share a root: either can impersonate the other",
            here.cluster, peer.cluster
        ));
    }
    warnings
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::multicluster::dns::DnsFacts;

    pub(in crate::multicluster) fn facts(name: &str) -> Facts {
        Facts {
            context: format!("ctx-{name}"),
            cluster: name.parse().unwrap(),
            trust_domain: name.parse().unwrap(),
            bundle: format!("PEM of {name}"),
            fingerprints: vec![format!("AB:{name}")],
            gateway: Some(Door {
                addresses: vec!["192.0.2.1".into()],
                port: 4143,
            }),
            links: Vec::new(),
            namespaces: vec!["shop".into()],
            dns: DnsFacts::default(),
        }
    }

    fn linked(direction: Direction) -> Plan {
        plan(&facts("west"), &facts("east"), direction).unwrap()
    }

    #[test]
    fn each_side_gets_a_link_to_the_other() {
        let plan = linked(Direction::Both);
        let (west, east) = (&plan.local.link, &plan.remote.link);
        assert_eq!(
            (west.name_any(), east.name_any()),
            ("east".into(), "west".into())
        );
        assert_eq!(west.spec.bundle, "PEM of east");
        assert_eq!(
            east.spec.peers.mirror,
            "spiffe://west/ns/mesh-multicluster/sa/mesh-mirror"
        );
        assert_eq!(west.spec.gateway.server_name, "gateway.east.mesh");
        assert!(west.spec.to_model("east", Vec::new()).is_ok());
        assert!(east.spec.to_model("west", Vec::new()).is_ok());
    }

    #[test]
    fn what_one_side_imports_the_other_exports() {
        let plan = linked(Direction::Import);
        assert_eq!(plan.local.link.spec.direction, Direction::Import);
        assert_eq!(plan.remote.link.spec.direction, Direction::Export);
        assert_eq!(plan.remote.dns, DnsChange::Unchanged);
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let (mut west, mut east) = (facts("west"), facts("east"));
        let first = plan(&west, &east, Direction::Both).unwrap();
        assert_eq!(first.local.change, Change::Create);
        let mut kept = first.local.link.clone();
        kept.spec.namespaces = vec!["shop".into()];
        west.links = vec![kept];
        east.links = vec![first.remote.link];
        let second = plan(&west, &east, Direction::Both).unwrap();
        assert_eq!(
            (second.local.change, second.remote.change),
            (Change::None, Change::None)
        );
        let other_way = plan(&west, &east, Direction::Import).unwrap();
        assert_eq!(other_way.local.change, Change::Update);
        assert_eq!(
            other_way.local.link.spec.prefix,
            first.local.link.spec.prefix
        );
    }

    #[test]
    fn a_prefix_that_another_link_has_is_not_used() {
        let taken = linked(Direction::Both).local.link.spec.prefix;
        let mut other = plan(&facts("west"), &facts("north"), Direction::Both)
            .unwrap()
            .local
            .link;
        other.spec.prefix.clone_from(&taken);
        let mut west = facts("west");
        west.links = vec![other];
        let plan = plan(&west, &facts("east"), Direction::Both).unwrap();
        assert_ne!(plan.local.link.spec.prefix, taken);
    }

    #[test]
    fn clusters_that_cannot_be_told_apart_are_refused() {
        let same = plan(&facts("west"), &facts("west"), Direction::Both);
        assert!(matches!(same, Err(Refused::SameCluster(..))));
        let mut east = facts("east");
        east.trust_domain = "west".parse().unwrap();
        let same = plan(&facts("west"), &east, Direction::Both);
        assert!(matches!(same, Err(Refused::SameTrustDomain(_))));
        assert!(require_name(&facts("east"), "north").is_err());
    }

    #[test]
    fn the_side_that_is_called_needs_a_gateway() {
        let mut east = facts("east");
        east.gateway = None;
        let refused = plan(&facts("west"), &east, Direction::Both).unwrap_err();
        assert_eq!(refused, Refused::NoGateway("ctx-east".into()));
        assert!(plan(&facts("west"), &east, Direction::Export).is_ok());
    }

    #[test]
    fn two_links_to_one_trust_domain_are_refused() {
        let mut west = facts("west");
        let mut other = linked(Direction::Both).local.link;
        other.metadata.name = Some("orient".into());
        west.links = vec![other];
        let refused = plan(&west, &facts("east"), Direction::Both).unwrap_err();
        assert!(matches!(refused, Refused::TrustDomainTaken { .. }));
    }

    #[test]
    fn the_user_is_warned_of_a_shadowed_namespace_and_of_a_shared_root() {
        let (mut west, mut east) = (facts("west"), facts("east"));
        west.namespaces.push("east".into());
        east.fingerprints.clone_from(&west.fingerprints);
        let plan = plan(&west, &east, Direction::Both).unwrap();
        assert_eq!(plan.local.warnings.len(), 2);
        assert!(plan.local.warnings[0].contains("there is a namespace east"));
        assert_eq!(plan.remote.warnings.len(), 1);
    }
}
