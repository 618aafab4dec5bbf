//! `mesh trust`: which roots a cluster has, and putting another in their place.
//!
//! mesh-control makes roots and keeps their keys. This command writes a wish
//! on the root's Secret and reads what came of it; it asks for the Secret's
//! metadata only, so that no key ever reaches it.

mod render;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use mesh_api::names;
use serde_json::json;

use crate::{
    cluster::{Cluster, ClusterArgs, block_on},
    output,
    text::escaped,
};

/// How long mesh-control may take to carry out a step: it looks every 3 s.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// The commands about roots of trust.
#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Show the roots of a cluster, and how far a rotation is
    Status(StatusArgs),
    /// Put a new root in the place of the old one, step by step
    Rotate(RotateArgs),
}

/// Options of `mesh trust status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Options of `mesh trust rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// What to do next
    #[arg(value_enum)]
    step: Step,
    /// Do not wait until everybody has heard of the step before: who has not
    /// is refused until they have
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Make a second root and have everybody trust it too
    Begin,
    /// Sign with the new root
    Use,
    /// Stop trusting the old root
    Finish,
}

/// What is known of the roots of a cluster.
#[derive(Debug)]
struct Facts {
    /// The roots that are published, in DER; the first one signs.
    roots: Vec<Vec<u8>>,
    /// Of the root's Secret.
    annotations: BTreeMap<String, String>,
}

/// Runs one of the commands.
///
/// # Errors
/// If the cluster cannot be asked, or mesh-control refuses the step.
pub(crate) fn run(command: &Trust) -> anyhow::Result<()> {
    block_on(async {
        match command {
            Trust::Status(args) => {
                let cluster = connect(&args.cluster).await?;
                output::print(&render::status(&facts(&cluster).await?))
            }
            Trust::Rotate(args) => {
                let cluster = connect(&args.cluster).await?;
                rotate(&cluster, args).await?;
                output::print(&render::status(&facts(&cluster).await?))
            }
        }
    })
}

async fn connect(args: &ClusterArgs) -> anyhow::Result<Cluster> {
    let (kubeconfig, context) = args.resolve()?;
    Cluster::new(&kubeconfig, &context).await
}

/// Writes the wish, and waits until mesh-control has dealt with it.
async fn rotate(cluster: &Cluster, args: &RotateArgs) -> anyhow::Result<()> {
    let wish = wish(args.step, args.now);
    let patch = json!({"metadata": {"annotations": {
        names::ROTATE_ROOT: wish,
        names::ROTATE_ROOT_REFUSED: null,
    }}});
    let parameters = PatchParams::default();
    let patch = Patch::Merge(&patch);
    let asked = secrets(cluster);
    let written = asked.patch_metadata(names::ROOT_SECRET, &parameters, &patch);
    cluster
        .ask("patch Secret mesh-system/mesh-root", written)
        .await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let annotations = annotations(cluster).await?;
        if !annotations.contains_key(names::ROTATE_ROOT) {
            return match annotations.get(names::ROTATE_ROOT_REFUSED) {
                Some(reason) => bail!("mesh-control refuses: {}", escaped(reason)),
                None => Ok(()),
            };
        }
        if Instant::now() > deadline {
            bail!(
                "context {}: mesh-control has not taken up the step within {} s; it will when it \
                 runs: see `mesh check`",
                escaped(&cluster.context),
                PATIENCE.as_secs()
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

const fn wish(step: Step, now: bool) -> &'static str {
    match (step, now) {
        (Step::Begin, _) => "begin",
        (Step::Use, false) => "use",
        (Step::Use, true) => "use-now",
        (Step::Finish, false) => "finish",
        (Step::Finish, true) => "finish-now",
    }
}

fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), names::SYSTEM_NAMESPACE)
}

async fn annotations(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, String>> {
    let api = secrets(cluster);
    let found = cluster
        .ask(
            "read the metadata of Secret mesh-system/mesh-root",
            api.get_metadata(names::ROOT_SECRET),
        )
        .await?;
    Ok(found.metadata.annotations.unwrap_or_default())
}

async fn facts(cluster: &Cluster) -> anyhow::Result<Facts> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), names::SYSTEM_NAMESPACE);
    let published = cluster
        .ask(
            "read ConfigMap mesh-system/mesh-roots",
            api.get(names::ROOTS_CONFIG_MAP),
        )
        .await?;
    let bundle = published
        .data
        .and_then(|mut data| data.remove(names::ROOTS_BUNDLE))
        .context("ConfigMap mesh-system/mesh-roots holds no roots")?;
    Ok(Facts {
        roots: mesh_tls::parse_bundle(&bundle).context("ConfigMap mesh-system/mesh-roots")?,
        annotations: annotations(cluster).await?,
    })
}
