//! Certificates for all subjects, of one root and of the shape that ours have.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use mesh_pair::identity::{CLIENT, SERVER};
use mesh_testing::ca::TestRoot;
use rcgen::SanType;

/// A name for proxies that verify names only.
pub(crate) const SERVER_NAME: &str = "web.bench.internal";

/// What other proxies are configured with: PEM files in a folder.
pub(crate) fn write_files(root: &TestRoot, folder: &Path) -> Result<()> {
    write(folder, "ca.pem", &root.bundle_pem())?;
    for (file, id, name) in [
        ("client", CLIENT, None),
        ("server", SERVER, None),
        ("named", SERVER, Some(SERVER_NAME)),
    ] {
        let name = name.map(dns_name);
        let issued = root.issue_with(id, |params| params.subject_alt_names.extend(name));
        let chain: String = issued
            .chain_der
            .iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect();
        let key = pem("PRIVATE KEY", &issued.key_pkcs8_der);
        write(folder, &format!("{file}.crt"), &chain)?;
        write(folder, &format!("{file}.key"), &key)?;
        // HAProxy reads both from one file.
        write(folder, &format!("{file}.pem"), &format!("{chain}{key}"))?;
    }
    Ok(())
}

fn dns_name(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("it is ASCII"))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// DER as PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    const LINE: usize = 64;
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(LINE)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_short_lines_and_the_same_bytes() {
        let der: Vec<u8> = (0..=255).collect();
        let text = pem("CERTIFICATE", &der);
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n"));
        assert!(text.ends_with("\n-----END CERTIFICATE-----\n"));
        let middle: Vec<&str> = text.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(middle.iter().all(|line| line.len() <= 64));
        assert_eq!(STANDARD.decode(middle.concat()).unwrap(), der);
    }

    #[test]
    fn every_proxy_finds_its_files() {
        let folder = tempfile::tempdir().unwrap();
        write_files(
            &TestRoot::new(mesh_pair::identity::TRUST_DOMAIN),
            folder.path(),
        )
        .unwrap();
        for name in [
            "ca.pem",
            "client.crt",
            "client.key",
            "server.pem",
            "named.crt",
        ] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.starts_with("-----BEGIN "), "{name}");
        }
    }
}
