//! What a pod runs out of: disk, file descriptors, memory.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{sys::statfs, unistd::Pid};

use super::Fault;
use crate::{
    cluster::{Cluster, Container},
    command::run,
};

/// Memory that a container may still take before it is killed, in bytes.
const LITTLE: u64 = 1 << 20;

/// Fills the volume at `path` in the container to the last byte. Only a volume
/// in memory is filled, as an `emptyDir` of medium `Memory` is: never the
/// machine's disk.
///
/// # Errors
/// If the container does not run, or there is no such volume at `path`.
pub fn fill_disk(cluster: &Cluster, container: Container<'_>, path: &str) -> Result<Fault> {
    let pid = first(cluster, container)?;
    let folder = PathBuf::from(format!("/proc/{pid}/root{path}"));
    let kind = statfs::statfs(&folder).with_context(|| format!("{path} in {container}"))?;
    ensure!(
        kind.filesystem_type() == statfs::TMPFS_MAGIC,
        "{path} in {container} is no volume in memory: it is not filled"
    );
    // By the machine's own path: the container may be another one at the end.
    let folder = fs::canonicalize(&folder).unwrap_or(folder);
    let filler = folder.join(".filled-by-the-lab");
    let file = File::create(&filler)?;
    let what = format!("{}: {path} of {container} is full", cluster.name());
    let fault = Fault::new(what, move || match fs::remove_file(&filler) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    });
    fill(file)?;
    Ok(fault)
}

fn fill(mut file: File) -> Result<()> {
    let mut block = vec![0_u8; 64 << 10];
    while !block.is_empty() {
        match file.write_all(&block) {
            Ok(()) => {}
            // Ever smaller pieces, until not one byte fits.
            Err(error) if error.kind() == ErrorKind::StorageFull => block.truncate(block.len() / 2),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The container's processes can open nothing more.
///
/// # Errors
/// If the container does not run.
pub fn exhaust_files(cluster: &Cluster, container: Container<'_>) -> Result<Fault> {
    let pid = first(cluster, container)?;
    let before = soft_limit_of_files(pid)?;
    let what = format!("{}: {container} can open no file", cluster.name());
    let fault = Fault::new(what, move || {
        // A process that has ended took its limit along.
        if crate::process::is_alive(pid) {
            limit_files(pid, &before)
        } else {
            Ok(())
        }
    });
    // What is open stays open; every new number is too high.
    limit_files(pid, "0")?;
    Ok(fault)
}

/// Sets the soft limit. As the process's own user: root may be without
/// CAP_SYS_RESOURCE.
fn limit_files(pid: Pid, limit: &str) -> Result<()> {
    let user = format!("--reuid={}", owner(pid, "Uid:")?);
    let group = format!("--regid={}", owner(pid, "Gid:")?);
    let (pid, limit) = (format!("--pid={pid}"), format!("--nofile={limit}:"));
    run(
        "setpriv",
        &[&user, &group, "--clear-groups", "prlimit", &pid, &limit],
    )?;
    Ok(())
}

/// A process's user or group.
fn owner(pid: Pid, field: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let real = line.and_then(|line| line.split_whitespace().next());
    Ok(real.context("the process has an owner")?.to_owned())
}

fn soft_limit_of_files(pid: Pid) -> Result<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    Ok(soft.context("no limit of open files")?.to_owned())
}

/// The container gets hardly any memory more: with the next megabyte it is
/// killed, as a container that has reached its limit is.
///
/// # Errors
/// If the container does not run, or its memory is not accounted.
pub fn exhaust_memory(cluster: &Cluster, container: Container<'_>) -> Result<Fault> {
    let pid = first(cluster, container)?;
    let group = Memory::of(pid)?;
    let before = fs::read_to_string(&group.limit)?;
    let used: u64 = fs::read_to_string(&group.usage)?.trim().parse()?;
    let what = format!("{}: {container} has no memory left", cluster.name());
    let limit = group.limit.clone();
    let fault = Fault::new(what, move || match fs::write(&limit, before.trim()) {
        // The container was killed, and its group with it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => Ok(result?),
    });
    fs::write(&group.limit, (used + LITTLE).to_string())?;
    Ok(fault)
}

/// Where the kernel accounts a process's memory.
struct Memory {
    limit: PathBuf,
    usage: PathBuf,
}

impl Memory {
    fn of(pid: Pid) -> Result<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            let (folder, limit, usage) = if controllers.split(',').any(|name| name == "memory") {
                ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            } else if controllers.is_empty() {
                ("", "memory.max", "memory.current")
            } else {
                continue;
            };
            let group = PathBuf::from(format!("/sys/fs/cgroup/{folder}{path}"));
            if group.join(limit).exists() {
                return Ok(Self {
                    limit: group.join(limit),
                    usage: group.join(usage),
                });
            }
        }
        bail!("no cgroup accounts the memory of process {pid}")
    }
}

fn first(cluster: &Cluster, container: Container<'_>) -> Result<Pid> {
    let pids = cluster.pids_of(container)?;
    pids.first()
        .copied()
        .with_context(|| format!("{container} has no process"))
}
