//! What the machine says of the lab, asked without the lab.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _};

use mesh_lab::{command, network};

/// Addresses of the node's link to the WAN.
pub(crate) fn addresses_of_node(cluster: &str) -> String {
    let node = network::node_namespace(cluster);
    command::ip(&format!("-n {node} -o -4 address show dev eth0")).expect("the node has a link")
}

/// Bytes that all processes in the lab's network namespaces take. A page that
/// several share counts once.
pub(crate) fn memory_of_lab() -> u64 {
    let inodes = namespaces_of_lab();
    processes()
        .filter(|pid| namespace_of(*pid).is_some_and(|inode| inodes.contains(&inode)))
        .map(proportional_bytes)
        .sum()
}

/// Network namespaces of nodes, of the WAN and of pods.
fn namespaces_of_lab() -> BTreeSet<u64> {
    fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.path().metadata().ok()?.ino()))
        .collect()
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .expect("/proc is mounted")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn namespace_of(pid: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    let inode = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

fn proportional_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
