//! Rules about the other end of a link: the peer's gateway and the peer's
//! mesh-control.

use mesh_api::{link::Direction, names};

use super::{
    Finding, State,
    facts::{DoorState, LinkFacts, Peer, PeerFacts},
    link,
    probe::{GatewayProbe, LinkProbe},
    program,
};

/// The peer's gateway: its Deployment, its address, and whether it answers.
pub(super) fn gateway(found: &LinkFacts) -> Finding {
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
    let running = program::deployment(context, place, &peer.gateway);
    if running.state == State::Broken {
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
                Finding::broken(text, link::again(found))
            })
        }
    }
}

fn gateway_answers(found: &LinkFacts, probe: &LinkProbe) -> Finding {
    if probe.gateways.is_empty() {
        return Finding::broken("the Link has no address of a gateway", link::again(found));
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
                "the gateway's certificate has expired: see its log and the peer's mesh-control; \
                 or the clock of mesh-mirror's node here is ahead"
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
pub(super) fn peer_control(found: &LinkFacts) -> Finding {
    if let Peer::Known(peer) = &found.peer {
        let place = (names::SYSTEM_NAMESPACE, names::CONTROL);
        let running = program::deployment(&peer.context, place, &peer.control);
        if running.state == State::Broken {
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
