//! The Gateway API's definitions: from its Go module, whose checksum is in
//! `gateway-api/go.sum`, in Go's own cache.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{command, paths};

const MODULE: &str = "sigs.k8s.io/gateway-api";
const DEFINITIONS: [&str; 2] = [
    "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    "config/crd/standard/gateway.networking.k8s.io_tlsroutes.yaml",
];

/// The files that define HTTPRoute and TLSRoute. They are too large for a client-side
/// apply: `kubectl apply --server-side -f` takes them.
///
/// # Errors
/// If Go is missing, or the module cannot be had.
pub fn gateway_api_crds() -> Result<Vec<PathBuf>> {
    let folder = paths::sources().join("gateway-api");
    let mut download = Command::new("go");
    download
        .args(["mod", "download", "-json", MODULE])
        .current_dir(folder);
    let said = command::finish(&mut download, None).context("the Gateway API's module")?;
    let module: Value = serde_json::from_str(&said).context("what go says of a module")?;
    let root = module["Dir"].as_str().context("go says no folder")?;
    let files = DEFINITIONS.map(|file| Path::new(root).join(file));
    for file in &files {
        anyhow::ensure!(file.exists(), "{} is not there", file.display());
    }
    Ok(files.into())
}
