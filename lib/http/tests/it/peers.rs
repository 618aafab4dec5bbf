//! Programs of others, which `tools/install-peers` gets.

use std::{env, path::PathBuf, process::Command};

/// A program's path.
///
/// # Panics
/// Without it: tests that compare would otherwise compare nothing.
pub(crate) fn program(name: &str) -> PathBuf {
    let home = env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from);
    let folder = env::var_os("MESH_PEERS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| home.join(".cache/mesh-peers"));
    let path = folder.join("bin").join(name);
    assert!(
        path.exists(),
        "{} is not there: run tools/install-peers, which gets it",
        path.display()
    );
    path
}

/// A program that ends when this one does, also if this one is killed.
pub(crate) fn server(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program(name));
    command
}

/// What a program says of its version, on one line.
pub(crate) fn version(name: &str) -> String {
    let output = Command::new(program(name)).arg("-v").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().next().unwrap_or_default().to_owned()
}
