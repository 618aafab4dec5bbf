//! `mesh`, the command line.
//!
//! `install`, `inject` and `multicluster install` are functions from options
//! to text and talk to no cluster. `multicluster link`, `unlink` and `check`
//! read one or two contexts of the user's kubeconfig into plain facts, decide
//! on those, and act last. `trust` writes wishes for mesh-control. No command handles a key.

mod args;
mod check;
mod cluster;
mod diagnosis;
mod explain;
mod inject;
mod inject_command;
mod install;
mod manifests;
mod multicluster;
mod output;
mod table;
mod text;
mod trust;
mod uninstall;
mod version;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Command, Mesh, Multicluster};

fn main() -> ExitCode {
    match run(Mesh::parse().command) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Version(args) => output::print(&version::run(&args)?)?,
        Command::Install(args) => output::print(&install::run(args)?)?,
        Command::Uninstall(args) => output::print(&uninstall::control_plane(&args)?)?,
        Command::Inject(args) => inject_command::run(args)?,
        Command::Check(args) => return check::run(&args),
        Command::Explain(args) | Command::Multicluster(Multicluster::Explain(args)) => {
            return explain::run(&args);
        }
        Command::Multicluster(Multicluster::Check(args)) => return explain::check_links(&args),
        Command::Multicluster(Multicluster::Install(args)) => {
            output::print(&multicluster::install::run(args)?)?;
        }
        Command::Multicluster(Multicluster::Uninstall) => {
            output::print(&uninstall::multicluster())?;
        }
        Command::Multicluster(Multicluster::Gateways(args)) => multicluster::gateways::run(&args)?,
        Command::Multicluster(Multicluster::Exports(args)) => multicluster::exports::run(&args)?,
        Command::Multicluster(Multicluster::Services(args)) => multicluster::services::run(&args)?,
        Command::Multicluster(Multicluster::Dns(args)) => multicluster::dns_command::run(&args)?,
        Command::Multicluster(Multicluster::Link(args)) => multicluster::link::run(&args)?,
        Command::Multicluster(Multicluster::Unlink(args)) => multicluster::unlink::run(&args)?,
        Command::Trust(command) => trust::run(&command)?,
    }
    Ok(ExitCode::SUCCESS)
}
