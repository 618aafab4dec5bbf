//! The gateway of east, an echoing upstream behind it, and clients of west.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use mesh_core::{
    endpoint::EndpointId,
    limits::{Limits, Program},
    link::{Gateway as PeerGateway, Link, Links},
};
use mesh_dataplane::{
    crowd::Crowd,
    limits::{Bounds, budget},
    resolve::Resolver,
    tunnel::{Target, Tunnels},
};
use mesh_net::spread::Spread;
use mesh_runtime::Shutdown;
use mesh_testing::ca::TestRoot;
use mesh_tls::{ALPN_MESH, Tls};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncWriteExt as _, copy, split},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::AbortHandle,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    Door, Exports, Gateway,
    fixtures::{id, leading_to, link, links},
    metrics::Metrics,
    state::State,
    table::{Route, Table},
    unfinished::Unfinished,
};

pub(super) const GATEWAY: &str = "spiffe://east/ns/mesh-multicluster/sa/mesh-gateway";
pub(super) const WEB: &str = "spiffe://west/ns/shop/sa/web";
/// Exported to west; its sidecar echoes.
pub(super) const EXPORTED: EndpointId = EndpointId(1);
/// Exported to west; nobody listens.
pub(super) const DOWN: EndpointId = EndpointId(5);

/// Longer than anything here may take.
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) struct World {
    pub(super) east: TestRoot,
    pub(super) west: TestRoot,
    pub(super) address: SocketAddr,
    pub(super) table: watch::Sender<Option<Arc<Table>>>,
    pub(super) links: watch::Sender<Option<Arc<Links>>>,
    pub(super) gateway: Arc<Gateway>,
    /// Aborting it closes the door.
    pub(super) door: AbortHandle,
    registry: Registry,
}

/// The defaults.
fn bounds() -> Bounds {
    bearing("")
}

/// The defaults, but for this.
pub(super) fn bearing(text: &str) -> Bounds {
    let limits = Limits::parse(Program::Gateway, text).unwrap();
    let budget = budget(&limits);
    Bounds::new(limits, budget)
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// The gateway, with something changed before it serves.
    pub(super) async fn with(change: impl FnOnce(&mut Gateway)) -> Self {
        Self::over(Spread::over(&[]), change).await
    }

    /// The same with workers.
    pub(super) async fn over(spread: Spread, change: impl FnOnce(&mut Gateway)) -> Self {
        let (east, west) = (TestRoot::new("east"), TestRoot::new("west"));
        let echo = echo().await;
        let (table, table_receiver) = watch::channel(Some(Arc::new(table(echo).await)));
        let (links, links_receiver) = watch::channel(Some(Arc::new(links())));
        let mut registry = Registry::default();
        let mut gateway = Gateway {
            tls: east.tls_trusting(GATEWAY, &[&west]),
            state: State::new(table_receiver, links_receiver),
            exports: Exports {
                host: "127.0.0.1".into(),
                port: echo.port(),
                resolver: Resolver::from_system().unwrap(),
            },
            metrics: Metrics::register(&mut registry),
            bounds: bounds(),
            unfinished: Unfinished::new(100, 100),
            crowd: Crowd::new(100),
            tunnels: Arc::new(Semaphore::new(100)),
            tasks: TaskTracker::new(),
            draining: Shutdown::new(),
        };
        change(&mut gateway);
        let gateway = Arc::new(gateway);
        let door = Door::bind("127.0.0.1:0".parse().unwrap(), 100, spread).unwrap();
        let address = door.acceptor.local_addr().unwrap();
        let accepting = tokio::spawn(gateway.clone().accept(door));
        Self {
            east,
            west,
            address,
            table,
            links,
            gateway,
            door: accepting.abort_handle(),
            registry,
        }
    }

    /// Closes the door, and opens that of another replica at the same address.
    pub(super) fn replace_gateway(&self) -> Replica {
        let mut registry = Registry::default();
        let gateway = Gateway {
            tls: self.gateway.tls.clone(),
            state: self.gateway.state.clone(),
            exports: Exports {
                host: self.gateway.exports.host.clone(),
                port: self.gateway.exports.port,
                resolver: self.gateway.exports.resolver.clone(),
            },
            metrics: Metrics::register(&mut registry),
            bounds: bounds(),
            unfinished: Unfinished::new(100, 100),
            crowd: Crowd::new(100),
            tunnels: Arc::new(Semaphore::new(100)),
            tasks: TaskTracker::new(),
            draining: Shutdown::new(),
        };
        self.door.abort();
        let address = self.address;
        tokio::spawn(async move {
            let door = loop {
                // The old one closes when its task is dropped.
                match Door::bind(address, 100, Spread::over(&[])) {
                    Ok(door) => break door,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            Arc::new(gateway).accept(door).await;
        });
        Replica(registry)
    }

    /// Somebody of west, who trusts east.
    pub(super) fn client(&self, id: &str) -> Tls {
        self.west.tls_trusting(id, &[&self.east])
    }

    /// The tunnels of somebody of west.
    pub(super) fn tunnels(&self, id: &str) -> Tunnels {
        Tunnels::new(self.client(id), Resolver::from_system().unwrap())
    }

    /// West's link to east.
    pub(super) fn link(&self) -> Link {
        let link = link("east", "fd6d:6573:6800:9::/64", true);
        let gateway = PeerGateway {
            port: self.address.port(),
            ..link.gateway
        };
        Link { gateway, ..link }
    }

    /// An HTTP/2 connection that may ask for anything, of another implementation
    /// than the gateway's.
    pub(super) async fn raw(&self, tls: &Tls) -> Raw {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let session = tls.connect(tcp, &[id(GATEWAY)], None, ALPN_MESH).await;
        let (sender, connection) = h2::client::handshake(session.unwrap()).await.unwrap();
        tokio::spawn(connection);
        Raw(sender)
    }

    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Waits until the metrics show `line`.
    pub(super) async fn shows(&self, line: &str) {
        let shown = async {
            while !self.metrics().contains(line) {
                tokio::task::yield_now().await;
            }
        };
        let in_time = timeout(LONG, shown).await;
        assert!(in_time.is_ok(), "{line} is not in\n{}", self.metrics());
    }

    /// Makes `address` the only endpoint in the table, for west.
    pub(super) fn expose(&self, id: EndpointId, address: SocketAddr) {
        self.expose_any(id, &[address]);
    }

    /// Makes any of `addresses` the only export in the table, for west.
    pub(super) fn expose_any(&self, id: EndpointId, addresses: &[SocketAddr]) {
        self.set_table([(id, leading_to("west", addresses))]);
    }

    pub(super) fn set_table<const N: usize>(&self, routes: [(EndpointId, Route); N]) {
        self.table
            .send_replace(Some(Arc::new(routes.into_iter().collect())));
    }

    /// Takes an endpoint out of the table.
    pub(super) fn withdraw(&self, gone: EndpointId) {
        self.table.send_modify(|table| {
            let routes = [EXPORTED, DOWN]
                .into_iter()
                .filter(|id| *id != gone)
                .filter_map(|id| Some((id, Route::clone(table.as_ref()?.route(id)?))))
                .collect();
            *table = Some(Arc::new(routes));
        });
    }

    /// Takes the link to west out.
    pub(super) fn unlink(&self) {
        let mut links = links();
        links.links.retain(|link| &*link.name != "west");
        self.links.send_replace(Some(Arc::new(links)));
    }
}

/// What the other replica counts.
pub(super) struct Replica(Registry);

impl Replica {
    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0).unwrap();
        text
    }
}

pub(super) struct Raw(SendRequest<Bytes>);

impl Raw {
    /// Asks, and gives the whole head of the answer.
    pub(super) async fn ask(&mut self, request: Request<()>) -> (StatusCode, HeaderMap) {
        let (answer, _send) = self.0.send_request(request, false).unwrap();
        let (head, _) = timeout(LONG, answer).await.unwrap().unwrap().into_parts();
        (head.status, head.headers)
    }

    /// Opens a tunnel, which must be let through.
    pub(super) async fn tunnel(&mut self, request: Request<()>) -> RawTunnel {
        let (answer, send) = self.0.send_request(request, false).unwrap();
        let answer = timeout(LONG, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        RawTunnel {
            send,
            receive: answer.into_body(),
        }
    }

    /// Waits until the gateway takes no more streams.
    pub(super) async fn sent_away(self) {
        let mut sender = self.0;
        let sent_away = async {
            while let Ok(ready) = sender.ready().await {
                tokio::task::yield_now().await;
                sender = ready;
            }
        };
        timeout(LONG, sent_away).await.expect("not sent away");
    }
}

/// A tunnel of another implementation.
pub(super) struct RawTunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
}

impl RawTunnel {
    /// Sends bytes, and whether they are the last ones.
    pub(super) fn send(&mut self, bytes: &[u8], end: bool) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.send.send_data(bytes, end).unwrap();
    }

    /// The next `n` bytes, or fewer if there are no more.
    pub(super) async fn receive(&mut self, n: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < n
            && let Some(data) = timeout(LONG, self.receive.data()).await.unwrap()
        {
            let data = data.unwrap();
            self.receive
                .flow_control()
                .release_capacity(data.len())
                .unwrap();
            all.extend_from_slice(&data);
        }
        all
    }
}

pub(super) fn connect(authority: &'static str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(Uri::from_static(authority))
        .header("mesh-hops", "1")
        .body(())
        .unwrap()
}

pub(super) fn connect_endpoint(id: EndpointId) -> Request<()> {
    let mut request = connect("endpoint");
    let value = id.to_string().parse().unwrap();
    request.headers_mut().insert("mesh-endpoint", value);
    request
}

pub(super) const fn endpoint(id: EndpointId) -> Target {
    Target::Endpoint(id)
}

async fn table(echo: SocketAddr) -> Table {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = closed.local_addr().unwrap();
    let route = |trust_domain, address: SocketAddr| leading_to(trust_domain, &[address]);
    [
        (EXPORTED, route("west", echo)),
        (EndpointId(2), route("north", echo)),
        (EndpointId(3), route("south", echo)),
        (DOWN, route("west", down)),
    ]
    .into_iter()
    .collect()
}

/// A server that sends back what it gets, and ends when its client has.
pub(super) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = split(stream);
                let _ = copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}
