//! The rules in a real kernel: a pod and a peer, each a network namespace.
//! Needs root, `ip` (iproute2), `nft` (nftables) and `setpriv` (util-linux).

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, not in their helpers"
)]

use std::{
    fs::File,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::process::CommandExt,
    process::{Command, Output},
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{SockaddrIn, getsockopt, sockopt},
};

const POD: &str = "10.231.0.2";
const PEER: &str = "10.231.0.1";

#[test]
fn rules_are_installed_once_however_often_it_runs() {
    let pod = Namespace::new("rules");
    pod.redirect(&["--skip-outbound-ports", "25,4000-4100"]);
    let first = pod.rules();
    for expected in [
        "table inet mesh",
        "type nat hook prerouting priority dstnat; policy accept;",
        "type nat hook output priority -100; policy accept;",
        "tcp dport 4191 return",
        "meta skuid 2102 return",
        "oifname \"lo\" return",
        "tcp dport 25 return",
        "redirect to :4140",
        "redirect to :4143",
    ] {
        assert!(first.contains(expected), "{expected:?} in\n{first}");
    }
    pod.redirect(&["--skip-outbound-ports", "25,4000-4100"]);
    assert_eq!(pod.rules(), first);
}

#[test]
fn a_second_run_replaces_what_the_first_left_and_nothing_else() {
    let pod = Namespace::new("replace");
    pod.run(&["nft", "add", "table", "inet", "other"]);
    pod.redirect(&["--skip-outbound-ports", "25"]);
    pod.redirect(&[]);
    assert!(!pod.rules().contains("dport 25 "));
    assert!(pod.rules().contains("table inet other"));
}

#[test]
fn inbound_connections_reach_the_proxy_and_know_where_they_wanted_to_go() {
    let (peer, pod) = pair("in");
    pod.redirect(&["--skip-inbound-ports", "9000-9100"]);
    let proxy = pod.enter(|| listen(4143));
    let application = pod.enter(|| listen(9050));
    let admin = pod.enter(|| listen(4191));

    for (port, listener, original) in [
        (8080, &proxy, Some(8080)),
        (4143, &proxy, Some(4143)),
        (9050, &application, None),
        (4191, &admin, None),
    ] {
        let client = peer.enter(|| connect(POD, port)).unwrap();
        let accepted = accept(listener);
        assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
        if let Some(original) = original {
            assert_eq!(original_destination(&accepted), format!("{POD}:{original}"));
        }
    }
}

#[test]
fn outbound_connections_reach_the_proxy_unless_they_are_its_own() {
    let (peer, pod) = pair("out");
    pod.redirect(&["--skip-outbound-ports", "25"]);
    let proxy = pod.enter(|| listen(4140));
    let remote = peer.enter(|| listen(8080));
    let mail = peer.enter(|| listen(25));

    let _application = pod.enter(|| connect(PEER, 8080)).unwrap();
    assert_eq!(
        original_destination(&accept(&proxy)),
        format!("{PEER}:8080")
    );

    let _skipped = pod.enter(|| connect(PEER, 25)).unwrap();
    accept(&mail);

    pod.enter(|| connect_as_proxy(PEER, 8080));
    accept(&remote);
}

#[test]
fn what_a_pod_says_to_itself_stays_in_it() {
    let (_peer, pod) = pair("self");
    pod.redirect(&[]);
    let application = pod.enter(|| listen(8080));
    for address in ["127.0.0.1", POD] {
        let _client = pod.enter(|| connect(address, 8080)).unwrap();
        accept(&application);
    }
}

#[test]
fn ipv6_connections_are_redirected_too() {
    let (_peer, pod) = pair("six");
    pod.redirect(&[]);
    let proxy = pod.enter(|| TcpListener::bind("[::1]:4140").unwrap());
    let _client = pod.enter(|| connect("[fd31::1]", 8080)).unwrap();
    accept(&proxy);
}

#[test]
fn udp_is_left_alone() {
    let (peer, pod) = pair("udp");
    pod.redirect(&[]);
    let server = peer.enter(|| UdpSocket::bind((PEER, 5353)).unwrap());
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    pod.enter(|| {
        let client = UdpSocket::bind((POD, 0)).unwrap();
        client.send_to(b"question", (PEER, 5353)).unwrap();
    });
    let mut buffer = [0; 16];
    let (length, _) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"question");
}

#[test]
fn without_the_capability_it_says_what_to_do() {
    let pod = Namespace::new("cap");
    let output = pod.enter(|| {
        let mut without = Command::new("setpriv");
        without.args([
            "--bounding-set=-net_admin",
            env!("CARGO_BIN_EXE_mesh-redirect"),
        ]);
        without.output().unwrap()
    });
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("EPERM") && text.contains("NET_ADMIN"),
        "{text}"
    );
    assert_eq!(pod.rules(), "");
}

/// A network namespace of ours, removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the feature `netns` needs root: run these tests as root, or without the feature"
        );
        let name = format!("mesh-t-{}-{name}", std::process::id());
        succeed(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self(name);
        namespace.run(&["ip", "link", "set", "lo", "up"]);
        namespace
    }

    /// Runs `action` on a thread inside this namespace.
    fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = File::open(format!("/run/netns/{}", self.0)).unwrap();
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                action()
            });
            inside.join().unwrap()
        })
    }

    fn run(&self, command: &[&str]) -> String {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.0]).args(command);
        String::from_utf8(succeed(&mut inside).stdout).unwrap()
    }

    fn redirect(&self, flags: &[&str]) {
        let command = [&[env!("CARGO_BIN_EXE_mesh-redirect")], flags].concat();
        self.run(&command);
    }

    fn rules(&self) -> String {
        self.run(&["nft", "list", "ruleset"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A peer and a pod that reach each other, and whatever they like through
/// each other.
fn pair(name: &str) -> (Namespace, Namespace) {
    let peer = Namespace::new(&format!("{name}-peer"));
    let pod = Namespace::new(&format!("{name}-pod"));
    peer.run(&[
        "ip", "link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", &pod.0,
    ]);
    for (namespace, device, v4, v6) in [
        (&peer, "pod0", PEER, "fd31::1"),
        (&pod, "eth0", POD, "fd31::2"),
    ] {
        namespace.run(&["ip", "address", "add", &format!("{v4}/24"), "dev", device]);
        namespace.run(&[
            "ip",
            "address",
            "add",
            &format!("{v6}/64"),
            "dev",
            device,
            "nodad",
        ]);
        namespace.run(&["ip", "link", "set", device, "up"]);
    }
    (peer, pod)
}

fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: is it installed?"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output
}

fn listen(port: u16) -> TcpListener {
    TcpListener::bind(("0.0.0.0", port)).unwrap()
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let address: SocketAddr = format!("{host}:{port}").parse().unwrap();
    TcpStream::connect_timeout(&address, DEADLINE)
}

/// Opens a connection as the proxy's user, in a process of its own: a user id
/// belongs to a process.
fn connect_as_proxy(host: &str, port: u16) {
    let script = format!("exec 3<>/dev/tcp/{host}/{port}");
    let mut bash = Command::new("bash");
    succeed(bash.args(["-c", &script]).uid(2102).gid(2102));
}

fn accept(listener: &TcpListener) -> TcpStream {
    use nix::sys::{socket::setsockopt, time::TimeVal};
    let deadline = TimeVal::new(DEADLINE.as_secs().cast_signed(), 0);
    setsockopt(listener, sockopt::ReceiveTimeout, &deadline).unwrap();
    match listener.accept() {
        Ok((stream, _)) => stream,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            panic!("nobody came to {:?}", listener.local_addr())
        }
        Err(error) => panic!("{error}"),
    }
}

fn original_destination(stream: &TcpStream) -> String {
    let address = getsockopt(stream, sockopt::OriginalDst).unwrap();
    SockaddrIn::from(address).to_string()
}

const DEADLINE: Duration = Duration::from_secs(5);
