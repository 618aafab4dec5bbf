//! The life of a tunnel: connect, say yes, copy, and end when the bytes do or
//! when what let it through is withdrawn.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason as Reset, RecvStream, SendStream, server::SendResponse};
use http::{Response, StatusCode};
use mesh_core::identity::SpiffeId;
use mesh_dataplane::tunnel::Target;
use mesh_wire::mesh1::Reason;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tracing::debug;

use crate::{
    Gateway,
    copy::{Broken, copy},
    decide::{Refusal, Upstream},
    metrics::{TunnelMetrics, Way},
    state::State,
    table::Route,
};

/// How long the TCP connection to a sidecar may take.
const CONNECT: Duration = Duration::from_secs(1);
/// The same for mesh-control, whose name has to be looked up.
const CONNECT_EXPORTS: Duration = Duration::from_secs(5);
/// How long a tunnel to an endpoint that left the table goes on: long enough
/// to finish what is under way when a pod is replaced.
const WITHDRAWN: Duration = Duration::from_secs(3);

/// A stream that was let through.
pub(crate) struct Tunnel {
    pub(crate) client: SpiffeId,
    pub(crate) target: Target,
    pub(crate) upstream: Upstream,
    pub(crate) receive: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
}

/// How a tunnel ended.
enum End {
    Copied(Result<(), Broken>),
    Withdrawn,
}

impl Tunnel {
    /// Carries the bytes until an end.
    pub(crate) async fn run(self, gateway: Arc<Gateway>) {
        let Self {
            client,
            target,
            upstream,
            mut receive,
            mut respond,
        } = self;
        let connected = tokio::select! {
            connected = connect(&gateway, &upstream) => connected,
            // Reset by the client: its place under the cap must not outlive it.
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
        };
        let (mut connection, led_to) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                debug!(%error, "upstream");
                gateway.refuse(&client, &mut respond, CONNECT_FAILED);
                return;
            }
        };
        let Ok(mut send) = respond.send_response(Response::new(()), false) else {
            return; // the client is gone
        };
        let metrics = gateway.metrics.tunnel(way(&gateway, &client, &upstream));
        let end = tokio::select! {
            copied = copy(&mut send, &mut receive, &mut connection, &metrics.carried) => {
                End::Copied(copied)
            }
            () = withdrawn(&gateway, &client, target, led_to) => End::Withdrawn,
        };
        finish(end, &mut send, metrics);
    }
}

const CONNECT_FAILED: Refusal = Refusal::Connect(Reason::ConnectFailed);

/// What a tunnel was led to.
#[derive(Clone, Copy)]
enum LedTo {
    Exports,
    Sidecar(SocketAddr),
}

async fn connect(gateway: &Gateway, upstream: &Upstream) -> io::Result<(TcpStream, LedTo)> {
    match upstream {
        Upstream::Endpoint(_, route) => connect_sidecar(route).await,
        Upstream::Exports => {
            let connecting = connect_exports(gateway);
            match timeout(CONNECT_EXPORTS, connecting).await {
                Ok(result) => Ok((result?, LedTo::Exports)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Upstream::Probe => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The sidecar of a pod, or of any pod of an export that can be reached.
async fn connect_sidecar(route: &Route) -> io::Result<(TcpStream, LedTo)> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in route.candidates(rand::random::<u32>() as usize) {
        match mesh_net::socket::connect(address, CONNECT).await {
            Ok(connection) => return Ok((connection, LedTo::Sidecar(address))),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_exports(gateway: &Gateway) -> io::Result<TcpStream> {
    let exports = &gateway.exports;
    let addresses = exports.resolver.resolve(&exports.host).await;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for ip in addresses.map_err(io::Error::other)? {
        match mesh_net::socket::connect((ip, exports.port).into(), CONNECT).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns when the tunnel would not be let through any more, and has had the
/// time to end by itself.
async fn withdrawn(gateway: &Gateway, client: &SpiffeId, target: Target, led_to: LedTo) {
    let mut state = gateway.state.clone();
    let allowed = |state: &State| match (state.decide(client, target), led_to) {
        (Ok(Upstream::Endpoint(_, route)), LedTo::Sidecar(address)) => route.leads_to(address),
        (decided, LedTo::Exports) => decided == Ok(Upstream::Exports),
        (_, LedTo::Sidecar(_)) => false,
    };
    loop {
        while allowed(&state) {
            state.changed().await;
        }
        sleep(WITHDRAWN).await;
        if !allowed(&state) {
            return;
        }
    }
}

/// Lets the client know how it ended, and counts it.
fn finish(end: End, send: &mut SendStream<Bytes>, metrics: TunnelMetrics) {
    match end {
        End::Copied(Ok(())) => metrics.finish("done"),
        End::Copied(Err(broken)) => {
            debug!(reason = %broken, "tunnel broke");
            send.send_reset(Reset::CANCEL);
            metrics.finish(match broken {
                Broken::Client(_) => "client_broke",
                Broken::Upstream(_) => "upstream_broke",
            });
        }
        End::Withdrawn => {
            debug!("tunnel withdrawn");
            send.send_reset(Reset::CANCEL);
            metrics.finish("withdrawn");
        }
    }
}

fn way(gateway: &Gateway, client: &SpiffeId, upstream: &Upstream) -> Way {
    let service = match upstream {
        Upstream::Endpoint(_, route) => route.service.to_string(),
        Upstream::Exports | Upstream::Probe => "exports".to_owned(),
    };
    Way {
        trust_domain: client.trust_domain().to_string(),
        service,
        link: gateway.state.link(client),
        client: client.to_string(),
    }
}

/// The answer to a refused stream: the reason, and nothing else.
pub(crate) fn refusal(refusal: Refusal) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(mesh_wire::mesh1::ERROR, refusal.reason().header());
    if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
        let only = http::HeaderValue::from_static("CONNECT");
        headers.insert(http::header::ALLOW, only);
    }
    response
}
