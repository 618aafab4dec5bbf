//! The life of a connection that the pod's application opens: what its
//! destination is, what it speaks, and where it goes.

pub(crate) mod balancer;
pub(crate) mod discovery;
pub(crate) mod http;
mod route;
pub(crate) mod target;
pub(crate) mod tcp;
mod way;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_core::destination::Protocol;
use mesh_dataplane::{limits::Bounds, links::LinksReceiver, peer::Peers};
use mesh_drive::{conduit, exchange::Broken};
use mesh_net::{accept::Accepted, original::original_destination, replay::Replay, spread::Dialler};
use mesh_runtime::Shutdown;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, debug_span};

pub(crate) use self::way::Way;
use self::{
    discovery::Discovery,
    target::{Kind, Target},
};
use crate::{
    metrics::Metrics,
    opaque::{self, Opaque},
    plain,
    protocol::{Asked, Spoken, spoken},
    serve,
    workers::Carrier,
};

/// Bytes of a connection's future, of which there may be thousands that are idle.
const CONNECTION: usize = 1024;

/// What all connections of one worker share.
pub(crate) struct Outbound {
    pub(crate) discovery: Discovery,
    pub(crate) peers: Peers,
    pub(crate) plain: plain::Clients,
    pub(crate) links: LinksReceiver,
    /// Our own port: an original destination there would be a loop.
    pub(crate) listening: u16,
    pub(crate) metrics: Metrics,
    pub(crate) bounds: Bounds,
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The address is not one that an application may dial through us.
    #[error("{0} may not be dialled through the sidecar")]
    Address(SocketAddr),
    /// The control plane did not say in time what the address is.
    #[error("the control plane does not say what the address is")]
    Undiscovered,
    /// The Service has no such port.
    #[error("the Service has no such port")]
    UndefinedPort,
    /// It is TLS for a server that no route is for.
    #[error("no TLS route is for this server name")]
    NoRoute,
    /// Its route led it to a Service that does not exist.
    #[error("the route's backend does not exist")]
    MissingBackend,
    /// No endpoint took it.
    #[error("no endpoint takes the connection")]
    NoEndpoint,
    #[error(transparent)]
    Io(io::Error),
    /// As its protocol says, or as its socket does.
    #[error(transparent)]
    Connection(conduit::Ended),
    /// One of the two that were joined.
    #[error(transparent)]
    Broken(Broken),
}

impl Carrier for Outbound {
    fn dialler(&self, _: &TcpStream) -> Dialler {
        Dialler::Client
    }

    fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn carry(
        self: Arc<Self>,
        accepted: Accepted,
        _: TaskTracker,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        let span = debug_span!("outbound", client = %accepted.peer);
        let connection = self.connection(accepted, shutdown).instrument(span);
        debug_assert!(
            size_of_val(&connection) <= CONNECTION,
            "{}",
            size_of_val(&connection)
        );
        connection
    }
}

impl Outbound {
    async fn connection(self: Arc<Self>, accepted: Accepted, shutdown: Shutdown) {
        let _open = self.metrics.open("outbound");
        let Accepted { stream, slot, .. } = accepted;
        if let Err(ended) = self.clone().carry(stream, &shutdown).await {
            if let Some(reason) = ended.refusal() {
                self.metrics.refused("outbound", reason);
            }
            debug!(reason = %ended, "connection ended");
        }
        drop(slot);
    }

    async fn carry(self: Arc<Self>, stream: TcpStream, shutdown: &Shutdown) -> Result<(), Ended> {
        let original = original_destination(&stream).map_err(Ended::Io)?;
        self.check_address(original)?;
        // What only a connection's beginning needs is gone when that is over.
        let target = Box::pin(self.discovery.target(original)).await;
        let target = target.ok_or(Ended::Undiscovered)?;
        let first = target.current();
        match &first.kind {
            Kind::UndefinedPort => Err(Ended::UndefinedPort),
            // Each is as large as it has to be, since there may be many of them.
            Kind::Unknown => Box::pin(forward(stream, original)).await,
            Kind::Pod(_) | Kind::Service { .. } => {
                let protocol = first.protocol;
                drop(first);
                self.route(stream, protocol, target, shutdown).await
            }
        }
    }

    /// A connection to `target`, declared to speak this.
    pub(crate) async fn route(
        self: Arc<Self>,
        stream: TcpStream,
        declared: Protocol,
        target: Target,
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        let mut stream = Replay::new(stream);
        let asked = if target.current().leads_by_server_name() {
            Asked::ServerName
        } else {
            Asked::Protocol
        };
        let spoken = Box::pin(spoken(&mut stream, declared, asked, &self.bounds)).await;
        let spoken = spoken.map_err(Ended::Io)?;
        if matches!(spoken, Spoken::Opaque | Spoken::Tls(_)) {
            return Box::pin(tcp::carry(&self, stream, spoken, &target)).await;
        }
        let limits = self.bounds.clients();
        let answer = move |request| http::answer(self.clone(), target.clone(), request);
        let ended = serve::http(stream, spoken, limits, shutdown, answer).await;
        Err(Ended::Connection(ended))
    }

    /// Addresses of links are valid only from discovery, and nobody reaches
    /// our own listener through itself.
    pub(crate) fn check_address(&self, original: SocketAddr) -> Result<(), Ended> {
        let own = original.ip().is_loopback() || original.port() == self.listening;
        let linked = match (original.ip(), &*self.links.borrow()) {
            (IpAddr::V6(address), Some(links)) => links.endpoint(address).is_some(),
            _ => false,
        };
        if own || linked {
            Err(Ended::Address(original))
        } else {
            Ok(())
        }
    }
}

/// An address that discovery does not know: as if we were not there.
async fn forward(stream: TcpStream, original: SocketAddr) -> Result<(), Ended> {
    let server = mesh_net::socket::connect(original, plain::CONNECT * 10).await;
    let server = Opaque::of(server.map_err(Ended::Io)?);
    let carried = opaque::join(Opaque::of(stream), server).await;
    carried.map(drop).map_err(Ended::Broken)
}

impl Ended {
    /// The label under which it is counted as refused, if it was.
    const fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Address(_) => Some("address"),
            Self::Undiscovered => Some("undiscovered"),
            Self::UndefinedPort => Some("undefined_port"),
            Self::NoRoute => Some("no_route"),
            Self::MissingBackend => Some("missing_backend"),
            Self::NoEndpoint => Some("no_endpoint"),
            Self::Io(_) | Self::Connection(_) | Self::Broken(_) => None,
        }
    }
}
