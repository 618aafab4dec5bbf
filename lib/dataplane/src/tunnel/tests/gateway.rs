//! Gateways of east on loopback: they echo, and can be killed or frozen. Their
//! HTTP/2 is another implementation than the one under test.

use std::{
    future::pending,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::Response;
use mesh_core::link::{Gateway, Link};
use mesh_testing::ca::{TestRoot, id};
use mesh_tls::{ALPN_MESH, Tls};
use mesh_wire::mesh1::{self, Reason};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::{resolve::Resolver, tunnel::Tunnels};

pub(super) const HERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
pub(super) const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Longer than anything here may take.
pub(super) const LONG: Duration = Duration::from_secs(20);

const GATEWAY: &str = "spiffe://east/ns/mesh-multicluster/sa/mesh-gateway";

pub(super) struct World {
    east: TestRoot,
    west: TestRoot,
    port: u16,
}

impl World {
    pub(super) async fn new() -> Self {
        let free = TcpListener::bind((HERE, 0)).await.unwrap();
        Self {
            east: TestRoot::new("east"),
            west: TestRoot::new("west"),
            port: free.local_addr().unwrap().port(),
        }
    }

    pub(super) fn tunnels(&self) -> Tunnels {
        self.tunnels_with(Resolver::from_system().unwrap())
    }

    pub(super) fn tunnels_with(&self, resolver: Resolver) -> Tunnels {
        let web = "spiffe://west/ns/shop/sa/web";
        Tunnels::new(self.west.tls_trusting(web, &[&self.east]), resolver)
    }

    pub(super) fn link(&self, addresses: &[Ipv4Addr]) -> Link {
        let hosts = addresses.iter().map(|ip| ip.to_string().into());
        let gateway = Gateway {
            hosts: hosts.collect(),
            port: self.port,
            identity: id(GATEWAY),
            server_name: "gateway.east.mesh".into(),
        };
        Link {
            name: "east".into(),
            cluster: "east".parse().unwrap(),
            trust_domain: "east".parse().unwrap(),
            roots: Vec::new(),
            gateway,
            prefix: "fd6d:6573:6800:9::/64".parse().unwrap(),
            control: id("spiffe://east/ns/mesh-system/sa/mesh-control"),
            mirror: id("spiffe://east/ns/mesh-multicluster/sa/mesh-mirror"),
            import: true,
            export: true,
        }
    }

    pub(super) fn named(&self, host: &str) -> Link {
        let mut link = self.link(&[]);
        link.gateway.hosts = vec![host.into()];
        link
    }

    /// An address that takes connections, and says nothing.
    pub(super) async fn silent(&self, address: Ipv4Addr) -> TcpListener {
        TcpListener::bind((address, self.port)).await.unwrap()
    }

    /// A gateway at this address.
    pub(super) async fn serve(&self, address: Ipv4Addr) -> East {
        let bound = async {
            loop {
                // One that was killed lets go when its task is dropped.
                match TcpListener::bind((address, self.port)).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let bound = tokio::time::timeout(LONG, bound).await;
        let listener = bound.expect("the port is free");
        let tls = self.east.tls_trusting(GATEWAY, &[&self.west]);
        let counts = Arc::new(Counts::default());
        let (frozen, is_frozen) = watch::channel(false);
        let says = Says::default();
        let accepting = accept(listener, tls, counts.clone(), says.clone(), is_frozen);
        let serving = tokio::spawn(accepting);
        East {
            counts,
            says,
            frozen,
            serving: serving.abort_handle(),
        }
    }
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    streams: AtomicUsize,
}

pub(super) struct East {
    counts: Arc<Counts>,
    says: Says,
    frozen: watch::Sender<bool>,
    serving: AbortHandle,
}

/// What the test wants of all connections of a gateway.
#[derive(Clone, Default)]
struct Says {
    /// Said to clients that are there.
    leave: watch::Sender<()>,
    /// Why no tunnel is let through.
    no: watch::Sender<Option<Reason>>,
}

impl East {
    pub(super) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// How many were ever opened.
    pub(super) fn streams(&self) -> usize {
        self.counts.streams.load(Ordering::Relaxed)
    }

    pub(super) fn kill(&self) {
        self.serving.abort();
    }

    /// Tells all clients to go elsewhere; their tunnels go on.
    pub(super) fn leave(&self) {
        self.says.leave.send_replace(());
    }

    /// Lets no tunnel through from now on.
    pub(super) fn refuse(&self, reason: Reason) {
        self.says.no.send_replace(Some(reason));
    }

    /// Connections stay, and nobody is there.
    pub(super) fn freeze(&self) {
        self.frozen.send_replace(true);
    }
}

async fn accept(
    listener: TcpListener,
    tls: Tls,
    counts: Arc<Counts>,
    says: Says,
    frozen: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut frozen = frozen.clone();
        let mut serving = Box::pin(serve(tls.clone(), counts.clone(), says.clone(), stream));
        connections.spawn(async move {
            tokio::select! {
                () = &mut serving => {}
                () = until(&mut frozen) => pending().await,
            }
        });
    }
}

async fn until(frozen: &mut watch::Receiver<bool>) {
    let _ = frozen.wait_for(|frozen| *frozen).await;
}

async fn serve(tls: Tls, counts: Arc<Counts>, says: Says, stream: TcpStream) {
    let Ok((session, _)) = tls.accept(stream, ALPN_MESH).await else {
        return;
    };
    let mut connection = h2::server::handshake(session).await.unwrap();
    counts.connections.fetch_add(1, Ordering::Relaxed);
    let (mut streams, mut leave) = (JoinSet::new(), says.leave.subscribe());
    loop {
        let asked = tokio::select! {
            asked = connection.accept() => asked,
            Ok(()) = leave.changed() => {
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, mut respond))) = asked else {
            break;
        };
        counts.streams.fetch_add(1, Ordering::Relaxed);
        let no = *says.no.borrow();
        match no {
            Some(reason) => drop(respond.send_response(refusal(reason), true)),
            None => drop(streams.spawn(echo(request.into_body(), respond))),
        }
    }
    counts.connections.fetch_sub(1, Ordering::Relaxed);
}

fn refusal(reason: Reason) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = reason.status();
    let headers = response.headers_mut();
    headers.insert(
        mesh1::ERROR,
        http::HeaderValue::from_static(reason.as_str()),
    );
    response
}

async fn echo(mut body: RecvStream, mut respond: SendResponse<Bytes>) {
    let mut send = respond.send_response(Response::new(()), false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        let _ = send.send_data(data, false);
    }
    let _ = send.send_data(Bytes::new(), true);
}
