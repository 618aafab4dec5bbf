//! Rules about a link: the Link object, mesh-mirror, the peer's gateway and
//! the peer's mesh-control.

use kube::ResourceExt;
use mesh_api::{
    link::{Direction, Link, LinkCondition},
    names,
};

use super::{
    Finding, Hop, Place,
    facts::{DoorState, Facts, LinkFacts, Peer, PeerFacts, Read},
    probe::{GatewayProbe, LinkProbe, Own},
};
use crate::{check::state::Program, multicluster::facts::fingerprints};

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
    program(&facts.context, place, &facts.control).at(Place::Control, "")
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
        gateway(found).at(Place::Gateway, &name),
        peer_control(found).at(Place::PeerControl, &name),
    ]
}

/// A Deployment of ours.
fn program(
    context: &str,
    (namespace, name): (&str, &str),
    found: &Read<Option<Program>>,
) -> Finding {
    match found {
        Err(error) => Finding::unread(error),
        Ok(None) => Finding::broken(
            format!("{name} is not installed in {context}"),
            format!("run `mesh check --context {context}`: it says how"),
        ),
        Ok(Some(program)) if program.ready < 1 => Finding::broken(
            format!(
                "{name} in {context} has no ready replica ({} of {})",
                program.ready, program.wanted
            ),
            if program.wanted < 1 {
                format!(
                    "run `kubectl --context {context} -n {namespace} scale deploy/{name} --replicas=1`"
                )
            } else {
                format!(
                    "see `kubectl --context {context} -n {namespace} describe pods -l app={name}`"
                )
            },
        ),
        Ok(Some(program)) => Finding::good(format!(
            "{name} in {context} is ready ({} of {})",
            program.ready, program.wanted
        )),
    }
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

fn again(found: &LinkFacts) -> String {
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
    if !covers(&spec.bundle, roots) {
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
    if !covers(&back.spec.bundle, own) {
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
            "unknown_issuer" => "the Link's bundle does not have the roots of who answers",
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
    let running = program(&facts.context, place, &facts.mirror);
    if running.state != super::State::Good {
        return running;
    }
    if let Ok(probe) = &found.probe
        && let Some(problem) = own(&probe.own, facts.now, names::MIRROR)
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
        ("False", "Stale") => {
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

/// What is wrong with a program's own certificate or clock.
pub(super) fn own(own: &Own, now: u64, program: &str) -> Option<Finding> {
    let Some(certificate) = &own.certificate else {
        return Some(Finding::broken(
            format!("{program} has no certificate"),
            "see its log, and that of mesh-control, which issues them",
        ));
    };
    if own.clock >= certificate.not_after {
        let ago = own.clock - certificate.not_after;
        return Some(Finding::broken(
            format!("the certificate of {program} expired {ago} s ago"),
            "see its log: it cannot renew; mesh-control must be reachable",
        ));
    }
    if own.clock < certificate.not_before {
        let ahead = certificate.not_before - own.clock;
        return Some(Finding::broken(
            format!("the certificate of {program} is not valid for another {ahead} s by its clock"),
            "set the clock of its node, or that of mesh-control's node",
        ));
    }
    let skew = own.clock.abs_diff(now);
    (skew > MAX_SKEW).then(|| {
        Finding::broken(
            format!("the clock of {program} and that of this machine differ by {skew} s"),
            "set the clock of its node, or of this machine",
        )
    })
}

/// The peer's gateway: its Deployment, its address, and whether it answers.
fn gateway(found: &LinkFacts) -> Finding {
    if let Peer::Known(peer) = &found.peer
        && let Some(problem) = gateway_there(found, peer)
    {
        return problem;
    }
    if !matches!(
        found.link.spec.direction,
        Direction::Both | Direction::Import
    ) {
        return Finding::good("the link imports nothing, so it is not used");
    }
    match &found.probe {
        Ok(probe) => gateway_answers(found, probe),
        Err(error) => Finding::unknown(format!("not tried: {error}"), ""),
    }
}

/// What the peer's objects say against its gateway.
fn gateway_there(found: &LinkFacts, peer: &PeerFacts) -> Option<Finding> {
    let context = &peer.context;
    let place = (names::MULTICLUSTER_NAMESPACE, names::GATEWAY);
    let running = program(context, place, &peer.gateway);
    if running.state == super::State::Broken {
        return Some(running);
    }
    match peer.door.as_ref().ok()? {
        DoorState::NoService => Some(Finding::broken(
            format!("{context} has no Service mesh-gateway"),
            format!("run `mesh multicluster install | kubectl --context {context} apply -f -`"),
        )),
        DoorState::NoAddress => Some(Finding::broken(
            format!("the Service mesh-gateway in {context} has no address"),
            format!(
                "see `kubectl --context {context} -n mesh-multicluster get service mesh-gateway`: \
                 it needs an EXTERNAL-IP"
            ),
        )),
        DoorState::At(door) => {
            let gateway = &found.link.spec.gateway;
            let answers = found
                .probe
                .as_ref()
                .is_ok_and(|probe| probe.gateways.iter().any(GatewayProbe::answers));
            let same = gateway.port == door.port
                && gateway
                    .addresses
                    .iter()
                    .any(|address| door.addresses.contains(address));
            (!same && !answers).then(|| {
                let text = format!(
                    "the Link leads to {} port {}, but the gateway is at {} port {}",
                    gateway.addresses.join(", "),
                    gateway.port,
                    door.addresses.join(", "),
                    door.port
                );
                Finding::broken(text, again(found))
            })
        }
    }
}

fn gateway_answers(found: &LinkFacts, probe: &LinkProbe) -> Finding {
    if probe.gateways.is_empty() {
        return Finding::broken("the Link has no address of a gateway", again(found));
    }
    for tried in &probe.gateways {
        if tried.answers() {
            continue;
        }
        let Some(step) = tried.failure() else {
            return Finding::unknown(format!("{} was not tried to the end", tried.address), "");
        };
        let text = format!("{}: {}", tried.address, step.text);
        let advice = match step.reason.as_str() {
            "refused" => {
                "nothing listens there: check the address in the Link and the gateway's Service"
            }
            "timeout" => "packets get lost: check firewalls and routes between the clusters",
            "expired" => {
                "the gateway's certificate has expired: see its log and the peer's mesh-control"
            }
            "not_yet_valid" => "the clock of the gateway's node, or of this cluster's, is off",
            "name" | "unresolved" => "the name of the gateway cannot be resolved from this cluster",
            _ => "check the address in the Link and the log of mesh-gateway",
        };
        return Finding::broken(text, advice);
    }
    let fastest = probe
        .gateways
        .iter()
        .map(|tried| tried.steps.iter().map(|step| step.millis).sum::<u64>())
        .min()
        .unwrap_or_default();
    Finding::good(format!(
        "{} answers with its identity ({fastest} ms with all handshakes)",
        probe
            .gateways
            .iter()
            .map(|tried| tried.address.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    ))
}

/// The peer's mesh-control, which says what is exported.
fn peer_control(found: &LinkFacts) -> Finding {
    if let Peer::Known(peer) = &found.peer {
        let place = (names::SYSTEM_NAMESPACE, names::CONTROL);
        let running = program(&peer.context, place, &peer.control);
        if running.state == super::State::Broken {
            return running;
        }
    }
    if !matches!(
        found.link.spec.direction,
        Direction::Both | Direction::Import
    ) {
        return Finding::good("the link imports nothing, so it is not asked");
    }
    let probe = match &found.probe {
        Ok(probe) => probe,
        Err(error) => return Finding::unknown(format!("not tried: {error}"), ""),
    };
    let steps: Vec<_> = probe
        .gateways
        .iter()
        .filter_map(|tried| tried.step("exports"))
        .collect();
    match steps.iter().find(|step| !step.ok) {
        Some(step) => Finding::broken(
            format!("no way to the peer's mesh-control: {}", step.text),
            "see the log of the peer's mesh-gateway and mesh-control",
        ),
        None if steps.is_empty() => Finding::unknown("could not be tried", ""),
        None => Finding::good("the peer's mesh-control answers through the gateway"),
    }
}

/// Clocks that differ by more, in seconds, are off.
const MAX_SKEW: u64 = 60;
