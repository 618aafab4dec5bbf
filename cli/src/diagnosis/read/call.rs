//! What a call needs: its name, its pod, the Service with its split, and what
//! answers.

use std::net::{IpAddr, SocketAddr};

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use mesh_api::{names, split::TrafficSplit};
use mesh_core::identity::is_dns_subdomain;

use super::{
    super::{
        facts::{Backend, Call, Client, Read, Service, Split, Target, Way},
        name::{mirrored, target},
        probe::SidecarProbe,
    },
    CallQuestion, Peers, is_ready, namespaces, page_of, peer, pods, route,
};
use crate::{
    check::state::{meshed_pod, text},
    cluster::Cluster,
    multicluster::facts,
};

pub(super) async fn read(peers: &Peers<'_>, question: &CallQuestion) -> anyhow::Result<Call> {
    let from = question.from.as_deref().map(|from| caller(from).1);
    ensure!(
        from.is_none_or(is_dns_subdomain) && is_dns_subdomain(&question.namespace),
        "--from is the name of a pod or deploy/NAME, --namespace that of a namespace"
    );
    let cluster = peers.cluster;
    let links: Vec<String> = match peers.links {
        Ok(links) => links.iter().map(|link| link.spec.cluster.clone()).collect(),
        Err(_) => Vec::new(),
    };
    // Whoever may not list them gets the linked cluster's meaning of `a.b`.
    let namespaces = namespaces(cluster).await.unwrap_or_default();
    let target = target(&question.service, &question.namespace, &links, &namespaces)?;
    let service = peer::service(cluster, &target.namespace, &target.name).await;
    let (split, names) = split(cluster, &target).await;
    let named = |name: String| Named {
        namespace: target.namespace.clone(),
        name,
        port: question.port,
    };
    let mut backends = Vec::new();
    for (name, weight) in names {
        backends.push(backend(peers, &links, &target, named(name), weight).await);
    }
    let routes = route::routes(cluster, &target, port(&service, question.port)).await;
    let mut route_backends = Vec::new();
    for found in route::backends(&routes).into_iter().take(MAX_BACKENDS) {
        route_backends.push(backend(peers, &links, &target, found, 1).await);
    }
    let (client, sidecar) = client(cluster, question, &service).await;
    Ok(Call {
        unlinked: peers.unlinked(&links, &target.name),
        port: question.port,
        dns: facts::dns(cluster).await,
        client,
        service,
        split,
        backends,
        routes,
        route_backends,
        sidecar,
        target,
    })
}

/// The links that the call may take.
pub(super) fn links(call: &Call) -> Vec<String> {
    let linked = call
        .backends
        .iter()
        .chain(&call.route_backends)
        .filter_map(|backend| match &backend.way {
            Way::Linked { cluster, .. } => Some(cluster.clone()),
            Way::Local(_) => None,
        });
    linked.collect()
}

/// The split of the Service, and what answers for it.
async fn split(cluster: &Cluster, target: &Target) -> (Read<Option<Split>>, Vec<(String, u32)>) {
    let itself = || vec![(target.name.clone(), 1)];
    let api: Api<TrafficSplit> = Api::namespaced(cluster.client.clone(), &target.namespace);
    let what = format!("list TrafficSplits in {}", target.namespace);
    let splits = match cluster.ask(&what, api.list(&ListParams::default())).await {
        Ok(listed) => listed.items,
        Err(error) => return (Err(text(error)), itself()),
    };
    let mut of_it: Vec<TrafficSplit> = splits
        .into_iter()
        .filter(|split| split.spec.service == target.name)
        .collect();
    of_it.sort_by_key(ResourceExt::name_any);
    let Some(found) = of_it.into_iter().next() else {
        return (Ok(None), itself());
    };
    let split = Split {
        name: found.name_any(),
        has_primary: found.annotations().contains_key(names::PRIMARY_SERVICE),
        unseen: found.spec.backends.len().saturating_sub(MAX_BACKENDS),
    };
    let backends = found.spec.backends.into_iter().take(MAX_BACKENDS);
    (
        Ok(Some(split)),
        backends
            .map(|backend| (backend.service, backend.weight))
            .collect(),
    )
}

/// A Service that may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) port: Option<u16>,
}

async fn backend(
    peers: &Peers<'_>,
    links: &[String],
    target: &Target,
    named: Named,
    weight: u32,
) -> Backend {
    let Named {
        namespace,
        name,
        port,
    } = named;
    let service = peer::service(peers.cluster, &namespace, &name).await;
    let way = match behind(&service, links, target, (&namespace, &name)) {
        Some((cluster, remote)) => {
            let (remote_namespace, remote_name) = remote.split_once('/').unwrap_or(("", &remote));
            let there = match peers.cluster(&cluster).await {
                Some(Ok(there)) => Some(peer::there(&there, remote_namespace, remote_name).await),
                Some(Err(_)) | None => None,
            };
            Way::Linked {
                cluster,
                remote,
                there,
            }
        }
        None => Way::Local(peer::asked_endpoints(peers.cluster, &namespace, &name).await),
    };
    Backend {
        namespace,
        name,
        port,
        weight,
        service,
        way,
    }
}

/// The linked cluster that serves `name`, and the Service there.
fn behind(
    service: &Read<Option<Service>>,
    links: &[String],
    target: &Target,
    (namespace, name): (&str, &str),
) -> Option<(String, String)> {
    if let Ok(Some(Service {
        mirror: Some(mirror),
        ..
    })) = service
    {
        return Some((mirror.cluster.clone(), mirror.remote.clone()));
    }
    let of = |cluster: &str, service: &str| (cluster.to_owned(), format!("{namespace}/{service}"));
    match &target.alias {
        Some(cluster) if name == target.name && namespace == target.namespace => {
            let service = name.strip_suffix(cluster.as_str())?.strip_suffix('-')?;
            Some(of(cluster, service))
        }
        // A Service that exists and is no mirror is its own.
        _ if matches!(service, Ok(Some(_))) => None,
        _ => mirrored(name, links).map(|(cluster, service)| of(cluster, service)),
    }
}

/// The pod that calls, and what its sidecar finds.
async fn client(
    cluster: &Cluster,
    question: &CallQuestion,
    service: &Read<Option<Service>>,
) -> (Read<Client>, Read<SidecarProbe>) {
    let unasked = |client| (client, Err("the client's sidecar was not asked".to_owned()));
    let pod = match pod(cluster, question).await {
        Ok(Some(pod)) => pod,
        Ok(None) => {
            return unasked(Ok(match &question.from {
                Some(from) => Client::Missing(match caller(from) {
                    (Caller::Pod, name) => format!("pod {name} in {}", question.namespace),
                    (Caller::Deployment, name) => {
                        format!("pod of the Deployment {name} in {}", question.namespace)
                    }
                }),
                None => Client::None(question.namespace.clone()),
            }));
        }
        Err(error) => return unasked(Err(error)),
    };
    let sidecar = meshed_pod(&pod);
    let client = Client::Pod {
        name: format!("{}/{}", question.namespace, pod.name_any()),
        meshed: sidecar.is_some() && pod.labels().contains_key(names::MESHED),
        ready: sidecar.is_some_and(|sidecar| sidecar.ready),
    };
    if !matches!(
        client,
        Client::Pod {
            meshed: true,
            ready: true,
            ..
        }
    ) {
        return unasked(Ok(client));
    }
    let probe = match address(service, question.port) {
        Ok(address) => {
            let page = format!("probe?address={address}");
            page_of(cluster, &question.namespace, &pod.name_any(), &page).await
        }
        Err(error) => Err(error),
    };
    (Ok(client), probe)
}

async fn pod(cluster: &Cluster, question: &CallQuestion) -> Read<Option<Pod>> {
    let namespace = &question.namespace;
    match question.from.as_deref().map(caller) {
        Some((Caller::Pod, name)) => {
            let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
            let what = format!("read pod {namespace}/{name}");
            cluster.ask(&what, api.get_opt(name)).await.map_err(text)
        }
        Some((Caller::Deployment, name)) => {
            let mut its = pods(cluster, namespace, "").await?;
            its.retain(|pod| is_of_deployment(pod, name));
            // The one that is ready says most.
            its.sort_by_key(|pod| (!is_ready(pod), pod.name_any()));
            Ok(its.into_iter().next())
        }
        None => {
            let mut ready = pods(cluster, namespace, &format!("{}=true", names::MESHED)).await?;
            ready.retain(is_ready);
            ready.sort_by_key(ResourceExt::name_any);
            Ok(ready.into_iter().next())
        }
    }
}

/// What `--from` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Pod,
    Deployment,
}

/// `client-5d6b-jp2jd`, `pod/client-5d6b-jp2jd` or `deploy/client`, as kubectl
/// takes them.
fn caller(from: &str) -> (Caller, &str) {
    match from.split_once('/') {
        Some(("deploy" | "deployment" | "deployments", name)) => (Caller::Deployment, name),
        Some(("pod" | "pods" | "po", name)) => (Caller::Pod, name),
        _ => (Caller::Pod, from),
    }
}

/// A Deployment's pod belongs to a ReplicaSet that is called like the
/// Deployment and the hash of the pod's template.
fn is_of_deployment(pod: &Pod, name: &str) -> bool {
    let Some(hash) = pod.labels().get("pod-template-hash") else {
        return false;
    };
    let set = format!("{name}-{hash}");
    let owners = pod.owner_references().iter();
    owners
        .filter(|owner| owner.kind == "ReplicaSet")
        .any(|owner| owner.name == set)
}

/// The port that is called.
fn port(service: &Read<Option<Service>>, asked: Option<u16>) -> Option<u16> {
    match service {
        Ok(Some(service)) => called(service, asked),
        Ok(None) | Err(_) => asked,
    }
}

fn called(service: &Service, asked: Option<u16>) -> Option<u16> {
    asked.or_else(|| service.ports.first().copied())
}

/// What the client would dial.
fn address(service: &Read<Option<Service>>, port: Option<u16>) -> Read<SocketAddr> {
    let service = match service {
        Ok(Some(service)) => service,
        Ok(None) => return Err("there is no Service to ask its sidecar about".into()),
        Err(error) => return Err(error.clone()),
    };
    let ip: Option<IpAddr> = service.addresses.first().and_then(|ip| ip.parse().ok());
    let port = called(service, port);
    match (ip, port) {
        (Some(ip), Some(port)) => Ok((ip, port).into()),
        _ => Err("the Service has no address or no port to ask its sidecar about".into()),
    }
}

/// More backends of one split, or of all routes, are not looked at; the sidecar
/// tries as many.
const MAX_BACKENDS: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_caller_is_named_as_kubectl_names_it() {
        for (from, caller_of, name) in [
            ("client-1-a", Caller::Pod, "client-1-a"),
            ("pod/client-1-a", Caller::Pod, "client-1-a"),
            ("deploy/client", Caller::Deployment, "client"),
            ("deployment/client", Caller::Deployment, "client"),
            ("job/client", Caller::Pod, "job/client"),
        ] {
            assert_eq!(caller(from), (caller_of, name), "{from}");
        }
    }

    #[test]
    fn a_deployment_s_pods_are_those_of_its_replica_sets() {
        let pod = |set: &str, hash: &str| -> Pod {
            let owner =
                json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": "1" });
            let metadata = json!({
                "labels": { "pod-template-hash": hash }, "ownerReferences": [owner],
            });
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        assert!(is_of_deployment(&pod("client-5d", "5d"), "client"));
        assert!(!is_of_deployment(&pod("client-5d", "5d"), "cli"));
        assert!(!is_of_deployment(&pod("client-old-5d", "5d"), "client"));
        assert!(!is_of_deployment(&Pod::default(), "client"));
    }
}
