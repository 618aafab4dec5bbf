//! What a peer's own objects say, and those of a Service in either cluster.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::{
    core::v1::{Pod, Service as KubeService},
    discovery::v1::EndpointSlice,
};
use kube::{Api, ResourceExt, api::ListParams};
use mesh_api::names;
use tokio::time::timeout;

use super::{
    super::facts::{
        DoorState, Endpoint, Exported, MirrorOf, Peer, PeerFacts, Read, Service, There,
    },
    page_of, pods, program,
};
use crate::{
    check::state::{meshed_pod, text},
    cluster::Cluster,
    multicluster::facts,
};

/// The peer, as it describes itself.
pub(super) async fn read(cluster: &Cluster) -> Peer {
    let asked = cluster
        .ask("read the version", cluster.client.apiserver_version())
        .await;
    if let Err(error) = asked {
        return Peer::Unreadable(text(error));
    }
    Peer::Known(Box::new(PeerFacts {
        context: cluster.context.clone(),
        cluster: facts::identity(cluster).await.map_err(text),
        roots: roots(cluster).await,
        control: program(cluster, names::SYSTEM_NAMESPACE, names::CONTROL).await,
        gateway: program(cluster, names::MULTICLUSTER_NAMESPACE, names::GATEWAY).await,
        door: door(cluster).await,
        links: facts::links(cluster).await.map_err(text),
    }))
}

/// SHA-256 of the roots that `cluster` publishes.
pub(super) async fn roots(cluster: &Cluster) -> Read<Vec<String>> {
    let bundle = facts::published_roots(cluster).await.map_err(text)??;
    facts::fingerprints(&bundle).map_err(|error| format!("context {}: {error:#}", cluster.context))
}

async fn door(cluster: &Cluster) -> Read<DoorState> {
    let api: Api<KubeService> =
        Api::namespaced(cluster.client.clone(), names::MULTICLUSTER_NAMESPACE);
    let found = cluster
        .ask("read the gateway's Service", api.get_opt(names::GATEWAY))
        .await
        .map_err(text)?;
    Ok(match found {
        None => DoorState::NoService,
        Some(found) => facts::door(&found).map_or(DoorState::NoAddress, DoorState::At),
    })
}

/// A Service of the peer, with its pods.
pub(super) async fn there(cluster: &Cluster, namespace: &str, name: &str) -> There {
    There {
        service: service(cluster, namespace, name).await,
        endpoints: asked_endpoints(cluster, namespace, name).await,
    }
}

/// A Service, if there is one.
pub(super) async fn service(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Read<Option<Service>> {
    let api: Api<KubeService> = Api::namespaced(cluster.client.clone(), namespace);
    let what = format!("read Service {namespace}/{name}");
    let found = cluster.ask(&what, api.get_opt(name)).await.map_err(text)?;
    Ok(found.as_ref().map(described))
}

/// A Service, as the mesh understands it.
pub(crate) fn described(object: &KubeService) -> Service {
    let spec = object.spec.as_ref();
    let ports = spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let tcp = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let addresses = spec
        .iter()
        .flat_map(|spec| spec.cluster_ips.iter().flatten());
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let mirrored = object.labels().contains_key(names::MIRRORED_FROM)
        || object.annotations().contains_key(names::MIRRORED_FROM);
    Service {
        ports: tcp
            .filter_map(|port| u16::try_from(port.port).ok())
            .collect(),
        addresses: addresses
            .filter(|address| *address != "None")
            .cloned()
            .collect(),
        exported: if external || mirrored {
            Exported::Never
        } else {
            exported(object)
        },
        mirror: mirror(object),
    }
}

fn exported(object: &KubeService) -> Exported {
    let labels = object.labels();
    if labels
        .get(names::EXPORTED)
        .is_none_or(|value| value != "true")
    {
        return Exported::No;
    }
    let to = object.annotations().get(names::EXPORT_TO);
    match to.or_else(|| labels.get(names::EXPORT_TO)) {
        None => Exported::All,
        Some(to) => Exported::To(to.split(',').map(|name| name.trim().to_owned()).collect()),
    }
}

fn mirror(object: &KubeService) -> Option<MirrorOf> {
    let labels = object.labels();
    let ours = labels.get(names::MANAGED_BY)? == names::MIRROR_CONTROLLER;
    let mirror = MirrorOf {
        cluster: labels.get(names::MIRRORED_FROM)?.clone(),
        remote: object.annotations().get(names::REMOTE_SERVICE)?.clone(),
        link_uid: object.annotations().get(names::LINK_UID)?.clone(),
    };
    ours.then_some(mirror)
}

/// The pods that serve a Service; some of their sidecars are asked who they are
/// and what time it is there, those that are not ready first.
pub(super) async fn asked_endpoints(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Read<Vec<Endpoint>> {
    let mut endpoints = endpoints(cluster, namespace, name).await?;
    let meshed = endpoints.iter_mut().filter(|endpoint| endpoint.meshed);
    let mut meshed: Vec<_> = meshed.collect();
    meshed.sort_by_key(|endpoint| endpoint.sidecar_ready);
    let asking = meshed.into_iter().take(MOST_ASKED).map(async |endpoint| {
        let page = page_of(cluster, namespace, &endpoint.pod, "probe");
        // One that does not answer, or is older than the page, says nothing.
        endpoint.own = timeout(ANSWER, page).await.ok().and_then(Result::ok);
    });
    join_all(asking).await;
    Ok(endpoints)
}

/// The pods that serve a Service.
pub(crate) async fn endpoints(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Read<Vec<Endpoint>> {
    let services: Api<KubeService> = Api::namespaced(cluster.client.clone(), namespace);
    let what = format!("read Service {namespace}/{name}");
    let service = cluster
        .ask(&what, services.get_opt(name))
        .await
        .map_err(text)?;
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client.clone(), namespace);
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let slices = cluster
        .ask(
            &format!("list EndpointSlices in {namespace}"),
            slices.list(&of),
        )
        .await
        .map_err(text)?;
    let meshed = pods(cluster, namespace, &format!("{}=true", names::MESHED)).await?;
    let slices: Vec<_> = slices.items.iter().collect();
    Ok(joined(
        service.as_ref(),
        &slices,
        &meshed.iter().collect::<Vec<_>>(),
    ))
}

/// The members of `slices`, with what is known of their pods.
pub(crate) fn joined(
    service: Option<&KubeService>,
    slices: &[&EndpointSlice],
    meshed: &[&Pod],
) -> Vec<Endpoint> {
    let ports = || {
        let spec = service.and_then(|service| service.spec.as_ref());
        spec.into_iter()
            .flat_map(|spec| spec.ports.iter().flatten())
    };
    let mut endpoints: BTreeMap<String, Endpoint> = BTreeMap::new();
    for slice in slices {
        let named: Vec<&str> = slice
            .ports
            .iter()
            .flatten()
            .map(|port| port.name.as_deref().unwrap_or_default())
            .collect();
        let served: Vec<u16> = ports()
            .filter(|port| named.contains(&port.name.as_deref().unwrap_or_default()))
            .filter_map(|port| u16::try_from(port.port).ok())
            .collect();
        for member in slice.endpoints.iter().flatten() {
            let Some(pod) = member
                .target_ref
                .as_ref()
                .and_then(|target| target.name.clone())
            else {
                continue;
            };
            let sidecar = meshed
                .iter()
                .find(|candidate| candidate.name_any() == pod)
                .filter(|candidate| !host_network(candidate))
                .and_then(|pod| meshed_pod(pod));
            let ready = member
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready);
            let endpoint = endpoints.entry(pod.clone()).or_insert_with(|| Endpoint {
                pod,
                ready: ready.unwrap_or(true),
                meshed: sidecar.is_some(),
                sidecar_ready: sidecar.is_some_and(|sidecar| sidecar.ready),
                ports: Vec::new(),
                own: None,
            });
            endpoint.ports.extend(&served);
        }
    }
    endpoints.into_values().collect()
}

/// Sidecars of one Service that are asked.
const MOST_ASKED: usize = 3;
/// How long one may take.
const ANSWER: Duration = Duration::from_secs(3);

fn host_network(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.host_network)
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn object<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    fn web(labels: Value, annotations: Value) -> KubeService {
        object(json!({
            "metadata": {"name": "web", "labels": labels, "annotations": annotations},
            "spec": {
                "clusterIPs": ["10.96.0.9", "None"],
                "ports": [
                    {"name": "http", "port": 80},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "admin", "port": 90},
                ],
            },
        }))
    }

    fn pod(name: &str, ready: bool) -> Pod {
        object(json!({
            "metadata": {"name": name},
            "spec": {"containers": [], "initContainers": [{"name": names::PROXY_CONTAINER}]},
            "status": {"initContainerStatuses": [{
                "name": names::PROXY_CONTAINER, "ready": ready, "image": "", "imageID": "",
                "restartCount": 0,
            }]},
        }))
    }

    #[test]
    fn a_service_is_shared_as_its_labels_say() {
        let yes = json!({names::EXPORTED: "true"});
        let to = json!({names::EXPORT_TO: "west, north"});
        for (labels, annotations, exported) in [
            (json!({}), json!({}), Exported::No),
            (json!({names::EXPORTED: "yes"}), json!({}), Exported::No),
            (yes.clone(), json!({}), Exported::All),
            (
                yes.clone(),
                to,
                Exported::To(vec!["west".into(), "north".into()]),
            ),
            (yes, json!({names::MIRRORED_FROM: "x"}), Exported::Never),
        ] {
            let service = described(&web(labels, annotations));
            assert_eq!(service.exported, exported);
            assert_eq!(service.ports, [80, 90]);
            assert_eq!(service.addresses, ["10.96.0.9"]);
        }
    }

    #[test]
    fn endpoints_are_joined_with_their_pods() {
        let member = |pod: &str, ready: bool| {
            json!({
                "addresses": ["10.42.0.1"], "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "name": pod},
            })
        };
        let slice: EndpointSlice = object(json!({
            "addressType": "IPv4",
            "metadata": {"name": "web-x"},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [member("a", true), member("b", false), member("c", true), {"addresses": []}],
        }));
        let (a, b) = (pod("a", true), pod("b", false));
        let service = web(json!({}), json!({}));
        let found = joined(Some(&service), &[&slice], &[&a, &b]);
        let seen: Vec<_> = found
            .iter()
            .map(|pod| (pod.pod.as_str(), pod.ready, pod.meshed, pod.sidecar_ready))
            .collect();
        let expected = [
            ("a", true, true, true),
            ("b", false, true, false),
            ("c", true, false, false),
        ];
        assert_eq!(seen, expected);
        assert!(
            found.iter().all(|pod| pod.ports == [80]),
            "90 is served by none"
        );
    }
}
