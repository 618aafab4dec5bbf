//! `lab fault`: one fault, until Ctrl-C or for a time.

use std::{sync::mpsc, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use mesh_lab::{
    cluster::{Cluster, Container},
    fault::{Fault, address, clock, dns, network, path, programs, resources},
    paths::Paths,
    relay::path::Path,
};
use nix::sys::signal::{SigSet, Signal};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    kind: Kind,
    /// How many seconds it lasts; without it, until Ctrl-C
    #[arg(long = "for", value_name = "SECONDS", global = true)]
    seconds: Option<u64>,
}

#[derive(Subcommand)]
enum Kind {
    /// No packet passes between two clusters
    Cut {
        from: String,
        to: String,
        /// Only from the first to the second
        #[arg(long)]
        one_way: bool,
    },
    /// What passes between two clusters is late, lost or slow
    Path {
        from: String,
        to: String,
        /// Milliseconds, each way
        #[arg(long, default_value_t = 0)]
        delay: u64,
        /// Milliseconds that come on top at random
        #[arg(long, default_value_t = 0)]
        jitter: u64,
        /// The share of packets that is lost, 0 to 1
        #[arg(long, default_value_t = 0.0)]
        loss: f64,
        /// Bytes per second, each way
        #[arg(long)]
        rate: Option<u64>,
    },
    /// A port of the second cluster refuses the first
    Refuse { from: String, to: String, port: u16 },
    /// A port of the second cluster swallows what the first sends
    BlackHole { from: String, to: String, port: u16 },
    /// A program of the cluster (kube-apiserver) or a container
    /// (namespace/pod/container) hangs
    Freeze { cluster: String, target: String },
    /// A container (namespace/pod/container) dies; Kubernetes starts it again
    Kill { cluster: String, container: String },
    /// A program of the cluster (kube-apiserver, etcd, ...) is stopped
    Stop {
        cluster: String,
        program: String,
        /// It gets no time to end
        #[arg(long)]
        kill: bool,
    },
    /// A volume in memory, at PATH in a container, is full
    FillDisk {
        cluster: String,
        container: String,
        path: String,
    },
    /// A container can open no more files
    ExhaustFiles { cluster: String, container: String },
    /// A container has no memory left
    ExhaustMemory { cluster: String, container: String },
    /// A Service (namespace/name) of type LoadBalancer has another address
    ChangeAddress { cluster: String, service: String },
    /// The clock of a program of the mesh is off, in all pods of its Deployment
    /// (namespace/deployment/container); they are replaced, and again at the end
    Clock {
        cluster: String,
        program: String,
        /// How many seconds it is ahead of the machine's; behind it, if negative
        #[arg(allow_negative_numbers = true, value_name = "SECONDS")]
        ahead: i32,
    },
    /// A name, or with `silence` every name, does not resolve
    Dns {
        cluster: String,
        answer: Answer,
        #[arg(default_value = "")]
        name: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Answer {
    Nxdomain,
    Servfail,
    Silence,
}

pub(crate) fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    // Before the fault: none may outlive a signal that comes early.
    let ends = signals()?;
    let Some(fault) = start(paths, &arguments.kind)? else {
        return Ok(());
    };
    println!("{}", fault.what());
    match arguments.seconds {
        Some(seconds) => {
            // A signal and the end of the time are as good.
            let _ = ends.recv_timeout(Duration::from_secs(seconds));
        }
        None => ends.recv().context("the thread that waits for signals")?,
    }
    fault.undo()
}

/// Hears of SIGINT and SIGTERM, which end the program no more.
fn signals() -> Result<mpsc::Receiver<()>> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        if set.wait().is_ok() {
            // Nobody listens once the time has passed.
            let _ = sender.send(());
        }
    });
    Ok(receiver)
}

/// The fault; none for what happens once.
fn start(paths: &Paths, kind: &Kind) -> Result<Option<Fault>> {
    let cluster = |name: &str| super::find(paths, name);
    let fault = match kind {
        Kind::Cut { from, to, one_way } => {
            network::cut(&cluster(from)?, &cluster(to)?, way(*one_way))
        }
        Kind::Path {
            from,
            to,
            delay,
            jitter,
            loss,
            rate,
        } => {
            let path = Path::default()
                .with_delay(Duration::from_millis(*delay))?
                .with_jitter(Duration::from_millis(*jitter))?
                .with_loss(*loss)?;
            let path = match rate {
                Some(rate) => path.with_rate(*rate)?,
                None => path,
            };
            path::bad_path(&cluster(from)?, &cluster(to)?, path)
        }
        Kind::Refuse { from, to, port } => network::refuse(&cluster(from)?, &cluster(to)?, *port),
        Kind::BlackHole { from, to, port } => {
            network::black_hole(&cluster(from)?, &cluster(to)?, *port)
        }
        Kind::Freeze {
            cluster: name,
            target,
        } => freeze(&cluster(name)?, target),
        Kind::Kill {
            cluster: name,
            container,
        } => {
            programs::kill_container(&cluster(name)?, parse_container(container)?)?;
            return Ok(None);
        }
        Kind::Stop {
            cluster: name,
            program,
            kill,
        } => programs::stop_program(&cluster(name)?, program, signal(*kill)),
        Kind::FillDisk {
            cluster: name,
            container,
            path,
        } => resources::fill_disk(&cluster(name)?, parse_container(container)?, path),
        Kind::ExhaustFiles {
            cluster: name,
            container,
        } => resources::exhaust_files(&cluster(name)?, parse_container(container)?),
        Kind::ExhaustMemory {
            cluster: name,
            container,
        } => resources::exhaust_memory(&cluster(name)?, parse_container(container)?),
        Kind::ChangeAddress {
            cluster: name,
            service,
        } => {
            let (namespace, service) = parse_service(service)?;
            address::change_address(&cluster(name)?, namespace, service)
        }
        Kind::Clock {
            cluster: name,
            program,
            ahead,
        } => clock::set_clock(&cluster(name)?, parse_program(program)?, *ahead),
        Kind::Dns {
            cluster: name,
            answer,
            name: question,
        } => break_dns(&cluster(name)?, *answer, question),
    };
    fault.map(Some)
}

const fn way(one_way: bool) -> network::Way {
    if one_way {
        network::Way::Forth
    } else {
        network::Way::Both
    }
}

const fn signal(kill: bool) -> Signal {
    if kill {
        Signal::SIGKILL
    } else {
        Signal::SIGTERM
    }
}

fn parse_service(service: &str) -> Result<(&str, &str)> {
    service
        .split_once('/')
        .context("the Service is named namespace/name")
}

fn freeze(cluster: &Cluster, target: &str) -> Result<Fault> {
    if target.contains('/') {
        programs::freeze_container(cluster, parse_container(target)?)
    } else {
        programs::freeze_program(cluster, target)
    }
}

fn break_dns(cluster: &Cluster, answer: Answer, name: &str) -> Result<Fault> {
    let answer = match answer {
        Answer::Silence if name.is_empty() => return dns::silence(cluster),
        Answer::Silence => bail!("silence is for all names: name none"),
        _ if name.is_empty() => bail!("which name does not resolve?"),
        Answer::Nxdomain => dns::Answer::NxDomain,
        Answer::Servfail => dns::Answer::ServFail,
    };
    dns::answer(cluster, name, answer)
}

fn parse_program(text: &str) -> Result<clock::Program<'_>> {
    match *text.split('/').collect::<Vec<_>>() {
        [namespace, deployment, container] => Ok(clock::Program {
            namespace,
            deployment,
            container,
        }),
        _ => bail!("{text:?} is no program: name it namespace/deployment/container"),
    }
}

fn parse_container(text: &str) -> Result<Container<'_>> {
    match *text.split('/').collect::<Vec<_>>() {
        [namespace, pod, name] => Ok(Container {
            namespace,
            pod,
            name,
        }),
        _ => bail!("{text:?} is no container: name it namespace/pod/container"),
    }
}
