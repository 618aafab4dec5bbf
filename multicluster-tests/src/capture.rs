//! Packet capture at the WAN, where everything passes that crosses between
//! clusters, and on nodes, where everything passes that pods say to each other.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    cluster::Cluster,
    command,
    network::{WAN, node_namespace},
};

/// A capture that runs; it ends when dropped.
pub struct Capture {
    child: Child,
    file: tempfile::TempPath,
}

/// What was captured.
pub struct Captured {
    file: tempfile::TempPath,
}

impl Capture {
    /// Starts to capture at the WAN, and returns when packets are being captured.
    ///
    /// # Errors
    /// If tcpdump does not start.
    pub fn start() -> Result<Self> {
        Self::in_namespace(WAN)
    }

    /// The same, on the first node of `cluster`: also what does not leave it.
    /// Its own programs' loopback is left out: the kubelet and containerd speak
    /// there, in plain words, of what `kubectl exec` runs.
    ///
    /// # Errors
    /// If tcpdump does not start.
    pub fn on_node(cluster: &Cluster) -> Result<Self> {
        Self::in_namespace(&node_namespace(cluster.name()))
    }

    fn in_namespace(namespace: &str) -> Result<Self> {
        let file = tempfile::Builder::new()
            .suffix(".pcap")
            .tempfile()?
            .into_temp_path();
        let mut child = Command::new("ip")
            .args([
                "netns",
                "exec",
                namespace,
                "tcpdump",
                "-i",
                "any",
                "-n",
                "-s",
                "0",
                // Else what the kernel still holds at the end is lost.
                "--immediate-mode",
                "-U",
                "-w",
            ])
            .arg(&file)
            .args(["not", "net", "127.0.0.0/8"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("tcpdump does not start")?;
        let said = child.stderr.take().context("tcpdump's standard error")?;
        // It says so once its socket is open.
        for line in BufReader::new(said).lines() {
            if line?.contains("listening on") {
                return Ok(Self { child, file });
            }
        }
        bail!("tcpdump ended: {}", child.wait()?)
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// If tcpdump cannot be ended.
    pub fn stop(mut self) -> Result<Captured> {
        self.end()?;
        let empty = tempfile::NamedTempFile::new()?.into_temp_path();
        let file = std::mem::replace(&mut self.file, empty);
        Ok(Captured { file })
    }

    fn end(&mut self) -> Result<()> {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            kill(Pid::from_raw(pid), Signal::SIGINT)?;
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Best effort: the capture was given up.
            let _ = self.end();
        }
    }
}

impl Captured {
    /// How many packets there are.
    ///
    /// # Errors
    /// If tcpdump cannot read them.
    pub fn packets(&self) -> Result<usize> {
        self.count("")
    }

    /// How many TCP packets have this port.
    ///
    /// # Errors
    /// As [`packets`](Self::packets).
    pub fn packets_of_port(&self, port: u16) -> Result<usize> {
        self.count(&format!("tcp port {port}"))
    }

    /// How many packets a filter of tcpdump selects.
    ///
    /// # Errors
    /// As [`packets`](Self::packets).
    pub fn count(&self, filter: &str) -> Result<usize> {
        let text = command::run(
            "tcpdump",
            &["-n", "-r", &self.file.display().to_string(), filter],
        )?;
        Ok(text.lines().count())
    }

    /// How often `needle` occurs in the captured bytes.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn occurrences(&self, needle: &[u8]) -> Result<usize> {
        let bytes = fs::read(PathBuf::from(&*self.file))?;
        Ok(bytes
            .windows(needle.len())
            .filter(|window| *window == needle)
            .count())
    }
}
