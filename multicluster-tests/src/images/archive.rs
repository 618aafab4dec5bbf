//! OCI archives (OCI image layout 1.0: a layer, a configuration, a manifest and
//! an index).

use std::{fs::File, io::Write as _};

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What an image says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config<'a> {
    /// `repository:tag`.
    pub reference: &'a str,
    /// The program and its first arguments.
    pub entrypoint: &'a [&'a str],
    /// `NAME=value`.
    pub environment: &'a [&'a str],
    /// The user it runs as unless the pod says otherwise.
    pub user: u32,
}

/// Writes an image whose only layer is `layer`, a tar archive.
pub(crate) fn write(out: File, config: &Config<'_>, layer: &[u8]) -> Result<()> {
    let stated = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": config.entrypoint,
            "Env": config.environment,
            "User": config.user.to_string(),
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &stated),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    })
    .to_string()
    .into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": config.reference});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();

    let mut archive = tar::Builder::new(out);
    append(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
        0o644,
    )?;
    append(&mut archive, "index.json", index.as_bytes(), 0o644)?;
    for blob in [layer, &stated, &manifest] {
        let name = digest(blob).replace("sha256:", "blobs/sha256/");
        append(&mut archive, &name, blob, 0o644)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

/// Adds a file to a tar archive.
pub(crate) fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    content: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len())?);
    header.set_mode(mode);
    header.set_cksum();
    Ok(archive.append_data(&mut header, name, content)?)
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

/// `sha256:` and the hash of `content`.
pub(crate) fn digest(content: &[u8]) -> String {
    format!("sha256:{}", sha256(content))
}

/// The hash of `content`, in hexadecimal digits.
pub(crate) fn sha256(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
