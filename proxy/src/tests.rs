//! Sidecars over loopback: a client's outbound side, and inbound sides before
//! applications that answer or do not.

mod answers;
mod claims;
mod cost;
mod cut;
mod expectation;
mod frames;
mod pace;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mesh_core::{
    authorization::DefaultPolicy,
    destination::{
        Backend, Destination, Distribution, Endpoint, MeshPeer, Protocol, Service, ServiceRef,
    },
    inbound::InboundPolicy,
    limits::Limit,
    route::{HttpRoutes, tls::TlsRoutes},
};
use mesh_dataplane::{
    crowd::Crowd, limits::Bounds, peer::Peers, resolve::Resolver, tunnel::Tunnels,
};
use mesh_net::{accept::Acceptor, listen::listen, spread::Spread};
use mesh_proto::v1::Workload;
use mesh_runtime::{Query, Shutdown};
use mesh_testing::ca::{TestRoot, id};
use mesh_tls::{Clock, Tls};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use crate::{
    inbound::Inbound,
    metrics::Metrics,
    outbound::{
        self, Outbound,
        discovery::Discovery,
        target::{States, Target},
    },
    plain,
    probe::Prober,
    protocol::Spoken,
    serve,
    workers::Door,
};

mod limits;
mod played;
mod tunnels;
mod workers;
mod world;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SERVER: &str = "spiffe://west/ns/shop/sa/web";
const CLIENT: &str = "spiffe://west/ns/shop/sa/client";
/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(20);

/// What an application does with a request that it has read.
#[derive(Clone, Copy)]
enum Habit {
    Answers,
    /// Says something before it answers.
    Hints,
    BreaksOff,
}

/// A port that takes connections and lets none become one, and how many it has
/// taken.
async fn dead() -> (Endpoint, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((HOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (endpoint(address, address.port()), taken)
}

fn endpoint(application: SocketAddr, sidecar: u16) -> Endpoint {
    Endpoint {
        address: application,
        mesh: Some(MeshPeer {
            identity: id(SERVER).into(),
            port: sidecar,
        }),
        authority: None,
        weight: 1,
        pod: "web".into(),
        zone: "".into(),
    }
}

/// An application behind its sidecar.
struct Server {
    sidecar: u16,
    application: SocketAddr,
    /// Requests that it has read.
    received: Arc<AtomicUsize>,
    /// What its sidecar counts.
    registry: Registry,
    /// Its sidecar is to leave.
    leaving: Shutdown,
    /// Its sidecar's connections.
    connections: TaskTracker,
}

impl Server {
    async fn start(root: &TestRoot, habit: Habit) -> Self {
        Self::start_as(root.tls(SERVER), habit).await
    }

    /// The same, with another certificate or clock.
    async fn start_as(tls: Tls, habit: Habit) -> Self {
        let received = Arc::new(AtomicUsize::new(0));
        let application = application(habit, received.clone()).await;
        let server = Self::before(tls, application);
        Self { received, ..server }
    }

    /// A sidecar before an application that counts for itself.
    fn before(tls: Tls, application: SocketAddr) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let acceptor = Acceptor::new(listen((HOST, 0).into()).expect("a port"), 100);
        let sidecar = acceptor.local_addr().expect("an address").port();
        let (leaving, connections) = (Shutdown::new(), TaskTracker::new());
        let door = Door {
            acceptor,
            spread: Spread::over(&[]),
            tasks: connections.clone(),
            shutdown: leaving.clone(),
        };
        tokio::spawn(door.serve(vec![inbound_of(tls, sidecar, metrics)]));
        Self {
            sidecar,
            application,
            received: Arc::default(),
            registry,
            leaving,
            connections,
        }
    }

    fn endpoint(&self) -> Endpoint {
        endpoint(self.application, self.sidecar)
    }

    /// Waits until its sidecar carries nothing any more.
    async fn ended(&self) {
        self.connections.close();
        self.connections.wait().await;
    }

    fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }
}

async fn application(habit: Habit, received: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind((HOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, habit, received.clone()));
        }
    });
    address
}

async fn converse(mut stream: TcpStream, habit: Habit, received: Arc<AtomicUsize>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..length]);
        if !text.contains(" HTTP/1.1\r\n") {
            continue;
        }
        received.fetch_add(1, Ordering::SeqCst);
        match habit {
            Habit::Answers => {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
                let _ = stream.write_all(answer).await;
            }
            Habit::Hints => {
                let hint = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: \
                             </a>\r\nmesh-port: 1\r\n\r\n";
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
                let _ = stream.write_all(&[&hint[..], answer].concat()).await;
            }
            Habit::BreaksOff => return,
        }
    }
}

/// A Service with one backend for each server, the first that is available.
fn first_available(servers: &[&Server]) -> Target {
    let endpoints = servers.iter().map(|server| vec![server.endpoint()]);
    first_of(endpoints.collect())
}

/// A Service whose backends have these endpoints, the first that is available.
fn first_of(backends: Vec<Vec<Endpoint>>) -> Target {
    let reference = |name: String| ServiceRef {
        namespace: "shop".into(),
        name: name.into(),
        port: 80,
    };
    let backends = backends.into_iter().enumerate();
    let backends =
        backends.map(|(at, endpoints)| Backend::own(reference(format!("web-{at}")), 1, endpoints));
    let service = Destination::Service(Service {
        reference: reference("web".to_owned()),
        protocol: Protocol::Http1,
        distribution: Distribution::FirstAvailable,
        backends: backends.collect(),
        routes: HttpRoutes::default(),
        tls_routes: TlsRoutes::default(),
        route_backends: Vec::new(),
    });
    let state = States::default().state(service);
    Target(watch::channel(Some(Arc::new(state))).1)
}

/// What a client of `target` is answered to `request`.
async fn exchange(root: &TestRoot, target: Target, request: &str) -> String {
    exchange_as(root.tls(CLIENT), target, request).await.0
}

/// The outbound side of a sidecar that discovery tells nothing.
fn outbound_of(tls: Tls, metrics: Metrics) -> Arc<Outbound> {
    let resolver = Resolver::from_system().expect("a resolver");
    let nowhere = Channel::from_static("http://127.0.0.1:1").connect_lazy();
    Arc::new(Outbound {
        discovery: Discovery::new(nowhere, Workload::default(), Arc::new(|_, _| true)),
        peers: Peers::new(tls.clone(), Tunnels::new(tls, resolver)),
        plain: plain::Clients::default(),
        links: watch::channel(None).1,
        listening: 1,
        metrics,
        bounds: Bounds::default(),
    })
}

/// The inbound side of a sidecar at this port, which lets everybody in.
fn inbound_of(tls: Tls, listening: u16, metrics: Metrics) -> Arc<Inbound> {
    inbound_bearing(tls, listening, metrics, Bounds::default())
}

/// The same, which bears so much.
fn inbound_bearing(tls: Tls, listening: u16, metrics: Metrics, bounds: Bounds) -> Arc<Inbound> {
    let policy = InboundPolicy::of_default(DefaultPolicy::AllUnauthenticated);
    Arc::new(Inbound {
        tls,
        pod_ips: vec![HOST],
        listening,
        application: plain::Clients::bearing(&bounds),
        policy: watch::channel(Some(Arc::new(policy))).1,
        first_policy: Arc::default(),
        metrics,
        crowd: Crowd::new(bounds.limits().size(Limit::ConnectionsPerPeer)),
        bounds,
    })
}

/// What a client with this certificate and clock is answered, and what its
/// sidecar counts.
async fn exchange_as(tls: Tls, target: Target, request: &str) -> (String, String) {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let outbound = outbound_of(tls, metrics);
    let (mut client, ours) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let (shutdown, limits) = (Shutdown::new(), outbound.bounds.clients());
        let answer =
            move |request| outbound::http::answer(outbound.clone(), target.clone(), request);
        serve::http(ours, Spoken::Http1, limits, &shutdown, answer).await
    });
    let conversation = async {
        client.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("text");
        answer
    };
    let answer = timeout(LONG, conversation)
        .await
        .expect("an answer in time");
    (answer, counted(&registry))
}

fn counted(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).expect("it can be encoded");
    text
}

const GET: &str = "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
const POST: &str =
    "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx";

#[tokio::test]
async fn r12_what_an_application_broke_off_is_repeated_once_elsewhere() {
    let root = TestRoot::new("west");
    let ending = Server::start(&root, Habit::BreaksOff).await;
    let good = Server::start(&root, Habit::Answers).await;
    let answer = exchange(&root, first_available(&[&ending, &good]), GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!((ending.received(), good.received()), (1, 1));
}

#[tokio::test]
async fn what_is_said_before_the_answer_is_passed_on() {
    let root = TestRoot::new("west");
    let server = Server::start(&root, Habit::Hints).await;
    for request in [GET, POST] {
        let answer = exchange(&root, first_available(&[&server]), request).await;
        let hint = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n";
        assert!(answer.starts_with(hint), "{answer}");
        assert!(answer.ends_with("\r\n\r\ngood"), "{answer}");
    }
}

#[tokio::test]
async fn r4_a_post_that_an_application_broke_off_is_not_sent_twice() {
    let root = TestRoot::new("west");
    let ending = Server::start(&root, Habit::BreaksOff).await;
    let good = Server::start(&root, Habit::Answers).await;
    let answer = exchange(&root, first_available(&[&ending, &good]), POST).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!((ending.received(), good.received()), (1, 0));
}

#[tokio::test]
async fn r4_a_request_that_breaks_off_everywhere_is_sent_twice_at_most() {
    let root = TestRoot::new("west");
    let servers = [
        Server::start(&root, Habit::BreaksOff).await,
        Server::start(&root, Habit::BreaksOff).await,
        Server::start(&root, Habit::Answers).await,
    ];
    let answer = exchange(&root, first_available(&servers.each_ref()), GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(servers.each_ref().map(Server::received), [1, 1, 0]);
}

/// By the fourth attempt the first endpoint may be tried again as far as others
/// are concerned; this request has been there.
#[tokio::test]
async fn r3_a_request_goes_to_no_endpoint_twice_while_there_are_others() {
    let root = TestRoot::new("west");
    let good = Server::start(&root, Habit::Answers).await;
    let (mut endpoints, mut taken) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let (endpoint, count) = dead().await;
        endpoints.push(endpoint);
        taken.push(count);
    }
    let target = first_of(vec![endpoints, vec![good.endpoint()]]);
    let answer = exchange(&root, target, POST).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let taken: Vec<_> = taken
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .collect();
    assert_eq!(taken, [1, 1, 1, 1]);
    assert_eq!(good.received(), 1);
}

/// Longer than any certificate lives.
const DAY_AHEAD: Clock = Clock::off_by(25 * 3600);

/// Somebody whose clock is off, with a certificate that has not ended by then.
fn day_ahead(root: &TestRoot, id: &str) -> Tls {
    let tls = Tls::new(root.trust(), DAY_AHEAD);
    let issued = root.issue_with(id, |leaf| {
        leaf.not_after += Duration::from_secs(2 * 24 * 3600);
    });
    tls.set_certificate(issued.certificate());
    tls
}

#[tokio::test]
async fn t7_a_client_whose_clock_is_off_is_told_that_it_is_about_time() {
    let root = TestRoot::new("west");
    let server = Server::start(&root, Habit::Answers).await;
    let client = day_ahead(&root, CLIENT);
    let (answer, counted) = exchange_as(client, first_available(&[&server]), GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("expired, by the clock here"), "{answer}");
    assert!(counted.contains(r#"reason="expired""#), "{counted}");
    assert_eq!(server.received(), 0);
}

#[tokio::test]
async fn t7_a_client_whose_own_certificate_has_ended_is_told_so() {
    let root = TestRoot::new("west");
    let server = Server::start(&root, Habit::Answers).await;
    let client = root.tls_at(CLIENT, DAY_AHEAD);
    let (answer, counted) = exchange_as(client, first_available(&[&server]), GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("own certificate has expired"), "{answer}");
    assert!(counted.contains(r#"reason="own_expired""#), "{counted}");
}

#[tokio::test]
async fn t7_a_server_whose_clock_is_off_counts_why_it_refuses_its_clients() {
    let root = TestRoot::new("west");
    let server = Server::start_as(day_ahead(&root, SERVER), Habit::Answers).await;
    let (answer, _) = exchange_as(root.tls(CLIENT), first_available(&[&server]), GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let counted = counted(&server.registry);
    assert!(
        counted.contains(r#"direction="inbound",reason="expired""#),
        "{counted}"
    );
    assert_eq!(server.received(), 0);
}

#[tokio::test]
async fn t7_a_peer_certified_by_a_clock_ahead_is_not_valid_yet() {
    let root = TestRoot::new("west");
    let tls = Tls::new(root.trust(), DAY_AHEAD);
    tls.set_certificate(root.issue_at(SERVER, DAY_AHEAD.now()));
    let server = Server::start_as(tls, Habit::Answers).await;
    let target = first_available(&[&server]);
    let (answer, counted) = exchange_as(root.tls(CLIENT), target, GET).await;
    assert!(
        answer.contains("not valid yet, by the clock here"),
        "{answer}"
    );
    assert!(counted.contains(r#"reason="not_yet_valid""#), "{counted}");
}

#[tokio::test]
async fn t7_clocks_that_differ_by_less_than_the_leeway_do_no_harm() {
    let root = TestRoot::new("west");
    for offset in [-50, 50] {
        let clock = Clock::off_by(offset);
        let tls = Tls::new(root.trust(), clock);
        tls.set_certificate(root.issue_at(SERVER, clock.now()));
        let server = Server::start_as(tls, Habit::Answers).await;
        let (answer, _) = exchange_as(root.tls(CLIENT), first_available(&[&server]), GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{offset}: {answer}");
    }
}

#[tokio::test]
async fn t7_the_probe_page_tells_what_time_it_is_without_a_question() {
    let tls = TestRoot::new("west").tls_at(CLIENT, DAY_AHEAD);
    let prober = Prober {
        outbound: outbound_of(tls.clone(), Metrics::default()),
        tls,
    };
    let page = prober.clone().answer(Query::default()).await.unwrap();
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let ahead = page["clock"].as_u64().unwrap() - Clock::SYSTEM.unix_seconds();
    assert!((89_990..=90_010).contains(&ahead), "{page}");
    assert_eq!(page["certificate"]["identity"], CLIENT);
}
