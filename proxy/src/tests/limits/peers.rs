//! Limits on connections, over loopback.

use mesh_dataplane::{
    message::Unanswered,
    peer::{Peer, PeerAddress},
};
use mesh_wire::mesh1::Carried;
use tokio::task::yield_now;

use super::*;

const OTHER: &str = "spiffe://west/ns/shop/sa/other";

/// A sidecar that bears so much.
struct Bearing {
    root: TestRoot,
    bounds: Bounds,
    address: SocketAddr,
    application: SocketAddr,
}

impl Bearing {
    async fn start(text: &str) -> Self {
        let (root, bounds) = (TestRoot::new("west"), bearing(text));
        let application = application(Habit::Answers, Arc::default()).await;
        let listener = listen((HOST, 0).into()).unwrap();
        let acceptor = Acceptor::new(listener, bounds.limits().size(Limit::Connections));
        let address = acceptor.local_addr().unwrap();
        let door = Door {
            acceptor,
            spread: Spread::over(&[]),
            tasks: TaskTracker::new(),
            shutdown: Shutdown::new(),
        };
        let (tls, metrics) = (root.tls(SERVER), Metrics::default());
        let inbound = inbound_bearing(tls, address.port(), metrics, bounds.clone());
        tokio::spawn(door.serve(vec![inbound]));
        Self {
            root,
            bounds,
            address,
            application,
        }
    }

    /// Somebody who says nothing.
    async fn silent(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A peer with a connection of its own.
    fn peer(&self, identity: &str) -> Peers {
        let tls = self.root.tls(identity);
        let tunnels = Tunnels::new(tls.clone(), Resolver::from_system().unwrap());
        Peers::new(tls, tunnels)
    }

    async fn ask(&self, peers: &Peers) -> Result<u16, Unanswered> {
        let peer = Peer {
            address: PeerAddress::Direct(self.address),
            identity: id(SERVER).into(),
        };
        let Ok(connection) = peers.connection(&peer).await else {
            return Err(Unanswered::at_fault());
        };
        let mut head = Head::request("GET", "web", "/").unwrap();
        let port = self.application.port();
        let asking = connection.request(port, Carried::Http1, &mut head, Body::empty());
        Ok(asking.await?.status())
    }

    /// Waits until a limit has struck so often.
    async fn has_struck(&self, limit: Limit, times: u64) {
        let struck = async {
            while self.bounds.struck(limit) < times {
                yield_now().await;
            }
        };
        timeout(LONG, struck).await.expect("it has to strike");
        assert_eq!(self.bounds.struck(limit), times, "{limit}");
    }
}

/// Waits until the other side closes.
async fn closed(mut stream: TcpStream) {
    let end = timeout(LONG, stream.read_u8()).await;
    assert!(end.expect("an end in time").is_err());
}

#[tokio::test]
async fn h17_a_handshake_has_its_time() {
    let sidecar = Bearing::start("handshake-time=150ms").await;
    let start = Instant::now();
    closed(sidecar.silent().await).await;
    assert!(start.elapsed() >= Duration::from_millis(150));
    sidecar.has_struck(Limit::HandshakeTime, 1).await;
    let patient = Bearing::start("").await;
    let peers = patient.peer(CLIENT);
    assert_eq!(patient.ask(&peers).await.unwrap(), 200);
    assert_eq!(patient.bounds.struck(Limit::HandshakeTime), 0);
}

#[tokio::test]
async fn one_address_has_no_more_connections_than_it_may() {
    for most in [1, 3] {
        let sidecar = Bearing::start(&format!("connections-per-peer={most}")).await;
        let mut places = Vec::new();
        for _ in 0..most {
            places.push(sidecar.silent().await);
        }
        closed(sidecar.silent().await).await;
        sidecar.has_struck(Limit::ConnectionsPerPeer, 1).await;
    }
}

#[tokio::test]
async fn one_identity_has_no_more_connections_than_it_may() {
    let sidecar = Bearing::start("connections-per-peer=1").await;
    let first = sidecar.peer(CLIENT);
    assert_eq!(sidecar.ask(&first).await.unwrap(), 200);
    assert_eq!(sidecar.bounds.struck(Limit::ConnectionsPerPeer), 0);
    let second = sidecar.peer(CLIENT);
    assert!(sidecar.ask(&second).await.is_err());
    sidecar.has_struck(Limit::ConnectionsPerPeer, 1).await;
    // Others are not held up, nor is what is there already.
    let other = sidecar.peer(OTHER);
    assert_eq!(sidecar.ask(&other).await.unwrap(), 200);
    assert_eq!(sidecar.ask(&first).await.unwrap(), 200);
    let roomy = Bearing::start("connections-per-peer=2").await;
    let both = [roomy.peer(CLIENT), roomy.peer(CLIENT)];
    for peers in &both {
        assert_eq!(roomy.ask(peers).await.unwrap(), 200);
    }
    assert_eq!(roomy.bounds.struck(Limit::ConnectionsPerPeer), 0);
}

#[tokio::test]
async fn when_all_places_are_taken_the_next_one_waits() {
    for most in [1, 2] {
        let sidecar = Bearing::start(&format!("connections={most}")).await;
        let mut silent = Vec::new();
        for _ in 1..most {
            silent.push(sidecar.silent().await);
        }
        assert_eq!(sidecar.bounds.struck(Limit::Connections), 0);
        silent.push(sidecar.silent().await);
        sidecar.has_struck(Limit::Connections, 1).await;
        // Whoever comes now is served when somebody leaves.
        let peers = sidecar.peer(CLIENT);
        let (asked, ()) = tokio::join!(sidecar.ask(&peers), async { silent.clear() });
        assert_eq!(asked.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_connection_to_an_application_is_kept_as_long_as_it_may_be() {
    let sidecar = Bearing::start("server-idle-time=100ms").await;
    let peers = sidecar.peer(CLIENT);
    let start = Instant::now();
    assert_eq!(sidecar.ask(&peers).await.unwrap(), 200);
    sidecar.has_struck(Limit::ServerIdleTime, 1).await;
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn h9_what_the_first_sidecar_lets_through_the_second_does_too() {
    let root = TestRoot::new("west");
    let server = Server::start(&root, Habit::Answers).await;
    let close = "connection: close\r\n";
    let with_close = |request: String| request.replacen("x: ", &format!("{close}x: "), 1);
    for (request, expected) in [
        (of_lines(99), "200"),
        (of_lines(100), "431"),
        (of_bytes(65_536 - close.len()), "200"),
        (of_bytes(65_537 - close.len()), "431"),
    ] {
        let request = with_close(request);
        let answer = exchange(&root, first_available(&[&server]), &request).await;
        let expected = format!("HTTP/1.1 {expected} ");
        assert!(answer.starts_with(&expected), "{answer}");
    }
}
