//! `mesh multicluster exports`: what this cluster shares, and with whom.

use clap::Args;
use k8s_openapi::api::{
    core::v1::{Pod, Service as KubeService},
    discovery::v1::EndpointSlice,
};
use kube::{Api, ResourceExt, api::ListParams};
use mesh_api::{
    link::{Direction, Link},
    names,
};
use serde::Serialize;

use super::facts;
use crate::{
    check::state::MAX_PODS,
    cluster::{Cluster, ClusterArgs, block_on},
    diagnosis::{
        facts::{Endpoint, Exported},
        read::{described, joined},
    },
    output,
    table::{self, ListArgs, Row},
};

/// Options of `mesh multicluster exports`.
#[derive(Debug, Args)]
pub(crate) struct ExportsArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    list: ListArgs,
}

/// A Service that is labelled to be shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Export {
    namespace: String,
    name: String,
    ports: Vec<u16>,
    /// The linked clusters that may use it.
    to: Vec<String>,
    /// Pods that are shared and ready.
    ready: usize,
    /// Pods that are not shared, as they have no sidecar.
    unmeshed: usize,
    /// Why nobody can use it; empty if somebody can.
    why: String,
}

impl Row for Export {
    const HEADS: &'static [&'static str] = &[
        "NAMESPACE",
        "NAME",
        "PORTS",
        "TO",
        "READY",
        "UNMESHED",
        "WHY-NOT",
    ];

    fn cells(&self) -> Vec<String> {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        vec![
            self.namespace.clone(),
            self.name.clone(),
            ports.join(","),
            self.to.join(","),
            self.ready.to_string(),
            self.unmeshed.to_string(),
            self.why.clone(),
        ]
    }
}

/// Prints the exports of the cluster.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn run(args: &ExportsArgs) -> anyhow::Result<()> {
    let exports = block_on(async {
        let (kubeconfig, context) = args.cluster.resolve()?;
        let cluster = Cluster::new(&kubeconfig, &context).await?;
        read(&cluster).await
    })?;
    let none = format!("no Service is labelled {}=true", names::EXPORTED);
    output::print(&table::print(&exports, args.list, &none)?)
}

async fn read(cluster: &Cluster) -> anyhow::Result<Vec<Export>> {
    let links = facts::links(cluster).await?;
    let labelled = ListParams::default().labels(&format!("{}=true", names::EXPORTED));
    let services: Api<KubeService> = Api::all(cluster.client.clone());
    let services = cluster
        .ask("list Services", services.list(&labelled))
        .await?;
    let slices: Api<EndpointSlice> = Api::all(cluster.client.clone());
    let of_services = ListParams::default().labels("kubernetes.io/service-name");
    let slices = cluster
        .ask("list EndpointSlices", slices.list(&of_services))
        .await?;
    let pods: Api<Pod> = Api::all(cluster.client.clone());
    let meshed = format!("{}=true", names::MESHED);
    let meshed = ListParams::default().labels(&meshed).limit(MAX_PODS);
    let pods = cluster.ask("list pods", pods.list(&meshed)).await?;
    let rows = services.items.iter().map(|service| {
        let slices: Vec<_> = slices
            .items
            .iter()
            .filter(|slice| is_of(slice, service))
            .collect();
        let same = |pod: &&Pod| pod.namespace() == service.namespace();
        let pods: Vec<_> = pods.items.iter().filter(same).collect();
        row(&links, service, &joined(Some(service), &slices, &pods))
    });
    Ok(rows.collect())
}

fn is_of(slice: &EndpointSlice, service: &KubeService) -> bool {
    let name = slice.labels().get("kubernetes.io/service-name");
    name == service.metadata.name.as_ref() && slice.namespace() == service.namespace()
}

fn row(links: &[Link], service: &KubeService, endpoints: &[Endpoint]) -> Export {
    let found = described(service);
    let exporting = |link: &&Link| {
        matches!(link.spec.direction, Direction::Both | Direction::Export)
            && found.exported.is_to(&link.spec.cluster)
    };
    let to: Vec<String> = links
        .iter()
        .filter(exporting)
        .map(|link| link.spec.cluster.clone())
        .collect();
    let ready = endpoints
        .iter()
        .filter(|pod| pod.ready && pod.meshed)
        .count();
    let unmeshed = endpoints.iter().filter(|pod| !pod.meshed).count();
    let why = if found.exported == Exported::Never {
        "a mirror or an external name is never shared"
    } else if to.is_empty() {
        "no link exports it to anybody"
    } else if found.ports.is_empty() {
        "it has no TCP port"
    } else if endpoints.is_empty() {
        "no pod serves it"
    } else if unmeshed == endpoints.len() {
        "none of its pods has a sidecar"
    } else if ready == 0 {
        "none of its pods with a sidecar is ready"
    } else {
        ""
    };
    Export {
        namespace: service.namespace().unwrap_or_default(),
        name: service.name_any(),
        ports: found.ports,
        to,
        ready,
        unmeshed,
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::multicluster::tests::link_to;

    fn service(annotations: serde_json::Value) -> KubeService {
        serde_json::from_value(json!({
            "metadata": {
                "name": "web", "namespace": "shop",
                "labels": {names::EXPORTED: "true"}, "annotations": annotations,
            },
            "spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
        }))
        .unwrap()
    }

    fn pod(meshed: bool, ready: bool) -> Endpoint {
        Endpoint {
            pod: "web-1".into(),
            ready,
            meshed,
            sidecar_ready: meshed,
            own: None,
            ports: vec![80],
        }
    }

    #[test]
    fn what_nobody_can_use_says_why() {
        let links = [
            link_to("east", Direction::Both),
            link_to("north", Direction::Import),
        ];
        let to_north = json!({names::EXPORT_TO: "north"});
        let all = || service(json!({}));
        for (service, endpoints, why) in [
            (all(), vec![pod(true, true)], ""),
            (all(), vec![], "no pod serves it"),
            (
                all(),
                vec![pod(false, true)],
                "none of its pods has a sidecar",
            ),
            (
                all(),
                vec![pod(true, false), pod(false, true)],
                "none of its pods with a sidecar is ready",
            ),
            (
                service(to_north),
                vec![pod(true, true)],
                "no link exports it to anybody",
            ),
        ] {
            assert_eq!(row(&links, &service, &endpoints).why, why);
        }
        let row = row(&links, &all(), &[pod(true, true), pod(false, true)]);
        assert_eq!((row.ready, row.unmeshed, row.ports), (1, 1, vec![80]));
        assert_eq!(row.to, ["east"], "north imports nothing from here");
    }
}
