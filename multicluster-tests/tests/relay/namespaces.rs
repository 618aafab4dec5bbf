//! Two networks and the router between them.

use std::{
    fs::File,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use mesh_lab::{
    command::{ip, run, run_with_input},
    network,
};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(crate) const ROUTER: &str = "mesh-t-w";
/// The router's interfaces.
pub(crate) const LEFT: &str = "left";
pub(crate) const RIGHT: &str = "right";

/// One at a time: the names are fixed, and times are measured.
static TURN: Mutex<()> = Mutex::new(());

/// `left` reaches `right`, where the lab's firewall lets it.
pub(crate) struct World {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    pub(crate) router: Namespace,
    before: String,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let router = Namespace::new(ROUTER);
        let left = Namespace::new("mesh-t-a");
        let right = Namespace::new("mesh-t-b");
        join(&left, LEFT, "10.232.1");
        join(&right, RIGHT, "10.232.2");
        router.run(&["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
        // The filter that would drop what comes from the wrong interface.
        router.run(&["sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=1"]);
        let inside = ["netns", "exec", ROUTER, "nft", "-f", "-"];
        run_with_input("ip", &inside, network::FIREWALL).unwrap();
        let before = state();
        Self {
            left,
            right,
            router,
            before,
            _turn: turn,
        }
    }

    /// Packets that the firewall dropped.
    pub(crate) fn dropped_packets(&self) -> u64 {
        let counter = ["nft", "list", "counter", "inet", "lab", "dropped"];
        let text = self.router.run(&counter);
        let mut words = text.split_whitespace().skip_while(|w| *w != "packets");
        words.nth(1).unwrap().parse().unwrap()
    }

    /// Fails if a fault left rules, routes or devices.
    pub(crate) fn is_as_before(&self) {
        assert_eq!(state(), self.before);
        assert_eq!(ip(&format!("netns pids {ROUTER}")).unwrap(), "");
    }
}

fn state() -> String {
    let asked = ["rule", "-4 route show table all", "-o link show type tun"];
    let answers = asked.map(|what| ip(&format!("-n {ROUTER} {what}")).unwrap());
    answers.join("")
}

/// Links a namespace to the router's interface `port`.
fn join(namespace: &Namespace, port: &str, network: &str) {
    let name = &namespace.0;
    for command in [
        format!("-n {name} link add eth0 type veth peer name {port} netns {ROUTER}"),
        format!("-n {name} address add {network}.10/24 dev eth0"),
        format!("-n {ROUTER} address add {network}.1/24 dev {port}"),
        format!("-n {ROUTER} link set {port} up"),
        format!("-n {name} link set eth0 up"),
        format!("-n {name} route add default via {network}.1"),
    ] {
        ip(&command).unwrap();
    }
}

/// A network namespace of ours, removed when dropped.
pub(crate) struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the feature `lab` needs root: run these tests as root, or without the feature"
        );
        // A run that was killed may have left it.
        let _ = ip(&format!("netns delete {name}"));
        ip(&format!("netns add {name}")).unwrap();
        ip(&format!("-n {name} link set lo up")).unwrap();
        Self(name.to_owned())
    }

    /// Runs `action` on a thread inside this namespace.
    pub(crate) fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = File::open(format!("/run/netns/{}", self.0)).unwrap();
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                action()
            });
            inside.join().unwrap()
        })
    }

    /// Kills every process in it: they are all ours.
    pub(crate) fn kill_programs(&self) {
        let pids = ip(&format!("netns pids {}", self.0)).unwrap();
        for pid in pids.lines() {
            let pid = Pid::from_raw(pid.trim().parse().unwrap());
            kill(pid, Signal::SIGKILL).unwrap();
        }
    }

    fn run(&self, command: &[&str]) -> String {
        let inside = ["netns", "exec", &self.0];
        run("ip", &[&inside, command].concat()).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&format!("netns delete {}", self.0));
    }
}
