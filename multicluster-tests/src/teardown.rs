//! Taking everything away, whatever is left of it: also after a run that was
//! cut off at any point.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::{
    mount::{MntFlags, umount2},
    unistd::Pid,
};

use crate::{
    addresses::IpFamilies,
    cluster::Cluster,
    command::{self, ip},
    network::{HOST_LINK, WAN, black_hole},
    paths::Paths,
    process,
};

/// Removes all clusters, the WAN and the state folder.
///
/// # Errors
/// Says what could not be removed.
pub(crate) fn remove_all(paths: &Paths) -> Result<()> {
    let clusters = clusters_of(paths);
    for cluster in &clusters {
        end_pods(cluster);
    }
    for cluster in &clusters {
        end_programs(cluster);
    }
    end_leftovers(paths);
    unmount_below(paths.state())?;
    remove_network()?;
    remove_cgroups();
    match fs::remove_dir_all(paths.state()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => bail!("{} stays: {error}", paths.state().display()),
    }
}

fn clusters_of(paths: &Paths) -> Vec<Cluster> {
    let entries = fs::read_dir(paths.state()).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .map(|name| Cluster::new(paths, &name, 0))
        .collect()
}

/// Pods end through containerd, else their shims stay.
fn end_pods(cluster: &Cluster) {
    let Ok(programs) = cluster.programs() else {
        return;
    };
    // The kubelets first: they would start them again.
    let nodes = cluster.nodes();
    let kubelets: Vec<Pid> = nodes
        .iter()
        .filter_map(|node| programs.pid(&node.own("kubelet")))
        .collect();
    process::stop(&kubelets);
    for node in nodes {
        let ctr = |words: &[&str]| cluster.ctr(node, words).unwrap_or_default();
        let tasks = ctr(&["tasks", "list", "-q"]);
        // A task that has just ended is as good.
        for task in tasks.lines() {
            ctr(&["tasks", "kill", "-s", "KILL", task]);
        }
        for task in tasks.lines() {
            ctr(&["tasks", "delete", "-f", task]);
        }
    }
}

fn end_programs(cluster: &Cluster) {
    let Ok(programs) = cluster.programs() else {
        return;
    };
    let ours = |pid: &Pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // The number may be somebody else's by now; ours name the folder.
        let folder = format!("{}/", cluster.folder().display());
        String::from_utf8_lossy(&line).contains(&folder)
    };
    let pids: Vec<Pid> = programs
        .all()
        .into_iter()
        .map(|(_, pid)| pid)
        .filter(ours)
        .collect();
    process::stop(&pids);
}

/// Programs that leave the node's namespace, or live in none of ours.
const WANDERERS: [&str; 5] = ["etcd", "containerd", "containerd-shim", "kube", "runc"];

/// Whatever still lives in the lab's namespaces, or was started from its folder.
fn end_leftovers(paths: &Paths) {
    let mut pids = BTreeSet::new();
    for namespace in namespaces() {
        let text = ip(&format!("netns pids {namespace}")).unwrap_or_default();
        pids.extend(
            text.lines()
                .filter_map(|pid| pid.trim().parse::<i32>().ok()),
        );
    }
    let folder = format!("{}/", paths.state().display());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let wanders = WANDERERS.iter().any(|program| name.starts_with(program));
        if wanders
            && !name.starts_with("kubectl")
            && String::from_utf8_lossy(&line).contains(&folder)
        {
            pids.insert(pid);
        }
    }
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    pids.remove(&own);
    let pids: Vec<Pid> = pids.into_iter().map(Pid::from_raw).collect();
    process::stop(&pids);
}

/// The lab's own network namespaces, and those that the CNI made for its pods.
pub(crate) fn namespaces() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("mesh-") || name.starts_with("cni-"))
        .filter(|name| !name.starts_with("mesh-t-"))
        .collect()
}

fn remove_network() -> Result<()> {
    for namespace in namespaces() {
        // The CNI's are mounted once more than `ip` knows of.
        let path = format!("/run/netns/{namespace}");
        while umount2(path.as_str(), MntFlags::MNT_DETACH).is_ok() {}
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bail!("the network namespace {namespace} stays: {error}"),
        }
    }
    // Its other end lives in the namespace that has just gone, or is about to.
    let _ = ip(&format!("link delete {HOST_LINK}"));
    for family in IpFamilies::Dual.all() {
        let _ = ip(&format!("route delete {}", black_hole(*family)));
    }
    let start = Instant::now();
    while Path::new("/sys/class/net").join(HOST_LINK).exists() {
        if start.elapsed() > Duration::from_secs(10) {
            bail!("the link {HOST_LINK} stays; is something still in {WAN}?");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Unmounts everything below `folder`, the deepest first.
fn unmount_below(folder: &Path) -> Result<()> {
    for mount in mounts_below(folder).iter().rev() {
        if umount2(mount, MntFlags::empty()).is_err() {
            umount2(mount, MntFlags::MNT_DETACH)?;
        }
    }
    match mounts_below(folder).first() {
        None => Ok(()),
        Some(mount) => bail!("{} is still mounted", mount.display()),
    }
}

/// Mount points below `folder`, in the order they were mounted.
pub(crate) fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(folder))
        .collect()
}

/// The cgroups of pods: `<hierarchy>/k8s.io/<container>`.
fn remove_cgroups() {
    for cgroup in cgroups() {
        let children = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        for child in children.filter(|child| child.path().is_dir()) {
            let _ = fs::remove_dir(child.path());
        }
        let _ = fs::remove_dir(&cgroup);
    }
}

/// The folders in which containerd makes its pods' cgroups.
pub(crate) fn cgroups() -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    hierarchies
        .map(|hierarchy| hierarchy.path().join("k8s.io"))
        .filter(|path| path.exists())
        .collect()
}

/// Everything that a complete removal must not leave.
pub(crate) fn leftovers(paths: &Paths) -> Vec<String> {
    let mut left: Vec<String> = namespaces()
        .into_iter()
        .map(|name| format!("network namespace {name}"))
        .collect();
    let mounts = mounts_below(paths.state());
    left.extend(
        mounts
            .iter()
            .map(|path| format!("mount {}", path.display())),
    );
    left.extend(
        cgroups()
            .iter()
            .map(|path| format!("cgroup {}", path.display())),
    );
    if Path::new("/sys/class/net").join(HOST_LINK).exists() {
        left.push(format!("link {HOST_LINK}"));
    }
    if paths.state().exists() {
        left.push(format!("folder {}", paths.state().display()));
    }
    let processes = command::run("pgrep", &["-f", &format!("{}/", paths.state().display())]);
    left.extend(
        processes
            .iter()
            .flat_map(|pids| pids.lines().map(|pid| format!("process {pid}"))),
    );
    left
}
