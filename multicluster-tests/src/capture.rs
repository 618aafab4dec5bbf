//! Packet capture at the WAN, where everything passes that crosses between
//! clusters, and on nodes, where everything passes that pods say to each other.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
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
    /// What tcpdump says, line by line.
    said: mpsc::Receiver<String>,
    file: tempfile::TempPath,
}

/// How long tcpdump may take to write what the kernel holds for it.
const DRAIN: Duration = Duration::from_secs(20);

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
        let stderr = child.stderr.take().context("tcpdump's standard error")?;
        let said = lines(stderr);
        // It says so once its socket is open.
        for line in &said {
            if line.contains("listening on") {
                return Ok(Self { child, said, file });
            }
        }
        bail!("tcpdump ended: {}", child.wait()?)
    }

    /// Ends the capture, when all is written that there was until now.
    ///
    /// # Errors
    /// If tcpdump cannot be ended, or does not get at what the kernel holds.
    pub fn stop(mut self) -> Result<Captured> {
        self.drain()?;
        self.end()?;
        let empty = tempfile::NamedTempFile::new()?.into_temp_path();
        let file = std::mem::replace(&mut self.file, empty);
        Ok(Captured { file })
    }

    /// On a busy machine tcpdump may not have run since the last packet, and it
    /// leaves at once when it is told to.
    fn drain(&self) -> Result<()> {
        let start = Instant::now();
        let wanted = self.counts()?.received;
        loop {
            let counts = self.counts()?;
            if counts.captured + counts.dropped >= wanted {
                return Ok(());
            }
            if start.elapsed() > DRAIN {
                bail!("tcpdump has {counts:?} and does not get at the rest");
            }
        }
    }

    /// What tcpdump has counted so far.
    fn counts(&self) -> Result<Counts> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, Signal::SIGUSR1)?;
        loop {
            let line = self.said.recv_timeout(DRAIN);
            if let Some(counts) = Counts::of(&line.context("tcpdump says nothing")?) {
                return Ok(counts);
            }
        }
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

/// Packets as tcpdump counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Written.
    captured: u64,
    /// Seen by the kernel.
    received: u64,
    /// That the kernel had no room for.
    dropped: u64,
}

impl Counts {
    /// What a line says, if it is about them.
    fn of(line: &str) -> Option<Self> {
        let count = |what: &str| {
            let before = line.split(what).next().filter(|before| *before != line)?;
            // "12 packets captured"
            before.split(' ').rev().nth(1)?.parse().ok()
        };
        Some(Self {
            captured: count(" captured")?,
            received: count(" received by filter")?,
            dropped: count(" dropped by kernel")?,
        })
    }
}

/// The lines of `stream` as they come, read by a thread that ends with it.
fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(stream).lines();
        // Nobody may be interested any more.
        lines
            .map_while(Result::ok)
            .all(|line| send.send(line).is_ok())
    });
    receive
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tcpdump_counts_is_read() {
        let line = "tcpdump: 1 packet captured, 27 packets received by filter, 3 packets dropped \
                    by kernel";
        let counts = Counts {
            captured: 1,
            received: 27,
            dropped: 3,
        };
        assert_eq!(Counts::of(line), Some(counts));
        for other in ["", "27 packets captured", "listening on any, captured"] {
            assert_eq!(Counts::of(other), None, "{other}");
        }
    }
}
