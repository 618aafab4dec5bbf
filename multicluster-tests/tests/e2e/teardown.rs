//! The end of the clusters: broken, started again, removed. These tests come
//! last, in the order of their names.

use std::{fs, path::Path};

use mesh_lab::paths::Paths;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::shared::{lab_command, release};

/// Programs whose loss leaves most behind: shims, mounts, namespaces.
const KILLED: [&str; 3] = ["containerd", "kubelet", "kube-apiserver"];

#[test]
fn a_start_copes_with_what_killed_programs_left() {
    release();
    let paths = Paths::from_env();
    lab_command(&["up", "west", "east"]).unwrap();
    for name in KILLED {
        let file = paths.cluster("west").join("pid").join(name);
        let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    let said = lab_command(&["up", "west", "east"]).unwrap();
    for cluster in ["west", "east"] {
        assert!(said.contains(&format!("{cluster}: DNS is ready")), "{said}");
    }
}

#[test]
fn b_down_leaves_nothing() {
    release();
    lab_command(&["down"]).unwrap();
    let state = Paths::from_env().state().display().to_string();
    assert!(!Path::new(&state).exists());
    assert_eq!(namespaces(), Vec::<String>::new());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&state), "{mounts}");
    let links: Vec<String> = names_in("/sys/class/net")
        .into_iter()
        .filter(|name| name.starts_with("mesh-"))
        .collect();
    assert_eq!(links, Vec::<String>::new());
    assert_eq!(cgroups(), Vec::<String>::new());
    assert_eq!(processes_of(&state), Vec::<String>::new());
}

/// The lab's namespaces and those of pods.
fn namespaces() -> Vec<String> {
    let ours = |name: &String| name.starts_with("mesh-") || name.starts_with("cni-");
    let of_other_tests = |name: &String| name.starts_with("mesh-t-");
    names_in("/run/netns")
        .into_iter()
        .filter(|name| ours(name) && !of_other_tests(name))
        .collect()
}

fn cgroups() -> Vec<String> {
    names_in("/sys/fs/cgroup")
        .into_iter()
        .map(|hierarchy| format!("/sys/fs/cgroup/{hierarchy}/k8s.io"))
        .filter(|path| Path::new(path).exists())
        .collect()
}

/// Command lines that name the lab's folder.
fn processes_of(state: &str) -> Vec<String> {
    names_in("/proc")
        .into_iter()
        .filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&format!("{state}/")))
        .collect()
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
