//! One connection to a gateway: mutual TLS, HTTP/2, and a look at whether the
//! gateway is still there.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use h2::client::{Connection, SendRequest};
use mesh_core::link::Link;
use mesh_tls::{ALPN_MESH, ClientStream, PeerChain, Tls};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tracing::debug;

use super::TunnelError;
use crate::{h2_stream::Streams, trust::Standing};

/// How long one address of a gateway may take until the TCP connection stands.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// How long TLS and HTTP/2 may take after that.
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
/// Bytes on their way per stream and per connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const SEND_BUFFER: usize = 1 << 20;

/// A connection to a gateway. It closes when no stream and no clone is left.
#[derive(Clone)]
pub(crate) struct Outer {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) streams: Streams,
    life: Arc<Life>,
}

#[derive(Default)]
struct Life {
    ended: AtomicBool,
    /// What was at this address is elsewhere now, or is not trusted as it was.
    retired: AtomicBool,
}

/// Tells a connection from others without keeping it.
pub(super) struct Mark(Arc<Life>);

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
    connection: Connection<Heard<ClientStream<TcpStream>>, Bytes>,
    traffic: Arc<Traffic>,
    standing: Standing,
    link: Arc<str>,
}

impl Outer {
    /// Whether the gateway has sent us away, or is gone: what runs may go on,
    /// nothing new should begin.
    pub(crate) fn is_closing(&self) -> bool {
        if self.life.ended.load(Ordering::Relaxed) || self.life.retired.load(Ordering::Relaxed) {
            return true;
        }
        let ready = self.sender.clone().ready().now_or_never();
        !matches!(ready, Some(Ok(_)))
    }

    /// Whether one more stream would have to wait for another's end.
    pub(super) fn is_full(&self) -> bool {
        self.streams.count() >= self.sender.current_max_send_streams()
    }

    /// Lets what runs go on, and nothing new begin.
    pub(super) fn retire(&self) {
        self.life.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn has(&self, mark: &Mark) -> bool {
        Arc::ptr_eq(&self.life, &mark.0)
    }
}

/// Connects to the gateway of `link` at one of its addresses.
pub(super) async fn connect(
    tls: &Tls,
    link: &Link,
    address: SocketAddr,
) -> Result<Fresh, TunnelError> {
    let stream = mesh_net::socket::connect(address, CONNECT)
        .await
        .map_err(|source| TunnelError::Unreachable {
            link: link.name.clone(),
            source,
        })?;
    match timeout(HANDSHAKE, handshake(tls, link, stream)).await {
        Ok(result) => result,
        Err(_) => Err(TunnelError::Timeout {
            link: link.name.clone(),
        }),
    }
}

/// TLS and HTTP/2 on a connection to the gateway of `link`.
pub(super) async fn handshake(
    tls: &Tls,
    link: &Link,
    stream: TcpStream,
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
    let heard = Heard {
        inner: session,
        traffic: Arc::default(),
    };
    let traffic = heard.traffic.clone();
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false)
        .handshake(heard)
        .await
        .map_err(|source| TunnelError::Http2 {
            link: link.name.clone(),
            source,
        })?;
    let outer = Outer {
        sender,
        streams: Streams::default(),
        life: Arc::default(),
    };
    Ok(Fresh {
        outer,
        connection,
        traffic,
        standing,
        link: link.name.clone(),
    })
}

impl Fresh {
    pub(super) fn mark(&self) -> Mark {
        Mark(self.outer.life.clone())
    }

    /// Runs the connection until it ends, or the gateway gives no sign of life.
    /// Lives as long as the connection: its streams fail when it returns.
    pub(super) async fn run(self) -> End {
        let Self {
            outer,
            mut connection,
            traffic,
            standing,
            link,
        } = self;
        let life = outer.life.clone();
        // Else the connection would never be without a user.
        drop(outer);
        let silence = silence(connection.ping_pong(), &traffic);
        let served = pin!(async {
            tokio::select! {
                ended = connection => {
                    debug!(%link, result = ?ended, "gateway connection ended");
                    if ended.is_ok() { End::Done } else { End::Dead }
                }
                () = silence => {
                    debug!(%link, "the gateway gives no sign of life");
                    End::Dead
                }
            }
        });
        let leave = || life.retired.store(true, Ordering::Relaxed);
        let end = standing.drive(served, leave).await.unwrap_or(End::Done);
        life.ended.store(true, Ordering::Relaxed);
        end
    }
}

/// Returns when a ping is not answered, and nothing else is heard meanwhile:
/// on a slow path the answer may be behind much else.
async fn silence(pings: Option<h2::PingPong>, traffic: &Traffic) {
    let Some(mut pings) = pings else {
        // Taken before, which it was not.
        return std::future::pending().await;
    };
    loop {
        busy_or_due(traffic).await;
        let mut pong = pin!(pings.ping(h2::Ping::opaque()));
        loop {
            let before = traffic.read.load(Ordering::Relaxed);
            match timeout(PONG, &mut pong).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return,
                Err(_) if traffic.read.load(Ordering::Relaxed) == before => return,
                Err(_) => {}
            }
        }
    }
}

/// Returns a tick after something was sent, or when a quiet connection is due.
async fn busy_or_due(traffic: &Traffic) {
    for _ in 0..QUIET_TICKS {
        let before = traffic.sent.load(Ordering::Relaxed);
        tokio::time::sleep(PING).await;
        if traffic.sent.load(Ordering::Relaxed) - before > QUIET {
            return;
        }
    }
}

/// What goes through a connection.
#[derive(Default)]
struct Traffic {
    /// Reads that were answered.
    read: AtomicU64,
    /// Bytes.
    sent: AtomicU64,
}

/// Counts what is read and written.
struct Heard<IO> {
    inner: IO,
    traffic: Arc<Traffic>,
}

impl<IO> Heard<IO> {
    fn count_sent(&self, sent: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(sent)) = sent {
            self.traffic.sent.fetch_add(*sent as u64, Ordering::Relaxed);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Heard<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.traffic.read.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Heard<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.count_sent(&sent);
        sent
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.count_sent(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
