//! `mesh multicluster gateways`: the doors of the linked clusters, tried now
//! from this one.

use clap::Args;
use kube::ResourceExt;
use mesh_api::{link::Link, names};
use serde::Serialize;

use super::facts;
use crate::{
    check::state::text,
    cluster::{Cluster, ClusterArgs, block_on},
    diagnosis::{
        facts::Read,
        probe::{GatewayProbe, LinkProbe},
        read::{self, is_ready, pods},
    },
    output,
    table::{self, ListArgs, Row},
};

/// Options of `mesh multicluster gateways`.
#[derive(Debug, Args)]
pub(crate) struct GatewaysArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    list: ListArgs,
}

/// One address of a linked cluster's gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Door {
    link: String,
    address: String,
    /// Whether it answers; none if that is not known.
    alive: Option<bool>,
    /// Milliseconds for one question and its answer.
    latency: Option<u64>,
    /// Open tunnels from that cluster, at our own gateway.
    tunnels_in: Option<u64>,
    /// Mirrors of that cluster's Services.
    services: u32,
    why: String,
}

impl Row for Door {
    const HEADS: &'static [&'static str] = &[
        "LINK",
        "ADDRESS",
        "ALIVE",
        "LATENCY",
        "TUNNELS-IN",
        "SERVICES",
        "WHY",
    ];

    fn cells(&self) -> Vec<String> {
        let alive = match self.alive {
            None => "Unknown",
            Some(true) => "True",
            Some(false) => "False",
        };
        vec![
            self.link.clone(),
            self.address.clone(),
            alive.into(),
            self.latency
                .map(|millis| format!("{millis}ms"))
                .unwrap_or_default(),
            self.tunnels_in
                .map_or_else(|| "?".into(), |count| count.to_string()),
            self.services.to_string(),
            self.why.clone(),
        ]
    }
}

/// Prints the gateways of the linked clusters.
///
/// # Errors
/// If the cluster cannot be read.
pub(crate) fn run(args: &GatewaysArgs) -> anyhow::Result<()> {
    let doors = block_on(async {
        let (kubeconfig, context) = args.cluster.resolve()?;
        let cluster = Cluster::new(&kubeconfig, &context).await?;
        let links = facts::links(&cluster).await?;
        let metrics = own_gateways(&cluster).await;
        let mut doors = Vec::new();
        for link in &links {
            let probe = read::probe_link(&cluster, &link.name_any()).await;
            let tunnels = metrics
                .as_ref()
                .ok()
                .map(|texts| tunnels(texts, &link.spec.trust_domain));
            doors.extend(rows(link, &probe, tunnels));
        }
        Ok(doors)
    })?;
    output::print(&table::print(&doors, args.list, "there are no links")?)
}

/// The metrics of our own gateways.
async fn own_gateways(cluster: &Cluster) -> Read<Vec<String>> {
    let namespace = names::MULTICLUSTER_NAMESPACE;
    let mut texts = Vec::new();
    for pod in pods(cluster, namespace, "app=mesh-gateway")
        .await?
        .iter()
        .filter(|pod| is_ready(pod))
    {
        texts.push(
            cluster
                .page(namespace, &pod.name_any(), "metrics")
                .await
                .map_err(text)?,
        );
    }
    Ok(texts)
}

/// Open tunnels of `trust_domain`, of all gateways together.
fn tunnels(texts: &[String], trust_domain: &str) -> u64 {
    let label = format!("trust_domain=\"{trust_domain}\"");
    let lines = texts.iter().flat_map(|text| text.lines());
    lines
        .filter(|line| line.starts_with("mesh_gateway_open_tunnels{") && line.contains(&label))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn rows(link: &Link, probe: &Read<LinkProbe>, tunnels_in: Option<u64>) -> Vec<Door> {
    let door = |address: String, alive, latency, why: &str| Door {
        link: link.name_any(),
        address,
        alive,
        latency,
        tunnels_in,
        services: link
            .status
            .as_ref()
            .map_or(0, |status| status.services.mirrored),
        why: why.into(),
    };
    match probe {
        Ok(probe) => probe
            .gateways
            .iter()
            .map(|tried| {
                let latency = tried
                    .step("probe")
                    .filter(|step| step.ok)
                    .map(|step| step.millis);
                let why = tried.failure().map_or("", |step| step.text.as_str());
                door(
                    tried.address.clone(),
                    Some(GatewayProbe::answers(tried)),
                    latency,
                    why,
                )
            })
            .collect(),
        Err(error) => {
            let port = link.spec.gateway.port;
            let addresses = link.spec.gateway.addresses.iter();
            addresses
                .map(|address| {
                    let address = match address.parse() {
                        Ok(ip) => std::net::SocketAddr::new(ip, port).to_string(),
                        Err(_) => format!("{address}:{port}"),
                    };
                    door(address, None, None, error)
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::link::Direction;

    use super::*;
    use crate::multicluster::tests::link_to;

    #[test]
    fn a_gateway_is_alive_only_if_it_answered() {
        let page = r#"{"clock": 1, "certificate": null, "gateways": [
            {"address": "192.0.2.1:4143", "steps": [
                {"step": "dial", "ok": true, "millis": 1}, {"step": "tls", "ok": true},
                {"step": "probe", "ok": true, "millis": 7}]},
            {"address": "192.0.2.2:4143", "steps": [
                {"step": "dial", "ok": false, "reason": "refused", "text": "it is refused"}]}]}"#;
        let link = link_to("east", Direction::Both);
        let rows = rows(&link, &Ok(serde_json::from_str(page).unwrap()), Some(3));
        assert_eq!(rows[0].cells()[2..5], ["True", "7ms", "3"]);
        assert_eq!(rows[1].cells()[2..4], ["False", ""]);
        assert_eq!(rows[1].why, "it is refused");
    }

    #[test]
    fn c9_without_a_probe_it_is_unknown() {
        let link = link_to("east", Direction::Both);
        let rows = rows(
            &link,
            &Err("context west: you may not get pods/proxy".into()),
            None,
        );
        assert_eq!(rows[0].address, "192.0.2.1:4143");
        assert_eq!(rows[0].cells()[2], "Unknown");
        assert_eq!(rows[0].cells()[4], "?");
        assert!(rows[0].why.contains("you may not"));
    }

    #[test]
    fn tunnels_of_all_gateways_are_counted() {
        let text = "mesh_gateway_open_tunnels{trust_domain=\"east\",service=\"shop/web\"} 2\n\
                    mesh_gateway_open_tunnels{trust_domain=\"east\",service=\"exports\"} 1\n\
                    mesh_gateway_open_tunnels{trust_domain=\"north\",service=\"exports\"} 9\n";
        assert_eq!(tunnels(&[text.into(), text.into()], "east"), 6);
    }
}
