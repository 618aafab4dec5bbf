//! `mesh multicluster unlink`: takes a link away, on both sides.

use anyhow::bail;
use clap::Args;

use super::{
    apply,
    dns::DnsChange,
    facts,
    link::{PeerArgs, confirm},
    render,
};
use crate::{
    cluster::{Cluster, block_on},
    output,
    text::escaped,
};

/// Options of `mesh multicluster unlink`.
#[derive(Debug, Args)]
pub(crate) struct UnlinkArgs {
    #[command(flatten)]
    peer: PeerArgs,
    /// Leave the other cluster as it is, for instance when it is gone
    #[arg(long)]
    local_only: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Removes the Links and the DNS rules. What the mirrors made is removed by
/// them.
///
/// # Errors
/// If a cluster refuses; what can be removed is removed first.
pub(crate) fn run(args: &UnlinkArgs) -> anyhow::Result<()> {
    block_on(async {
        let ends = if args.local_only {
            (args.peer.resolve_local().await?, None)
        } else {
            let ends = args.peer.resolve().await?;
            (ends.local, Some(ends.remote))
        };
        let (local, remote) = ends;
        let peer = args.peer.cluster.as_str();
        let (name, _) = facts::identity(&local).await?;
        if !args.yes {
            confirm(&format!("Remove the link between {name} and {peer}?"))?;
        }
        let here = remove(&local, peer).await;
        let there = match &remote {
            Some(remote) => remove(remote, name.as_str()).await,
            None => Ok(()),
        };
        report(&here, &there)
    })
}

fn report(here: &anyhow::Result<()>, there: &anyhow::Result<()>) -> anyhow::Result<()> {
    match (here, there) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(error), Ok(())) => bail!("{error:#}"),
        (Ok(()), Err(error)) => bail!(
            "{error:#}\nThis cluster's side is gone; run the same command again when the other \
             can be reached, or leave it with --local-only"
        ),
        (Err(here), Err(there)) => bail!("{here:#}\n{there:#}"),
    }
}

/// Removes from `cluster` what links it to `peer`.
async fn remove(cluster: &Cluster, peer: &str) -> anyhow::Result<()> {
    let context = escaped(&cluster.context);
    let removed = apply::unlink(cluster, peer).await?;
    output::print(&if removed {
        format!(
            "{context}: Link {peer} removed; mesh-mirror now removes the Services it made for it\n"
        )
    } else {
        format!("{context}: there was no Link {peer}\n")
    })?;
    let change = facts::dns(cluster).await.without(&peer.parse()?);
    apply::dns(cluster, &change).await?;
    if change != DnsChange::Unchanged {
        output::print(&render::dns_done(&cluster.context, peer, &change))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn c9_what_could_not_be_removed_is_an_error_with_a_way_out() {
        let error = report(&Ok(()), &Err(anyhow!("context east: cannot reach it"))).unwrap_err();
        assert!(error.to_string().contains("--local-only"));
        let error = report(&Err(anyhow!("here")), &Err(anyhow!("there"))).unwrap_err();
        assert_eq!(error.to_string(), "here\nthere");
    }
}
