//! `mesh multicluster link`: joins the cluster of the current context and
//! another one.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use kube::ResourceExt;
use mesh_api::link::{self, Link};
use mesh_core::cluster::ClusterName;

use super::{
    apply,
    dns::DnsChange,
    facts, link_file,
    plan::{self, Change, Plan, Side},
    render,
};
use crate::{
    cluster::{Cluster, ClusterArgs, block_on, require_context},
    output,
    yaml::print,
};

/// Options of `mesh multicluster link`.
#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    #[command(flatten)]
    peer: PeerArgs,
    /// Who uses whose exports, seen from this cluster
    #[arg(long, value_enum, default_value = "both", value_name = "DIRECTION")]
    direction: Direction,
    /// Print the Links instead of writing them
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// With -o yaml: write a file for each cluster here, such as west.yaml
    #[arg(long, value_name = "DIR", requires = "output")]
    output_dir: Option<PathBuf>,
    /// Write the Link in this file, which the other cluster's owner sent, to
    /// this cluster alone
    #[arg(long, value_name = "FILE", requires = "fingerprint", conflicts_with_all = ["output", "direction", "side"])]
    file: Option<PathBuf>,
    /// With --file: SHA-256 of each of the other cluster's roots, as its owner
    /// told it
    #[arg(long, value_name = "SHA256", requires = "file")]
    fingerprint: Vec<String>,
    /// Whose Link to print or write
    #[arg(long, value_enum, default_value = "both", value_name = "SIDE")]
    side: Sides,
    /// Seconds to wait for the gateways' addresses and the roots
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait: u64,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// The two clusters of a link.
#[derive(Clone, Debug, Args)]
pub(crate) struct PeerArgs {
    /// The name of the other cluster
    #[arg(long, value_name = "NAME")]
    pub(super) cluster: ClusterName,
    /// The context of the other cluster; its name unless given
    #[arg(long, value_name = "NAME")]
    remote_context: Option<String>,
    #[command(flatten)]
    here: ClusterArgs,
}

/// The two ends of a link, reachable.
pub(super) struct Ends {
    pub(super) local: Cluster,
    pub(super) remote: Cluster,
}

impl PeerArgs {
    /// This cluster. Does not call it yet.
    ///
    /// # Errors
    /// If the kubeconfig has no such context.
    pub(super) async fn resolve_local(&self) -> anyhow::Result<Cluster> {
        let (kubeconfig, local) = self.here.resolve()?;
        Cluster::new(&kubeconfig, &local).await
    }

    /// Both clusters. Does not call them yet.
    ///
    /// # Errors
    /// If the kubeconfig has no such contexts.
    pub(super) async fn resolve(&self) -> anyhow::Result<Ends> {
        let (kubeconfig, local) = self.here.resolve()?;
        let remote = self
            .remote_context
            .as_deref()
            .unwrap_or(self.cluster.as_str());
        require_context(&kubeconfig, remote, "--remote-context")?;
        ensure!(
            remote != local,
            "{local} is both this cluster and the other: name this one with --context"
        );
        Ok(Ends {
            local: Cluster::new(&kubeconfig, &local).await?,
            remote: Cluster::new(&kubeconfig, remote).await?,
        })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    /// Each uses what the other exports
    Both,
    /// This cluster uses what the other exports
    Import,
    /// The other cluster uses what this one exports
    Export,
    /// Identities can be named in policies, nothing else
    TrustOnly,
}

impl From<Direction> for link::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Both => Self::Both,
            Direction::Import => Self::Import,
            Direction::Export => Self::Export,
            Direction::TrustOnly => Self::TrustOnly,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// YAML, to keep in a repository
    Yaml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sides {
    /// Both
    Both,
    /// This cluster's
    Local,
    /// The other cluster's
    Remote,
}

/// Links the two clusters, or prints the Links.
///
/// # Errors
/// If a cluster cannot be read or written, or the two cannot be linked.
pub(crate) fn run(args: &LinkArgs) -> anyhow::Result<()> {
    if let Some(file) = &args.file {
        return block_on(from_file(args, file));
    }
    block_on(async {
        let ends = args.peer.resolve().await?;
        let patience = Duration::from_secs(args.wait);
        let (local, remote) = tokio::join!(
            facts::read(&ends.local, patience),
            facts::read(&ends.remote, patience)
        );
        let (local, remote) = (local?, remote?);
        plan::require_name(&remote, args.peer.cluster.as_str())?;
        let plan = plan::plan(&local, &remote, args.direction.into())?;
        for warning in warnings(&plan) {
            output::complain(&format!("warning: {warning}"));
        }
        match args.output {
            Some(Format::Yaml) => {
                // What is printed is for a repository; this is for its reader.
                output::complain(render::plan(&plan).trim_end());
                match &args.output_dir {
                    Some(folder) => write_files(folder, &plan, args.side),
                    None => output::print(&manifest(&plan, args.side)?),
                }
            }
            None => carry_out(args, &ends, &plan).await,
        }
    })
}

fn warnings(plan: &Plan) -> Vec<&String> {
    let mut warnings: Vec<_> = [&plan.local, &plan.remote]
        .into_iter()
        .flat_map(|side| &side.warnings)
        .collect();
    warnings.sort();
    warnings.dedup();
    warnings
}

/// The Links as a manifest, each under a comment that says where it belongs.
fn manifest(plan: &Plan, sides: Sides) -> anyhow::Result<String> {
    let documents = chosen(plan, sides)
        .into_iter()
        .map(|side| {
            let context = crate::text::escaped(&side.context);
            Ok(format!(
                "# For the cluster of the context {context}.\n{}",
                document(&side.link)?
            ))
        })
        .collect::<anyhow::Result<Vec<String>>>()?;
    Ok(documents.join("---\n"))
}

/// A file for each cluster, called like it.
fn write_files(folder: &Path, plan: &Plan, sides: Sides) -> anyhow::Result<()> {
    let shown = folder.display();
    fs::create_dir_all(folder).with_context(|| format!("{shown} cannot be made"))?;
    for side in chosen(plan, sides) {
        let path = folder.join(format!("{}.yaml", side.cluster));
        let text = format!(
            "# For the cluster {}. It holds no secret.\n{}",
            side.cluster,
            document(&side.link)?
        );
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        output::complain(&format!("{} written", path.display()));
    }
    Ok(())
}

/// Writes a Link that was sent, once its roots are known to be right.
async fn from_file(args: &LinkArgs, file: &Path) -> anyhow::Result<()> {
    let name = args.peer.cluster.as_str();
    let link = link_file::read_file(file, name, &args.fingerprint)?;
    let cluster = args.peer.resolve_local().await?;
    let (local_name, local) = facts::identity(&cluster).await?;
    link_file::require_foreign(&link, &local)?;
    let existing = facts::links(&cluster).await?;
    link_file::require_free(&link, &existing)?;
    let side = Side {
        context: cluster.context.clone(),
        cluster: local_name,
        change: match existing.iter().find(|existing| existing.name_any() == name) {
            None => Change::Create,
            Some(existing) if existing.spec == link.spec => Change::None,
            Some(_) => Change::Update,
        },
        fingerprints: facts::fingerprints(&link.spec.bundle)?,
        dns: DnsChange::Unchanged,
        warnings: Vec::new(),
        link: Link::new(name, link.spec),
    };
    output::print(&render::side(&side))?;
    if !args.yes {
        confirm("Write this Link?")?;
    }
    apply::link(&cluster, &side).await?;
    output::print(&format!(
        "{}For names such as web.{name}, run `mesh multicluster dns --install`\n",
        render::link_done(&side)
    ))
}

fn document(link: &Link) -> anyhow::Result<String> {
    Ok(print::document(&serde_json::to_value(link)?))
}

fn chosen(plan: &Plan, sides: Sides) -> Vec<&Side> {
    match sides {
        Sides::Both => vec![&plan.local, &plan.remote],
        Sides::Local => vec![&plan.local],
        Sides::Remote => vec![&plan.remote],
    }
}

async fn carry_out(args: &LinkArgs, ends: &Ends, plan: &Plan) -> anyhow::Result<()> {
    output::print(&render::plan(plan))?;
    if !args.yes {
        confirm("Link these clusters?")?;
    }
    for side in chosen(plan, args.side) {
        let cluster = if side.context == ends.local.context {
            &ends.local
        } else {
            &ends.remote
        };
        apply::link(cluster, side).await?;
        output::print(&render::link_done(side))?;
        apply::dns(cluster, &side.dns).await?;
        output::print(&render::dns_done(
            &side.context,
            &side.link.spec.cluster,
            &side.dns,
        ))?;
    }
    Ok(())
}

/// Asks, if there is somebody to ask.
///
/// # Errors
/// If the answer is not yes.
pub(super) fn confirm(question: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Ok(());
    }
    output::print(&format!("{question} [y/N] "))?;
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("no answer")?;
    ensure!(
        matches!(answer.trim(), "y" | "Y" | "yes"),
        "nothing was changed"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multicluster::plan::tests::facts;
    use crate::yaml::{read, split};

    #[test]
    fn links_are_printed_for_a_repository() {
        let plan = plan::plan(&facts("west"), &facts("east"), link::Direction::Both).unwrap();
        let both = manifest(&plan, Sides::Both).unwrap();
        let documents = split::documents(&both);
        assert_eq!(documents.len(), 2);
        let value = read::document(documents[0].text).unwrap().unwrap();
        let link: Link = serde_json::from_value(value).unwrap();
        assert_eq!(link.spec, plan.local.link.spec);
        assert!(!both.contains("PRIVATE") && !both.contains("kind: Secret"));
        assert!(
            manifest(&plan, Sides::Remote)
                .unwrap()
                .contains("context ctx-east.\n")
        );
    }

    #[test]
    fn each_cluster_gets_a_file_of_its_own() {
        let plan = plan::plan(&facts("west"), &facts("east"), link::Direction::Import).unwrap();
        let folder = std::env::temp_dir().join(format!("mesh-link-{}", std::process::id()));
        write_files(&folder, &plan, Sides::Both).unwrap();
        let west = fs::read_to_string(folder.join("west.yaml")).unwrap();
        let east = fs::read_to_string(folder.join("east.yaml")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(
            west.contains("name: east\n") && west.contains("direction: Import\n"),
            "{west}"
        );
        assert!(
            east.contains("name: west\n") && east.contains("direction: Export\n"),
            "{east}"
        );
    }
}
