//! Rules about a link: the Link object, its trust, and mesh-mirror.

use kube::ResourceExt;
use mesh_api::{
    link::{Direction, Link, LinkCondition},
    names,
};

use super::{
    Finding, Hop, Place, State,
    facts::{Facts, LinkFacts, Peer, PeerFacts},
    gateway,
    probe::GatewayProbe,
    program,
};
use crate::multicluster::facts::fingerprints;

/// The hops of all links.
pub(super) fn all(facts: &Facts) -> Vec<Hop> {
    let mut hops = vec![control(facts)];
    match &facts.links {
        Err(error) => hops.push(Finding::unread(error).at(Place::Link, "")),
        Ok(links) if links.is_empty() => hops.push(none(facts).at(Place::Link, "")),
        Ok(links) => {
            for found in links {
                hops.extend(one(facts, found));
            }
        }
    }
    hops
}

fn none(facts: &Facts) -> Finding {
    let text = format!("{} is linked to no cluster", facts.context);
    Finding::broken(text, "run `mesh multicluster link --cluster NAME`")
}

/// mesh-control of this cluster.
pub(super) fn control(facts: &Facts) -> Hop {
    let place = (names::SYSTEM_NAMESPACE, names::CONTROL);
    program::deployment(&facts.context, place, &facts.control).at(Place::Control, "")
}

/// The hops to `cluster`, whether there is a Link or not.
pub(super) fn to(facts: &Facts, cluster: &str) -> Vec<Hop> {
    match facts.link(cluster) {
        Err(error) => vec![Finding::unread(&error).at(Place::Link, cluster)],
        Ok(Some(found)) => one(facts, found),
        Ok(None) => {
            let text = format!("there is no Link to {cluster}");
            let advice = format!("run `mesh multicluster link --cluster {cluster}`");
            vec![Finding::broken(text, advice).at(Place::Link, cluster)]
        }
    }
}

fn one(facts: &Facts, found: &LinkFacts) -> Vec<Hop> {
    let name = found.link.name_any();
    vec![
        link(facts, found).at(Place::Link, &name),
        mirror(facts, found).at(Place::Mirror, &name),
        gateway::gateway(found).at(Place::Gateway, &name),
        gateway::peer_control(found).at(Place::PeerControl, &name),
    ]
}

/// The Link object, its trust, and the Link back.
fn link(facts: &Facts, found: &LinkFacts) -> Finding {
    let again = again(found);
    if let Some(reason) = unusable(facts, &found.link) {
        return Finding::broken(reason, again);
    }
    match &found.peer {
        Peer::Known(peer) => compared(facts, found, peer).unwrap_or_else(|finding| finding),
        Peer::NoContext => seen(
            found,
            "the kubeconfig has no context that is called like it",
        ),
        Peer::Unreadable(error) => seen(found, error),
    }
}

pub(super) fn again(found: &LinkFacts) -> String {
    format!(
        "run `mesh multicluster link --cluster {}` again",
        found.link.spec.cluster
    )
}

/// Why the Link leads nowhere, by itself.
fn unusable(facts: &Facts, link: &Link) -> Option<String> {
    let spec = &link.spec;
    let roots = match mesh_tls::parse_bundle(&spec.bundle) {
        Ok(roots) => roots,
        Err(error) => return Some(format!("the Link's spec.bundle: {error}")),
    };
    if let Err(error) = spec.to_model(&link.name_any(), roots) {
        return Some(format!("the Link's {error}"));
    }
    if facts
        .cluster
        .as_ref()
        .is_ok_and(|(_, local)| local.as_str() == spec.trust_domain)
    {
        return Some(format!(
            "both clusters have the trust domain {}",
            spec.trust_domain
        ));
    }
    match spec.direction {
        Direction::Both | Direction::Import => None,
        Direction::Export | Direction::TrustOnly if facts.call.is_none() => None,
        Direction::Export | Direction::TrustOnly => {
            Some("the Link's direction does not let this cluster use what the peer exports".into())
        }
    }
}

/// Compares the Link with what the peer says of itself.
fn compared(facts: &Facts, found: &LinkFacts, peer: &PeerFacts) -> Result<Finding, Finding> {
    let unread = |error: &String| Finding::unread(error);
    let spec = &found.link.spec;
    let (_, trust_domain) = peer.cluster.as_ref().map_err(unread)?;
    if trust_domain.as_str() != spec.trust_domain {
        return Err(Finding::broken(
            format!(
                "the peer's trust domain is {trust_domain}, not {}",
                spec.trust_domain
            ),
            again(found),
        ));
    }
    let roots = peer.roots.as_ref().map_err(unread)?;
    if !covers(&found.link.effective_spec().bundle, roots) {
        let text = "the Link's bundle does not have the peer's roots";
        return Err(Finding::broken(text, again(found)));
    }
    let back = link_back(facts, found, peer)?;
    if !matches!(back.spec.direction, Direction::Both | Direction::Export)
        && matches!(spec.direction, Direction::Both | Direction::Import)
    {
        let text = format!(
            "the peer's Link {} lets this cluster use nothing",
            back.name_any()
        );
        return Err(Finding::broken(text, again(found)));
    }
    let own = facts.roots.as_ref().map_err(unread)?;
    if !covers(&back.effective_spec().bundle, own) {
        let text = "the peer's Link back does not have this cluster's roots";
        return Err(Finding::broken(text, again(found)));
    }
    Ok(Finding::good(format!(
        "both clusters have a Link with the other's roots, trust domain {}",
        spec.trust_domain
    )))
}

fn link_back<'a>(
    facts: &Facts,
    found: &LinkFacts,
    peer: &'a PeerFacts,
) -> Result<&'a Link, Finding> {
    let unread = |error: &String| Finding::unread(error);
    let (_, local) = facts.cluster.as_ref().map_err(unread)?;
    let links = peer.links.as_ref().map_err(unread)?;
    let back = links
        .iter()
        .find(|back| back.spec.trust_domain == local.as_str());
    back.ok_or_else(|| {
        let text = format!(
            "{} has no Link back, so it refuses this cluster",
            peer.context
        );
        Finding::broken(text, again(found))
    })
}

/// Whether a bundle has all of `roots`.
fn covers(bundle: &str, roots: &[String]) -> bool {
    let known = fingerprints(bundle).unwrap_or_default();
    !roots.is_empty() && roots.iter().all(|root| known.contains(root))
}

/// Without the peer's objects, what the probe shows.
fn seen(found: &LinkFacts, why: &str) -> Finding {
    let not_compared = || {
        let text = format!("not compared with what the peer says of itself: {why}");
        Finding::unknown(text, "add a context for it to the kubeconfig")
    };
    let Ok(probe) = &found.probe else {
        return not_compared();
    };
    if probe.gateways.iter().any(GatewayProbe::answers) {
        return Finding::good("the peer's gateway is who the Link says, and knows this cluster");
    }
    let failures = || probe.gateways.iter().filter_map(GatewayProbe::failure);
    for step in failures() {
        let text = match step.reason.as_str() {
            // Another root of the same name shows as a wrong signature.
            "unknown_issuer" | "signature" => {
                "the Link's bundle does not have the roots of who answers"
            }
            "unknown_trust_domain" => "who answers belongs to another trust domain than the Link's",
            "refused_by_peer" | "not-allowed" => {
                "the gateway refuses this cluster: the peer has no Link back, or other roots in it"
            }
            _ => continue,
        };
        return Finding::broken(format!("{text} ({})", step.text), again(found));
    }
    not_compared()
}

/// mesh-mirror, and what it says of the link.
fn mirror(facts: &Facts, found: &LinkFacts) -> Finding {
    let place = (names::MULTICLUSTER_NAMESPACE, names::MIRROR);
    let running = program::deployment(&facts.context, place, &facts.mirror);
    if running.state != State::Good {
        return running;
    }
    if let Ok(probe) = &found.probe
        && let Some(problem) = program::own(&probe.own, facts.now, names::MIRROR)
    {
        return problem;
    }
    if let Some(problem) = not_admitted(facts, found) {
        return problem;
    }
    if !matches!(
        found.link.spec.direction,
        Direction::Both | Direction::Import
    ) {
        return running;
    }
    conditions(found)
}

/// Whether the Link back names our mesh-mirror.
fn not_admitted(facts: &Facts, found: &LinkFacts) -> Option<Finding> {
    let Peer::Known(peer) = &found.peer else {
        return None;
    };
    let (_, local) = facts.cluster.as_ref().ok()?;
    let back = link_back(facts, found, peer).ok()?;
    let wanted = format!(
        "spiffe://{local}/ns/{}/sa/{}",
        names::MULTICLUSTER_NAMESPACE,
        names::MIRROR
    );
    (back.spec.peers.mirror != wanted).then(|| {
        let text = format!(
            "the peer's Link back admits {}, not {wanted}",
            back.spec.peers.mirror
        );
        Finding::broken(text, again(found))
    })
}

fn conditions(found: &LinkFacts) -> Finding {
    let (reachable, synced) = (
        condition(&found.link, "Reachable"),
        condition(&found.link, "Synced"),
    );
    let (Some(reachable), Some(synced)) = (reachable, synced) else {
        let text = "mesh-mirror has not said yet how the link is";
        return Finding::unknown(text, "wait some seconds; else see its log");
    };
    if reachable.status == "False" {
        if reachable
            .message
            .contains("does not export to this cluster")
        {
            return Finding::broken(reachable.message.clone(), again(found));
        }
        return Finding::follows(reachable.message.clone(), "see the log of mesh-mirror");
    }
    match (synced.status.as_str(), synced.reason.as_str()) {
        ("True", _) if reachable.status == "True" => Finding::good(synced.message.clone()),
        // What concerns single Services is told where those are asked about.
        ("False", "NamesTaken" | "Incomplete") if reachable.status == "True" => {
            Finding::good("the peer's feed is alive")
        }
        ("False", "Stale" | "RemovalHeldBack") => {
            Finding::follows(synced.message.clone(), "see the log of mesh-mirror")
        }
        ("False", _) => Finding::broken(synced.message.clone(), "see the log of mesh-mirror"),
        _ => Finding::unknown(synced.message.clone(), ""),
    }
}

/// A condition of a Link's status.
pub(super) fn condition<'a>(link: &'a Link, kind: &str) -> Option<&'a LinkCondition> {
    let status = link.status.as_ref()?;
    status
        .conditions
        .iter()
        .find(|condition| condition.r#type == kind)
}
