//! `mesh multicluster dns`: the rule that makes `web.east` mean `web-east`.

use anyhow::{Context, ensure};
use clap::Args;
use mesh_api::link::{Direction, Link};
use mesh_core::cluster::ClusterName;

use super::{
    apply,
    dns::{DnsChange, DnsFacts},
    facts,
};
use crate::{
    cluster::{Cluster, ClusterArgs, block_on},
    output,
    text::escaped,
};

/// Options of `mesh multicluster dns`.
#[derive(Debug, Args)]
pub(crate) struct DnsArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Give the rule to the cluster's CoreDNS instead of printing it
    #[arg(long)]
    install: bool,
}

/// Prints or installs the rules for all links that import.
///
/// # Errors
/// If the cluster cannot be read; with `--install` also if it has no CoreDNS
/// that takes the rules.
pub(crate) fn run(args: &DnsArgs) -> anyhow::Result<()> {
    block_on(async {
        let (kubeconfig, context) = args.cluster.resolve()?;
        let cluster = Cluster::new(&kubeconfig, &context).await?;
        let links = facts::links(&cluster).await?;
        let peers = importing(&links)?;
        ensure!(
            !peers.is_empty(),
            "context {context}: no link imports anything"
        );
        let dns = facts::dns(&cluster).await;
        if !args.install {
            return output::print(&dns.rules(&peers));
        }
        let change = dns.with_all(&peers);
        apply::dns(&cluster, &change).await?;
        output::print(&installed(&cluster.context, &dns, &peers, &change)?)
    })
}

fn importing(links: &[Link]) -> anyhow::Result<Vec<ClusterName>> {
    let imports = |link: &&Link| matches!(link.spec.direction, Direction::Both | Direction::Import);
    let name = |link: &Link| link.spec.cluster.parse().context("spec.cluster of a Link");
    links.iter().filter(imports).map(name).collect()
}

fn installed(
    context: &str,
    dns: &DnsFacts,
    peers: &[ClusterName],
    change: &DnsChange,
) -> anyhow::Result<String> {
    let context = escaped(context);
    match change {
        DnsChange::Unchanged => Ok(format!("{context}: DNS unchanged\n")),
        DnsChange::Write(_) => Ok(format!(
            "{context}: DNS rules updated (ConfigMap kube-system/coredns-custom)\n"
        )),
        DnsChange::ByHand { reason, .. } => {
            output::print(&dns.rules(peers))?;
            anyhow::bail!("context {context}: add the rules above to CoreDNS by hand, as {reason}")
        }
    }
}
