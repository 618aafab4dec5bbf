//! Reads the facts, with the user's own rights.

mod call;
mod peer;
mod route;

pub(crate) use peer::{described, endpoints, joined};

use anyhow::ensure;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PartialObjectMeta},
    config::Kubeconfig,
};
use mesh_api::{link::Link, names};
use mesh_tls::Clock;
use serde::de::DeserializeOwned;

use super::{
    facts::{Facts, LinkFacts, Peer, Read},
    probe::LinkProbe,
};
use crate::{
    check::state::{self, text},
    cluster::Cluster,
    multicluster::facts,
};

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// A call; none: the links alone.
    pub(crate) call: Option<CallQuestion>,
    /// The only link that is of interest.
    pub(crate) link: Option<String>,
}

/// A call from a pod.
#[derive(Clone, Debug)]
pub(crate) struct CallQuestion {
    /// A name of a Service, in any of its forms.
    pub(crate) service: String,
    /// Where the pod is.
    pub(crate) namespace: String,
    /// The pod; any that has a sidecar, if none.
    pub(crate) from: Option<String>,
    /// The Service's port; its first, if none.
    pub(crate) port: Option<u16>,
}

/// Everything that a diagnosis needs.
///
/// # Errors
/// If the cluster cannot be asked at all, or the question names what is not
/// there.
pub(crate) async fn read(
    cluster: &Cluster,
    kubeconfig: &Kubeconfig,
    question: &Question,
) -> anyhow::Result<Facts> {
    cluster
        .ask("read the version", cluster.client.apiserver_version())
        .await?;
    let links = facts::links(cluster).await.map_err(text);
    if let (Some(name), Ok(links)) = (&question.link, &links) {
        ensure!(
            links.iter().any(|link| link.name_any() == *name),
            "context {}: there is no Link {name}",
            cluster.context
        );
    }
    let peers = Peers {
        cluster,
        kubeconfig,
        links: &links,
    };
    let (call, wanted) = match &question.call {
        Some(call) => {
            let call = call::read(&peers, call).await?;
            let wanted = call::links(&call);
            (Some(call), Some(wanted))
        }
        None => (None, question.link.clone().map(|link| vec![link])),
    };
    Ok(Facts {
        context: cluster.context.clone(),
        now: Clock::SYSTEM.unix_seconds(),
        cluster: facts::identity(cluster).await.map_err(text),
        roots: peer::roots(cluster).await,
        control: program(cluster, names::SYSTEM_NAMESPACE, names::CONTROL).await,
        mirror: program(cluster, names::MULTICLUSTER_NAMESPACE, names::MIRROR).await,
        links: peers.read(wanted.as_deref()).await,
        call,
    })
}

/// Where links and their peers are read from.
struct Peers<'a> {
    cluster: &'a Cluster,
    kubeconfig: &'a Kubeconfig,
    links: &'a Read<Vec<Link>>,
}

impl Peers<'_> {
    /// The cluster whose mirror a Service of this name would be, if the
    /// kubeconfig knows it and there is no Link to it.
    fn unlinked(&self, links: &[String], service: &str) -> Option<String> {
        let mut contexts = self.kubeconfig.contexts.iter();
        let named = contexts.find(|context| service.ends_with(&format!("-{}", context.name)))?;
        (!links.contains(&named.name)).then(|| named.name.clone())
    }

    /// The peer behind `name`, if the kubeconfig has a context for it.
    async fn cluster(&self, name: &str) -> Option<Read<Cluster>> {
        let mut contexts = self.kubeconfig.contexts.iter();
        if !contexts.any(|context| context.name == name) {
            return None;
        }
        Some(Cluster::new(self.kubeconfig, name).await.map_err(text))
    }

    /// The links, each with what its peer and mesh-mirror say. `wanted` are the
    /// names of those that matter; all, if none.
    async fn read(&self, wanted: Option<&[String]>) -> Read<Vec<LinkFacts>> {
        let links = self.links.as_ref().map_err(Clone::clone)?;
        let mut found = Vec::new();
        for link in links {
            let name = link.name_any();
            let matters =
                |wanted: &[String]| wanted.contains(&name) || wanted.contains(&link.spec.cluster);
            if wanted.is_some_and(|wanted| !matters(wanted)) {
                continue;
            }
            let probe = probe_link(self.cluster, &name).await;
            let peer = match self.cluster(&name).await {
                None => Peer::NoContext,
                Some(Err(error)) => Peer::Unreadable(error),
                Some(Ok(cluster)) => peer::read(&cluster).await,
            };
            found.push(LinkFacts {
                link: link.clone(),
                probe,
                peer,
            });
        }
        Ok(found)
    }
}

/// What mesh-mirror finds when it tries the gateway of the link `name`.
pub(crate) async fn probe_link(cluster: &Cluster, name: &str) -> Read<LinkProbe> {
    let namespace = names::MULTICLUSTER_NAMESPACE;
    let mut mirrors = pods(cluster, namespace, "app=mesh-mirror").await?;
    mirrors.retain(is_ready);
    mirrors.sort_by_key(ResourceExt::name_any);
    let mirror = mirrors.first().ok_or("mesh-mirror has no ready pod")?;
    page_of(
        cluster,
        namespace,
        &mirror.name_any(),
        &format!("probe?link={name}"),
    )
    .await
}

async fn program(cluster: &Cluster, namespace: &str, name: &str) -> Read<Option<state::Program>> {
    state::program(cluster, namespace, name).await.map_err(text)
}

/// What the admin port of a pod says.
pub(super) async fn page_of<T: DeserializeOwned>(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    page: &str,
) -> Read<T> {
    let answer = cluster.page(namespace, pod, page).await.map_err(text)?;
    serde_json::from_str(&answer)
        .map_err(|error| format!("{namespace}/{pod}: its probe page is not understood: {error}"))
}

/// The pods with this label.
pub(crate) async fn pods(cluster: &Cluster, namespace: &str, label: &str) -> Read<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let params = ListParams::default().labels(label).limit(state::MAX_PODS);
    let listed = cluster
        .ask(&format!("list pods in {namespace}"), api.list(&params))
        .await
        .map_err(text)?;
    Ok(listed.items)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

pub(super) async fn namespaces(cluster: &Cluster) -> Read<Vec<String>> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let listed = cluster
        .ask("list namespaces", api.list_metadata(&ListParams::default()))
        .await
        .map_err(text)?;
    let name = |found: PartialObjectMeta<Namespace>| found.metadata.name;
    Ok(listed.items.into_iter().filter_map(name).collect())
}
