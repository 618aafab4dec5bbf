//! Rules about a call: the client, the name, the Service and its split.

use kube::ResourceExt;

use super::{
    Finding, Hop, Place, State,
    facts::{Backend, Call, Client, Facts, Service, Way},
    link, program, remote, route,
};
use crate::multicluster::dns::RuleState;

/// All hops of a call.
pub(super) fn hops(facts: &Facts, call: &Call) -> Vec<Hop> {
    let mut hops = vec![
        client(facts, call).at(Place::Client, ""),
        name(call).at(Place::Name, ""),
        link::control(facts),
        service(facts, call).at(Place::Service, ""),
    ];
    hops.extend(route::hops(facts, call));
    if route::leads(call) {
        return hops;
    }
    hops.extend(split(call).map(|finding| finding.at(Place::Route, "")));
    let several = call.backends.len() > 1;
    for backend in &call.backends {
        let about = if several { backend.name.as_str() } else { "" };
        hops.extend(behind(facts, call, backend, about));
    }
    hops
}

/// The hops to a backend; none if there is no such Service and nothing says what
/// it should be.
pub(super) fn behind(facts: &Facts, call: &Call, backend: &Backend, about: &str) -> Vec<Hop> {
    let mut hops = match (&backend.way, &backend.service) {
        (Way::Linked { cluster, .. }, _) => link::to(facts, cluster),
        (Way::Local(_), Ok(None)) => return Vec::new(),
        (Way::Local(_), Err(error)) => {
            return vec![Finding::unread(error).at(Place::Endpoints, about)];
        }
        (Way::Local(_), Ok(Some(_))) => Vec::new(),
    };
    hops.extend(remote::hops(facts, call, backend, about));
    hops
}

fn client(facts: &Facts, call: &Call) -> Finding {
    let (name, meshed, ready) = match &call.client {
        Err(error) => return Finding::unread(error),
        Ok(Client::None(namespace)) => {
            let text = format!("the namespace {namespace} has no ready pod with a sidecar");
            return Finding::unknown(text, "name the pod that calls with --from");
        }
        Ok(Client::Missing(what)) => {
            return Finding::broken(format!("there is no {what}"), "name another with --from");
        }
        Ok(Client::Pod {
            name,
            meshed,
            ready,
        }) => (name, *meshed, *ready),
    };
    if !meshed {
        return Finding::broken(
            format!("{name} has no sidecar"),
            "run `mesh inject FILE | kubectl apply -f -` on the manifest of its workload",
        );
    }
    if !ready {
        return Finding::broken(
            format!("the sidecar of {name} is not ready"),
            format!(
                "see the log of its container {}",
                mesh_api::names::PROXY_CONTAINER
            ),
        );
    }
    match &call.sidecar {
        Err(error) => Finding::unknown(format!("{name}: its sidecar was not asked: {error}"), ""),
        Ok(sidecar) => program::own(&sidecar.own, facts.now, &format!("the sidecar of {name}"))
            .unwrap_or_else(|| {
                let identity = sidecar.own.certificate.as_ref();
                let identity = identity.map_or("", |own| own.identity.as_str());
                Finding::good(format!("{name}, {identity}"))
            }),
    }
}

fn name(call: &Call) -> Finding {
    let target = &call.target;
    let Some(cluster) = &target.alias else {
        return Finding::good(format!("{} needs no rule in DNS", target.asked));
    };
    let Ok(peer) = cluster.parse() else {
        return Finding::broken(format!("{cluster} is no name of a cluster"), "");
    };
    let instead = format!("{} works without a rule", target.name);
    match call.dns.rule_of(&peer) {
        RuleState::Present => Finding::good(format!("CoreDNS has the rule for *.{cluster}")),
        RuleState::Missing => Finding::broken(
            format!("CoreDNS has no rule for *.{cluster}"),
            format!("run `mesh multicluster dns --install`; {instead}"),
        ),
        RuleState::NotImported => Finding::broken(
            format!("CoreDNS does not import the rule for *.{cluster}"),
            format!("add what `mesh multicluster dns` prints to the Corefile; {instead}"),
        ),
        RuleState::Unseen => Finding::unknown(
            format!("whether CoreDNS has the rule for *.{cluster} could not be seen"),
            instead,
        ),
    }
}

/// The Service that the name leads to.
fn service(facts: &Facts, call: &Call) -> Finding {
    let target = &call.target;
    let full = format!("{}/{}", target.namespace, target.name);
    let linked = call.backends.iter().find_map(|backend| match &backend.way {
        Way::Linked { cluster, .. } if backend.name == target.name => Some(cluster.as_str()),
        Way::Linked { .. } | Way::Local(_) => None,
    });
    let service = match &call.service {
        Err(error) => return Finding::unread(error),
        Ok(None) if linked.is_some() => {
            let text = format!("there is no Service {full}: mesh-mirror has made none");
            return Finding::follows(text, "see `mesh multicluster services`");
        }
        Ok(None) if let Some(cluster) = &call.unlinked => {
            let text = format!("there is no Service {full}, and no Link to {cluster}");
            let advice = format!("run `mesh multicluster link --cluster {cluster}`");
            return Finding::broken(text, advice);
        }
        Ok(None) => {
            let advice = format!(
                "make it, or ask for another: `kubectl --context {} -n {} get services`",
                facts.context, target.namespace
            );
            return Finding::broken(format!("there is no Service {full}"), advice);
        }
        Ok(Some(service)) => service,
    };
    if let Some(cluster) = linked
        && let Some(problem) = not_the_mirror(facts, &full, cluster, service)
    {
        return problem;
    }
    port(call, &full, service).unwrap_or_else(|| mirror_state(facts, &full, linked))
}

/// A Service with a mirror's name that is not the mirror.
fn not_the_mirror(facts: &Facts, full: &str, cluster: &str, service: &Service) -> Option<Finding> {
    let advice = "rename or remove it, and mesh-mirror makes the mirror";
    let Some(mirror) = &service.mirror else {
        let text = format!("conflict: {full} is not mesh-mirror's, so {cluster} is not behind it");
        return Some(Finding::broken(text, advice));
    };
    let found = facts.link(cluster).ok()??;
    let uid = found.link.uid().unwrap_or_default();
    (mirror.link_uid != uid).then(|| {
        let text = format!("conflict: {full} was made for another Link than {cluster}");
        Finding::broken(text, advice)
    })
}

fn port(call: &Call, full: &str, service: &Service) -> Option<Finding> {
    let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
    let undeclared = |port: u16| {
        let text = format!("{full} declares no port {port}");
        Finding::broken(text, format!("it has {}", ports.join(", ")))
    };
    let asked = call.port.filter(|port| !service.ports.contains(port));
    if let Some(port) = asked {
        return Some(undeclared(port));
    }
    if ports.is_empty() {
        return Some(Finding::broken(
            format!("{full} has no TCP port"),
            "declare one",
        ));
    }
    let sidecar = call.sidecar.as_ref().ok()?;
    match sidecar.kind.as_str() {
        "undefined-port" => Some(undeclared(call.port.unwrap_or(service.ports[0]))),
        "unknown" => Some(Finding::broken(
            format!("the client's sidecar does not know {full}"),
            "see the log of mesh-control",
        )),
        "undiscovered" => Some(Finding::follows(
            format!("mesh-control does not tell the client's sidecar what {full} is"),
            "see the log of mesh-control, and that of the sidecar",
        )),
        _ => None,
    }
}

/// Whether mesh-mirror keeps the mirror up to date.
fn mirror_state(facts: &Facts, full: &str, linked: Option<&str>) -> Finding {
    let good = Finding::good(format!("{full} is there"));
    let Some(cluster) = linked else {
        return good;
    };
    let Ok(Some(found)) = facts.link(cluster) else {
        return good;
    };
    match link::condition(&found.link, "Synced") {
        Some(synced) if synced.reason == "Stale" => {
            Finding::follows(format!("{full} is stale: {}", synced.message), "")
        }
        Some(synced) if synced.reason == "RemovalHeldBack" => {
            Finding::follows(format!("{full} may be about to go: {}", synced.message), "")
        }
        _ => Finding::good(format!("{full} is there and stands for {cluster}'s")),
    }
}

/// The TrafficSplit, if there is one.
fn split(call: &Call) -> Option<Finding> {
    let split = match &call.split {
        Err(error) => return Some(Finding::unread(error)),
        Ok(split) => split.as_ref()?,
    };
    let missing = |backend: &&Backend| matches!(backend.service, Ok(None));
    if let Some(backend) = call.backends.iter().find(missing) {
        let text = format!(
            "TrafficSplit {} names {}, which is no Service",
            split.name, backend.name
        );
        let advice = format!(
            "correct it: `kubectl -n {} edit trafficsplit {}`",
            backend.namespace, split.name
        );
        let state = match backend.way {
            Way::Linked { .. } => State::Follows,
            Way::Local(_) => State::Broken,
        };
        return Some(Finding::new(state, text, advice));
    }
    let unused = call.backends.iter().all(|backend| backend.weight == 0);
    if !split.has_primary && unused && split.unseen == 0 {
        let text = format!("TrafficSplit {} sends nothing to any backend", split.name);
        return Some(Finding::broken(text, "give one a weight"));
    }
    let names: Vec<&str> = call
        .backends
        .iter()
        .map(|backend| backend.name.as_str())
        .collect();
    let text = format!("TrafficSplit {}: {}", split.name, names.join(", "));
    Some(match split.unseen {
        0 => Finding::good(text),
        more => Finding::unknown(format!("{text}, and {more} more (not looked at)"), ""),
    })
}
