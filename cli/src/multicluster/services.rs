//! `mesh multicluster services`: the mirrors of this cluster, and what is
//! exported to it and not mirrored.

use clap::Args;
use k8s_openapi::api::core::v1::Service as KubeService;
use kube::{Api, ResourceExt, api::ListParams, config::Kubeconfig};
use mesh_api::{link::Link, names};
use serde::Serialize;

use super::facts;
use crate::{
    cluster::{Cluster, ClusterArgs, block_on},
    diagnosis::read::{described, endpoints},
    output,
    table::{self, ListArgs, Row},
};

/// Options of `mesh multicluster services`.
#[derive(Debug, Args)]
pub(crate) struct ServicesArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    list: ListArgs,
}

/// A mirror Service, or what keeps one from being.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Mirror {
    namespace: String,
    name: String,
    /// `namespace/name` there.
    remote: String,
    link: String,
    /// Ready pods there; none if the peer cannot be asked.
    endpoints: Option<usize>,
    state: String,
    why: String,
}

impl Row for Mirror {
    const HEADS: &'static [&'static str] = &[
        "NAMESPACE",
        "NAME",
        "REMOTE",
        "LINK",
        "ENDPOINTS",
        "STATE",
        "WHY",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            self.name.clone(),
            self.remote.clone(),
            self.link.clone(),
            self.endpoints
                .map_or_else(|| "?".into(), |count| count.to_string()),
            self.state.clone(),
            self.why.clone(),
        ]
    }
}

/// Prints the mirrors of the cluster.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn run(args: &ServicesArgs) -> anyhow::Result<()> {
    let rows = block_on(async {
        let (kubeconfig, context) = args.cluster.resolve()?;
        let cluster = Cluster::new(&kubeconfig, &context).await?;
        read(&cluster, &kubeconfig).await
    })?;
    output::print(&table::print(&rows, args.list, "no Service is mirrored")?)
}

async fn read(cluster: &Cluster, kubeconfig: &Kubeconfig) -> anyhow::Result<Vec<Mirror>> {
    let links = facts::links(cluster).await?;
    let services: Api<KubeService> = Api::all(cluster.client.clone());
    let ours = format!("{}={}", names::MANAGED_BY, names::MIRROR_CONTROLLER);
    let ours = ListParams::default().labels(&ours);
    let services = cluster.ask("list Services", services.list(&ours)).await?;
    let mut rows: Vec<Mirror> = services
        .items
        .iter()
        .filter_map(|service| mirror(&links, service))
        .collect();
    for row in &mut rows {
        row.endpoints = ready_there(kubeconfig, row).await;
    }
    rows.extend(links.iter().flat_map(not_mirrored));
    Ok(rows)
}

/// The ready pods of the remote Service, if its cluster can be asked.
async fn ready_there(kubeconfig: &Kubeconfig, row: &Mirror) -> Option<usize> {
    let mut contexts = kubeconfig.contexts.iter();
    contexts.find(|context| context.name == row.link)?;
    let peer = Cluster::new(kubeconfig, &row.link).await.ok()?;
    let (namespace, name) = row.remote.split_once('/')?;
    let endpoints = endpoints(&peer, namespace, name).await.ok()?;
    Some(
        endpoints
            .iter()
            .filter(|pod| pod.ready && pod.meshed)
            .count(),
    )
}

fn mirror(links: &[Link], service: &KubeService) -> Option<Mirror> {
    let of = described(service).mirror?;
    let link = links
        .iter()
        .find(|link| link.uid().as_deref() == Some(&of.link_uid));
    let (state, why) = match link {
        None => ("Orphaned", "its Link is gone; mesh-mirror removes it"),
        Some(link) => state(link),
    };
    Some(Mirror {
        namespace: service.namespace().unwrap_or_default(),
        name: service.name_any(),
        remote: of.remote,
        link: link.map_or(of.cluster, ResourceExt::name_any),
        endpoints: None,
        state: state.into(),
        why: why.into(),
    })
}

/// How the mirrors of a link are, all together.
fn state(link: &Link) -> (&'static str, &str) {
    let Some(synced) = condition(link, "Synced") else {
        return ("Unknown", "mesh-mirror has not said yet how the link is");
    };
    match synced.reason.as_str() {
        "Synced" | "NamesTaken" | "Incomplete" => ("Synced", ""),
        "Stale" => ("Stale", &synced.message),
        "RemovalHeldBack" => ("HeldBack", &synced.message),
        _ if synced.status == "Unknown" => ("Unknown", &synced.message),
        _ => ("Failing", &synced.message),
    }
}

/// What is exported to us and has no mirror, as the Link's status says it.
fn not_mirrored(link: &Link) -> Vec<Mirror> {
    let row = |state: &str, why: &str| Mirror {
        namespace: String::new(),
        name: String::new(),
        remote: String::new(),
        link: link.name_any(),
        endpoints: Some(0),
        state: state.into(),
        why: why.into(),
    };
    let conflicts = condition(link, "Conflicts").filter(|found| found.status == "True");
    let refused = condition(link, "Synced").filter(|found| found.reason == "Incomplete");
    let conflicts = conflicts.map(|found| row("Conflict", &found.message));
    conflicts
        .into_iter()
        .chain(refused.map(|found| row("Refused", &found.message)))
        .collect()
}

fn condition<'a>(link: &'a Link, kind: &str) -> Option<&'a mesh_api::link::LinkCondition> {
    let status = link.status.as_ref()?;
    status
        .conditions
        .iter()
        .find(|condition| condition.r#type == kind)
}

#[cfg(test)]
mod tests {
    use mesh_api::link::{Direction, LinkCondition, LinkStatus};
    use serde_json::json;

    use super::*;
    use crate::multicluster::tests::link_to;

    fn link(synced: &str, status: &str, conflicts: &str) -> Link {
        let condition = |kind: &str, status: &str, reason: &str| LinkCondition {
            r#type: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: format!("because of {reason}"),
            last_transition_time: String::new(),
        };
        let mut link = link_to("east", Direction::Both);
        link.metadata.uid = Some("u1".into());
        link.status = Some(LinkStatus {
            conditions: vec![
                condition("Synced", status, synced),
                condition("Conflicts", conflicts, "NameTaken"),
            ],
            ..LinkStatus::default()
        });
        link
    }

    fn service(uid: &str) -> KubeService {
        serde_json::from_value(json!({"metadata": {
            "name": "web-east", "namespace": "shop",
            "labels": {names::MANAGED_BY: "mesh-mirror", names::MIRRORED_FROM: "east"},
            "annotations": {names::REMOTE_SERVICE: "shop/web", names::LINK_UID: uid},
        }}))
        .unwrap()
    }

    #[test]
    fn a_mirror_is_as_its_link_is() {
        for (synced, status, state) in [
            ("Synced", "True", "Synced"),
            ("NamesTaken", "False", "Synced"),
            ("Stale", "False", "Stale"),
            ("RemovalHeldBack", "False", "HeldBack"),
            ("Waiting", "Unknown", "Unknown"),
            ("AnotherCluster", "False", "Failing"),
        ] {
            let links = [link(synced, status, "False")];
            let row = mirror(&links, &service("u1")).unwrap();
            assert_eq!(row.state, state, "{synced}");
            assert_eq!(row.remote, "shop/web");
            assert_eq!(row.cells()[4], "?", "nobody was asked");
        }
        assert_eq!(mirror(&[], &service("u1")).unwrap().state, "Orphaned");
    }

    #[test]
    fn what_is_not_mirrored_is_listed_too() {
        let rows = not_mirrored(&link("Incomplete", "False", "True"));
        let states: Vec<_> = rows.iter().map(|row| row.state.as_str()).collect();
        assert_eq!(states, ["Conflict", "Refused"]);
        assert!(not_mirrored(&link("Synced", "True", "False")).is_empty());
    }
}
