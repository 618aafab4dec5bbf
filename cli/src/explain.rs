//! `mesh explain`: why a call does or does not get through.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::{
    cluster::{Cluster, ClusterArgs, block_on},
    diagnosis::{
        self, Hop, Verdict,
        read::{self, CallQuestion, Question},
        render::{self, Style},
    },
    output,
};

/// Options of `mesh explain`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ExplainArgs {
    /// What is called: web, web-east, web.east or web.shop.svc.east
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Where the pod that calls is; that of the context unless given
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// The pod that calls, or deploy/NAME; any with a sidecar unless given
    #[arg(long, value_name = "POD")]
    from: Option<String>,
    /// The Service's port; its first unless given
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Print JSON
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

/// Options of `mesh multicluster check`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct LinkCheckArgs {
    /// The only link to check; all unless given
    #[arg(value_name = "LINK")]
    link: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Print JSON
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

const EXIT_CODES: &str =
    "Exit code: 0 if all was seen to work, 1 if something is broken, 3 if not all could be seen.";

/// What is printed instead of text.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// JSON
    Json,
}

/// Explains a call. The code says whether all of its way works.
///
/// # Errors
/// If the cluster cannot be asked, or `SERVICE` is no name.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let (kubeconfig, context) = args.cluster.resolve()?;
    let namespace = args.namespace.clone().or_else(|| {
        let named = kubeconfig
            .contexts
            .iter()
            .find(|found| found.name == context)?;
        named.context.as_ref()?.namespace.clone()
    });
    let namespace = namespace.unwrap_or_else(|| "default".into());
    let title = format!(
        "From the namespace {namespace} of {context} to {}",
        args.service
    );
    let question = Question {
        call: Some(CallQuestion {
            service: args.service.clone(),
            namespace,
            from: args.from.clone(),
            port: args.port,
        }),
        link: None,
    };
    answer(&args.cluster, &question, &title, args.output)
}

/// Checks the links, from end to end.
///
/// # Errors
/// If the cluster cannot be asked, or there is no such Link.
pub(crate) fn check_links(args: &LinkCheckArgs) -> anyhow::Result<ExitCode> {
    let (_, context) = args.cluster.resolve()?;
    let question = Question {
        call: None,
        link: args.link.clone(),
    };
    answer(
        &args.cluster,
        &question,
        &format!("The links of {context}"),
        args.output,
    )
}

fn answer(
    cluster: &ClusterArgs,
    question: &Question,
    title: &str,
    format: Option<Format>,
) -> anyhow::Result<ExitCode> {
    let hops = block_on(async {
        let (kubeconfig, context) = cluster.resolve()?;
        let cluster = Cluster::new(&kubeconfig, &context).await?;
        let facts = read::read(&cluster, &kubeconfig, question).await?;
        Ok(diagnosis::diagnose(&facts))
    })?;
    output::print(&match format {
        Some(Format::Json) => json(&hops)?,
        None => render::text(title, &hops, Style::of_output()),
    })?;
    Ok(code(diagnosis::verdict(&hops)))
}

fn json(hops: &[Hop]) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(hops)? + "\n")
}

/// 0: all was seen to work; 1: something is broken, even if calls get through
/// without it; 3: not all could be seen.
/// (2 is what wrong options end with.)
fn code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Good => ExitCode::SUCCESS,
        Verdict::Broken | Verdict::Degraded => ExitCode::FAILURE,
        Verdict::Unknown => ExitCode::from(3),
    }
}
