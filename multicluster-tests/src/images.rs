//! Images of the workspace's programs: one static file each, no registry.
//!
//! An image is written as an OCI archive.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};

use crate::{command, paths::Paths};

pub(crate) mod archive;

/// What goes into one image.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// `repository:tag`.
    pub reference: &'static str,
    /// The program, as the build calls it.
    pub binary: &'static str,
    /// Where the program is in the image; also the entry point.
    pub path: &'static str,
    /// The user it runs as unless the pod says otherwise.
    pub user: u32,
}

const fn program(reference: &'static str, binary: &'static str, path: &'static str) -> Image {
    Image {
        reference,
        binary,
        path,
        user: NOBODY,
    }
}

/// Who programs run as. Not the sidecar's user, whose connections are not
/// redirected: applications must not have it.
pub(crate) const NOBODY: u32 = 65532;

/// All images of the workspace.
pub const WORKSPACE: [Image; 7] = [
    program("mesh.dev/mesh-proxy:dev", "mesh-proxy", "mesh-proxy"),
    program("mesh.dev/mesh-gateway:dev", "mesh-gateway", "mesh-gateway"),
    program("mesh.dev/mesh-mirror:dev", "mesh-mirror", "mesh-mirror"),
    program("mesh.dev/mesh-control:dev", "mesh-control", "mesh-control"),
    program(
        "mesh.dev/mesh-redirect:dev",
        "mesh-redirect",
        "mesh-redirect",
    ),
    program("mesh.dev/testapp:dev", "testapp", "testapp"),
    program("mesh.dev/pause:1", "pause", "pause"),
];

/// DNS of the lab's clusters.
pub const COREDNS: Image = Image {
    reference: "mesh.dev/coredns:1.15.0",
    binary: "coredns",
    path: "coredns",
    user: 0,
};

/// An image as one file.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Its name in a cluster.
    pub reference: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

impl Archive {
    /// Whether it was made after `mark`, or there is no such file.
    #[must_use]
    pub fn is_newer_than(&self, mark: &Path) -> bool {
        match (modified(&self.path), modified(mark)) {
            (Some(made), Some(mark)) => made > mark,
            _ => true,
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

/// Makes all images whose program is another than that in its archive; returns
/// the archives. `MESH_BIN_DIR`, or the folder of this program, has the programs.
///
/// # Errors
/// If a program is missing: says how to build it.
pub fn make_all(paths: &Paths) -> Result<Vec<Archive>> {
    let programs = programs_folder()?;
    fs::create_dir_all(paths.images())?;
    let mut archives = vec![make(paths, &COREDNS, &paths.kubernetes())?];
    for image in &WORKSPACE {
        archives.push(make(paths, image, &programs)?);
    }
    Ok(archives)
}

/// Where the build has put the programs.
pub(crate) fn programs_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("MESH_BIN_DIR") {
        return Ok(folder.into());
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a program has a folder")?;
    // A test's program is one folder below those of the build.
    let folder = match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().context("a build has a folder")?,
        _ => folder,
    };
    Ok(folder.to_path_buf())
}

fn make(paths: &Paths, image: &Image, folder: &Path) -> Result<Archive> {
    let program = folder.join(image.binary);
    let built = program
        .metadata()
        .with_context(|| format!("{} is missing: run `make build`", program.display()))?;
    // Two builds may take turns: newer is not enough.
    let stamp = format!(
        "{} {} {:?}",
        program.display(),
        built.len(),
        built.modified()?
    );
    let name = format!("{}-user{}.tar", image.binary, image.user);
    let archive = Archive {
        reference: image.reference,
        path: paths.images().join(name),
    };
    let stamp_file = archive.path.with_extension("of");
    if archive.path.exists() && fs::read_to_string(&stamp_file).is_ok_and(|made| made == stamp) {
        return Ok(archive);
    }
    let stripped = paths.images().join(format!("{}.stripped", image.binary));
    command::run(
        "strip",
        &[
            "-o",
            &stripped.display().to_string(),
            &program.display().to_string(),
        ],
    )?;
    let mut content = Vec::new();
    File::open(&stripped)?.read_to_end(&mut content)?;
    fs::remove_file(&stripped)?;
    let unfinished = archive.path.with_extension("part");
    write_archive(File::create(&unfinished)?, image, &content)?;
    fs::rename(&unfinished, &archive.path)?;
    fs::write(stamp_file, stamp)?;
    Ok(archive)
}

/// Writes `image` with `program` as an OCI archive.
fn write_archive(out: File, image: &Image, program: &[u8]) -> Result<()> {
    let config = archive::Config {
        reference: image.reference,
        entrypoint: &[&format!("/{}", image.path)],
        environment: &[],
        user: image.user,
    };
    let mut layer = tar::Builder::new(Vec::new());
    archive::append(&mut layer, image.path, program, 0o755)?;
    archive::write(out, &config, &layer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_archive_names_its_image_and_holds_its_blobs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write_archive(file.reopen().unwrap(), &WORKSPACE[0], b"program").unwrap();
        let mut written = tar::Archive::new(file.reopen().unwrap());
        let mut names = Vec::new();
        for entry in written.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(hash) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(archive::digest(&content), format!("sha256:{hash}"));
            }
            if name == "index.json" {
                let index: Value = serde_json::from_slice(&content).unwrap();
                assert_eq!(
                    index["manifests"][0]["annotations"]["io.containerd.image.name"],
                    "mesh.dev/mesh-proxy:dev"
                );
            }
            names.push(name);
        }
        assert_eq!(names.len(), 5);
    }
}
