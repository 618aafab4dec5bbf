//! Rules about one Link.

use kube::ResourceExt;
use mesh_api::link::{Direction, Link, LinkCondition};

use super::{
    report::Section,
    state::{LinkState, State},
};
use crate::multicluster::{
    dns::DnsChange,
    facts::{Facts, fingerprints},
};

/// The Links cannot be read.
pub(super) fn unreadable(error: &str) -> Section {
    let mut section = Section::new("Links");
    section.unreadable(error);
    section
}

/// One Link.
pub(super) fn section(state: &State, found: &LinkState) -> Section {
    let link = &found.link;
    let mut section = Section::new(format!("Link {}", link.name_any()));
    usable(&mut section, state, link);
    if link.spec.direction != Direction::TrustOnly {
        conditions(&mut section, link);
    }
    match &found.peer {
        None => section.warn(
            "not compared with what the peer says of itself",
            format!("the kubeconfig has no context called {}", link.name_any()),
        ),
        Some(Err(error)) => section.warn(
            "not compared with what the peer says of itself",
            error.as_str(),
        ),
        Some(Ok(peer)) => compare(&mut section, state, link, peer),
    }
    dns(&mut section, state, link);
    section
}

fn usable(section: &mut Section, state: &State, link: &Link) {
    let name = link.name_any();
    let repair = format!("run `mesh multicluster link --cluster {name}` again");
    let roots = match mesh_tls::parse_bundle(&link.spec.bundle) {
        Ok(roots) => roots,
        Err(error) => return section.bad(format!("spec.bundle: {error}"), repair),
    };
    if let Err(error) = link.spec.to_model(&name, roots) {
        return section.bad(error.to_string(), repair);
    }
    match &state.identity {
        Ok((_, local)) if local.as_str() == link.spec.trust_domain => section.bad(
            format!("both clusters have the trust domain {local}"),
            "install one of them with another --trust-domain",
        ),
        Ok(_) | Err(_) => section.good(format!("leads to trust domain {}", link.spec.trust_domain)),
    }
}

fn conditions(section: &mut Section, link: &Link) {
    let conditions = link
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let find = |name| conditions.iter().find(|condition| condition.r#type == name);
    for (name, good) in [
        ("Reachable", "the peer's gateway answers"),
        ("Synced", "what the peer exports is known"),
    ] {
        match find(name) {
            Some(condition) if condition.status == "True" => section.good(good),
            Some(condition) => section.bad(
                format!("{name} is {}: {}", condition.status, condition.reason),
                condition.message.as_str(),
            ),
            None => section.warn(
                format!("{name} is not known"),
                "mesh-mirror writes it: check that it runs",
            ),
        }
    }
    if let Some(conflicts) = find("Conflicts").filter(|c: &&LinkCondition| c.status == "True") {
        section.warn(
            format!("some Services are not mirrored: {}", conflicts.reason),
            conflicts.message.as_str(),
        );
    }
}

fn compare(section: &mut Section, state: &State, link: &Link, peer: &Facts) {
    let name = link.name_any();
    let repair = format!("run `mesh multicluster link --cluster {name}` again");
    if link.spec.trust_domain != peer.trust_domain.as_str() {
        return section.bad(
            format!("the peer's trust domain is {} now", peer.trust_domain),
            repair,
        );
    }
    // An unusable bundle was reported above.
    let known = fingerprints(&link.effective_spec().bundle).unwrap_or_default();
    if known == peer.fingerprints {
        section.good("its roots are those of the peer");
    } else {
        section.bad("its roots are not those of the peer", repair);
    }
    let local_name = state.identity.as_ref().ok().map(|(name, _)| name.as_str());
    let linked_back = peer
        .links
        .iter()
        .any(|back| Some(back.spec.cluster.as_str()) == local_name);
    if linked_back {
        section.good("the peer has a Link back");
    } else {
        section.bad(
            "the peer has no Link back, so it refuses this cluster",
            format!("run `mesh multicluster link --cluster {name}` again"),
        );
    }
    shared_root(section, state, peer);
}

fn shared_root(section: &mut Section, state: &State, peer: &Facts) {
    let local = state
        .roots
        .as_ref()
        .ok()
        .and_then(|roots| roots.get(mesh_api::names::SYSTEM_NAMESPACE))
        .and_then(|bundle| fingerprints(bundle).ok())
        .unwrap_or_default();
    if local.iter().any(|root| peer.fingerprints.contains(root)) {
        section.warn(
            "both clusters share a root: either can impersonate the other",
            "give each a root of its own",
        );
    }
}

fn dns(section: &mut Section, state: &State, link: &Link) {
    let imports = matches!(link.spec.direction, Direction::Both | Direction::Import);
    let Ok(peer) = link.spec.cluster.parse() else {
        return;
    };
    if !imports {
        return;
    }
    match state.dns.with(&peer) {
        DnsChange::Unchanged => section.good(format!("names such as web.{peer} have their rule")),
        DnsChange::Write(_) => section.warn(
            format!("names such as web.{peer} have no rule; web-{peer} works"),
            format!("run `mesh multicluster link --cluster {peer}` again"),
        ),
        DnsChange::ByHand { reason, .. } => section.warn(
            format!("whether web.{peer} works is not known; web-{peer} works"),
            format!("the rule was to be added by hand, as {reason}"),
        ),
    }
}
