//! A sidecar of east over loopback, an application behind it, and callers.

mod tunnels;

use http_body_util::BodyExt as _;
use mesh_core::{
    authorization::{Clients, DefaultPolicy, Origin, Rule},
    identity::TrustDomain,
    limits::{Limits, Program},
};
use mesh_dataplane::{
    limits::budget,
    message::{Body, Incoming, Response},
    peer::{self, Peer, PeerAddress, PeerConnection, Peers, StreamError},
    resolve::Resolver,
    tunnel::Tunnels,
};
use mesh_http::head::Head;
use mesh_testing::ca::{TestRoot, id};
use mesh_wire::mesh1::{Carried, Reason};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
};

use std::time::Duration;

use super::*;

const WEB: &str = "spiffe://east/ns/shop/sa/web";
const OWN: &str = "spiffe://east/ns/shop/sa/client";
const FOREIGN: &str = "spiffe://west/ns/shop/sa/client";
/// Within which a withdrawal takes effect.
const SOON: Duration = Duration::from_secs(5);

struct World {
    east: TestRoot,
    west: TestRoot,
    address: SocketAddr,
    application: SocketAddr,
    policy: watch::Sender<Option<Arc<InboundPolicy>>>,
    inbound: Arc<Inbound>,
    registry: Registry,
}

impl World {
    /// A sidecar that has heard nothing, with this default.
    async fn new(first: InboundPolicy) -> Self {
        Self::bounded(first, Bounds::default()).await
    }

    async fn bounded(first: InboundPolicy, bounds: Bounds) -> Self {
        let (east, west) = (TestRoot::new("east"), TestRoot::new("west"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let application = application().await;
        let (policy, receiver) = watch::channel(None);
        let mut registry = Registry::default();
        let inbound = Arc::new(Inbound {
            tls: east.tls_trusting(WEB, &[&west]),
            pod_ips: vec!["127.0.0.1".parse().unwrap()],
            listening: 0,
            application: plain::Clients::default(),
            policy: receiver,
            first_policy: Arc::new(first),
            metrics: Metrics::register(&mut registry),
            bounds,
            crowd: Crowd::new(100),
        });
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_peers(listener, inbound.clone()));
        Self {
            east,
            west,
            address,
            application,
            policy,
            inbound,
            registry,
        }
    }

    /// One whose port is exported to west, and admits whom `rules` do.
    async fn with(rules: Vec<Rule>) -> Self {
        let world = Self::new(InboundPolicy::default()).await;
        world.say(rules);
        world
    }

    fn port(&self) -> u16 {
        self.application.port()
    }

    fn say(&self, rules: Vec<Rule>) {
        let west: TrustDomain = "west".parse().unwrap();
        let port = self.port();
        self.policy.send_replace(Some(Arc::new(InboundPolicy {
            exported: [((west, port), "shop/web".into())].into(),
            servers: [(port, rules)].into(),
            probes: [(port, "/healthz".into())].into(),
            ..InboundPolicy::of_default(DefaultPolicy::AllUnauthenticated)
        })));
    }

    async fn peer(&self, caller: &str) -> PeerConnection {
        let tls = if caller == FOREIGN {
            self.west.tls_trusting(caller, &[&self.east])
        } else {
            self.east.tls(caller)
        };
        let tunnels = Tunnels::new(tls.clone(), Resolver::from_system().unwrap());
        let peer = Peer {
            address: PeerAddress::Direct(self.address),
            identity: id(WEB).into(),
        };
        Peers::new(tls, tunnels).connection(&peer).await.unwrap()
    }

    /// A connection of a client without a sidecar, and what becomes of it.
    async fn unmeshed(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (accepted, peer) = listener.accept().await.unwrap();
        let (inbound, to) = (self.inbound.clone(), self.application);
        tokio::spawn(async move {
            let ended = inbound
                .clone()
                .unmeshed(accepted, peer.ip(), to, &Shutdown::new())
                .await;
            if let Some(reason) = ended.err().and_then(|ended| ended.refusal()) {
                inbound.metrics.refused("inbound", reason);
            }
        });
        stream.unwrap()
    }

    /// Waits until the sidecar has counted a refusal for this reason.
    async fn has_counted(&self, reason: &str) {
        let line = format!("refused_total{{direction=\"inbound\",reason=\"{reason}\"}} 1");
        let counted = async {
            while !self.counted().contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, counted).await.expect("a count");
    }

    fn counted(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

async fn serve_peers(listener: TcpListener, inbound: Arc<Inbound>) {
    loop {
        let (stream, peer) = listener.accept().await.expect("a connection");
        let inbound = inbound.clone();
        tokio::spawn(async move {
            let shutdown = Shutdown::new();
            let tasks = TaskTracker::new();
            // An end is what some tests wait for, at the other side.
            let _ = inbound.peer(stream, peer.ip(), tasks, &shutdown).await;
        });
    }
}

/// Answers HTTP in one go, `/stream` without an end, switches for `/switch` and
/// CONNECT, and echoes other bytes.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(converse(stream));
        }
    });
    address
}

async fn converse(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
        let said = &bytes[..length];
        let answer: &[u8] = if said.starts_with(b"GET /stream") {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"
        } else if said.starts_with(b"GET /switch") {
            b"HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n"
        } else if said.starts_with(b"CONNECT ") {
            b"HTTP/1.1 200 Yes\r\n\r\n"
        } else if said.starts_with(b"GET ") {
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        } else {
            said
        };
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

fn named(caller: &str) -> Vec<Rule> {
    vec![Rule {
        name: "shop/named".into(),
        clients: Clients::Identities(vec![caller.parse().unwrap()]),
        from: Origin::Anywhere,
        audit: false,
    }]
}

async fn get(peer: &mut PeerConnection, port: u16, path: &str) -> Response<Incoming> {
    let mut head = Head::request("GET", "web", path).unwrap();
    let asking = peer.request(port, Carried::Http1, &mut head, Body::empty());
    asking.await.unwrap()
}

fn told(answer: &Response<Incoming>) -> (u16, Option<Reason>) {
    (answer.status(), peer::reason(&answer.head))
}

const REFUSED: (u16, Option<Reason>) = (403, Some(Reason::NotAllowed));
const ADMITTED: (u16, Option<Reason>) = (200, None);

#[tokio::test]
async fn c3_before_the_first_policy_deny_mode_denies() {
    for first in [
        InboundPolicy::of_default(DefaultPolicy::Deny),
        InboundPolicy::default(),
    ] {
        let world = World::new(first).await;
        let mut peer = world.peer(OWN).await;
        assert_eq!(told(&get(&mut peer, world.port(), "/").await), REFUSED);
        world.has_counted("not-authorized").await;
    }
    let open = InboundPolicy::of_default(DefaultPolicy::AllUnauthenticated);
    let world = World::new(open).await;
    let mut own = world.peer(OWN).await;
    assert_eq!(told(&get(&mut own, world.port(), "/").await), ADMITTED);
    let mut foreign = world.peer(FOREIGN).await;
    assert_eq!(told(&get(&mut foreign, world.port(), "/").await), REFUSED);
    world.has_counted("not-exported").await;
}

#[tokio::test]
async fn g16_a_foreign_caller_needs_an_export_and_a_policy_that_names_it() {
    let world = World::with(named(FOREIGN)).await;
    let mut foreign = world.peer(FOREIGN).await;
    let mut own = world.peer(OWN).await;
    assert_eq!(told(&get(&mut foreign, world.port(), "/").await), ADMITTED);
    assert_eq!(told(&get(&mut own, world.port(), "/").await), REFUSED);
    for port in [4190, 4191, 1] {
        assert_eq!(told(&get(&mut foreign, port, "/").await), REFUSED, "{port}");
    }
    world.say(named(OWN));
    assert_eq!(told(&get(&mut foreign, world.port(), "/").await), REFUSED);
    assert_eq!(told(&get(&mut own, world.port(), "/").await), ADMITTED);
    let refused = foreign.tcp(world.port()).await.err();
    assert!(matches!(
        refused,
        Some(StreamError::Refused(Some(Reason::NotAllowed)))
    ));
}

#[tokio::test]
async fn c4_a_stream_of_bytes_ends_with_its_policy() {
    let world = World::with(named(FOREIGN)).await;
    let mut stream = world.peer(FOREIGN).await.tcp(world.port()).await.unwrap();
    let mut echo = [0; 4];
    // A change that still admits the client leaves it alone.
    for rules in [named(FOREIGN), named("spiffe://west/*")] {
        world.say(rules);
        stream.write_all(b"ahoy").await.unwrap();
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ahoy");
    }
    world.say(named(OWN));
    let end = timeout(SOON, stream.read(&mut echo)).await;
    assert!(matches!(end.expect("an end in time"), Ok(0) | Err(_)));
    world.has_counted("withdrawn").await;
}

const FORGED: &[u8] =
    b"GET / HTTP/1.1\r\nhost: web\r\nl5d-client-id: spiffe://east/ns/a/sa/b\r\n\r\n";

/// The application answers whatever it gets; this stream gets nothing.
async fn is_cut(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    // It may be cut while we speak.
    let _ = stream.write_all(FORGED).await;
    let end = timeout(SOON, stream.read(&mut [0; 4])).await;
    assert!(matches!(end.expect("an end in time"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn h7_what_a_peer_calls_bytes_is_no_request_with_any_client_in_it() {
    let world = World::with(named(OWN)).await;
    let peer = world.peer(OWN).await;
    is_cut(&mut peer.tcp(world.port()).await.unwrap()).await;
    world.has_counted("unread_http").await;
    let mut stream = peer.tcp(world.port()).await.unwrap();
    stream.write_all(b"ahoy").await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
}

#[tokio::test]
async fn h7_who_was_silent_until_detection_gave_up_makes_no_request_unread() {
    let limits = Limits::parse(Program::Sidecar, "detect-time=50ms").unwrap();
    let bounds = Bounds::new(limits.clone(), budget(&limits));
    let open = InboundPolicy::of_default(DefaultPolicy::AllUnauthenticated);
    let world = World::bounded(open, bounds).await;
    let mut stream = world.unmeshed().await;
    let gave_up = async {
        while world.inbound.bounds.struck(Limit::DetectTime) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gave_up).await.expect("the deadline");
    is_cut(&mut stream).await;
    world.has_counted("unread_http").await;
}

#[tokio::test]
async fn c4_an_answer_that_goes_on_ends_with_its_policy() {
    let world = World::with(named(OWN)).await;
    let mut peer = world.peer(OWN).await;
    let answer = get(&mut peer, world.port(), "/stream").await;
    assert_eq!(told(&answer), ADMITTED);
    let mut body = answer.body;
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "ok");
    world.say(named(FOREIGN));
    let end = timeout(SOON, body.frame()).await.expect("an end in time");
    assert!(matches!(end, Some(Err(_))), "{end:?}");
    assert_eq!(told(&get(&mut peer, world.port(), "/").await), REFUSED);
}

#[tokio::test]
async fn c4_a_connection_without_a_sidecar_ends_with_its_policy() {
    let world = World::new(InboundPolicy::default()).await;
    let open = DefaultPolicy::AllUnauthenticated.rule();
    world.say(open.into_iter().collect());
    let mut stream = world.unmeshed().await;
    stream.write_all(b"\x16ahoy").await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    world.say(named(OWN));
    let end = timeout(SOON, stream.read(&mut echo)).await;
    assert!(matches!(end.expect("an end in time"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn without_a_sidecar_only_health_is_told_where_policy_admits_nobody() {
    let world = World::with(Vec::new()).await;
    for (request, expected) in [
        ("GET /healthz HTTP/1.1\r\nhost: web\r\n\r\n", "HTTP/1.1 200"),
        ("GET / HTTP/1.1\r\nhost: web\r\n\r\n", "HTTP/1.1 403"),
        (
            "POST /healthz HTTP/1.1\r\nhost: web\r\n\r\n",
            "HTTP/1.1 403",
        ),
        // What is not HTTP has no answer.
        ("\x16\x03\x01\x02\x03\x04", ""),
    ] {
        let mut stream = world.unmeshed().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let read = timeout(SOON, stream.read(&mut answer)).await;
        let length = read.expect("an answer").unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert_eq!(answer, expected, "{request:?}");
    }
}

#[tokio::test]
async fn an_audit_policy_admits_and_counts() {
    let world = World::with(DefaultPolicy::Audit.rule().into_iter().collect()).await;
    let mut peer = world.peer(FOREIGN).await;
    assert_eq!(told(&get(&mut peer, world.port(), "/").await), ADMITTED);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &world.registry).unwrap();
    assert!(text.contains("mesh_proxy_audited_total 1"), "{text}");
}
