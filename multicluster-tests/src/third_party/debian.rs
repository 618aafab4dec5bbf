//! Debian packages with all that they depend on, from the machine's own apt,
//! which verifies what it downloads.
//!
//! apt is told of an almost empty machine and asked what it would install
//! there: that is the closure of the dependencies.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::command;

/// Packages that programs do not run: maintainer scripts do, or they are for
/// other uses than the lab's. apt is told that they are installed, so neither
/// they nor what they alone depend on is in an image.
pub(super) const PRESUMED: &[&str] = &[
    "adduser",
    "debconf",
    "debianutils",
    "dpkg",
    "init-system-helpers",
    "iproute2",
    "libcap2-bin",
    "locales",
    "lsb-base",
    "passwd",
    "perl",
    "perl-base",
    "postgresql-client-common",
    "postgresql-common",
    "procps",
    "sensible-utils",
    "ssl-cert",
    "sysvinit-utils",
    "tar",
    "ucf",
    "usr-is-merged",
    // PostgreSQL's compiler of queries, which it loads if it is there.
    "libllvm14",
    // Prometheus's pages, 220 MB.
    "fonts-glyphicons-halflings",
    "libjs-bootstrap",
    "libjs-bootstrap4",
    "libjs-eonasdan-bootstrap-datetimepicker",
    "libjs-jquery",
    "libjs-jquery-hotkeys",
    "libjs-moment",
    "libjs-moment-timezone",
    "libjs-mustache",
    "libjs-popper.js",
    "libjs-rickshaw",
];

/// Downloads `packages` and what they depend on into `folder`, unless they are
/// there; returns the files.
///
/// # Errors
/// If apt knows no such packages or cannot download them.
pub(super) fn download(folder: &Path, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let first = match download_listed(folder, packages) {
        Ok(files) => return Ok(files),
        Err(error) => error,
    };
    // apt's lists may be missing, or name versions that are gone.
    command::run("apt-get", &["update", "-q"]).with_context(|| format!("{first:#}"))?;
    download_listed(folder, packages)
}

fn download_listed(folder: &Path, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let machine = tempfile::tempdir()?;
    let status = machine.path().join("status");
    fs::write(&status, presumed_status())?;
    fs::create_dir_all(folder.join("partial"))?;
    // What is in the folder is not printed: ask with an empty one.
    let empty = machine.path().join("archives");
    fs::create_dir_all(empty.join("partial"))?;
    let printed = apt(&status, &empty, "--print-uris", packages)?;
    let names = file_names(&printed)?;
    apt(&status, folder, "--download-only", packages)?;
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// Asks apt for an installation that changes nothing but `archives`. It locks
/// the folder of `status`, not the machine's.
fn apt(status: &Path, archives: &Path, mode: &str, packages: &[&str]) -> Result<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-qq", "-y", "--no-install-recommends", mode])
        .args(["-o", "APT::Sandbox::User=root"])
        .args(["-o", "Dir::Cache::pkgcache="])
        .arg("-o")
        .arg(format!("Dir::State::status={}", status.display()))
        .arg("-o")
        .arg(format!("Dir::Cache::archives={}", archives.display()))
        .args(packages)
        .env("LC_ALL", "C");
    command::finish(&mut apt, None)
}

/// What dpkg would know of the almost empty machine.
fn presumed_status() -> String {
    // Newer than any that another package asks for.
    let rest = "Status: install ok installed\nArchitecture: amd64\nMulti-Arch: allowed\n\
                Version: 99:9\nMaintainer: the lab\nDescription: presumed\n";
    PRESUMED
        .iter()
        .map(|name| format!("Package: {name}\n{rest}\n"))
        .collect()
}

/// The names of the files that `apt-get --print-uris` lists:
/// `'address' name size checksum`.
fn file_names(printed: &str) -> Result<Vec<String>> {
    let name = |line: &str| {
        let name = line.split_whitespace().nth(1);
        name.filter(|name| name.ends_with(".deb"))
            .map(str::to_owned)
            .with_context(|| format!("apt-get printed no package: {line}"))
    };
    printed.lines().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_that_apt_lists() {
        let printed = "'mirror/c/libcrypt1_4.4.deb' libcrypt1_1%3a4.4_amd64.deb 89464 MD5Sum:0\n\
                       'mirror/n/nginx_1.22.deb' nginx_1.22_amd64.deb 532468 SHA256:0\n";
        let expected = ["libcrypt1_1%3a4.4_amd64.deb", "nginx_1.22_amd64.deb"];
        assert_eq!(file_names(printed).unwrap(), expected);
    }

    #[test]
    fn other_words_of_apt_are_an_error() {
        let error = file_names("Reading package lists...").unwrap_err();
        assert!(error.to_string().contains("Reading package lists"));
    }

    #[test]
    fn the_presumed_machine_has_one_paragraph_a_package() {
        let status = presumed_status();
        assert_eq!(status.matches("Package: ").count(), PRESUMED.len());
        assert_eq!(status.trim_end().split("\n\n").count(), PRESUMED.len());
    }
}
