//! The file system of an image.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{TextFile, inside};
use crate::command;

/// Files of every image: what Debian's base system would bring.
pub(super) const BASE: &[TextFile] = &[
    base(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
         app:x:65532:65532:app:/tmp:/bin/sh\n",
    ),
    base("/etc/group", "root:x:0:\nnogroup:x:65534:\napp:x:65532:\n"),
    base("/etc/nsswitch.conf", "hosts: files dns\n"),
    base("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
];

const fn base(path: &'static str, content: &'static str) -> TextFile {
    TextFile {
        path,
        content,
        mode: 0o644,
    }
}

/// Folders of every image.
const FOLDERS: &[&str] = &[
    "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/tmp", "/var/lib", "/var/log", "/var/tmp",
];

/// Folders that everyone may write to.
const SHARED: &[&str] = &["/tmp", "/var/tmp"];

/// Folders that are links into `/usr`.
const MERGED: &[&str] = &["bin", "lib", "lib64", "sbin"];

/// What programs do not read.
const UNREAD: &[&str] = &["doc", "info", "lintian", "locale", "man"];

/// Unpacks `packages` into `root`, and makes a system of them in which
/// programs run.
///
/// # Errors
/// If a file is no package, or if not run as root.
pub(super) fn unpack(packages: &[PathBuf], root: &Path) -> Result<()> {
    for package in packages {
        command::run("dpkg-deb", &[Path::new("-x"), package, root])?;
    }
    merge_usr(root)?;
    add_folders(root, FOLDERS)?;
    for path in SHARED {
        fs::set_permissions(inside(root, path), fs::Permissions::from_mode(0o1777))?;
    }
    add_files(root, BASE)?;
    command::run("ldconfig", &[Path::new("-r"), root])?;
    Ok(())
}

/// Adds `files` with the folders that they need.
pub(super) fn add_files(root: &Path, files: &[TextFile]) -> Result<()> {
    for file in files {
        let path = inside(root, file.path);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, file.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

/// Adds empty folders.
pub(super) fn add_folders(root: &Path, folders: &[&str]) -> Result<()> {
    for folder in folders {
        fs::create_dir_all(inside(root, folder))?;
    }
    Ok(())
}

/// All of `root` as a tar archive, the same for the same content.
pub(super) fn layer(root: &Path) -> Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new_in(root.parent().context("a root has a folder")?)?;
    let mut arguments: Vec<String> = ["--sort=name", "--numeric-owner", "--mtime=@0"]
        .map(str::to_owned)
        .into();
    let excluded = |name: &&str| format!("--exclude=./usr/share/{name}");
    arguments.extend(UNREAD.iter().map(excluded));
    arguments.extend(["-C".to_owned(), root.display().to_string()]);
    arguments.extend(["-cf".to_owned(), file.path().display().to_string()]);
    arguments.push(".".to_owned());
    command::run("tar", &arguments)?;
    Ok(fs::read(file.path())?)
}

/// Moves what packages have in `/bin`, `/lib` and so on to `/usr`, and links
/// those folders to there: packages expect both.
fn merge_usr(root: &Path) -> Result<()> {
    for name in MERGED {
        let (old, new) = (root.join(name), root.join("usr").join(name));
        fs::create_dir_all(&new)?;
        if old.is_dir() {
            command::run("cp", &[Path::new("-a"), &old.join("."), &new])?;
            fs::remove_dir_all(&old)?;
        }
        symlink(Path::new("usr").join(name), &old)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_become_links_and_keep_what_they_had() {
        let root = tempfile::tempdir().unwrap();
        add_folders(root.path(), &["/lib/x", "/usr/lib/x"]).unwrap();
        fs::write(root.path().join("lib/x/one"), "1").unwrap();
        fs::write(root.path().join("usr/lib/x/two"), "2").unwrap();
        merge_usr(root.path()).unwrap();
        for name in MERGED {
            let target = fs::read_link(root.path().join(name)).unwrap();
            assert_eq!(target, Path::new("usr").join(name));
        }
        assert_eq!(fs::read(root.path().join("usr/lib/x/one")).unwrap(), b"1");
        assert_eq!(fs::read(root.path().join("lib/x/two")).unwrap(), b"2");
    }

    #[test]
    fn a_layer_leaves_out_what_programs_do_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        add_folders(&root, &["/usr/share/doc/x", "/usr/share/x", "/srv/doc"]).unwrap();
        let layer = layer(&root).unwrap();
        let mut layer = tar::Archive::new(&*layer);
        let entries = layer.entries().unwrap();
        let names: Vec<String> = entries
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        let kept = ["srv", "srv/doc", "usr", "usr/share", "usr/share/x"];
        assert_eq!(names.len(), kept.len() + 1, "{names:?}");
        for name in kept {
            assert!(names.iter().any(|found| found.contains(name)), "{name}");
        }
    }
}
