//! `mesh check`: what is wrong with the mesh in one cluster, and what to do.
//!
//! The cluster is read into plain state first; rules over that state make the
//! lines. It looks at what Kubernetes knows and sends no traffic of its own.

mod dataplane;
mod installation;
mod links;
mod report;
pub(crate) mod state;

use std::process::ExitCode;

use clap::Args;

use crate::{
    cluster::{Cluster, ClusterArgs, block_on},
    output,
};

/// Options of `mesh check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Prints what was found. The code says whether something failed.
///
/// # Errors
/// If the cluster cannot be asked at all.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let report = block_on(async {
        let (kubeconfig, context) = args.cluster.resolve()?;
        let cluster = Cluster::new(&kubeconfig, &context).await?;
        let state = state::read(&cluster, &kubeconfig).await?;
        Ok(report(&state))
    })?;
    output::print(&report.to_string())?;
    Ok(if report.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn report(state: &state::State) -> report::Report {
    let mut sections = vec![
        installation::kubernetes(&state.version),
        installation::control_plane(state),
    ];
    sections.extend(installation::multicluster(state));
    sections.push(dataplane::section(state));
    sections.extend(state.links.as_ref().map_or_else(
        |error| vec![links::unreadable(error)],
        |links| {
            links
                .iter()
                .map(|link| links::section(state, link))
                .collect()
        },
    ));
    report::Report { sections }
}

#[cfg(test)]
mod tests;
