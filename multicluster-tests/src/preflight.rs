//! What the lab needs of the machine, checked before anything is changed.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    addresses::{Family, IpFamilies},
    command,
    paths::Paths,
};

/// Programs, and the Debian packages that bring them.
const TOOLS: [(&str, &str); 11] = [
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("tcpdump", "tcpdump"),
    ("strip", "binutils"),
];

/// Free space that clusters and their images may use.
const DISK: u64 = 3 << 30;

/// Checks all, and installs missing Debian packages.
///
/// # Errors
/// Says everything that is missing, and what to do about it.
pub fn check(paths: &Paths, report: &dyn Fn(&str)) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces and mounts: run it as root");
    }
    install_missing(report)?;
    let mut wrong = missing_kernel_features();
    fs::create_dir_all(paths.state())?;
    fs::create_dir_all(paths.cache())?;
    for folder in [paths.state(), paths.cache()] {
        let free = free_bytes(folder)?;
        if free < DISK {
            wrong.push(format!(
                "{} has {} MiB free: the lab needs {} MiB",
                folder.display(),
                free >> 20,
                DISK >> 20
            ));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        bail!("{}", wrong.join("\n"))
    }
}

/// Checks that the machine speaks what clusters are to speak.
///
/// # Errors
/// If it does not.
pub(crate) fn check_families(families: IpFamilies) -> Result<()> {
    let missing = |family: &&Family| match family {
        Family::V4 => false,
        Family::V6 => !Path::new("/proc/net/if_inet6").exists(),
    };
    match families.all().iter().find(missing) {
        None => Ok(()),
        Some(family) => bail!("the kernel lacks {}", family.name()),
    }
}

fn install_missing(report: &dyn Fn(&str)) -> Result<()> {
    let mut packages: Vec<&str> = TOOLS
        .iter()
        .filter(|(tool, _)| !is_present(tool))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    report(&format!("installing {list}"));
    let install = || -> Result<()> {
        command::run("apt-get", &["update", "-q"])?;
        let mut install = Command::new("apt-get");
        install
            .args(["install", "-q", "-y", "--no-install-recommends"])
            .args(&packages)
            .env("DEBIAN_FRONTEND", "noninteractive");
        command::finish(&mut install, None)?;
        Ok(())
    };
    match install() {
        Ok(()) => Ok(()),
        Err(error) => bail!("missing: {list}; apt-get could not install them: {error:#}"),
    }
}

fn is_present(tool: &str) -> bool {
    if tool.starts_with('/') {
        return Path::new(tool).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|folder| Path::new(folder).join(tool).exists())
}

fn missing_kernel_features() -> Vec<String> {
    let needed = [
        (
            "/proc/sys/net/bridge",
            "bridge netfilter (CONFIG_BRIDGE_NETFILTER, module br_netfilter)",
        ),
        ("/proc/self/ns/net", "network namespaces (CONFIG_NET_NS)"),
        ("/sys/fs/cgroup", "cgroups"),
    ];
    let mut missing: Vec<String> = needed
        .iter()
        .filter(|(path, _)| !Path::new(path).exists())
        .map(|(_, feature)| format!("the kernel lacks {feature}"))
        .collect();
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.split_whitespace().any(|name| name == "overlay") {
        missing.push("the kernel lacks overlayfs (CONFIG_OVERLAY_FS, module overlay)".to_owned());
    }
    missing
}

fn free_bytes(folder: &Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(folder)?;
    Ok(stat.blocks_available() * stat.fragment_size())
}
