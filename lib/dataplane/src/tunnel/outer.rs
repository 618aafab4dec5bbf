//! One connection to a gateway: mutual TLS, HTTP/2, and a look at whether the
//! gateway is still there.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use mesh_core::link::Link;
use mesh_drive::{
    conduit::{self, Conduit, Ended, Version},
    exchange::Exchange,
    socket::{Sealed, Socket},
};
use mesh_http::{
    fault::Misuse,
    head::{Head, Invalid},
    limits::Limits,
};
use mesh_tls::{ALPN_MESH, PeerChain, Tls, TlsError};
use mesh_wire::mesh1;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{Target, TunnelError};
use crate::{limits::Bounds, trust::Standing};

/// How long one address of a gateway may take until the TCP connection stands.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// How long TLS may take after that.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How often a gateway is asked for a sign of life while something is sent to
/// it, how often (in the same ticks) while nothing is, and how long it may then
/// be silent.
const PING: Duration = Duration::from_secs(1);
const QUIET_TICKS: u32 = 4;
const PONG: Duration = Duration::from_millis(2500);
/// Bytes that are sent in a tick when nobody sends anything: a PING and the
/// answer to one, and some more (RFC 9113 §6.7).
const QUIET: u64 = 64;
/// Bytes on their way on a connection, at first: as many streams as fill it.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// A connection to a gateway. It closes when no stream and no clone is left.
#[derive(Clone)]
pub(crate) struct Outer(Arc<Held>);

struct Held {
    conduit: Conduit,
    failure: Arc<Failure>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.conduit.shutdown();
    }
}

/// Why the TLS session failed, if it has.
type Failure = OnceLock<TlsError>;

/// Tells a connection from others without keeping it.
pub(super) struct Mark(Conduit);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By agreement: the gateway sent us away, or we left.
    Done,
    /// It broke, or the gateway gave no sign of life.
    Dead,
}

/// A connection that has yet to be run.
pub(super) struct Fresh {
    pub(super) outer: Outer,
    life: Pin<Box<dyn Future<Output = Ended> + Send>>,
    standing: Standing,
    link: Arc<str>,
}

impl Outer {
    /// Asks for a tunnel.
    ///
    /// # Errors
    /// [`Misuse::Full`] if the connection takes no stream.
    pub(super) fn ask(&self, target: Target) -> Result<Exchange, Misuse> {
        let head = connect_head(target).map_err(|_| Misuse::Head)?;
        self.0.conduit.open(&head, false)
    }

    /// Whether the gateway has sent us away, or is gone: what runs may go on,
    /// nothing new should begin.
    pub(crate) fn is_closing(&self) -> bool {
        !self.0.conduit.is_open()
    }

    /// Whether one more stream would have to wait for another's end.
    pub(super) fn is_full(&self) -> bool {
        !self.0.conduit.can_open()
    }

    /// How many tunnels it carries.
    pub(super) fn streams(&self) -> usize {
        self.0.conduit.streams()
    }

    /// Lets what runs go on, and nothing new begin: what was at this address is
    /// elsewhere now.
    pub(super) fn retire(&self) {
        self.0.conduit.shutdown();
    }

    pub(super) fn has(&self, mark: &Mark) -> bool {
        self.0.conduit.is(&mark.0)
    }

    /// Why its TLS session failed, if it has.
    pub(super) fn failure(&self) -> Option<&TlsError> {
        self.0.failure.get()
    }
}

fn connect_head(target: Target) -> Result<Head, Invalid> {
    let authority = match target {
        Target::Endpoint(_) => mesh1::AUTHORITY_ENDPOINT,
        Target::Probe => mesh1::AUTHORITY_PROBE,
        Target::Exports => mesh1::AUTHORITY_EXPORTS,
    };
    let mut head = Head::request("CONNECT", authority, "")?;
    head.push(mesh1::HOPS.as_bytes(), b"1")?;
    if let Target::Endpoint(id) = target {
        head.push(mesh1::ENDPOINT.as_bytes(), id.to_string().as_bytes())?;
    }
    Ok(head)
}

/// Connects to the gateway of `link` at one of its addresses.
pub(super) async fn connect(
    tls: &Tls,
    link: &Link,
    address: SocketAddr,
    limits: Arc<Limits>,
) -> Result<Fresh, TunnelError> {
    let stream = mesh_net::socket::connect(address, CONNECT)
        .await
        .map_err(|source| TunnelError::Unreachable {
            link: link.name.clone(),
            source,
        })?;
    match timeout(HANDSHAKE, handshake(tls, link, stream, limits)).await {
        Ok(result) => result,
        Err(_) => Err(TunnelError::Timeout {
            link: link.name.clone(),
        }),
    }
}

/// TLS on a connection to the gateway of `link`, and HTTP/2 to come.
pub(super) async fn handshake(
    tls: &Tls,
    link: &Link,
    stream: TcpStream,
    limits: Arc<Limits>,
) -> Result<Fresh, TunnelError> {
    let expected = [link.gateway.identity.clone()];
    let server_name = Some(&*link.gateway.server_name);
    let session = tls
        .connect(stream, &expected, server_name, ALPN_MESH)
        .await
        .map_err(|source| TunnelError::Tls {
            link: link.name.clone(),
            source,
        })?;
    let standing = Standing::new(
        tls,
        PeerChain::of_server(&session, &tls.trust(), tls.clock().now()),
    );
    let failure = Arc::<Failure>::default();
    let session = Session {
        inner: session,
        failure: failure.clone(),
    };
    let (conduit, life) = conduit::connect(session, Version::Http2, limits);
    Ok(Fresh {
        outer: Outer(Arc::new(Held { conduit, failure })),
        life: Box::pin(life),
        standing,
        link: link.name.clone(),
    })
}

/// What a connection bears.
pub(super) fn limits(bounds: &Bounds) -> Arc<Limits> {
    Arc::new(Limits {
        connection_window: CONNECTION_WINDOW,
        // It is kept for those who may come.
        idle_time: Duration::MAX,
        ..(*bounds.clients()).clone()
    })
}

impl Fresh {
    pub(super) fn mark(&self) -> Mark {
        Mark(self.outer.0.conduit.clone())
    }

    /// Runs the connection until it ends, or the gateway gives no sign of life.
    /// Lives as long as the connection: its streams fail when it returns.
    pub(super) async fn run(self) -> End {
        let Self {
            outer,
            life,
            standing,
            link,
        } = self;
        let (conduit, failure) = (outer.0.conduit.clone(), outer.0.failure.clone());
        // Else the connection would never be without a user.
        drop(outer);
        let served = pin!(async {
            tokio::select! {
                ended = life => {
                    let tls = failure.get().map(tracing::field::display);
                    debug!(%link, %ended, tls, "gateway connection ended");
                    End::of(ended)
                }
                () = silence(&conduit) => {
                    debug!(%link, "the gateway gives no sign of life");
                    End::Dead
                }
            }
        });
        let ended = standing.drive(served, || conduit.shutdown()).await;
        ended.unwrap_or(End::Done)
    }
}

impl End {
    const fn of(ended: Ended) -> Self {
        match ended {
            Ended::Fault(fault) if fault.is_clean() => Self::Done,
            Ended::Fault(_) | Ended::Io(_) | Ended::Dropped => Self::Dead,
        }
    }
}

/// Returns when a ping is not answered, and nothing else is heard meanwhile.
/// The first is sent at once: windows grow once a round trip is known.
async fn silence(conduit: &Conduit) {
    while conduit.ping(PONG).await.is_ok() {
        busy_or_due(conduit).await;
    }
}

/// Returns a tick after something was sent, or when a quiet connection is due.
async fn busy_or_due(conduit: &Conduit) {
    for _ in 0..QUIET_TICKS {
        let before = conduit.written();
        sleep(PING).await;
        if conduit.written() - before > QUIET {
            return;
        }
    }
}

/// A TLS session that remembers why it failed: a driver keeps less.
struct Session<IO> {
    inner: IO,
    failure: Arc<Failure>,
}

/// An end without a goodbye is an error to whoever reads.
impl<IO: AsyncRead + AsyncWrite + Unpin> Socket for Session<IO> {
    const SLACK: usize = Sealed::<IO>::SLACK;

    fn break_off(&self) {}
}

impl<IO: AsyncRead + Unpin> AsyncRead for Session<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        read.map_err(|error| {
            let kind = error.kind();
            // Only the first one counts.
            let _ = self.failure.set(error.into());
            kind.into()
        })
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Session<IO> {
    mesh_net::pass_writes!(inner);
}
