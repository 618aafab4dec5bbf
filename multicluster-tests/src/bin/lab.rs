//! `lab`: real Kubernetes clusters on this machine.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use mesh_lab::{
    agent, binaries, cluster::Cluster, demo, images, lab, network, paths::Paths, preflight, relay,
};

#[derive(Parser)]
#[command(
    name = "lab",
    about = "Real Kubernetes clusters on this machine",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start clusters, for example: lab up west east
    Up { clusters: Vec<String> },
    /// Remove all clusters and everything that belongs to them
    Down,
    /// Show which programs run
    Status,
    /// Print the log of a program (etcd, containerd, kube-apiserver, kubelet, ...)
    Logs { cluster: String, component: String },
    /// Build the Kubernetes programs that are missing
    Binaries,
    /// Make the images whose programs changed, and load them where a cluster is up
    Images,
    /// Show the firewall between the clusters, with its counters
    Firewall,
    /// Let TCP connections to a port pass between clusters
    Open { port: u16 },
    /// Take `open` back
    Close { port: u16 },
    /// Print the path of the kubeconfig
    Kubeconfig,
    /// Show the whole mesh on two clusters
    Demo {
        #[command(subcommand)]
        action: Option<DemoAction>,
    },
    /// Serve LoadBalancer addresses; started by `up`
    #[command(hide = true)]
    Agent { cluster: String, kubeconfig: String },
    /// Be a bad path between networks; started by tests
    #[command(hide = true)]
    Relay(relay::Flags),
}

#[derive(Subcommand)]
enum DemoAction {
    /// Remove the demo's clusters
    Down,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let paths = Paths::from_env();
    match command {
        Command::Up { clusters } => up(&paths, &clusters),
        Command::Down
        | Command::Demo {
            action: Some(DemoAction::Down),
        } => lab::Lab::down(&paths),
        Command::Status => print(&lab::status(&paths)?),
        Command::Logs { cluster, component } => print(&std::fs::read_to_string(
            find(&paths, &cluster)?.log(&component)?,
        )?),
        Command::Binaries => {
            preflight::check(&paths, &say)?;
            binaries::ensure(&paths, &say)
        }
        Command::Images => make_images(&paths),
        Command::Firewall => print(&network::firewall()?),
        Command::Open { port } => network::open_port(port),
        Command::Close { port } => network::close_port(port),
        Command::Kubeconfig => print(&format!("{}\n", paths.kubeconfig().display())),
        Command::Demo { action: None } => demo::run(),
        Command::Agent {
            cluster,
            kubeconfig,
        } => agent::run(&find(&paths, &cluster)?, &kubeconfig),
        Command::Relay(flags) => relay::run(&flags),
    }
}

fn say(text: &str) {
    println!("{text}");
}

fn make_images(paths: &Paths) -> Result<()> {
    binaries::ensure(paths, &say)?;
    for archive in images::make_all(paths)? {
        let size = archive.metadata()?.len() >> 10;
        println!("{size:>8} KiB  {}", archive.display());
    }
    if lab::running(paths)?.is_empty() {
        return Ok(());
    }
    lab::Lab::attach(paths)?.load_images()
}

fn up(paths: &Paths, clusters: &[String]) -> Result<()> {
    lab::Lab::up(paths, clusters, &say)?;
    println!("export KUBECONFIG={}", paths.kubeconfig().display());
    Ok(())
}

fn find(paths: &Paths, name: &str) -> Result<Cluster> {
    match lab::running(paths)?
        .into_iter()
        .find(|cluster| cluster.name() == name)
    {
        Some(cluster) => Ok(cluster),
        None => bail!("no cluster {name} is up"),
    }
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
