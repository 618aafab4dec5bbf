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
    CallQuestion, Peers, is_ready, namespaces, page_of, peer, pods,
};
use crate::{
    check::state::{meshed_pod, text},
    cluster::Cluster,
    multicluster::facts,
};

pub(super) async fn read(peers: &Peers<'_>, question: &CallQuestion) -> anyhow::Result<Call> {
    let from = question.from.as_deref();
    ensure!(
        from.is_none_or(is_dns_subdomain) && is_dns_subdomain(&question.namespace),
        "--from and --namespace are names of a pod and of a namespace"
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
    let mut backends = Vec::new();
    for (name, weight) in names {
        backends.push(backend(peers, &links, &target, name, weight).await);
    }
    let (client, sidecar) = client(cluster, question, &service).await;
    Ok(Call {
        port: question.port,
        dns: facts::dns(cluster).await,
        client,
        service,
        split,
        backends,
        sidecar,
        target,
    })
}

/// The links that the call may take.
pub(super) fn links(call: &Call) -> Vec<String> {
    let linked = call
        .backends
        .iter()
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
    };
    let backends = found.spec.backends.into_iter().take(MAX_BACKENDS);
    (
        Ok(Some(split)),
        backends
            .map(|backend| (backend.service, backend.weight))
            .collect(),
    )
}

async fn backend(
    peers: &Peers<'_>,
    links: &[String],
    target: &Target,
    name: String,
    weight: u32,
) -> Backend {
    let namespace = target.namespace.clone();
    let service = peer::service(peers.cluster, &namespace, &name).await;
    let way = match behind(&service, links, target, &name) {
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
    name: &str,
) -> Option<(String, String)> {
    if let Ok(Some(Service {
        mirror: Some(mirror),
        ..
    })) = service
    {
        return Some((mirror.cluster.clone(), mirror.remote.clone()));
    }
    let of = |cluster: &str, service: &str| {
        (
            cluster.to_owned(),
            format!("{}/{service}", target.namespace),
        )
    };
    match &target.alias {
        Some(cluster) if name == target.name => {
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
                Some(name) => Client::Missing(format!("{}/{name}", question.namespace)),
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
    if let Some(name) = &question.from {
        let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let what = format!("read pod {namespace}/{name}");
        return cluster.ask(&what, api.get_opt(name)).await.map_err(text);
    }
    let mut ready = pods(cluster, namespace, &format!("{}=true", names::MESHED)).await?;
    ready.retain(is_ready);
    ready.sort_by_key(ResourceExt::name_any);
    Ok(ready.into_iter().next())
}

/// What the client would dial.
fn address(service: &Read<Option<Service>>, port: Option<u16>) -> Read<SocketAddr> {
    let service = match service {
        Ok(Some(service)) => service,
        Ok(None) => return Err("there is no Service to ask its sidecar about".into()),
        Err(error) => return Err(error.clone()),
    };
    let ip: Option<IpAddr> = service.addresses.first().and_then(|ip| ip.parse().ok());
    let port = port.or_else(|| service.ports.first().copied());
    match (ip, port) {
        (Some(ip), Some(port)) => Ok((ip, port).into()),
        _ => Err("the Service has no address or no port to ask its sidecar about".into()),
    }
}

/// More backends of one split are not looked at.
const MAX_BACKENDS: usize = 8;
