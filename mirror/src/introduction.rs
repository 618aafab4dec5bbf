//! What a peer says of itself in its feed: its roots, and where its gateway
//! is. It speaks for its own trust domain only, and what cannot be used
//! changes nothing.

use std::{collections::BTreeSet, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mesh_api::link::{Link, LinkSpec, LinkStatus};
use mesh_core::identity::is_dns_subdomain;
use mesh_proto::v1;
use mesh_tls::{Trust, parse_bundle};

/// Unchecked, but not too much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Introduction {
    trust_domain: String,
    /// DER.
    roots: Vec<Vec<u8>>,
    gateway_hosts: Vec<String>,
}

/// What is kept of an introduction, for one version of the Link's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// PEM; none if the spec says the same.
    pub(crate) bundle: Option<String>,
    /// Empty if the spec says the same.
    pub(crate) addresses: Vec<String>,
    /// The spec's fingerprint.
    pub(crate) spec: String,
}

impl Introduction {
    pub(crate) fn new(bundle: Option<v1::Bundle>, mut gateway_hosts: Vec<String>) -> Self {
        let mut bundle = bundle.unwrap_or_default();
        let size: usize = bundle.roots.iter().map(Vec::len).sum();
        if bundle.roots.len() > MOST_ROOTS || size > MOST_BYTES {
            bundle.roots.clear();
        }
        gateway_hosts.truncate(MOST_HOSTS);
        Self {
            trust_domain: bundle.trust_domain,
            roots: bundle.roots,
            gateway_hosts,
        }
    }

    /// The gateway's addresses that may be asked, in order.
    pub(crate) fn hosts(&self) -> BTreeSet<String> {
        let usable = self.gateway_hosts.iter().filter(|host| is_host(host));
        usable.cloned().collect()
    }

    /// The roots, if they can be those of `trust_domain`.
    fn roots_of(&self, trust_domain: &str) -> Option<&[Vec<u8>]> {
        if self.trust_domain != trust_domain {
            return None;
        }
        let trust = Trust::new(trust_domain.parse().ok()?, &self.roots);
        trust.ok().map(|_| self.roots.as_slice())
    }
}

/// What the Link's status keeps of `said`. New addresses are taken once one of
/// them is `alive`, so that a peer behind an address translation, who does not
/// know where it is reached, breaks nothing.
pub(crate) fn observe(link: &Link, said: &Introduction, alive: &BTreeSet<&str>) -> Observed {
    let fingerprint = link.spec.fingerprint();
    let seen = |status: &&LinkStatus| status.observed_spec.as_ref() == Some(&fingerprint);
    let before = link.status.as_ref().filter(seen);
    let bundle = match said.roots_of(&link.spec.trust_domain) {
        Some(roots) if is_of(&link.spec, roots) => None,
        Some(roots) => Some(to_pem(roots)),
        None => before.and_then(|status| status.bundle.clone()),
    };
    let before = before.map_or(&[][..], |status| &status.gateway_addresses);
    let spec: BTreeSet<String> = link.spec.gateway.addresses.iter().cloned().collect();
    let hosts = said.hosts();
    let addresses = if hosts == spec {
        Vec::new()
    } else if hosts.iter().any(|host| alive.contains(host.as_str())) {
        hosts.into_iter().collect()
    } else {
        before.to_vec()
    };
    Observed {
        bundle,
        addresses,
        spec: fingerprint,
    }
}

fn is_of(spec: &LinkSpec, roots: &[Vec<u8>]) -> bool {
    let there = parse_bundle(&spec.bundle).unwrap_or_default();
    there.iter().collect::<BTreeSet<_>>() == roots.iter().collect()
}

fn to_pem(roots: &[Vec<u8>]) -> String {
    let mut pem = String::new();
    for root in roots {
        pem += "-----BEGIN CERTIFICATE-----\n";
        let text = STANDARD.encode(root);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
            pem += line;
            pem.push('\n');
            rest = more;
        }
        pem += "-----END CERTIFICATE-----\n";
    }
    pem
}

/// Whether another cluster's gateway can be there: not on this machine, and
/// not next door to it.
fn is_host(host: &str) -> bool {
    match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast())
        }
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unicast_link_local()
                || ip.is_multicast())
        }
        // A name with a dot: one without is looked up in our own cluster.
        Err(_) => {
            is_dns_subdomain(host)
                && host.contains('.')
                && !host.ends_with(".local")
                && !host.ends_with(".svc")
                && host.len() <= MOST_HOST_BYTES
        }
    }
}

/// A rotation needs two.
const MOST_ROOTS: usize = 16;
const MOST_BYTES: usize = 64 * 1024;
/// As many as one gateway has addresses that are tried.
const MOST_HOSTS: usize = 8;
const MOST_HOST_BYTES: usize = 253;
const PEM_LINE: usize = 64;

#[cfg(test)]
mod tests;
