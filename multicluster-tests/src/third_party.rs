//! Images of programs that others wrote: unchanged Debian packages (and one
//! Python wheel) with a small configuration, so that each starts without
//! arguments, as a user without rights, writing to `/tmp` only.
//!
//! Servers of pages listen on port 8080. Others have their usual ports.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

pub use table::IMAGES;
pub use wheel::Wheel;

use crate::{images::archive, paths::Paths};

mod debian;
mod root;
mod table;
mod wheel;

/// What goes into one image.
#[derive(Clone, Copy, Debug)]
pub struct ThirdParty {
    /// What the lab calls it.
    pub name: &'static str,
    /// `repository:tag`.
    pub reference: &'static str,
    /// Debian packages; what they depend on comes with them.
    pub packages: &'static [&'static str],
    /// A program that Debian does not have.
    pub wheel: Option<Wheel>,
    /// The program and its first arguments.
    pub entrypoint: &'static [&'static str],
    /// `NAME=value`.
    pub environment: &'static [&'static str],
    /// The user it runs as unless the pod says otherwise.
    pub user: u32,
    /// Written over what the packages have.
    pub files: &'static [TextFile],
    /// Empty folders, in which pods may mount configuration.
    pub folders: &'static [&'static str],
}

/// A file of ours in an image.
#[derive(Clone, Copy, Debug)]
pub struct TextFile {
    /// Where it is.
    pub path: &'static str,
    /// What is in it.
    pub content: &'static str,
    /// Who may read and run it.
    pub mode: u32,
}

/// The image of that name.
///
/// # Errors
/// If there is none; says which there are.
pub fn find(name: &str) -> Result<&'static ThirdParty> {
    let found = IMAGES.iter().find(|image| image.name == name);
    found.with_context(|| {
        let names: Vec<&str> = IMAGES.iter().map(|image| image.name).collect();
        format!("no image {name}: there are {}", names.join(", "))
    })
}

/// Makes an image unless its archive is there; returns the archive.
///
/// # Errors
/// If a package cannot be had, or if not run as root.
pub fn make(paths: &Paths, image: &ThirdParty) -> Result<PathBuf> {
    fs::create_dir_all(paths.images())?;
    let _lock = lock(paths)?;
    let archive = paths.images().join(archive_name(image));
    if archive.exists() {
        return Ok(archive);
    }
    let work = tempfile::tempdir_in(paths.cache())?;
    let root = work.path().join("root");
    fill(paths, image, &root)?;
    let config = archive::Config {
        reference: image.reference,
        entrypoint: image.entrypoint,
        environment: image.environment,
        user: image.user,
    };
    let unfinished = archive.with_extension("part");
    archive::write(File::create(&unfinished)?, &config, &root::layer(&root)?)?;
    fs::rename(&unfinished, &archive)?;
    Ok(archive)
}

/// Has the name of the image and a hash of all that it is made by: with another
/// table, there is another archive.
fn archive_name(image: &ThirdParty) -> String {
    let recipe = format!("{image:?} {:?} {:?}", root::BASE, debian::PRESUMED);
    let hash = archive::sha256(recipe.as_bytes());
    format!("third-party-{}-{}.tar", image.name, &hash[..12])
}

fn fill(paths: &Paths, image: &ThirdParty, root: &Path) -> Result<()> {
    let packages = debian::download(&paths.cache().join("debs"), image.packages)?;
    root::unpack(&packages, root)?;
    if let Some(wheel) = &image.wheel {
        wheel::add(&paths.cache().join("wheels"), wheel, root)?;
    }
    root::add_folders(root, image.folders)?;
    root::add_files(root, image.files)
}

/// The path in `root` of what an image has at `path`.
fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Waits while another process makes images: they share downloads.
fn lock(paths: &Paths) -> Result<Flock<File>> {
    let path = paths.cache().join("third-party.lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let error = find("ngnix").unwrap_err().to_string();
        assert!(error.starts_with("no image ngnix"), "{error}");
        assert!(IMAGES.iter().all(|image| error.contains(image.name)));
        assert_eq!(find("nginx").unwrap().reference, "mesh.dev/nginx:debian");
    }

    #[test]
    fn an_archive_is_named_by_what_it_is_made_of() {
        const PAGE: TextFile = TextFile {
            path: "/srv/www/index.html",
            content: "another",
            mode: 0o644,
        };
        let image = IMAGES[0];
        assert_eq!(archive_name(&image), archive_name(&image));
        let changes = [
            ThirdParty { user: 0, ..image },
            ThirdParty {
                files: &[PAGE],
                ..image
            },
            ThirdParty {
                packages: &["nginx-light"],
                ..image
            },
        ];
        for changed in changes {
            assert_ne!(archive_name(&changed), archive_name(&image));
        }
    }
}
