//! Configurations of other proxies: what somebody would run who cares for
//! speed. Mutual TLS 1.3 between A and B, the peer verified, connections kept,
//! no access log, one thread.

mod envoy;
mod haproxy;
mod nginx;

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use mesh_pair::namespace::Side;

use crate::subject::Subject;

/// A's ports on loopback, and with [`TLS`] added B's.
pub(crate) const HTTP1: u16 = 15001;
pub(crate) const HTTP2: u16 = 15002;
pub(crate) const GRPC: u16 = 15003;
pub(crate) const BYTES: u16 = 15004;
pub(crate) const TLS: u16 = 1000;

/// How a proxy is started; its configuration is written to `folder`, where the
/// certificates are.
///
/// # Errors
/// If it cannot be written, or the subject is no other proxy.
pub(crate) fn command(
    subject: Subject,
    side: Side,
    workers: usize,
    programs: &Path,
    folder: &Path,
) -> Result<Command> {
    let certificates = folder.display().to_string();
    let (text, ending) = match subject {
        Subject::Haproxy => (haproxy::config(side, workers, &certificates), "cfg"),
        Subject::Envoy => (envoy::config(side, &certificates), "json"),
        Subject::Nginx => (nginx::config(side, workers, &certificates), "conf"),
        Subject::Direct | Subject::Mesh => bail!("{subject} is no other proxy"),
    };
    let file = folder.join(format!("{subject}-{}.{ending}", side.as_str()));
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    let mut command = Command::new(programs.join(subject.as_str()));
    match subject {
        Subject::Haproxy => command.arg("-db").arg("-f").arg(file),
        Subject::Envoy => command
            .args(["--disable-hot-restart", "-l", "warning", "--concurrency"])
            .arg(workers.to_string())
            .arg("-c")
            .arg(file),
        _ => command.args(["-e", "stderr", "-c"]).arg(file),
    };
    Ok(command)
}

/// What a proxy says its version is.
///
/// # Errors
/// If it cannot be run.
pub(crate) fn version(subject: Subject, programs: &Path) -> Result<String> {
    let flag = if subject == Subject::Envoy {
        "--version"
    } else {
        "-v"
    };
    let program = programs.join(subject.as_str());
    let output = Command::new(&program)
        .arg(flag)
        .output()
        .with_context(|| format!("{} cannot be run: tools/bench-peers", program.display()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| !line.trim().is_empty());
    Ok(line
        .context("it does not say its version")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proxy_verifies_its_peer_and_speaks_tls_1_3_only() {
        for (side, verified) in [(Side::A, "verify required"), (Side::B, "verify required")] {
            let text = haproxy::config(side, 1, "/certs");
            assert!(
                text.contains(verified) && text.contains("ssl-min-ver TLSv1.3"),
                "{text}"
            );
        }
        let text = envoy::config(Side::B, "/certs");
        assert!(
            text.contains("\"require_client_certificate\":true"),
            "{text}"
        );
        for side in [Side::A, Side::B] {
            let text = envoy::config(side, "/certs");
            assert!(
                text.contains("\"tls_minimum_protocol_version\":\"TLSv1_3\""),
                "{text}"
            );
            assert!(text.contains("match_typed_subject_alt_names"), "{text}");
        }
        assert!(nginx::config(Side::A, 1, "/certs").contains("proxy_ssl_verify on;"));
        assert!(nginx::config(Side::B, 1, "/certs").contains("ssl_verify_client on;"));
    }

    #[test]
    fn a_configuration_is_written_and_named_on_the_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Path::new("/programs");
        for subject in [Subject::Haproxy, Subject::Envoy, Subject::Nginx] {
            let command = command(subject, Side::A, 1, programs, folder.path()).unwrap();
            let file = command.get_args().last().unwrap();
            assert!(fs::metadata(file).unwrap().len() > 500, "{subject}");
        }
        assert!(command(Subject::Mesh, Side::A, 1, programs, folder.path()).is_err());
    }
}
