//! Programs of others, which `tools/install-peers` gets.

use std::{env, path::PathBuf};

/// The folder with all that was got: `bin`, and what its programs need.
#[must_use]
pub fn folder() -> PathBuf {
    let home = env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from);
    let folder = env::var_os("MESH_PEERS").map(PathBuf::from);
    folder.unwrap_or_else(|| home.join(".cache/mesh-peers"))
}

/// A program's path.
///
/// # Panics
/// Without it: tests that compare would otherwise compare nothing.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = folder().join("bin").join(name);
    assert!(
        path.exists(),
        "{} is not there: `tools/install-peers pairs` gets it",
        path.display()
    );
    path
}
