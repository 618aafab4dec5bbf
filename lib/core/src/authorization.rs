//! Rules that admit clients to a port, and the defaults where there are none.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use ipnet::IpNet;

use crate::identity::{InvalidIdentity, SpiffeId, TrustDomain, is_dns_label, is_dns_subdomain};

/// Somebody who wants to reach a port.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Who it is; none without a sidecar.
    pub identity: Option<&'a SpiffeId>,
    /// Where its connection comes from: for a workload of another cluster that
    /// is a gateway, and says nothing.
    pub address: IpAddr,
}

/// One way to be admitted. It never refuses: a client that no rule admits is
/// refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What made it, for logs: `default:deny`, `shop/front-end-only`.
    pub name: Arc<str>,
    /// Whom it admits.
    pub clients: Clients,
    /// From where.
    pub from: Origin,
    /// Whether an admission by it is logged.
    pub audit: bool,
}

/// Whom a rule admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Everybody, with or without an identity.
    Anybody,
    /// Everybody whose identity is verified.
    Authenticated,
    /// Whose identity one of these matches; nobody, if there are none.
    Identities(Vec<IdentityPattern>),
}

/// From where a rule admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From everywhere, linked clusters included.
    Anywhere,
    /// From one of these networks. A workload of another cluster is in none.
    Networks(Vec<Network>),
}

impl Rule {
    /// Whether it admits `client` to a pod of the trust domain `local`.
    #[must_use]
    pub fn admits(&self, local: &TrustDomain, client: Client<'_>) -> bool {
        let foreign = client
            .identity
            .is_some_and(|identity| identity.trust_domain() != local);
        let placed = match &self.from {
            Origin::Anywhere => true,
            Origin::Networks(networks) => {
                !foreign && networks.iter().any(|n| n.contains(client.address))
            }
        };
        placed
            && match (&self.clients, client.identity) {
                (Clients::Anybody, _) | (Clients::Authenticated, Some(_)) => true,
                (Clients::Authenticated | Clients::Identities(_), None) => false,
                (Clients::Identities(patterns), Some(identity)) => {
                    patterns.iter().any(|pattern| pattern.matches(identity))
                }
            }
    }
}

/// Identities of one trust domain: one, those of a namespace, or all. Written
/// as a SPIFFE id with `*` for the namespace, the account or both
/// (`spiffe://west/ns/shop/sa/*`); `spiffe://west/*` is every one of `west`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdentityPattern {
    trust_domain: TrustDomain,
    /// None stands for every one.
    namespace: Option<Arc<str>>,
    service_account: Option<Arc<str>>,
}

impl IdentityPattern {
    /// Every identity of a trust domain.
    #[must_use]
    pub const fn all_of(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            namespace: None,
            service_account: None,
        }
    }

    /// Whether `identity` is one of these.
    #[must_use]
    pub fn matches(&self, identity: &SpiffeId) -> bool {
        let fits = |wanted: &Option<Arc<str>>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        self.trust_domain == *identity.trust_domain()
            && fits(&self.namespace, identity.namespace())
            && fits(&self.service_account, identity.service_account())
    }
}

impl From<&SpiffeId> for IdentityPattern {
    fn from(identity: &SpiffeId) -> Self {
        Self {
            trust_domain: identity.trust_domain().clone(),
            namespace: Some(identity.namespace().into()),
            service_account: Some(identity.service_account().into()),
        }
    }
}

impl FromStr for IdentityPattern {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or(InvalidIdentity::Scheme)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let (trust_domain, namespace, service_account) = match parts[..] {
            [trust_domain, "*"] => (trust_domain, "*", "*"),
            [trust_domain, "ns", namespace, "sa", account] => (trust_domain, namespace, account),
            _ => return Err(InvalidIdentity::Path),
        };
        let name = |name: &str| (name != "*").then(|| name.into());
        if namespace != "*" && !is_dns_label(namespace) {
            return Err(InvalidIdentity::Namespace);
        }
        if service_account != "*" && !is_dns_subdomain(service_account) {
            return Err(InvalidIdentity::ServiceAccount);
        }
        Ok(Self {
            trust_domain: trust_domain.parse()?,
            namespace: name(namespace),
            service_account: name(service_account),
        })
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref().unwrap_or("*");
        let account = self.service_account.as_deref().unwrap_or("*");
        write!(
            f,
            "spiffe://{}/ns/{namespace}/sa/{account}",
            self.trust_domain
        )
    }
}

impl fmt::Debug for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Addresses: a network without some parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The whole.
    pub cidr: IpNet,
    /// What does not belong to it.
    pub except: Vec<IpNet>,
}

impl Network {
    /// Whether `address` is in it. An IPv4 address in its IPv6 spelling is the
    /// IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.cidr.contains(&address) && !self.except.iter().any(|part| part.contains(&address))
    }
}

impl From<IpNet> for Network {
    fn from(cidr: IpNet) -> Self {
        Self {
            cidr,
            except: Vec::new(),
        }
    }
}

/// Who may reach a port about which no Server says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DefaultPolicy {
    /// Everybody.
    #[default]
    AllUnauthenticated,
    /// Who has a verified identity.
    AllAuthenticated,
    /// Everybody of the own cluster.
    ClusterUnauthenticated,
    /// Who has a verified identity of the own cluster.
    ClusterAuthenticated,
    /// Nobody.
    Deny,
    /// Everybody, with a line in the log.
    Audit,
}

impl DefaultPolicy {
    const ALL: [Self; 6] = [
        Self::AllUnauthenticated,
        Self::AllAuthenticated,
        Self::ClusterUnauthenticated,
        Self::ClusterAuthenticated,
        Self::Deny,
        Self::Audit,
    ];

    /// As annotations spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllUnauthenticated => "all-unauthenticated",
            Self::AllAuthenticated => "all-authenticated",
            Self::ClusterUnauthenticated => "cluster-unauthenticated",
            Self::ClusterAuthenticated => "cluster-authenticated",
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }

    /// The rule that does it; none admits nobody.
    #[must_use]
    pub fn rule(self) -> Option<Rule> {
        let (clients, from) = match self {
            Self::AllUnauthenticated | Self::Audit => (Clients::Anybody, Origin::Anywhere),
            Self::AllAuthenticated => (Clients::Authenticated, Origin::Anywhere),
            Self::ClusterUnauthenticated => (Clients::Anybody, cluster_networks()),
            Self::ClusterAuthenticated => (Clients::Authenticated, cluster_networks()),
            Self::Deny => return None,
        };
        Some(Rule {
            name: format!("default:{self}").into(),
            clients,
            from,
            audit: self == Self::Audit,
        })
    }
}

/// Addresses that clusters use inside.
const CLUSTER_NETWORKS: [(IpAddr, u8); 5] = {
    use std::net::{Ipv4Addr, Ipv6Addr};
    [
        (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
        (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
        (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
        (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
        (IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)), 8),
    ]
};

fn cluster_networks() -> Origin {
    let networks = CLUSTER_NETWORKS
        .into_iter()
        .map(|(ip, length)| IpNet::new_assert(ip, length).into());
    Origin::Networks(networks.collect())
}

impl FromStr for DefaultPolicy {
    type Err = InvalidDefaultPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidDefaultPolicy> {
        let found = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        found.ok_or(InvalidDefaultPolicy)
    }
}

impl fmt::Display for DefaultPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no default policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a default policy is all-unauthenticated, all-authenticated, cluster-unauthenticated, \
     cluster-authenticated, deny or audit"
)]
pub struct InvalidDefaultPolicy;

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(rule: &Rule, identity: Option<&str>, address: &str) -> bool {
        let identity = identity.map(|id| id.parse::<SpiffeId>().unwrap());
        let client = Client {
            identity: identity.as_ref(),
            address: address.parse().unwrap(),
        };
        rule.admits(&"east".parse().unwrap(), client)
    }

    const OWN: Option<&str> = Some("spiffe://east/ns/shop/sa/web");
    const FOREIGN: Option<&str> = Some("spiffe://west/ns/shop/sa/web");
    const INSIDE: &str = "10.42.0.7";
    const OUTSIDE: &str = "203.0.113.7";

    /// Unmeshed inside and outside, own inside and outside, foreign inside.
    fn table(rule: &Rule) -> [bool; 5] {
        [
            (None, INSIDE),
            (None, OUTSIDE),
            (OWN, INSIDE),
            (OWN, OUTSIDE),
            (FOREIGN, INSIDE),
        ]
        .map(|(identity, address)| admits(rule, identity, address))
    }

    #[test]
    fn g16_cluster_defaults_never_admit_a_foreign_caller() {
        let (yes, no) = (true, false);
        for (policy, expected) in [
            ("all-unauthenticated", [yes, yes, yes, yes, yes]),
            ("all-authenticated", [no, no, yes, yes, yes]),
            ("cluster-unauthenticated", [yes, no, yes, no, no]),
            ("cluster-authenticated", [no, no, yes, no, no]),
            ("audit", [yes, yes, yes, yes, yes]),
        ] {
            let parsed: DefaultPolicy = policy.parse().unwrap();
            assert_eq!(parsed.to_string(), policy);
            assert_eq!(table(&parsed.rule().unwrap()), expected, "{policy}");
        }
        assert_eq!(DefaultPolicy::Deny.rule(), None);
        assert!("Deny".parse::<DefaultPolicy>().is_err());
    }

    #[test]
    fn a_pattern_matches_what_it_names_and_nothing_else() {
        let matches = |pattern: &str, id: &str| {
            let pattern: IdentityPattern = pattern.parse().unwrap();
            assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
            pattern.matches(&id.parse().unwrap())
        };
        let web = "spiffe://west/ns/shop/sa/web";
        for (pattern, expected) in [
            (web, true),
            ("spiffe://west/ns/shop/sa/*", true),
            ("spiffe://west/ns/*/sa/web", true),
            ("spiffe://west/ns/*/sa/*", true),
            ("spiffe://west/*", true),
            ("spiffe://east/*", false),
            ("spiffe://east/ns/shop/sa/web", false),
            ("spiffe://west/ns/shop/sa/we", false),
            ("spiffe://west/ns/shop/sa/web.x", false),
            ("spiffe://west/ns/sho/sa/*", false),
            ("spiffe://wes/ns/shop/sa/*", false),
        ] {
            assert_eq!(matches(pattern, web), expected, "{pattern}");
        }
        assert!(matches(web, web));
        let whole: SpiffeId = web.parse().unwrap();
        assert!(IdentityPattern::from(&whole).matches(&whole));
    }

    #[test]
    fn a_star_stands_for_a_whole_name_and_never_for_a_trust_domain() {
        for bad in [
            "",
            "*",
            "spiffe://*",
            "spiffe://*/*",
            "spiffe://*/ns/shop/sa/web",
            "spiffe://west",
            "spiffe://west/",
            "spiffe://west/ns/shop/*",
            "spiffe://west/ns/shop/sa/w*",
            "spiffe://west/ns/sh*/sa/web",
            "spiffe://west/ns/shop/sa/*/x",
            "spiffe://west/*/sa/web",
            "*.shop.serviceaccount.identity",
        ] {
            assert!(bad.parse::<IdentityPattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_network_is_what_its_exceptions_leave() {
        let network = Network {
            cidr: "10.0.0.0/8".parse().unwrap(),
            except: vec!["10.1.0.0/16".parse().unwrap()],
        };
        for (address, expected) in [
            ("10.2.0.1", true),
            ("::ffff:10.2.0.1", true),
            ("10.1.0.1", false),
            ("::ffff:10.1.0.1", false),
            ("11.0.0.1", false),
            ("fd00::1", false),
        ] {
            assert_eq!(
                network.contains(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
    }
}
