//! `testapp serve`: four ports, one shutdown.

mod http;
mod tcp;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::ServeArgs;
use crate::behaviour::Behaviour;
use crate::echo::Place;
use crate::seen::Seen;
use crate::stop;

pub(crate) use self::http::Body;

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let stop = stop::on_signal()?;
    let server = bind(args).await?;
    let Addresses {
        http,
        grpc,
        tcp,
        banner,
    } = server.addresses;
    eprintln!("testapp: HTTP {http}, gRPC {grpc}, TCP echo {tcp}, TCP echo with banner {banner}");
    server.run(stop).await;
    Ok(ExitCode::SUCCESS)
}

/// Opens the ports.
pub(crate) async fn bind(args: ServeArgs) -> anyhow::Result<Server> {
    let behaviour = Behaviour::new(args.latency, args.status, args.error_rate, args.size)?;
    let ports = [
        (Port::Http, args.http),
        (Port::Http, args.grpc),
        (Port::Tcp, args.tcp),
        (Port::Banner, args.banner),
    ];
    let mut listeners = Vec::new();
    for (port, address) in ports {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        listeners.push((port, listener));
    }
    let bound = |index: usize| listeners[index].1.local_addr();
    let addresses = Addresses {
        http: bound(0)?,
        grpc: bound(1)?,
        tcp: bound(2)?,
        banner: bound(3)?,
    };
    Ok(Server {
        listeners,
        addresses,
        linger: args.linger,
        grace: args.grace,
        context: Arc::new(Context {
            place: args.place.into(),
            behaviour,
            seen: Seen::default(),
            connections: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            draining: CancellationToken::new(),
        }),
    })
}

/// Where each port listens; a configured port 0 has its real number here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) banner: SocketAddr,
}

/// Open ports, nothing accepted yet.
pub(crate) struct Server {
    pub(crate) addresses: Addresses,
    listeners: Vec<(Port, TcpListener)>,
    linger: Duration,
    grace: Duration,
    context: Arc<Context>,
}

/// What every connection needs.
struct Context {
    place: Place,
    behaviour: Behaviour,
    /// Requests of loads.
    seen: Seen,
    connections: TaskTracker,
    permits: Arc<Semaphore>,
    /// Cancelled when connections should end after what they are doing.
    draining: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
enum Port {
    /// HTTP/1, HTTP/2 and gRPC, told apart by what the client sends. The two
    /// HTTP ports differ in number only.
    Http,
    Tcp,
    Banner,
}

/// Connections at a time over all ports; idle ones may stay, so that tests can
/// hold them. Further clients wait in the accept queue.
const MAX_CONNECTIONS: usize = 10_000;

/// Pause after a failed accept, which means a lack of file descriptors or
/// memory that only other connections can give back.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

impl Server {
    /// Serves until `stop`, then goes on accepting for the linger time, then
    /// lets connections finish what they are doing, all within the grace time.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut accepting = JoinSet::new();
        for (port, listener) in self.listeners {
            accepting.spawn(accept(self.context.clone(), port, listener));
        }
        stop.cancelled().await;

        let stopped = Instant::now();
        let deadline = stopped + self.grace;
        sleep_until(deadline.min(stopped + self.linger)).await;
        accepting.shutdown().await;
        self.context.draining.cancel();
        self.context.connections.close();
        if timeout_at(deadline, self.context.connections.wait())
            .await
            .is_err()
        {
            let left = self.context.connections.len();
            tracing::warn!("{left} connections are cut off at the end of the grace time");
        }
    }
}

async fn accept(cx: Arc<Context>, port: Port, listener: TcpListener) {
    loop {
        let Ok(permit) = cx.permits.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((io, peer)) => {
                let serving = connection(cx.clone(), port, io, peer);
                cx.connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("accept: {error}");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn connection(cx: Arc<Context>, port: Port, io: TcpStream, peer: SocketAddr) {
    let _ = io.set_nodelay(true);
    let outcome = match port {
        Port::Http => http::serve(cx, io, peer).await,
        Port::Tcp => tcp::serve_client_first(&cx, io, peer).await,
        Port::Banner => tcp::serve_server_first(&cx, io, peer).await,
    };
    if let Err(error) = outcome {
        tracing::debug!("{port:?} connection of {peer}: {error:#}");
    }
}
