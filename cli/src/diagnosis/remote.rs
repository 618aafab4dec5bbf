//! Rules about what serves a call: the export, the endpoints, the connection
//! to them and their policy.

use kube::ResourceExt;
use mesh_api::names;

use super::{
    Finding, Hop, Place,
    facts::{Backend, Call, Endpoint, Exported, Facts, LinkFacts, Peer, Read, Service, There, Way},
    link,
    probe::{Attempt, BackendProbe, Outcome},
    program,
};

/// The hops behind the link, or of a backend of this cluster.
pub(super) fn hops(facts: &Facts, call: &Call, backend: &Backend, about: &str) -> Vec<Hop> {
    let Backend {
        namespace,
        name,
        port,
        ..
    } = backend;
    let probe = call
        .sidecar
        .as_ref()
        .map(|sidecar| sidecar.backend(namespace, name, *port))
        .map_err(Clone::clone);
    let mut hops = Vec::new();
    match &backend.way {
        Way::Linked {
            cluster,
            remote,
            there,
        } => {
            let found = facts.link(cluster).ok().flatten();
            let peer = PeerService {
                facts,
                found,
                cluster,
                remote,
            };
            let export = peer.export(backend, there.as_ref(), &probe);
            hops.push(export.at(Place::Export, about));
            let endpoints = match there {
                Some(there) => clock_off(&there.endpoints, facts.now)
                    .unwrap_or_else(|| shared(*port, cluster, &there.endpoints, &probe)),
                None => discovered(&probe),
            };
            hops.push(endpoints.at(Place::Endpoints, about));
        }
        Way::Local(endpoints) => {
            let found =
                clock_off(endpoints, facts.now).unwrap_or_else(|| local(*port, endpoints, &probe));
            hops.push(found.at(Place::Endpoints, about));
        }
    }
    hops.push(connection(&probe).at(Place::Connection, about));
    hops.push(policy(&probe).at(Place::Policy, about));
    hops
}

type Probed<'a> = Read<Option<&'a BackendProbe>>;

/// A Service of a linked cluster.
struct PeerService<'a> {
    facts: &'a Facts,
    found: Option<&'a LinkFacts>,
    cluster: &'a str,
    remote: &'a str,
}

impl PeerService<'_> {
    fn export(&self, backend: &Backend, there: Option<&There>, probe: &Probed<'_>) -> Finding {
        if let Some(refused) = self.refused(backend) {
            return refused;
        }
        match there.map(|there| &there.service) {
            Some(Ok(Some(service))) => self.exported(backend.port, service),
            Some(Ok(None)) => Finding::broken(
                format!("{} has no Service {}", self.cluster, self.remote),
                "make it there, or ask for another",
            ),
            Some(Err(error)) => Finding::unread(error),
            None => self.unseen(backend, probe),
        }
    }

    /// What mesh-mirror says against this Service.
    fn refused(&self, backend: &Backend) -> Option<Finding> {
        let link = &self.found?.link;
        let allowed = &link.spec.namespaces;
        if !allowed.is_empty() && !allowed.contains(&backend.namespace) {
            let (link, namespace) = (link.name_any(), &backend.namespace);
            return Some(Finding::broken(
                format!("the Link {link} admits no mirror to {namespace}"),
                format!("add it to spec.namespaces: `kubectl edit link {link}`"),
            ));
        }
        let local = format!("{}/{}", backend.namespace, backend.name);
        let conflicts = link::condition(link, "Conflicts")?;
        if conflicts.status == "True" && mentions(&conflicts.message, &local) {
            return Some(Finding::broken(
                format!("conflict: {}", conflicts.message),
                "",
            ));
        }
        let synced = link::condition(link, "Synced")?;
        let incomplete = synced.reason == "Incomplete" && mentions(&synced.message, self.remote);
        incomplete.then(|| Finding::broken(synced.message.clone(), "change what is said there"))
    }

    fn exported(&self, port: Option<u16>, service: &Service) -> Finding {
        let (cluster, remote) = (self.cluster, self.remote);
        let (namespace, name) = remote.split_once('/').unwrap_or(("", remote));
        let context = match self.found.map(|found| &found.peer) {
            Some(Peer::Known(peer)) => peer.context.as_str(),
            _ => cluster,
        };
        let own = match &self.facts.cluster {
            Ok((own, _)) => own.as_str(),
            Err(error) => return Finding::unread(error),
        };
        let kubectl = format!("kubectl --context {context} -n {namespace}");
        match &service.exported {
            Exported::Never => Finding::broken(
                format!(
                    "{remote} in {cluster} is a mirror or an external name: it is never shared"
                ),
                "ask the cluster that serves it",
            ),
            Exported::No => Finding::broken(
                format!("{cluster} does not export {remote}"),
                format!(
                    "run `{kubectl} label service {name} {}=true`",
                    names::EXPORTED
                ),
            ),
            exported @ Exported::To(clusters) if !exported.is_to(own) => Finding::broken(
                format!("{cluster} exports {remote} to {} only", clusters.join(", ")),
                format!(
                    "add {own} to {}: `{kubectl} edit service {name}`",
                    names::EXPORT_TO
                ),
            ),
            Exported::All | Exported::To(_) => match port {
                Some(port) if !service.ports.contains(&port) => Finding::broken(
                    format!("{remote} in {cluster} declares no port {port}"),
                    "declare it there",
                ),
                _ => Finding::good(format!("{cluster} exports {remote} to {own}")),
            },
        }
    }

    /// Without the peer's objects: the mirror is kept for as long as the feed
    /// names it, and an endpoint that lets us in is exported.
    fn unseen(&self, backend: &Backend, probe: &Probed<'_>) -> Finding {
        let connected = matches!(probe, Ok(Some(probe)) if probe.connected());
        let synced = self
            .found
            .and_then(|found| link::condition(&found.link, "Synced"))
            .is_some_and(|synced| {
                matches!(
                    synced.reason.as_str(),
                    "Synced" | "Incomplete" | "NamesTaken"
                )
            });
        let mirrored = matches!(backend.service, Ok(Some(_)));
        if connected || (synced && mirrored) {
            return Finding::good(format!("{} exports {}", self.cluster, self.remote));
        }
        if synced {
            return Finding::broken(
                format!("{} does not export {}", self.cluster, self.remote),
                format!(
                    "label it there: `kubectl label service NAME {}=true`",
                    names::EXPORTED
                ),
            );
        }
        let text = format!(
            "whether {} exports {} is not known",
            self.cluster, self.remote
        );
        Finding::unknown(text, "add a context for it to the kubeconfig")
    }
}

/// Whether `message` names `name`, and not one that merely begins so.
fn mentions(message: &str, name: &str) -> bool {
    message
        .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '-')))
        .any(|word| word == name)
}

/// Whether the clock of an endpoint's sidecar is off: it refuses its peers, or
/// they do, and without a certificate it never becomes ready.
fn clock_off(endpoints: &Read<Vec<Endpoint>>, now: u64) -> Option<Finding> {
    endpoints.as_ref().ok()?.iter().find_map(|endpoint| {
        let sidecar = format!("the sidecar of {}", endpoint.pod);
        program::clock(endpoint.own.as_ref()?, now, &sidecar)
    })
}

/// Endpoints behind a link: only those with a sidecar are shared.
fn shared(
    port: Option<u16>,
    cluster: &str,
    endpoints: &Read<Vec<Endpoint>>,
    probe: &Probed<'_>,
) -> Finding {
    let endpoints = match serving(port, endpoints, cluster) {
        Ok(endpoints) => endpoints,
        Err(finding) => return finding,
    };
    let meshed: Vec<_> = endpoints
        .iter()
        .filter(|endpoint| endpoint.meshed)
        .collect();
    if meshed.is_empty() {
        return Finding::broken(
            format!(
                "none of the {} pods in {cluster} has a sidecar, so none is shared",
                endpoints.len()
            ),
            "run `mesh inject` on the manifest of the workload there",
        );
    }
    if !meshed.iter().any(|endpoint| endpoint.sidecar_ready) {
        return Finding::broken(
            format!(
                "no sidecar of the pods in {cluster} is ready: {}",
                meshed[0].pod
            ),
            format!("see the log of its container {}", names::PROXY_CONTAINER),
        );
    }
    let ready = meshed.iter().filter(|endpoint| endpoint.ready).count();
    if ready == 0 {
        return Finding::broken(
            format!("the pods with a sidecar in {cluster} are not ready"),
            "see `kubectl describe pod` there",
        );
    }
    agrees(
        probe,
        format!(
            "{ready} of {} pods in {cluster} are ready and shared",
            endpoints.len()
        ),
    )
}

fn local(port: Option<u16>, endpoints: &Read<Vec<Endpoint>>, probe: &Probed<'_>) -> Finding {
    match serving(port, endpoints, "this cluster") {
        Err(finding) => finding,
        Ok(endpoints) => {
            let ready = endpoints.iter().filter(|endpoint| endpoint.ready).count();
            agrees(
                probe,
                format!("{ready} of {} pods are ready", endpoints.len()),
            )
        }
    }
}

/// The endpoints of the port in question, of which at least one is ready.
fn serving<'a>(
    port: Option<u16>,
    endpoints: &'a Read<Vec<Endpoint>>,
    place: &str,
) -> Result<Vec<&'a Endpoint>, Finding> {
    let endpoints = endpoints.as_ref().map_err(|error| Finding::unread(error))?;
    if endpoints.is_empty() {
        let text = format!("no pod in {place} serves it");
        let advice = "start one, and compare the Service's selector with the pods' labels";
        return Err(Finding::broken(text, advice));
    }
    let serves = |endpoint: &&Endpoint| port.is_none_or(|port| endpoint.ports.contains(&port));
    let serving: Vec<_> = endpoints.iter().filter(serves).collect();
    if serving.is_empty() {
        let text = format!("no pod in {place} serves the port");
        return Err(Finding::broken(
            text,
            "compare the Service's targetPort with the pods' ports",
        ));
    }
    if !serving.iter().any(|endpoint| endpoint.ready) {
        let text = format!(
            "none of the {} pods in {place} is ready: {}",
            serving.len(),
            serving[0].pod
        );
        return Err(Finding::broken(text, "see `kubectl describe pod` there"));
    }
    Ok(serving)
}

/// The objects are well; so must be what the client's sidecar knows.
fn agrees(probe: &Probed<'_>, text: String) -> Finding {
    match probe {
        Ok(Some(probe)) if probe.known && probe.endpoints == 0 => Finding::broken(
            "there are ready pods, but the client's sidecar is told of none",
            "see the log of mesh-control, here and there",
        ),
        _ => Finding::good(text),
    }
}

/// What the client's sidecar knows, where the peer's objects cannot be asked.
fn discovered(probe: &Probed<'_>) -> Finding {
    match probe {
        Err(error) => Finding::unknown(format!("not known: {error}"), ""),
        Ok(None) => Finding::unknown("the client's sidecar knows nothing of it", ""),
        Ok(Some(probe)) if !probe.known => Finding::unknown(
            "mesh-control has not heard from the peer since it started",
            "see the log of mesh-control",
        ),
        Ok(Some(probe)) if probe.endpoints == 0 => Finding::broken(
            "the peer shares no ready endpoint",
            "check the Service's pods there: they need a sidecar and to be ready",
        ),
        Ok(Some(probe)) => Finding::good(format!(
            "the client's sidecar knows {} endpoints",
            probe.endpoints
        )),
    }
}

fn connection(probe: &Probed<'_>) -> Finding {
    let tried = match attempts(probe) {
        Ok(tried) => tried,
        Err(finding) => return finding,
    };
    if let Some(failed) = tried
        .iter()
        .find(|attempt| attempt.outcome == Outcome::Failed)
    {
        return Finding::broken(
            format!("{}: {}", failed.endpoint, failed.text),
            "see the log of the sidecar there, and of mesh-gateway if it is in another cluster",
        );
    }
    let slowest = tried
        .iter()
        .map(|attempt| attempt.millis)
        .max()
        .unwrap_or_default();
    Finding::good(format!(
        "{} tried, all take the client's connection ({slowest} ms)",
        tried.len()
    ))
}

fn policy(probe: &Probed<'_>) -> Finding {
    let tried = match attempts(probe) {
        Ok(tried) => tried,
        Err(finding) => return finding,
    };
    let with = |outcome| tried.iter().find(move |attempt| attempt.outcome == outcome);
    if let Some(refused) = with(Outcome::Refused) {
        return Finding::broken(
            format!(
                "{} does not let the client in: {}",
                refused.endpoint, refused.reason
            ),
            "change the policies of the Service's pods, or call as somebody else",
        );
    }
    if with(Outcome::Failed).is_some() {
        return Finding::unknown("not every endpoint could be asked", "");
    }
    if with(Outcome::Unknown).is_some() {
        return Finding::unknown("a sidecar there is too old to say", "update it");
    }
    Finding::good("the client is let in")
}

/// The endpoints that the sidecar has tried.
fn attempts<'a>(probe: &Probed<'a>) -> Result<&'a [Attempt], Finding> {
    match probe {
        Err(error) => Err(Finding::unknown(format!("not tried: {error}"), "")),
        Ok(None) => Err(Finding::unknown(
            "not tried: the client's sidecar knows nothing of it",
            "",
        )),
        Ok(Some(probe)) if probe.tried.is_empty() => {
            Err(Finding::unknown("not tried: there is no endpoint", ""))
        }
        Ok(Some(probe)) => Ok(&probe.tried),
    }
}
