//! The Kubernetes programs: built once, from pinned Go modules whose checksums
//! are in `go.sum`, into the cache.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::paths::{self, Paths};

const KUBERNETES: &str = "v1.36.3";
const PROGRAMS: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

/// Builds what is missing.
///
/// # Errors
/// If Go is missing or a build fails; names the log. With `MESH_K8S_BIN` set,
/// if that folder lacks a program.
pub fn ensure(paths: &Paths, report: &dyn Fn(&str)) -> Result<()> {
    let folder = paths.kubernetes();
    let missing = |name: &&str| !folder.join(name).exists();
    if std::env::var_os("MESH_K8S_BIN").is_some() {
        if let Some(name) = PROGRAMS
            .iter()
            .chain(&["coredns"])
            // Of a version that fits, from the path.
            .filter(|name| **name != "kubectl")
            .find(|name| missing(name))
        {
            bail!(
                "MESH_K8S_BIN is set, and {} is not there",
                folder.join(name).display()
            );
        }
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    let modules = paths::sources();
    let wanted: Vec<&str> = PROGRAMS
        .iter()
        .filter(|name| missing(name))
        .copied()
        .collect();
    if !wanted.is_empty() {
        report("building Kubernetes (once; about 5 minutes)");
        let packages: Vec<String> = wanted
            .iter()
            .map(|name| format!("k8s.io/kubernetes/cmd/{name}"))
            .collect();
        build(
            paths,
            &modules.join("k8s"),
            &version_flags(),
            &packages,
            report,
        )?;
    }
    if missing(&"coredns") {
        report("building CoreDNS (once; about a minute)");
        build(
            paths,
            &modules.join("coredns"),
            "-s -w",
            &[".".to_owned()],
            report,
        )?;
    }
    Ok(())
}

/// What `kubectl version` shows, and what components compare.
fn version_flags() -> String {
    let set = "-X k8s.io/component-base/version";
    format!("-s -w {set}.gitVersion={KUBERNETES} {set}.gitMajor=1 {set}.gitMinor=36")
}

fn build(
    paths: &Paths,
    module: &Path,
    ldflags: &str,
    packages: &[String],
    report: &dyn Fn(&str),
) -> Result<()> {
    let start = Instant::now();
    // Programs move to their place whole: a build that is cut off leaves none.
    let unfinished = paths.cache().join("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir_all(&unfinished)?;
    let log: PathBuf = paths.cache().join("build.log");
    let status = Command::new("go")
        .args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-ldflags",
            ldflags,
            "-o",
        ])
        .arg(format!("{}/", unfinished.display()))
        .args(packages)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?)
        .status()
        .context("go does not start: install Go 1.26 or later, or set MESH_K8S_BIN")?;
    if !status.success() {
        bail!(
            "go build failed in {}; see {}",
            module.display(),
            log.display()
        );
    }
    for entry in fs::read_dir(&unfinished)? {
        let entry = entry?;
        fs::rename(entry.path(), paths.kubernetes().join(entry.file_name()))?;
    }
    report(&format!("built in {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}
