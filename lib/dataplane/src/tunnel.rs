//! Tunnels through gateways: pooled HTTP/2 connections in mutual TLS, a
//! `CONNECT` stream each.

pub mod probe;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt as _;
use h2::client::{Connection, SendRequest};
use http::{HeaderValue, Method, Request};
use mesh_core::{
    endpoint::EndpointId,
    link::{Gateway, Link},
};
use mesh_tls::{ALPN_MESH, ClientStream, Tls, TlsError};
use mesh_wire::mesh1;
use tokio::{net::TcpStream, sync::Mutex as AsyncMutex, time::timeout};
use tracing::debug;

use crate::{H2Stream, h2_stream::Streams, resolve::Resolver};

/// How long one address of a gateway may take until the TCP connection stands.
const CONNECT: Duration = Duration::from_secs(2);
/// How long TLS and HTTP/2 may take after that.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How often a gateway is asked for a sign of life, and how long that may take.
const PING: Duration = Duration::from_secs(3);
const PONG: Duration = Duration::from_secs(3);
/// How long it may take to find or open a connection that takes a stream.
const OPEN: Duration = Duration::from_secs(6);
/// How long a gateway is left alone after it could not be reached, first and at
/// most: who asks meanwhile hears so at once and goes elsewhere.
const SHORTEST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// Bytes on their way per stream and per connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Addresses tried for one gateway.
const MOST_ADDRESSES: usize = 8;

/// What a tunnel leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The sidecar of an exported endpoint.
    Endpoint(EndpointId),
    /// The gateway itself.
    Probe,
    /// The peer's export streams.
    Exports,
}

/// Why there is no tunnel. Not one byte went further than the gateway.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No address of the gateway takes connections.
    #[error("the gateway of {link} cannot be reached: {source}")]
    Unreachable {
        /// The link.
        link: Arc<str>,
        /// What the last address said.
        source: io::Error,
    },
    /// Something answers, and it is not the gateway, or does not want us.
    #[error("no TLS session with the gateway of {link}: {source}")]
    Tls {
        /// The link.
        link: Arc<str>,
        /// Whose fault it is.
        source: TlsError,
    },
    /// The HTTP/2 connection failed.
    #[error("the connection to the gateway of {link} failed: {source}")]
    Http2 {
        /// The link.
        link: Arc<str>,
        /// What happened.
        source: h2::Error,
    },
    /// A deadline passed.
    #[error("the gateway of {link} does not answer in time")]
    Timeout {
        /// The link.
        link: Arc<str>,
    },
    /// It could not be reached a moment ago.
    #[error("the gateway of {link} is left alone for a moment: {said}")]
    Resting {
        /// The link.
        link: Arc<str>,
        /// What happened then.
        said: Arc<str>,
    },
}

/// The pool of connections to gateways. Clones share it.
#[derive(Clone)]
pub struct Tunnels {
    tls: Tls,
    resolver: Resolver,
    pool: Arc<Mutex<HashMap<Gateway, Slot>>>,
}

/// The way to one gateway; who finds no connection opens it, others wait.
type Slot = Arc<AsyncMutex<Way>>;

/// The connection to a gateway if there is one, and else why not.
#[derive(Default)]
struct Way {
    outer: Option<Outer>,
    trouble: Option<Trouble>,
}

/// A gateway that could not be reached.
struct Trouble {
    failures: u32,
    until: Instant,
    said: Arc<str>,
}

impl Way {
    /// A connection that takes one more stream.
    fn usable(&self) -> Option<&Outer> {
        let takes_more = |outer: &&Outer| !outer.is_closing() && !outer.is_full();
        self.outer.as_ref().filter(takes_more)
    }

    /// Why nobody should try now.
    fn rests(&self, now: Instant) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|trouble| trouble.until > now)
    }

    fn opened(&mut self, sender: SendRequest<Bytes>) -> Outer {
        let fresh = Outer {
            sender,
            streams: Streams::default(),
        };
        self.outer = Some(fresh.clone());
        self.trouble = None;
        fresh
    }

    fn failed(&mut self, error: &TunnelError, now: Instant) {
        let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        self.trouble = Some(Trouble {
            failures: failures.saturating_add(1),
            until: now + rest(failures),
            said: error.to_string().into(),
        });
    }
}

/// How long a gateway is left alone after it has failed so often before.
fn rest(failures: u32) -> Duration {
    SHORTEST_REST
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(LONGEST_REST)
}

/// A connection to a gateway. It closes when no stream and no clone is left.
#[derive(Clone)]
pub(crate) struct Outer {
    sender: SendRequest<Bytes>,
    streams: Streams,
}

impl Outer {
    /// Whether the gateway has sent us away, or is gone: what runs may go on,
    /// nothing new should begin.
    pub(crate) fn is_closing(&self) -> bool {
        let ready = self.sender.clone().ready().now_or_never();
        !matches!(ready, Some(Ok(_)))
    }

    /// Whether one more stream would have to wait for another's end.
    fn is_full(&self) -> bool {
        self.streams.count() >= self.sender.current_max_send_streams()
    }
}

impl Tunnels {
    /// An empty pool.
    #[must_use]
    pub fn new(tls: Tls, resolver: Resolver) -> Self {
        Self {
            tls,
            resolver,
            pool: Arc::default(),
        }
    }

    /// Opens a tunnel. It may be written to at once; whether the gateway lets
    /// it through shows at the first read.
    ///
    /// # Errors
    /// If there is no way to the gateway.
    pub async fn open(&self, link: &Link, target: Target) -> Result<H2Stream, TunnelError> {
        Ok(self.open_on(link, target).await?.0)
    }

    /// The same, with the connection that carries the tunnel.
    pub(crate) async fn open_on(
        &self,
        link: &Link,
        target: Target,
    ) -> Result<(H2Stream, Outer), TunnelError> {
        let connecting = timeout(OPEN, self.connection(link));
        let mut outer = connecting.await.map_err(|_| TunnelError::Timeout {
            link: link.name.clone(),
        })??;
        let place = outer.streams.place();
        let opened = outer.sender.send_request(connect_request(target), false);
        let (answer, send) = opened.map_err(|source| TunnelError::Http2 {
            link: link.name.clone(),
            source,
        })?;
        Ok((H2Stream::asked(send, answer, place), outer))
    }

    /// A connection that takes one more stream. One that does not is left to
    /// its streams, and closes when they have ended.
    async fn connection(&self, link: &Link) -> Result<Outer, TunnelError> {
        let mut way = self.slot(&link.gateway).lock_owned().await;
        if let Some(outer) = way.usable() {
            return Ok(outer.clone());
        }
        if let Some(trouble) = way.rests(Instant::now()) {
            return Err(TunnelError::Resting {
                link: link.name.clone(),
                said: trouble.said.clone(),
            });
        }
        // By a task of its own, that ends within its deadline: what it finds
        // out is not lost when the caller gives up.
        let (this, link) = (self.clone(), link.clone());
        let name = link.name.clone();
        let opening = tokio::spawn(async move {
            let dialled = timeout(OPEN, this.dial(&link)).await;
            let dialled = dialled.unwrap_or(Err(TunnelError::Timeout { link: link.name }));
            match dialled {
                Ok(sender) => Ok(way.opened(sender)),
                Err(error) => {
                    way.failed(&error, Instant::now());
                    Err(error)
                }
            }
        });
        opening
            .await
            .unwrap_or(Err(TunnelError::Timeout { link: name }))
    }

    fn slot(&self, gateway: &Gateway) -> Slot {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        // Gateways that no link names any more, or that failed, are forgotten
        // when nobody is using them.
        pool.retain(|known, slot| {
            known == gateway
                || Arc::strong_count(slot) > 1
                || slot
                    .try_lock()
                    .is_ok_and(|way| way.outer.is_some() || way.rests(Instant::now()).is_some())
        });
        pool.entry(gateway.clone()).or_default().clone()
    }

    /// Tries the gateway's addresses one after the other.
    async fn dial(&self, link: &Link) -> Result<SendRequest<Bytes>, TunnelError> {
        let mut last = TunnelError::Unreachable {
            link: link.name.clone(),
            source: io::ErrorKind::AddrNotAvailable.into(),
        };
        for address in self.addresses(link).await? {
            match self.dial_address(link, address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    debug!(%address, %error, "gateway address");
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// All addresses of the gateway, in an order that differs between calls.
    async fn addresses(&self, link: &Link) -> Result<Vec<SocketAddr>, TunnelError> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        let mut problem = None;
        for host in &link.gateway.hosts {
            match self.resolver.resolve(host).await {
                Ok(more) => addresses.extend(more),
                Err(error) => problem = Some(error),
            }
        }
        if let (true, Some(error)) = (addresses.is_empty(), problem) {
            return Err(TunnelError::Unreachable {
                link: link.name.clone(),
                source: io::Error::other(error),
            });
        }
        if !addresses.is_empty() {
            let start = rand::random_range(0..addresses.len());
            addresses.rotate_left(start);
        }
        addresses.truncate(MOST_ADDRESSES);
        let port = link.gateway.port;
        Ok(addresses.into_iter().map(|ip| (ip, port).into()).collect())
    }

    async fn dial_address(
        &self,
        link: &Link,
        address: SocketAddr,
    ) -> Result<SendRequest<Bytes>, TunnelError> {
        let stream = mesh_net::socket::connect(address, CONNECT)
            .await
            .map_err(|source| TunnelError::Unreachable {
                link: link.name.clone(),
                source,
            })?;
        match timeout(HANDSHAKE, self.handshake(link, stream)).await {
            Ok(result) => result,
            Err(_) => Err(TunnelError::Timeout {
                link: link.name.clone(),
            }),
        }
    }

    async fn handshake(
        &self,
        link: &Link,
        stream: TcpStream,
    ) -> Result<SendRequest<Bytes>, TunnelError> {
        let expected = [link.gateway.identity.clone()];
        let server_name = Some(&*link.gateway.server_name);
        let session = self
            .tls
            .connect(stream, &expected, server_name, ALPN_MESH)
            .await
            .map_err(|source| TunnelError::Tls {
                link: link.name.clone(),
                source,
            })?;
        let (connection, driver) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(1 << 20)
            .enable_push(false)
            .handshake(session)
            .await
            .map_err(|source| TunnelError::Http2 {
                link: link.name.clone(),
                source,
            })?;
        tokio::spawn(drive(driver, link.name.clone()));
        Ok(connection)
    }
}

/// Runs a connection until it ends, or the gateway gives no sign of life.
/// Lives as long as the connection: its streams fail when it returns.
async fn drive(mut connection: Connection<ClientStream<TcpStream>, Bytes>, link: Arc<str>) {
    let Some(pings) = connection.ping_pong() else {
        return;
    };
    let alive = keep_alive(pings);
    tokio::select! {
        ended = connection => debug!(%link, result = ?ended, "gateway connection ended"),
        () = alive => debug!(%link, "the gateway gives no sign of life"),
    }
}

/// Returns when a ping is not answered.
async fn keep_alive(mut pings: h2::PingPong) {
    loop {
        tokio::time::sleep(PING).await;
        let pong = timeout(PONG, pings.ping(h2::Ping::opaque())).await;
        if !matches!(pong, Ok(Ok(_))) {
            return;
        }
    }
}

fn connect_request(target: Target) -> Request<()> {
    let authority = match target {
        Target::Endpoint(_) => mesh1::AUTHORITY_ENDPOINT,
        Target::Probe => mesh1::AUTHORITY_PROBE,
        Target::Exports => mesh1::AUTHORITY_EXPORTS,
    };
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = http::Uri::from_static(authority);
    let headers = request.headers_mut();
    headers.insert(mesh1::HOPS, HeaderValue::from_static("1"));
    if let Target::Endpoint(id) = target
        && let Ok(value) = HeaderValue::from_str(&id.to_string())
    {
        headers.insert(mesh1::ENDPOINT, value);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_a_gateway_that_fails_is_left_alone_longer_each_time() {
        let rests: Vec<u128> = (0..6).map(|n| rest(n).as_millis()).collect();
        assert_eq!(rests, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(rest(u32::MAX), LONGEST_REST);

        let (mut way, now) = (Way::default(), Instant::now());
        assert!(way.rests(now).is_none());
        let error = TunnelError::Timeout {
            link: "east".into(),
        };
        way.failed(&error, now);
        assert!(way.rests(now).is_some());
        assert!(way.rests(now + rest(0)).is_none(), "one may try again");
        way.failed(&error, now);
        assert!(way.rests(now + rest(0)).is_some());
    }
}
