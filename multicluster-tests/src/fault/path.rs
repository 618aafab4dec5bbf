//! A bad path between two networks that a namespace routes between.
//!
//! The relay ([`crate::relay`]) has a TUN device per direction, and a packet
//! goes through the namespace twice:
//!
//! 1. It comes in from one network's interface. A rule sends what is for the
//!    other network to a routing table of the relay's, with nothing in it but a
//!    default route into the direction's device.
//! 2. It comes out of that device, late or never. No rule knows the device, so
//!    the main table sends it to where it wanted to go.
//!
//! The firewall judges the first pass alone, and connection tracking sees that
//! one alone: it knows what was sent, as a router ahead of the bad path does.
//! On the second pass packets are untracked and accepted, by name of the
//! device ([`crate::network::FIREWALL`]); tracked again, late copies would run
//! after connections that have been closed since. A capture on all interfaces
//! shows both passes.
//!
//! The reverse path filter is loose on the devices, because answers do not
//! leave through them; the kernel is loose only where there is an address, so
//! they have one that nobody else may use. Only IPv4 is steered: IPv6 passes as
//! before. A packet loses two of its hops instead of one.
//!
//! Everything hangs on the relay's process: it ends when its standard input
//! does, at the latest with this process, its devices and their routes go with
//! it, and a rule whose table is empty changes nothing.

use std::{
    io::Read as _,
    os::fd::AsFd as _,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Pid,
};
use serde_json::Value;

use super::Fault;
use crate::{
    cluster::Cluster,
    command::ip,
    images::programs_folder,
    network::{WAN, sysctl},
    process::{self, wait_gone},
    relay::{flags, path::Path, queue::Tally},
};

/// How long the relay may take to make its devices, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// The routing table of `relay<n>` is this plus n.
const FIRST_TABLE: u32 = 4100;
/// RFC 7600's dummy address.
const DUMMY: &str = "192.0.0.8";
/// Before the rule of the main table, which is the 32766th.
const PREFERENCE: u32 = 1000;

/// A bad path; it is good again when this is dropped. What is on the way then
/// is lost.
#[derive(Debug)]
pub struct PathFault {
    namespace: String,
    relay: Child,
    tables: Vec<u32>,
}

/// Makes packets between two clusters feel `path`, in both directions.
///
/// # Errors
/// As [`PathFault::start`].
pub fn bad_path(a: &Cluster, b: &Cluster, path: Path) -> Result<Fault> {
    let what = format!("the path {} <-> {} is bad: {path}", a.name(), b.name());
    let (a, b) = (a.site().bridge(), b.site().bridge());
    let guard = PathFault::start(WAN, &a, &b, path)?;
    Ok(Fault::new(what, move || guard.stop().map(drop)))
}

impl PathFault {
    /// Makes packets between the networks behind interfaces `a` and `b` of
    /// `namespace` feel `path`, in both directions.
    ///
    /// # Errors
    /// If a command fails, or the relay is not ready in time.
    pub fn start(namespace: &str, a: &str, b: &str, path: Path) -> Result<Self> {
        let mut fault = Self {
            namespace: namespace.to_owned(),
            relay: spawn(namespace, &path)?,
            tables: Vec::new(),
        };
        let [forth, back] = fault.devices()?;
        fault.steer(&forth, a, b)?;
        fault.steer(&back, b, a)?;
        Ok(fault)
    }

    /// Makes the path good again, and says what became of the packets from `a`
    /// to `b`, and of those from `b` to `a`.
    ///
    /// # Errors
    /// If the relay had failed.
    pub fn stop(mut self) -> Result<[Tally; 2]> {
        self.end()?;
        let mut said = String::new();
        self.stdout()?.read_to_string(&mut said)?;
        let tallies: Vec<Tally> = said.lines().map(str::parse).collect::<Result<_>>()?;
        match tallies[..] {
            [forth, back] => Ok([forth, back]),
            _ => bail!("the relay ended with {said:?}"),
        }
    }

    /// The names of the relay's devices, as soon as it says them.
    fn devices(&mut self) -> Result<[String; 2]> {
        let line = first_line(self.stdout()?).context("the relay is not ready")?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [forth, back] => Ok([forth.to_owned(), back.to_owned()]),
            _ => bail!("the relay's devices are {line:?}"),
        }
    }

    fn stdout(&mut self) -> Result<&mut ChildStdout> {
        self.relay.stdout.as_mut().context("the relay's output")
    }

    /// Sends packets that come in from `from` to the networks behind `to`
    /// through `device`.
    fn steer(&mut self, device: &str, from: &str, to: &str) -> Result<()> {
        let namespace = self.namespace.clone();
        let table = table_of(device)?;
        // A process that was killed may have left some.
        flush(&namespace, table)?;
        self.tables.push(table);
        // It has nothing to say itself.
        sysctl(
            &namespace,
            &format!("net.ipv6.conf.{device}.disable_ipv6"),
            "1",
        )?;
        sysctl(
            &namespace,
            &format!("net.ipv4.conf.{device}.rp_filter"),
            "2",
        )?;
        ip(&format!(
            "-n {namespace} address add {DUMMY}/32 dev {device}"
        ))?;
        // Never the narrow point of the path, and room for a window at once.
        ip(&format!(
            "-n {namespace} link set {device} mtu 65535 txqueuelen 10000 up"
        ))?;
        ip(&format!(
            "-n {namespace} route add default dev {device} table {table}"
        ))?;
        for network in networks(&namespace, to)? {
            ip(&format!(
                "-n {namespace} rule add pref {PREFERENCE} iif {from} to {network} table {table}"
            ))?;
        }
        Ok(())
    }

    /// Undoes everything, however far it got.
    fn end(&mut self) -> Result<()> {
        let tables = self.tables.drain(..);
        let flushed: Vec<_> = tables.map(|table| flush(&self.namespace, table)).collect();
        if self.relay.try_wait()?.is_none() {
            drop(self.relay.stdin.take());
            let pid = Pid::from_raw(i32::try_from(self.relay.id())?);
            if !wait_gone(&[pid], PATIENCE) {
                process::stop(&[pid]);
            }
        }
        let status = self.relay.wait()?;
        ensure!(status.success(), "the relay ended with {status}");
        flushed.into_iter().collect()
    }
}

impl Drop for PathFault {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("the path fault: {error:#}");
        }
    }
}

fn spawn(namespace: &str, path: &Path) -> Result<Child> {
    Command::new("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        // This program may be a test.
        .arg(programs_folder()?.join("lab"))
        .arg("relay")
        .args(flags::of(path))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the relay does not start")
}

/// Waits for output, and takes what is there: the relay writes whole lines.
fn first_line(out: &mut ChildStdout) -> Result<String> {
    let mut files = [PollFd::new(out.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut files, PollTimeout::try_from(PATIENCE)?)?;
    ensure!(ready > 0, "it has said nothing for {PATIENCE:?}");
    let mut buffer = [0; 256];
    let length = out.read(&mut buffer)?;
    ensure!(length > 0, "it has ended");
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn table_of(device: &str) -> Result<u32> {
    let number = device.strip_prefix("relay").and_then(|n| n.parse().ok());
    let number: u32 = number.with_context(|| format!("{device:?} is no device of a relay"))?;
    Ok(FIRST_TABLE + number)
}

/// Removes all rules that lead to `table`.
fn flush(namespace: &str, table: u32) -> Result<()> {
    ip(&format!("-n {namespace} rule flush table {table}"))?;
    Ok(())
}

/// The networks that the main table routes to `interface`.
fn networks(namespace: &str, interface: &str) -> Result<Vec<String>> {
    let shown = ip(&format!("-n {namespace} -j -4 route show dev {interface}"))?;
    let networks = destinations(&serde_json::from_str(&shown)?);
    ensure!(!networks.is_empty(), "nothing is routed to {interface}");
    Ok(networks)
}

fn destinations(routes: &Value) -> Vec<String> {
    let routes = routes.as_array().into_iter().flatten();
    routes
        .filter_map(|route| route["dst"].as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_device_has_a_table_of_its_own() {
        for (device, table) in [
            ("relay0", Some(4100)),
            ("relay12", Some(4112)),
            ("eth0", None),
            ("relay", None),
        ] {
            assert_eq!(table_of(device).ok(), table, "{device}");
        }
    }

    #[test]
    fn all_networks_behind_an_interface_count() {
        let routes = json!([
            {"dst": "10.99.2.0/24", "protocol": "kernel", "scope": "link"},
            {"dst": "10.100.0.0/16", "gateway": "10.99.2.10"},
        ]);
        assert_eq!(destinations(&routes), ["10.99.2.0/24", "10.100.0.0/16"]);
    }
}
