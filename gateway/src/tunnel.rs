//! The life of a tunnel: connect, say yes, join the two connections, and end
//! when the bytes do or when what let it through is withdrawn.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use mesh_core::identity::SpiffeId;
use mesh_dataplane::{message, tunnel::Target};
use mesh_drive::{
    conduit,
    exchange::{Broken, Exchange, as_they_are},
};
use mesh_http::{fault::Code, head::Head};
use mesh_wire::mesh1::Reason;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tracing::debug;

use crate::{
    Gateway,
    decide::{Refusal, Upstream},
    metrics::{Carried, TunnelMetrics, Way},
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
    pub(crate) exchange: Exchange,
}

/// How a tunnel ended.
enum End {
    Over(Result<(), Broken>),
    Withdrawn,
}

impl Tunnel {
    /// Lets the bytes go through until an end.
    pub(crate) async fn run(self, gateway: Arc<Gateway>) {
        let Self {
            client,
            target,
            upstream,
            exchange,
        } = self;
        let connected = tokio::select! {
            connected = connect(&gateway, &upstream) => connected,
            // Reset by the client: its place under the cap must not outlive it.
            _ = exchange.gone() => return,
        };
        let (connection, led_to) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                debug!(%error, "upstream");
                gateway.refuse(&client, &exchange, CONNECT_FAILED);
                return;
            }
        };
        if !agreed(&exchange) {
            return; // the client is gone
        }
        let mut metrics = gateway.metrics.tunnel(way(&gateway, &client, &upstream));
        let withdrawn = withdrawn(&gateway, &client, target, led_to);
        let end = carried(&exchange, connection, &mut metrics.carried, withdrawn).await;
        finish(&end, metrics);
    }
}

/// Says yes; whether the client still wants to hear it.
fn agreed(exchange: &Exchange) -> bool {
    Head::response(200).is_ok_and(|head| exchange.send_head(&head, false).is_ok())
}

/// Joins the client's stream and the connection to its upstream: what comes on
/// one goes on the other, the end of one way while the other goes on, and a
/// reset as a reset.
async fn carried(
    exchange: &Exchange,
    upstream: TcpStream,
    counters: &mut Carried,
    withdrawn: impl Future<Output = ()>,
) -> End {
    let (server, life) = conduit::bytes(upstream, message::limits());
    exchange.join(&server, as_they_are);
    server.join(exchange, as_they_are);
    let mut carrying = pin!(async {
        driven(life, &server, counters).await;
        // The client may still have to take what came last.
        exchange.over().await
    });
    tokio::select! {
        over = &mut carrying => End::Over(over),
        () = withdrawn => {
            exchange.reset(Code::Cancel);
            // The upstream is told, too.
            let _ = carrying.await;
            End::Withdrawn
        }
    }
}

/// Drives the connection to the upstream, and counts what goes through it:
/// nothing does without its driver.
async fn driven<T>(life: impl Future<Output = T>, server: &Exchange, counters: &mut Carried) -> T {
    let mut life = pin!(life);
    poll_fn(|cx| {
        let ended = life.as_mut().poll(cx);
        counters.count(server.carried());
        ended
    })
    .await
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

/// Counts how it ended.
fn finish(end: &End, metrics: TunnelMetrics) {
    match end {
        End::Over(Ok(())) => metrics.finish("done"),
        End::Over(Err(broken)) => {
            debug!(reason = %broken, "tunnel broke");
            metrics.finish(match broken {
                Broken::Joined => "upstream_broke",
                Broken::Reset(_) | Broken::Connection(_) | Broken::GivenUp => "client_broke",
            });
        }
        End::Withdrawn => {
            debug!("tunnel withdrawn");
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
