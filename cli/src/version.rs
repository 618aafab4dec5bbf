//! `mesh version`: of this program and, if asked for, of what a cluster runs.

use std::fmt::Write;

use clap::Args;
use mesh_api::names;

use crate::{
    check::state,
    cluster::{Cluster, ClusterArgs, block_on},
    text::escaped,
};

/// Options of `mesh version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Ask the cluster of the context too
    #[arg(long)]
    server: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The versions.
///
/// # Errors
/// If the cluster cannot be asked.
pub(crate) fn run(args: &VersionArgs) -> anyhow::Result<String> {
    let mut text = format!("mesh {}\n", env!("CARGO_PKG_VERSION"));
    if args.server {
        let images = block_on(images(&args.cluster))?;
        for (program, image) in images {
            let image = image
                .as_deref()
                .map_or_else(|| "not installed".into(), escaped);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{program} {image}");
        }
    }
    Ok(text)
}

async fn images(args: &ClusterArgs) -> anyhow::Result<Vec<(&'static str, Option<String>)>> {
    let (kubeconfig, context) = args.resolve()?;
    let cluster = Cluster::new(&kubeconfig, &context).await?;
    let mut images = Vec::new();
    for (namespace, program) in [
        (names::SYSTEM_NAMESPACE, names::CONTROL),
        (names::MULTICLUSTER_NAMESPACE, names::GATEWAY),
        (names::MULTICLUSTER_NAMESPACE, names::MIRROR),
    ] {
        let found = state::program(&cluster, namespace, program).await?;
        images.push((program, found.map(|found| found.image)));
    }
    Ok(images)
}
