//! Processes that hang or die: of pods, and of a cluster's own programs.

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Fault;
use crate::{
    cluster::{Cluster, Container},
    process,
};

/// Stops every process of a container without its knowledge, as a machine does
/// that has no time for it.
///
/// # Errors
/// If the container does not run.
pub fn freeze_container(cluster: &Cluster, container: Container<'_>) -> Result<Fault> {
    let pids = cluster.pids_of(container)?;
    let what = format!("{}: {container} is frozen", cluster.name());
    freeze(what, pids)
}

/// Kills a container. Kubernetes starts it again, so nothing has to be undone.
///
/// # Errors
/// If the container does not run.
pub fn kill_container(cluster: &Cluster, container: Container<'_>) -> Result<()> {
    for pid in cluster.pids_of(container)? {
        // Those that a parent's death has ended are gone already.
        let _ = kill(pid, Signal::SIGKILL);
    }
    Ok(())
}

/// Stops one of the cluster's own programs (`kube-apiserver`, `etcd`, ...)
/// without its knowledge.
///
/// # Errors
/// If it does not run.
pub fn freeze_program(cluster: &Cluster, name: &str) -> Result<Fault> {
    let pid = running(cluster, name)?;
    freeze(format!("{}: {name} is frozen", cluster.name()), vec![pid])
}

/// Ends one of the cluster's own programs; it is started again at the end of
/// the fault, and after an API server those that follow it. `signal` says how it dies.
///
/// # Errors
/// If it does not run, or does not die.
pub fn stop_program(cluster: &Cluster, name: &str, signal: Signal) -> Result<Fault> {
    let pid = running(cluster, name)?;
    kill(pid, signal).with_context(|| format!("{name}, process {pid}"))?;
    process::stop(&[pid]);
    if process::is_alive(pid) {
        bail!("{name}, process {pid}, does not end");
    }
    let what = format!("{}: {name} is stopped", cluster.name());
    let (cluster, name) = (cluster.clone(), name.to_owned());
    Ok(Fault::new(what, move || cluster.revive(&name)))
}

fn freeze(what: String, pids: Vec<Pid>) -> Result<Fault> {
    // Undone even if only some of them could be stopped.
    let frozen = pids.clone();
    let fault = Fault::new(what, move || {
        for pid in frozen {
            // One that was killed meanwhile is gone.
            let _ = kill(pid, Signal::SIGCONT);
        }
        Ok(())
    });
    for pid in pids {
        kill(pid, Signal::SIGSTOP).with_context(|| format!("process {pid}"))?;
    }
    Ok(fault)
}

fn running(cluster: &Cluster, name: &str) -> Result<Pid> {
    let programs = cluster.programs()?;
    match programs.pid(name).filter(|pid| process::is_alive(*pid)) {
        Some(pid) => Ok(pid),
        None => {
            let names: Vec<_> = programs.all().into_iter().map(|(name, _)| name).collect();
            bail!(
                "{name} does not run in {}; there are {}",
                cluster.name(),
                names.join(", ")
            )
        }
    }
}
