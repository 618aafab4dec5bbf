//! All clusters together: up, attached to, down.

use std::{
    fs::{self, File},
    io::Write as _,
    sync::Mutex,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::{
    addresses::IpFamilies,
    binaries,
    cluster::{Cluster, MOST_NODES},
    images, network,
    paths::Paths,
    pki, preflight, process, teardown,
};

/// What clusters are like, each of them.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many nodes.
    pub nodes: u8,
    /// Which versions of IP.
    pub families: IpFamilies,
}

/// The clusters that are up, and the right to change them.
pub struct Lab {
    paths: Paths,
    clusters: Vec<Cluster>,
    _lock: Flock<File>,
}

impl Lab {
    /// Starts `names`, each of this shape, from nothing; removes first what an earlier run left.
    ///
    /// # Errors
    /// If another run holds the lab, if the machine lacks something, or if a
    /// cluster does not come up.
    pub fn up(
        paths: &Paths,
        names: &[String],
        shape: Shape,
        report: &(dyn Fn(&str) + Sync),
    ) -> Result<Self> {
        check_names(names)?;
        if !(1..=MOST_NODES).contains(&shape.nodes) {
            bail!("a cluster has 1 to {MOST_NODES} nodes");
        }
        let lock = lock(paths)?;
        preflight::check(paths, &report)?;
        preflight::check_families(shape.families)?;
        binaries::ensure(paths, &report)?;
        let archives = images::make_all(paths)?;
        teardown::remove_all(paths).context("what an earlier run left")?;
        fs::create_dir_all(paths.state())?;
        network::make_wan(shape.families)?;
        for name in names {
            shape.families.keep(&paths.cluster(name))?;
        }
        let clusters: Vec<Cluster> = (1..)
            .zip(names)
            .map(|(index, name)| Cluster::new(paths, name, index))
            .collect();
        write_index(paths, names)?;
        File::create(paths.loaded())?;
        let kubeconfigs = Mutex::new(());
        std::thread::scope(|scope| {
            let starts: Vec<_> = clusters
                .iter()
                .map(|cluster| {
                    let (archives, kubeconfigs, clusters) = (&archives, &kubeconfigs, &clusters);
                    scope.spawn(move || {
                        let begin = Instant::now();
                        let report = |text: &str| {
                            if let Ok(_guard) = kubeconfigs.lock() {
                                // A context appears as soon as it is of use.
                                let _ = merge_kubeconfigs(paths, clusters);
                            }
                            let seconds = begin.elapsed().as_secs_f64();
                            let line = format!("{:>5.1} s  {}: {text}", seconds, cluster.name());
                            let _ = note(paths, &line);
                            report(&line);
                        };
                        cluster.start(shape.nodes, archives, &report)
                    })
                })
                .collect();
            for (start, cluster) in starts.into_iter().zip(&clusters) {
                match start.join() {
                    Ok(result) => result.with_context(|| format!("cluster {}", cluster.name()))?,
                    Err(_) => bail!("the start of {} panicked", cluster.name()),
                }
            }
            anyhow::Ok(())
        })?;
        Ok(Self {
            paths: paths.clone(),
            clusters,
            _lock: lock,
        })
    }

    /// Takes the clusters that are up.
    ///
    /// # Errors
    /// If another run holds the lab, or none is up.
    pub fn attach(paths: &Paths) -> Result<Self> {
        let lock = lock(paths)?;
        let clusters = running(paths)?;
        if clusters.is_empty() {
            bail!("no cluster is up: run `lab up west east`");
        }
        Ok(Self {
            paths: paths.clone(),
            clusters,
            _lock: lock,
        })
    }

    /// Removes every cluster and everything that belongs to the lab.
    ///
    /// # Errors
    /// If another run holds the lab, or something cannot be removed.
    pub fn down(paths: &Paths) -> Result<()> {
        let _lock = lock(paths)?;
        teardown::remove_all(paths)?;
        let left = teardown::leftovers(paths);
        if left.is_empty() {
            Ok(())
        } else {
            bail!("these are left: {}", left.join(", "))
        }
    }

    /// The clusters.
    #[must_use]
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// The cluster of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.clusters
            .iter()
            .find(|cluster| cluster.name() == name)
            .with_context(|| format!("no cluster {name} is up"))
    }

    /// Its folders.
    #[must_use]
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Makes the images anew whose programs changed, loads those, and restarts
    /// the Deployments that run them.
    ///
    /// # Errors
    /// If a program is missing, a cluster does not take an image, or a
    /// Deployment does not come back.
    pub fn load_images(&self, report: &dyn Fn(&str)) -> Result<()> {
        let changed = |archive: &&images::Archive| archive.is_newer_than(&self.paths.loaded());
        let archives = images::make_all(&self.paths)?;
        let changed: Vec<_> = archives.iter().filter(changed).collect();
        for cluster in &self.clusters {
            for archive in &changed {
                cluster.load_image(&archive.path)?;
                report(&format!("{}: {} loaded", cluster.name(), archive.reference));
            }
            let references: Vec<_> = changed.iter().map(|archive| archive.reference).collect();
            cluster.restart_users(&references, report)?;
        }
        File::create(self.paths.loaded())?;
        Ok(())
    }
}

/// The clusters that are up, without the right to change them.
///
/// # Errors
/// If the state folder cannot be read.
pub fn running(paths: &Paths) -> Result<Vec<Cluster>> {
    let index = match fs::read_to_string(paths.state().join("clusters")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let names = (1..).zip(index.lines());
    Ok(names
        .map(|(index, name)| Cluster::new(paths, name, index))
        .collect())
}

/// A line per program of each cluster: whether it runs, and its memory.
///
/// # Errors
/// If the state folder cannot be read.
pub fn status(paths: &Paths) -> Result<String> {
    use std::fmt::Write as _;
    let mut text = String::new();
    for cluster in running(paths)? {
        let memory = cluster.memory()? >> 20;
        writeln!(text, "{} ({} MiB)", cluster.name(), memory)?;
        for (name, pid) in cluster.programs()?.all() {
            let state = if process::is_alive(pid) {
                "runs"
            } else {
                "has ended"
            };
            writeln!(text, "  {name:<26}{state:<10} pid {pid}")?;
        }
    }
    if text.is_empty() {
        text.push_str("no cluster is up\n");
    }
    Ok(text)
}

/// Names become parts of links, paths and namespaces.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let legal = (1..=12).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && !["wan", "host"].contains(&name);
    if !legal {
        bail!("{name:?} is no name for a cluster or a machine: 1 to 12 of a-z and 0-9");
    }
    Ok(())
}

fn check_names(names: &[String]) -> Result<()> {
    if names.is_empty() || names.len() > 20 {
        bail!("name 1 to 20 clusters, for example: lab up west east");
    }
    names.iter().try_for_each(|name| check_name(name))?;
    let mut sorted = names.to_vec();
    sorted.sort();
    sorted.dedup();
    if sorted.len() < names.len() {
        bail!("a cluster is named twice");
    }
    Ok(())
}

fn lock(paths: &Paths) -> Result<Flock<File>> {
    let path = paths.lock();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => bail!(
            "another run holds the lab ({}): wait for it, or end it",
            path.display()
        ),
    }
}

/// Keeps what the start reports, for those who come later.
fn note(paths: &Paths, line: &str) -> Result<()> {
    let path = paths.state().join("up.log");
    let mut file = File::options().create(true).append(true).open(path)?;
    Ok(writeln!(file, "{line}")?)
}

fn write_index(paths: &Paths, names: &[String]) -> Result<()> {
    let mut file = File::create(paths.state().join("clusters"))?;
    for name in names {
        writeln!(file, "{name}")?;
    }
    Ok(())
}

/// One kubeconfig with a context for each cluster that has come so far.
fn merge_kubeconfigs(paths: &Paths, clusters: &[Cluster]) -> Result<()> {
    let mut merged: Option<serde_json::Value> = None;
    for cluster in clusters {
        let Ok(text) = fs::read_to_string(cluster.folder().join("kubeconfig")) else {
            continue;
        };
        let mut next: serde_json::Value = serde_json::from_str(&text)?;
        let Some(all) = &mut merged else {
            merged = Some(next);
            continue;
        };
        for list in ["clusters", "users", "contexts"] {
            if let (Some(all), Some(next)) = (all[list].as_array_mut(), next[list].as_array_mut()) {
                all.append(next);
            }
        }
    }
    let Some(merged) = merged else { return Ok(()) };
    let unfinished = paths.state().join("kubeconfig.part");
    pki::write_private(&unfinished, &serde_json::to_string_pretty(&merged)?)?;
    Ok(fs::rename(unfinished, paths.kubeconfig())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_link_or_a_path_are_refused() {
        let names =
            |list: &[&str]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
        assert!(check_names(&names(&["west", "east"])).is_ok());
        for bad in [
            &[][..],
            &["wan"],
            &["a/b"],
            &["West"],
            &["west", "west"],
            &["averylongname1"],
        ] {
            assert!(check_names(&names(bad)).is_err(), "{bad:?}");
        }
    }
}
