//! Pooled `mesh/1` connections to sidecars: HTTP/2 in mutual TLS, straight to
//! the pod or through the gateway of a link. It is the same protocol and the
//! same check of the peer in both cases.

mod pool;

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_core::{endpoint::EndpointId, identities::Identities, link::Link};
use mesh_drive::{
    conduit::{self, Conduit, Driven, Ended, Version},
    exchange::{Answer, Broken, Exchange},
    socket::Sealed,
    stream::ByteStream,
};
use mesh_http::{
    head::{Head, Invalid},
    limits::Limits,
};
use mesh_tls::{ALPN_MESH, PeerChain, Tls, TlsError};
use mesh_wire::mesh1::{self, Carried, Reason};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tracing::debug;

pub use self::pool::PeerSlot;
use self::pool::{Kept, Key, Open, Pool, Slot};
use crate::{
    TunnelRefused,
    limits::Bounds,
    message::{Asked, Body, Incoming, Response, Unanswered},
    trust::{Leaving, Standing},
    tunnel::{Target, TunnelError, Tunnels},
};

/// How long a TCP connection to a sidecar may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long everything may take until the peer is ready: straight, and through
/// a gateway.
const DIRECT: Duration = Duration::from_secs(3);
const LINKED: Duration = Duration::from_secs(6);
/// How long the peer may take to answer a `CONNECT`.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a silent peer is asked for a sign of life, and how long that may take.
const PING: Duration = Duration::from_secs(4);
const PONG: Duration = Duration::from_secs(3);
/// A sidecar, and whom its certificate may name.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it is.
    pub address: PeerAddress,
    /// Who it is: any of these.
    pub identity: Identities,
}

/// Where a sidecar is.
#[derive(Clone, Debug)]
pub enum PeerAddress {
    /// The pod's address and the sidecar's inbound port.
    Direct(SocketAddr),
    /// Behind the gateway of a link.
    Linked(Arc<Link>, EndpointId),
}

impl PeerAddress {
    /// How long everything may take until the peer is ready.
    const fn deadline(&self) -> Duration {
        match self {
            Self::Direct(_) => DIRECT,
            Self::Linked(..) => LINKED,
        }
    }
}

/// Why a sidecar is not ready. Nothing was sent to it: another endpoint may be
/// tried.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No TCP connection.
    #[error("{address} cannot be reached: {source}")]
    Unreachable {
        /// Its address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No way through the gateway.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// Something answers, and it is not the peer, or does not want us; through
    /// a gateway also: the gateway refused.
    #[error("no TLS session with {identity}: {source}")]
    Tls {
        /// Who should answer.
        identity: Identities,
        /// Whose fault it is.
        source: TlsError,
    },
    /// A deadline passed.
    #[error("{identity} is not ready in time")]
    Timeout {
        /// Who should answer.
        identity: Identities,
    },
}

impl PeerError {
    /// A label for metrics; the set of values is closed.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Tunnel(_) => "tunnel",
            Self::Tls { source, .. } => source.reason(),
            Self::Timeout { .. } => "timeout",
        }
    }

    /// The same for whoever asked for the connection, and may tell strangers:
    /// it names no address and no identity.
    #[must_use]
    pub fn told(&self) -> String {
        match (self, TlsError::behind(self)) {
            (_, Some(tls)) if tls.is_about_time() => tls.to_string(),
            (Self::Tunnel(error), _) => error.reason().to_owned(),
            _ => self.reason().to_owned(),
        }
    }

    /// Why the gateway refused to lead us there, if it did.
    #[must_use]
    pub fn refused_by_gateway(&self) -> Option<Reason> {
        let Self::Tls {
            source: TlsError::Io(error),
            ..
        } = self
        else {
            return None;
        };
        error.get_ref()?.downcast_ref::<TunnelRefused>()?.reason
    }
}

/// The pool of connections to sidecars. Clones share it. It belongs to one worker:
/// what is on a connection is joined only to what is on the same thread.
#[derive(Clone)]
pub struct Peers {
    tls: Tls,
    tunnels: Tunnels,
    pool: Pool,
    limits: Arc<Limits>,
}

impl Peers {
    /// An empty pool; what nobody uses is let go by a task that ends with it.
    #[must_use]
    pub fn new(tls: Tls, tunnels: Tunnels) -> Self {
        Self {
            tls,
            tunnels,
            pool: Pool::swept(),
            limits: of_peers(&Bounds::default()),
        }
    }

    /// The same, whose connections bear so much.
    #[must_use]
    pub fn bearing(self, bounds: &Bounds) -> Self {
        let limits = of_peers(bounds);
        Self { limits, ..self }
    }

    /// A connection to `peer` that takes one more request, opened if need be.
    ///
    /// # Errors
    /// If there is none within the deadline.
    pub async fn connection(&self, peer: &Peer) -> Result<PeerConnection, PeerError> {
        let slot = self.pool.slot(Key::of(peer), Instant::now());
        match timeout(peer.address.deadline(), self.ready(peer, &slot)).await {
            Ok(result) => result,
            Err(_) => Err(PeerError::Timeout {
                identity: peer.identity.clone(),
            }),
        }
    }

    /// What there is of connections to `peer`, to be asked with
    /// [`open_connection`](Self::open_connection) without a look-up.
    #[must_use]
    pub fn slot(&self, peer: &Peer) -> PeerSlot {
        self.pool.peer_slot(Key::of(peer), Instant::now())
    }

    /// Whether this pool has given out `slot`.
    #[must_use]
    pub fn has_given(&self, slot: &PeerSlot) -> bool {
        slot.is_of(&self.pool)
    }

    /// A connection that takes one more request, if there is one.
    #[must_use]
    pub fn open_connection(&self, slot: &PeerSlot, now: Instant) -> Option<PeerConnection> {
        slot.free(now).map(PeerConnection)
    }

    /// Whoever finds no connection opens it; the others wait for that. For one more
    /// beside those that there are nobody waits.
    async fn ready(&self, peer: &Peer, slot: &Arc<Slot>) -> Result<PeerConnection, PeerError> {
        let (mut connections, now) = (slot.connections.lock().await, Instant::now());
        let free = connections.free(now).or_else(|| connections.crowded());
        if let Some(connection) = free {
            return Ok(PeerConnection(connection));
        }
        if let Some(busy) = connections.relieve(now) {
            let (this, peer, slot) = (self.clone(), peer.clone(), slot.clone());
            // It ends within the deadline of a connection.
            tokio::spawn(async move { this.one_more(&peer, &slot).await });
            return Ok(PeerConnection(busy));
        }
        let fresh = self.open(peer).await?;
        Ok(PeerConnection(connections.add(fresh)))
    }

    async fn one_more(&self, peer: &Peer, slot: &Slot) {
        match timeout(peer.address.deadline(), self.open(peer)).await {
            Ok(Ok(fresh)) => {
                slot.connections.lock().await.add(fresh);
                debug!(peer = %peer.identity, "one more mesh/1 connection");
            }
            Ok(Err(error)) => debug!(%error, "no further mesh/1 connection"),
            Err(_) => debug!("no further mesh/1 connection in time"),
        }
    }

    async fn open(&self, peer: &Peer) -> Result<Open, PeerError> {
        match &peer.address {
            PeerAddress::Direct(address) => {
                let stream =
                    mesh_net::socket::connect(*address, CONNECT)
                        .await
                        .map_err(|source| PeerError::Unreachable {
                            address: *address,
                            source,
                        })?;
                let (connection, leaving) = self.handshake(peer, stream).await?;
                Ok(Open::new(connection, leaving, None))
            }
            PeerAddress::Linked(link, id) => {
                let target = Target::Endpoint(*id);
                let (tunnel, outer) = self.tunnels.open_on(link, target).await?;
                let (connection, leaving) = self.handshake(peer, tunnel).await?;
                Ok(Open::new(connection, leaving, Some(outer)))
            }
        }
    }

    async fn handshake<IO>(&self, peer: &Peer, stream: IO) -> Result<(Conduit, Leaving), PeerError>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let trust = self.tls.trust();
        let session = self
            .tls
            .connect(stream, peer.identity.as_slice(), None, ALPN_MESH)
            .await
            .map_err(|source| PeerError::Tls {
                identity: peer.identity.clone(),
                source,
            })?;
        let standing = Standing::new(
            &self.tls,
            PeerChain::of_server(&session, &trust, self.tls.clock().now()),
        );
        let (connection, life) =
            conduit::connect(Sealed(session), Version::Http2, self.limits.clone());
        let identity = peer.identity.clone();
        let leaving = Leaving::default();
        let (leave, driven) = (leaving.clone(), connection.clone());
        // Lives as long as the connection, which its streams and the pool hold.
        tokio::spawn(async move {
            let ended = lived(&driven, life, &standing, leave).await;
            debug!(peer = %identity, ?ended, "mesh/1 connection ended");
        });
        Ok((connection, leaving))
    }
}

/// How long a connection is kept that nobody uses is the pool's affair.
fn of_peers(bounds: &Bounds) -> Arc<Limits> {
    Arc::new(Limits {
        idle_time: Duration::MAX,
        ..(*bounds.peers()).clone()
    })
}

/// Drives a connection until it ends, its peer falls silent, or is not trusted
/// any more.
async fn lived(
    connection: &Conduit,
    life: impl Future<Output = Ended> + Send + 'static,
    standing: &Standing,
    leave: Leaving,
) -> Option<Ended> {
    let life = pin!(Driven::spawn(life));
    tokio::select! {
        ended = standing.drive(life, || leave.set()) => ended,
        () = connection.silence(PING, PONG) => None,
    }
}

/// A connection to a sidecar that takes requests.
#[derive(Clone)]
pub struct PeerConnection(Arc<Kept>);

impl PeerConnection {
    /// Sends a request for the application's `port`, whose client spoke what
    /// `carried` says. `head` stays as it is.
    ///
    /// # Errors
    /// [`Unanswered`] if the connection takes none, or not this one.
    pub fn ask(
        &self,
        port: u16,
        carried: Carried,
        head: &mut Head,
        body: Body,
    ) -> Result<Asked, Unanswered> {
        if aim(head, port, carried).is_err() {
            return Err(Unanswered::at_fault());
        }
        let asked = Asked::on(&self.0.0, head, body);
        head.truncate(head.len() - AIMED);
        asked
    }

    /// Waits until extended CONNECTs can be sent, which a sidecar takes; false if
    /// the connection has ended before.
    pub async fn takes_protocols(&self) -> bool {
        self.0.0.takes_protocols().await == Some(true)
    }

    /// The same, and waits for the answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn request(
        &self,
        port: u16,
        carried: Carried,
        head: &mut Head,
        body: Body,
    ) -> Result<Response<Incoming>, Unanswered> {
        self.ask(port, carried, head, body)?.answer().await
    }

    /// Asks the sidecar whether it would let us in at the application's `port`.
    /// Nothing reaches the application.
    ///
    /// # Errors
    /// [`StreamError`] if there is no answer.
    pub async fn probe(&self, port: u16) -> Result<ProbeAnswer, StreamError> {
        let head = Head::request("OPTIONS", "mesh.probe", "/");
        let mut head = head.map_err(|_| StreamError::Broken(Broken::GivenUp))?;
        let asking = self.request(port, Carried::Probe, &mut head, Body::empty());
        let Response { head: answer, .. } = timeout(ANSWER, asking)
            .await
            .map_err(|_| StreamError::Timeout)?
            .map_err(|unanswered| StreamError::Broken(unanswered.why))?;
        let says = answer.get_single(mesh1::PROTO.as_bytes());
        Ok(match reason(&answer) {
            // What an older sidecar says of a question that it does not know.
            Some(Reason::BadRequest) => ProbeAnswer::Unknown,
            Some(reason) => ProbeAnswer::Refused(reason),
            None if says.and_then(Carried::from_value) == Some(Carried::Probe) => {
                ProbeAnswer::Admitted
            }
            None => ProbeAnswer::Unknown,
        })
    }

    /// Opens a stream that carries the bytes of a TCP connection to the
    /// application's `port`.
    ///
    /// # Errors
    /// [`StreamError`]; not one byte has reached the application.
    pub async fn tcp(&self, port: u16) -> Result<ByteStream, StreamError> {
        let head = connect_head(port).map_err(|_| StreamError::Broken(Broken::GivenUp))?;
        let stream = self.0.0.open(&head, false);
        let stream = stream.map_err(|_| StreamError::Broken(Broken::GivenUp))?;
        let answer = timeout(ANSWER, final_head(&stream))
            .await
            .map_err(|_| StreamError::Timeout)?
            .map_err(StreamError::Broken)?;
        if !matches!(answer.status(), Some(200..300)) {
            return Err(StreamError::Refused(reason(&answer)));
        }
        Ok(ByteStream::new(stream))
    }
}

async fn final_head(stream: &Exchange) -> Result<Head, Broken> {
    loop {
        if let Answer::Final { head, .. } = stream.answer().await? {
            return Ok(head);
        }
    }
}

/// Why the sidecar refused, if it did, instead of its application's answer.
#[must_use]
pub fn reason(answer: &Head) -> Option<Reason> {
    Reason::from_value(answer.get_single(mesh1::ERROR.as_bytes())?)
}

/// What a sidecar says of a client that asks whether it would be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It would.
    Admitted,
    /// It would not.
    Refused(Reason),
    /// It does not know the question.
    Unknown,
}

/// Fields that lead a stream to an application.
const AIMED: usize = 2;

/// Adds them.
fn aim(head: &mut Head, port: u16, carried: Carried) -> Result<(), Invalid> {
    let before = head.len();
    let mut digits = itoa::Buffer::new();
    let port = digits.format(port).as_bytes();
    let added = head
        .push(mesh1::PORT.as_bytes(), port)
        .and_then(|()| head.push(mesh1::PROTO.as_bytes(), carried.as_str().as_bytes()));
    debug_assert!(added.is_err() || head.len() == before + AIMED);
    added
}

fn connect_head(port: u16) -> Result<Head, Invalid> {
    let mut head = Head::request("CONNECT", mesh1::AUTHORITY_TCP, "")?;
    aim(&mut head, port, Carried::Tcp)?;
    Ok(head)
}

/// A TCP stream that was not opened.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The stream broke off.
    #[error("the stream broke off: {0}")]
    Broken(Broken),
    /// The sidecar refused, and perhaps said why.
    #[error("the peer refused: {}", .0.map_or("without a reason", Reason::as_str))]
    Refused(Option<Reason>),
    /// No answer in time.
    #[error("the peer did not answer in time")]
    Timeout,
}
