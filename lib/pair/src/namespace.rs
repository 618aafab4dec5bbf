//! Network namespaces: where A and B are, and the veth between them.

mod starter;

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    process::{Child, Command},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use self::starter::Starter;

/// The device in each namespace that leads to the other one.
pub const LINK: &str = "eth0";
/// Where A is.
pub const A: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 1);
/// Where B and the server are.
pub const B: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 2);
/// The Service that A is asked for, as a cluster would have it.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 211, 0, 10);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    A,
    /// The server's.
    B,
}

impl Side {
    /// Its name in those of files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// Its address on the link.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        match self {
            Self::A => A,
            Self::B => B,
        }
    }
}

/// A client's side and a server's side.
pub struct Site {
    /// The client's.
    pub a: Namespace,
    /// The server's.
    pub b: Namespace,
}

/// One network namespace. It ends, with all that runs in it, when it is dropped.
pub struct Namespace {
    starter: Starter,
    made: Made,
}

/// The name of a namespace that is removed in the end.
struct Made(String);

impl Site {
    /// Makes both namespaces; their names begin with `name`.
    ///
    /// # Errors
    /// If a command fails: it needs root.
    pub fn new(name: &str) -> Result<Self> {
        let a = Namespace::new(&format!("{name}-a"))?;
        let b = Namespace::new(&format!("{name}-b"))?;
        ip(&format!(
            "-n {} link add {LINK} type veth peer name {LINK} netns {}",
            a.made.0, b.made.0
        ))?;
        for (namespace, address) in [(&a, A), (&b, B)] {
            let name = &namespace.made.0;
            ip(&format!("-n {name} address add {address}/24 dev {LINK}"))?;
            ip(&format!("-n {name} link set {LINK} up"))?;
        }
        ip(&format!("-n {} route add {SERVICE} via {B}", a.made.0))?;
        Ok(Self { a, b })
    }

    /// The namespace of one side.
    #[must_use]
    pub const fn of(&self, side: Side) -> &Namespace {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

/// Removes what a run that was killed has left: all namespaces whose name is
/// such, with what runs in them.
pub fn remove_leftovers(is_left: impl Fn(&str) -> bool) {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_left(&name) {
            drop(Made(name));
        }
    }
}

impl Namespace {
    fn new(name: &str) -> Result<Self> {
        ip(&format!("netns add {name}"))?;
        let made = Made(name.to_owned());
        ip(&format!("-n {name} link set lo up"))?;
        let starter = Starter::new(Handle(name.to_owned()))?;
        let namespace = Self { starter, made };
        namespace.enter(|| {
            // Thousands of short connections are opened from one address.
            sysctl("net/ipv4/ip_local_port_range", "10240 65000")?;
            sysctl("net/ipv4/tcp_tw_reuse", "1")?;
            sysctl("net/core/somaxconn", "8192")
        })??;
        Ok(namespace)
    }

    /// Runs `action` on a thread of its own in this namespace, on no core in
    /// particular.
    ///
    /// # Errors
    /// If the namespace is gone or `action` panics.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<T> {
                self.join()?;
                Ok(action())
            });
            inside
                .join()
                .map_err(|_| anyhow!("a thread has panicked"))?
        })
    }

    /// Starts a program here, on `cores`, or on any if none are named. The thread
    /// that the kernel takes for its parent lives as long as the namespace.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, cores: &[usize], command: Command) -> Result<Child> {
        self.starter.start(cores, command)
    }

    /// Puts the calling thread into this namespace, for as long as it lives.
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn join(&self) -> Result<()> {
        self.handle().join()
    }

    /// Another name for the same namespace, that may be given to a thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(self.made.0.clone())
    }
}

impl Made {
    fn end_programs(&self) -> Result<()> {
        for pid in output("ip", &format!("netns pids {}", self.0))?.lines() {
            let pid: i32 = pid.trim().parse()?;
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let ended = self.end_programs();
        let removed = ip(&format!("netns del {}", self.0));
        if let Err(error) = ended.and(removed) {
            eprintln!("{} may be left: {error:#}", self.0);
        }
    }
}

/// Where a thread is to be.
#[derive(Clone)]
pub struct Handle(String);

impl Handle {
    /// As [`Namespace::join`].
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn join(&self) -> Result<()> {
        let path = format!("/run/netns/{}", self.0);
        let file = File::open(&path).with_context(|| path.clone())?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| path)
    }
}

/// Keeps the calling thread, and what it starts, on `cores`.
///
/// # Errors
/// If the machine has no such core.
pub fn pin(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("there are no cores {cores:?}"))
}

/// Sets a value of the namespace that the calling thread is in.
fn sysctl(name: &str, value: &str) -> Result<()> {
    fs::write(format!("/proc/sys/{name}"), value).with_context(|| format!("sysctl {name}"))
}

/// Forgets closed connections soon, where connections are tracked. Else the
/// table would be full after a few rounds of short ones. For the namespace that
/// the calling thread is in.
///
/// # Errors
/// If nothing is tracked there.
pub fn forget_closed_connections() -> Result<()> {
    sysctl("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1")
}

/// How many bytes have crossed the link, in both directions, as seen from the
/// namespace that the calling thread is in.
///
/// # Errors
/// If there is no link here.
pub fn link_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/dev")?;
    parse_link_bytes(&text).context("there is no link in this namespace")
}

fn parse_link_bytes(text: &str) -> Option<u64> {
    const RECEIVED: usize = 0;
    const SENT: usize = 8;
    let counters = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(LINK)?.strip_prefix(':'))?;
    let counters: Vec<&str> = counters.split_whitespace().collect();
    let number = |at: usize| counters.get(at)?.parse::<u64>().ok();
    Some(number(RECEIVED)? + number(SENT)?)
}

/// Runs `ip` with words separated by blanks.
fn ip(words: &str) -> Result<String> {
    output("ip", words)
}

fn output(program: &str, words: &str) -> Result<String> {
    let mut command = Command::new(program);
    let output = command
        .args(words.split_whitespace())
        .output()
        .with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {words}: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_link_are_counted_in_both_directions() {
        let text = "Inter-|   Receive                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n    \
             lo:     900       9    0    0    0     0          0         0      900       9\n  \
             eth0:    1200      12    0    0    0     0          0         0      34       3\n";
        assert_eq!(parse_link_bytes(text), Some(1234));
        assert_eq!(parse_link_bytes("    lo: 1 1 1 1 1 1 1 1 1 1\n"), None);
    }
}
