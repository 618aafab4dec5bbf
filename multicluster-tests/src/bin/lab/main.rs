//! `lab`: real Kubernetes clusters on this machine.

mod fault;

use std::{io::Write as _, path::Path, process::ExitCode, time::Instant};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use mesh_lab::{
    addresses::IpFamilies,
    agent, binaries,
    cluster::Cluster,
    demo, images,
    lab::{self, Shape},
    machine::Machine,
    network,
    paths::Paths,
    preflight, relay, third_party,
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
    Up {
        clusters: Vec<String>,
        /// Nodes of each
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// IPv4, IPv4 and IPv6, or IPv6
        #[arg(long, value_enum, default_value = "v4")]
        ip: IpFamilies,
    },
    /// Remove all clusters and everything that belongs to them
    Down,
    /// Show which programs run
    Status,
    /// Print the log of a program (etcd, containerd, kube-apiserver, kubelet, ...)
    Logs { cluster: String, component: String },
    /// Build the Kubernetes programs that are missing
    Binaries,
    /// Make the images whose programs changed; where a cluster is up, load them
    /// and restart what runs them
    Images {
        #[command(subcommand)]
        action: Option<ImagesAction>,
    },
    /// Show the firewall between the clusters, with its counters
    Firewall,
    /// Let TCP connections to a port pass between clusters
    Open { port: u16 },
    /// Take `open` back
    Close { port: u16 },
    /// Print the path of the kubeconfig
    Kubeconfig,
    /// Start a host on the WAN, behind a NAT, and run a command on it
    Machine {
        name: String,
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Break something, until Ctrl-C or for a time
    Fault(fault::Arguments),
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
enum ImagesAction {
    /// Make images of programs that others wrote (all, or those named), and
    /// load them where a cluster is up
    ThirdParty { names: Vec<String> },
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
        Command::Up {
            clusters,
            nodes,
            ip: families,
        } => up(&paths, &clusters, Shape { nodes, families }),
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
        Command::Images { action: None } => make_images(&paths),
        Command::Images {
            action: Some(ImagesAction::ThirdParty { names }),
        } => make_third_party(&paths, &names),
        Command::Firewall => print(&network::firewall()?),
        Command::Open { port } => network::open_port(port),
        Command::Close { port } => network::close_port(port),
        Command::Kubeconfig => print(&format!("{}\n", paths.kubeconfig().display())),
        Command::Machine { name, command } => on_machine(&paths, &name, &command),
        Command::Fault(arguments) => fault::run(&paths, &arguments),
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
        show_size(&archive.path)?;
    }
    if lab::running(paths)?.is_empty() {
        return Ok(());
    }
    lab::Lab::attach(paths)?.load_images(&say)
}

fn make_third_party(paths: &Paths, names: &[String]) -> Result<()> {
    let named = names.iter().map(|name| third_party::find(name));
    let images: Vec<_> = if names.is_empty() {
        third_party::IMAGES.iter().collect()
    } else {
        named.collect::<Result<_>>()?
    };
    let clusters = lab::running(paths)?;
    for image in images {
        let start = Instant::now();
        let archive = third_party::make(paths, image)?;
        for cluster in &clusters {
            cluster.load_image(&archive)?;
        }
        show_size(&archive)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{:>14}  {} in {seconds:.1} s", "", image.reference);
    }
    Ok(())
}

fn show_size(archive: &Path) -> Result<()> {
    let size = archive.metadata()?.len() >> 10;
    println!("{size:>8} KiB  {}", archive.display());
    Ok(())
}

fn up(paths: &Paths, clusters: &[String], shape: Shape) -> Result<()> {
    lab::Lab::up(paths, clusters, shape, &say)?;
    println!("export KUBECONFIG={}", paths.kubeconfig().display());
    Ok(())
}

fn on_machine(paths: &Paths, name: &str, command: &[String]) -> Result<()> {
    let machine = Machine::start(paths, name)?;
    let Some((program, arguments)) = command.split_first() else {
        println!("{name} is up; for example: lab machine {name} -- ip address");
        return Ok(());
    };
    let status = machine.command(program).args(arguments).status()?;
    if !status.success() {
        bail!("{program}: {status}");
    }
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
