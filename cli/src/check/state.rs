//! Everything that `check` looks at, read from the cluster.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Pod},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::version::Info,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PartialObjectMeta},
    config::Kubeconfig,
};
use mesh_api::{link::Link, names};
use mesh_core::{cluster::ClusterName, identity::TrustDomain};

use crate::{
    cluster::Cluster,
    manifests::pod::ADMIN_PORT,
    multicluster::{
        dns::DnsFacts,
        facts::{self, Facts},
    },
};

/// Something that was read, or why it could not be.
pub(super) type Read<T> = Result<T, String>;

/// One cluster.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The context it was read through.
    pub(super) context: String,
    /// Kubernetes' version, major and minor.
    pub(super) version: Version,
    /// Names of the custom resource definitions.
    pub(super) definitions: Read<Vec<String>>,
    /// The cluster's name and trust domain.
    pub(super) identity: Read<(ClusterName, TrustDomain)>,
    /// Our Deployments, `None` where there is none.
    pub(super) control: Read<Option<Program>>,
    pub(super) gateway: Read<Option<Program>>,
    pub(super) mirror: Read<Option<Program>>,
    /// The ConfigMaps with roots, PEM by namespace.
    pub(super) roots: Read<BTreeMap<String, String>>,
    /// The meshed pods.
    pub(super) pods: Read<Vec<MeshedPod>>,
    /// The Links, each with what its peer says of itself.
    pub(super) links: Read<Vec<LinkState>>,
    /// The cluster's DNS.
    pub(super) dns: DnsFacts,
}

/// A version of Kubernetes.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// As it names itself.
    pub(super) name: String,
    /// The 36 of 1.36.
    pub(super) minor: u32,
}

/// One of our Deployments.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// How many should run.
    pub(crate) wanted: i32,
    /// How many are ready.
    pub(crate) ready: i32,
    /// What they run.
    pub(crate) image: String,
}

/// A pod with a sidecar.
#[derive(Clone, Debug)]
pub(crate) struct MeshedPod {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Whether the sidecar is ready.
    pub(crate) ready: bool,
    /// What the sidecar runs.
    pub(super) image: String,
}

/// A Link, and what its peer says of itself.
#[derive(Clone, Debug)]
pub(super) struct LinkState {
    pub(super) link: Link,
    /// `None` if the kubeconfig has no context that is called like the peer.
    pub(super) peer: Option<Read<Facts>>,
}

/// Pods beyond this number are not looked at.
pub(crate) const MAX_PODS: u32 = 5000;

/// Reads everything.
///
/// # Errors
/// If the API server does not answer, or does not know the user.
pub(super) async fn read(cluster: &Cluster, kubeconfig: &Kubeconfig) -> anyhow::Result<State> {
    let info = cluster
        .ask("read the version", cluster.client.apiserver_version())
        .await?;
    let system = names::SYSTEM_NAMESPACE;
    let multicluster = names::MULTICLUSTER_NAMESPACE;
    Ok(State {
        context: cluster.context.clone(),
        version: version(&info),
        definitions: definitions(cluster).await.map_err(text),
        identity: facts::identity(cluster).await.map_err(text),
        control: program(cluster, system, names::CONTROL).await.map_err(text),
        gateway: program(cluster, multicluster, names::GATEWAY)
            .await
            .map_err(text),
        mirror: program(cluster, multicluster, names::MIRROR)
            .await
            .map_err(text),
        roots: roots(cluster).await.map_err(text),
        pods: pods(cluster).await.map_err(text),
        links: links(cluster, kubeconfig).await.map_err(text),
        dns: facts::dns(cluster).await,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
pub(crate) fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}

fn version(info: &Info) -> Version {
    let digits: String = info
        .minor
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Version {
        name: info.git_version.clone(),
        minor: digits.parse().unwrap_or_default(),
    }
}

async fn definitions(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let listed = cluster
        .ask(
            "list custom resource definitions",
            api.list_metadata(&ListParams::default()),
        )
        .await?;
    let name = |found: PartialObjectMeta<_>| found.metadata.name;
    Ok(listed.items.into_iter().filter_map(name).collect())
}

/// The Deployment `name`, if there is one.
///
/// # Errors
/// If it cannot be read.
pub(crate) async fn program(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> anyhow::Result<Option<Program>> {
    let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    let found = cluster
        .ask(
            &format!("read Deployment {namespace}/{name}"),
            api.get_opt(name),
        )
        .await?;
    Ok(found.map(|deployment| Program {
        wanted: deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1),
        ready: deployment
            .status
            .and_then(|status| status.ready_replicas)
            .unwrap_or_default(),
        image: deployment
            .spec
            .and_then(|spec| spec.template.spec?.containers.into_iter().next()?.image)
            .unwrap_or_default(),
    }))
}

async fn roots(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, String>> {
    let api: Api<ConfigMap> = Api::all(cluster.client.clone());
    let named = format!("metadata.name={}", names::ROOTS_CONFIG_MAP);
    let listed = cluster
        .ask(
            "list ConfigMaps",
            api.list(&ListParams::default().fields(&named)),
        )
        .await?;
    let bundle = |mut found: ConfigMap| {
        let bundle = found.data.as_mut()?.remove(names::ROOTS_BUNDLE)?;
        Some((found.namespace()?, bundle))
    };
    Ok(listed.items.into_iter().filter_map(bundle).collect())
}

async fn pods(cluster: &Cluster) -> anyhow::Result<Vec<MeshedPod>> {
    let api: Api<Pod> = Api::all(cluster.client.clone());
    let meshed = ListParams::default()
        .labels(&format!("{}=true", names::MESHED))
        .limit(MAX_PODS);
    let listed = cluster.ask("list pods", api.list(&meshed)).await?;
    Ok(listed.items.iter().filter_map(meshed_pod).collect())
}

/// A pod that still runs, with its sidecar; others are of no interest.
pub(crate) fn meshed_pod(pod: &Pod) -> Option<MeshedPod> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let sidecar = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_ref())
        .and_then(|containers| containers.iter().find(|c| c.name == names::PROXY_CONTAINER));
    let ready = status
        .and_then(|status| status.init_container_statuses.as_ref())
        .and_then(|statuses| statuses.iter().find(|s| s.name == names::PROXY_CONTAINER))
        .is_some_and(|status| status.ready);
    Some(MeshedPod {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        ready,
        image: sidecar
            .and_then(|container| container.image.clone())
            .unwrap_or_default(),
    })
}

async fn links(cluster: &Cluster, kubeconfig: &Kubeconfig) -> anyhow::Result<Vec<LinkState>> {
    let links = facts::links(cluster).await?;
    let mut states = Vec::with_capacity(links.len());
    for link in links {
        states.push(LinkState {
            peer: peer(kubeconfig, &link.name_any()).await,
            link,
        });
    }
    Ok(states)
}

async fn peer(kubeconfig: &Kubeconfig, name: &str) -> Option<Read<Facts>> {
    if !kubeconfig
        .contexts
        .iter()
        .any(|context| context.name == name)
    {
        return None;
    }
    let read = async {
        let cluster = Cluster::new(kubeconfig, name).await?;
        facts::read(&cluster, std::time::Duration::ZERO).await
    };
    Some(read.await.map_err(text))
}

/// The name of the port that a person looks at when a pod is not ready.
pub(super) const READY_PORT: &str = ADMIN_PORT;
