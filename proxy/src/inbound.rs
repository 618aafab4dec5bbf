//! The life of a connection to the pod: from a peer's sidecar as `mesh/1`, or
//! redirected from a client that has none.

mod application;
mod direct;
mod permit;
#[cfg(test)]
mod probed;
mod screen;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
};

use mesh_core::{
    destination::Protocol,
    identity::SpiffeId,
    inbound::{InboundPolicy, Refusal},
    limits::Limit,
};
use mesh_dataplane::{
    crowd::{Crowd, Place, Who},
    limits::Bounds,
    message::Request,
    trust::Standing,
};
use mesh_drive::{conduit, exchange::Broken, socket::Sealed};
use mesh_net::{
    accept::Accepted,
    original::{canonical, original_destination},
    replay::Replay,
    spread::Dialler,
};
use mesh_runtime::Shutdown;
use mesh_tls::{ALPN_MESH, PeerChain, Tls, TlsError};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, debug_span};

use self::{
    permit::{Caller, Guests},
    screen::Screened,
};
use crate::{
    PolicyReceiver,
    metrics::{BackendLabels, Metrics},
    opaque::{self, Opaque},
    plain,
    protocol::{Asked, Spoken, spoken},
    serve,
    workers::Carrier,
};

/// What all connections of one worker share.
pub(crate) struct Inbound {
    pub(crate) tls: Tls,
    pub(crate) pod_ips: Vec<IpAddr>,
    /// Our own port: who dials it speaks `mesh/1`.
    pub(crate) listening: u16,
    pub(crate) application: plain::Clients,
    pub(crate) policy: PolicyReceiver,
    /// What holds before the control plane has said anything.
    pub(crate) first_policy: Arc<InboundPolicy>,
    pub(crate) metrics: Metrics,
    pub(crate) bounds: Bounds,
    /// Who is connected, on whichever worker.
    pub(crate) crowd: Crowd,
}

/// Bytes of the future of a peer's connection.
const PEER: usize = 2 * 1024;

/// A verified peer's connection, in a box: it is moved through many hands.
type Session = Box<mesh_tls::Session<TcpStream>>;

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// The address is not the pod's, or the port is ours.
    #[error("{0} may not be dialled through the sidecar")]
    Address(SocketAddr),
    /// No `mesh/1` peer.
    #[error("no mesh/1 handshake: {0}")]
    Handshake(&'static str),
    /// The peer is connected as often as it may be.
    #[error("a peer has too many connections")]
    Crowded,
    /// Policy does not admit the client.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Policy no longer admits the client.
    #[error("the policy that admitted the client was withdrawn")]
    Withdrawn,
    #[error(transparent)]
    Io(io::Error),
    /// As its protocol says, or as its socket does.
    #[error(transparent)]
    Connection(conduit::Ended),
    /// One of the two that were joined.
    #[error(transparent)]
    Broken(Broken),
}

impl Carrier for Inbound {
    fn dialler(&self, stream: &TcpStream) -> Dialler {
        match dialled(stream) {
            Ok(original) if original.port() == self.listening => Dialler::Peer,
            _ => Dialler::Client,
        }
    }

    fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn carry(
        self: Arc<Self>,
        accepted: Accepted,
        tasks: TaskTracker,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        let span = debug_span!("inbound", client = %accepted.peer);
        let connection = self.connection(accepted, tasks, shutdown);
        connection.instrument(span)
    }
}

impl Inbound {
    async fn connection(
        self: Arc<Self>,
        accepted: Accepted,
        tasks: TaskTracker,
        shutdown: Shutdown,
    ) {
        let _open = self.metrics.open("inbound");
        let Accepted { stream, peer, slot } = accepted;
        let from = canonical(peer).ip();
        if let Err(ended) = self.clone().carry(stream, from, tasks, &shutdown).await {
            if let Some(reason) = ended.refusal() {
                self.metrics.refused("inbound", reason);
            }
            debug!(reason = %ended, "connection ended");
        }
        drop(slot);
    }

    async fn carry(
        self: Arc<Self>,
        stream: TcpStream,
        from: IpAddr,
        tasks: TaskTracker,
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        let original = dialled(&stream).map_err(Ended::Io)?;
        // Each is as large as it has to be, since there may be many of them.
        if original.port() == self.listening {
            let peer = Box::pin(self.peer(stream, from, tasks, shutdown));
            debug_assert!(size_of_val(&*peer) <= PEER, "{}", size_of_val(&*peer));
            peer.await
        } else {
            Box::pin(self.unmeshed(stream, from, original, shutdown)).await
        }
    }

    /// A peer's sidecar, or nobody.
    async fn peer(
        self: Arc<Self>,
        stream: TcpStream,
        from: IpAddr,
        tasks: TaskTracker,
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        let stranger = self.place(Who::Address(from))?;
        let trust = self.tls.trust();
        // What only a handshake needs is gone when it is over.
        let (session, client) = Box::pin(self.handshake(stream)).await?;
        let _place = self.place(Who::Identity(client.clone()))?;
        drop(stranger);
        let standing = Standing::new(
            &self.tls,
            PeerChain::of_client(&session, &trust, self.tls.clock().now()),
        );
        let client = Arc::new(direct::Client {
            labels: BackendLabels::inbound(&client),
            guests: Guests::new(Caller {
                identity: Some(client.clone()),
                address: from,
            }),
            id: client,
        });
        let (this, who) = (self.clone(), client.clone());
        let answer = move |request: Request| {
            direct::answer(this.clone(), who.clone(), tasks.clone(), request)
        };
        let (leave, limits) = (shutdown.child(), self.bounds.peers());
        let served = pin!(async {
            tokio::select! {
                ended = serve::http(Sealed(session), Spoken::Http2, limits, &leave, answer) => ended,
                never = client.guests.watch(&self) => never,
            }
        });
        let ended = standing.drive(served, || leave.trigger()).await;
        Err(Ended::Connection(ended.unwrap_or(conduit::Ended::Dropped)))
    }

    async fn handshake(&self, stream: TcpStream) -> Result<(Session, SpiffeId), Ended> {
        let deadline = self.bounds.limits().time(Limit::HandshakeTime);
        let accepting = self.tls.accept(stream, ALPN_MESH);
        match timeout(deadline, accepting).await {
            Ok(Ok((session, client))) => Ok((Box::new(session), client)),
            Ok(Err(TlsError::Timeout)) | Err(_) => {
                self.bounds.strike(Limit::HandshakeTime);
                Err(Ended::Handshake(TlsError::Timeout.reason()))
            }
            Ok(Err(error)) => Err(Ended::Handshake(error.reason())),
        }
    }

    /// A place for one more connection of theirs.
    fn place(&self, who: Who) -> Result<Place, Ended> {
        self.crowd.admit(who).ok_or_else(|| {
            self.bounds.strike(Limit::ConnectionsPerPeer);
            Ended::Crowded
        })
    }

    /// A client without a sidecar: its bytes go to the application, and what
    /// only a verified peer may say is taken out.
    async fn unmeshed(
        self: Arc<Self>,
        stream: TcpStream,
        from: IpAddr,
        original: SocketAddr,
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        if !self.pod_ips.contains(&original.ip())
            || mesh_core::ports::is_proxy_port(original.port())
        {
            return Err(Ended::Address(original));
        }
        let caller = Caller {
            identity: None,
            address: from,
        };
        let _place = self.place(Who::Address(from))?;
        let readable = self.readable(&caller, original.port())?;
        let mut stream = Replay::new(stream);
        let spoken = spoken(&mut stream, readable, Asked::Protocol, &self.bounds)
            .await
            .map_err(Ended::Io)?;
        if spoken == Spoken::Opaque {
            return self.unmeshed_bytes(stream, &caller, original).await;
        }
        let client = Arc::new(application::Unmeshed {
            labels: BackendLabels::inbound(""),
            guests: Guests::new(caller),
            server: original,
        });
        let (this, who) = (self.clone(), client.clone());
        let answer =
            move |request| application::answer_unmeshed(this.clone(), who.clone(), request);
        let ended = tokio::select! {
            ended = serve::http(stream, spoken, self.bounds.clients(), shutdown, answer) => ended,
            never = client.guests.watch(&self) => never,
        };
        Err(Ended::Connection(ended))
    }

    /// How to read what `caller` sends to `port`. What it says in HTTP is
    /// answered, if only by a refusal; other bytes need not be read in vain.
    fn readable(&self, caller: &Caller, port: u16) -> Result<Protocol, Ended> {
        let (policy, trust) = (self.policy(), self.tls.trust());
        let decision = policy.authorize(trust.local(), caller.as_client(), port);
        match (policy.protocol(port), decision) {
            // The kubelet speaks HTTP wherever it asks.
            (Protocol::Opaque, Err(_)) if policy.is_probed(port) => Ok(Protocol::Detect),
            (Protocol::Opaque, Err(refusal)) => Err(refusal.into()),
            (protocol, _) => Ok(protocol),
        }
    }

    async fn unmeshed_bytes(
        self: Arc<Self>,
        stream: Replay<TcpStream>,
        caller: &Caller,
        server: SocketAddr,
    ) -> Result<(), Ended> {
        let port = server.port();
        self.permit(caller, port)?;
        let server = mesh_net::socket::connect(server, plain::CONNECT).await;
        let server = Opaque::of(self.screened(server.map_err(Ended::Io)?, port));
        tokio::select! {
            carried = opaque::join(Opaque::of(stream), server) => {
                carried.map(drop).map_err(Ended::Broken)
            }
            () = self.withdrawn(caller, port) => Err(Ended::Withdrawn),
        }
    }

    fn policy(&self) -> Arc<InboundPolicy> {
        let known = self.policy.borrow().clone();
        known.unwrap_or_else(|| self.first_policy.clone())
    }

    /// The application's end of bytes that nobody reads.
    fn screened(&self, socket: TcpStream, port: u16) -> Screened<TcpStream> {
        match self.policy().protocol(port) {
            Protocol::Opaque => Screened::opaque(socket),
            Protocol::Http1 | Protocol::Http2 | Protocol::Detect => {
                Screened::new(socket, &self.metrics)
            }
        }
    }

    /// Where the application listens: on the pod's address, never on loopback.
    fn application(&self, port: u16) -> Option<SocketAddr> {
        self.pod_ips.first().map(|ip| (*ip, port).into())
    }
}

/// The address that the client of an accepted connection dialled.
fn dialled(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    // Without a record the connection was not redirected.
    Ok(original_destination(stream).unwrap_or(local))
}

impl Ended {
    /// The label under which it is counted as refused, if it was.
    const fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Address(_) => Some("address"),
            Self::Handshake(reason) => Some(reason),
            Self::Crowded => Some("crowded"),
            Self::Refused(refusal) => Some(refusal.as_str()),
            // It is counted where it is noticed.
            Self::Withdrawn | Self::Io(_) | Self::Connection(_) | Self::Broken(_) => None,
        }
    }
}
