//! Rules about files that the compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace's own folder.
fn root() -> PathBuf {
    // As cargo says now: what was built in another checkout is not built again.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this");
    Path::new(&here)
        .ancestors()
        .nth(2)
        .expect("this crate is two folders below the workspace")
        .to_owned()
}

/// All Rust sources of the workspace, as (path below the root, text).
pub(crate) fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(&root(), &mut found);
    assert!(found.len() > 10, "the workspace's sources were not found");
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    let entries = fs::read_dir(folder).expect("the workspace can be read");
    for entry in entries {
        let path = entry.expect("the workspace can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let skipped = name.starts_with('.') || name == "target" || name == "out";
        if path.is_dir() && !skipped {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("sources are text");
            let below = path.strip_prefix(root()).expect("found below the root");
            found.push((below.to_owned(), text));
        }
    }
}

#[test]
fn modules_are_named_by_their_file() {
    let unnamed: Vec<_> = sources()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.ends_with("mod.rs"))
        .collect();
    assert!(
        unnamed.is_empty(),
        "write foo.rs and foo/, not foo/mod.rs: {unnamed:?}"
    );
}

#[test]
fn no_crate_re_exports_another() {
    let sign = concat!("pub use ", "mesh_");
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().any(|line| line.trim_start().starts_with(sign)))
        .map(|(path, _)| path)
        .collect();
    assert!(
        found.is_empty(),
        "name the crate where it is used: {found:?}"
    );
}

#[test]
fn the_files_of_every_project_are_there() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "LICENSE",
    ] {
        assert!(root().join(name).is_file(), "{name} is missing");
    }
}

#[test]
fn files_named_by_documents_exist() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ] {
        // Its absence is another test's finding.
        let text = fs::read_to_string(root().join(document)).unwrap_or_default();
        let missing: Vec<_> = links(&text)
            .chain(paths_in_code(&text))
            .filter(|path| !root().join(path).exists())
            .collect();
        assert!(
            missing.is_empty(),
            "{document} names what is not there: {missing:?}"
        );
    }
}

/// Targets of Markdown links that are files: `[text](docs/soak.md#part)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains(':'))
}

/// Code spans that are paths: with a slash, and starting with something that
/// is in the workspace's folder. Planned parts are written in plain text.
fn paths_in_code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|span| !span.contains(char::is_whitespace) && !span.contains(['*', '{', '<']))
        .filter(|span| {
            span.split_once('/')
                .is_some_and(|(first, _)| !first.is_empty() && root().join(first).exists())
        })
}

#[test]
fn paths_are_found_in_markdown() {
    let text = "See [the lab](multicluster-tests/Cargo.toml#x), `tools/acceptance`, \
        `mesh.dev/exported`, [a site](https://mesh.dev) and `make test`.";
    assert_eq!(
        links(text).collect::<Vec<_>>(),
        ["multicluster-tests/Cargo.toml"]
    );
    assert_eq!(
        paths_in_code(text).collect::<Vec<_>>(),
        ["tools/acceptance"]
    );
}
