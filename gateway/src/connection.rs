//! The life of a connection: handshake, then streams until either side ends.

use std::{io, pin::pin, sync::Arc, time::Duration};

use http::StatusCode;
use mesh_core::{identity::SpiffeId, limits::Limit};
use mesh_dataplane::{
    crowd::{Place as Among, Who},
    limits::Bounds,
    trust::Standing,
};
use mesh_drive::{
    conduit::{self, Request, Version},
    exchange::Exchange,
    socket::Sealed,
};
use mesh_http::{
    head::{Head, Invalid},
    limits::Limits,
};
use mesh_net::{accept::Accepted, replay::Replay};
use mesh_tls::{ALPN_MESH, PeerChain, Session as Tls, TlsError};
use mesh_wire::mesh1::{self, Reason};
use tokio::{net::TcpStream, time::timeout};
use tracing::{Instrument as _, debug, debug_span};

use crate::{
    Gateway,
    decide::{Refusal, Upstream, asked},
    tunnel::Tunnel,
    unfinished::Place,
};

/// How often a client is asked for a sign of life, and how long that may take.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);
/// Bytes on their way to upstreams on a connection, at first; each stream begins
/// with 64 KiB of them, and grows as its upstream keeps up.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes of a tunnel's future, of which there may be 20,000.
const LARGEST: usize = 2 * 1024;
/// What a client's side of HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A verified client that has begun to speak HTTP/2.
type Session = Replay<Tls<TcpStream>>;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// No verified client within the deadline.
    #[error("no TLS session: {0}")]
    Tls(#[from] TlsError),
    #[error("no handshake in time")]
    HandshakeTimeout,
    #[error("the client has too many connections")]
    Crowded,
    /// A verified client that does not speak HTTP/2.
    #[error("no HTTP/2: {0}")]
    NotHttp2(io::Error),
    /// The connection broke, or the client broke the protocol's rules.
    #[error("{0}")]
    Http2(conduit::Ended),
    #[error("the client gives no sign of life")]
    Silent,
    #[error("the client's trust domain is not linked any more")]
    Unlinked,
    #[error("nobody vouches for the client any more")]
    Distrusted,
}

impl Gateway {
    /// Serves one connection until it ends.
    pub(crate) async fn connection(self: Arc<Self>, accepted: Accepted, place: Place) {
        let Accepted { stream, slot, .. } = accepted;
        match self.verified(stream).await {
            Ok((session, client, standing, _among)) => {
                drop(place);
                let _open = self.metrics.connection(client.trust_domain().as_str());
                let ended = self.streams(session, client, &standing).await;
                debug!(?ended, "connection ended");
                self.metrics.connection_ended(label(&ended));
            }
            Err(ended) => {
                debug!(reason = %ended, "connection refused");
                self.metrics.handshake_refused(label(&Err(ended)));
            }
        }
        drop(slot);
    }

    /// A client that has shown who it is, in time, and has a place left.
    async fn verified(
        &self,
        stream: TcpStream,
    ) -> Result<(Session, SpiffeId, Standing, Among), Ended> {
        // From the first byte of TLS until HTTP/2 stands.
        let deadline = self.bounds.limits().time(Limit::HandshakeTime);
        let handshake = timeout(deadline, self.handshake(stream)).await;
        let (session, client, standing) = handshake.unwrap_or_else(|_| {
            self.bounds.strike(Limit::HandshakeTime);
            Err(Ended::HandshakeTimeout)
        })?;
        let among = self.crowd.admit(Who::Identity(client.clone()));
        let among = among.ok_or_else(|| {
            self.bounds.strike(Limit::ConnectionsPerPeer);
            Ended::Crowded
        })?;
        Ok((session, client, standing, among))
    }

    async fn handshake(&self, stream: TcpStream) -> Result<(Session, SpiffeId, Standing), Ended> {
        let trust = self.tls.trust();
        let accepting = self.tls.accept(stream, ALPN_MESH);
        let (session, client) = accepting.await?;
        let standing = Standing::new(
            &self.tls,
            PeerChain::of_client(&session, &trust, self.tls.clock().now()),
        );
        let session = speaks_http2(session).await.map_err(Ended::NotHttp2)?;
        Ok((session, client, standing))
    }

    /// Takes streams until the connection ends. Once the program is to end, or
    /// the client is not trusted as it was, the client is told to go elsewhere,
    /// and the tunnels under way go on; they end with the connection.
    async fn streams(
        self: &Arc<Self>,
        session: Session,
        client: SpiffeId,
        standing: &Standing,
    ) -> Result<(), Ended> {
        let mut unlinked = pin!(self.state.clone().unlinked(&client));
        let mut distrusted = pin!(standing.end());
        let mut leave = pin!(async {
            tokio::select! {
                () = self.draining.signalled() => {}
                () = standing.leave() => {}
            }
        });
        let (gateway, asking) = (self.clone(), client.clone());
        let serve = move |request| gateway.stream(&asking, request);
        let limits = limits(&self.bounds);
        let (connection, life) = conduit::serve(Sealed(session), Version::Http2, limits, serve);
        let (mut life, mut silence) = (pin!(life), pin!(connection.silence(PING, PONG)));
        let mut leaving = false;
        loop {
            tokio::select! {
                ended = &mut life => return well(ended),
                () = &mut silence => return Err(Ended::Silent),
                () = &mut unlinked => return Err(Ended::Unlinked),
                () = &mut distrusted => return Err(Ended::Distrusted),
                () = &mut leave, if !leaving => {
                    leaving = true;
                    connection.shutdown();
                }
            }
        }
    }

    /// Refuses a stream, answers it, or makes it a tunnel.
    fn stream(self: &Arc<Self>, client: &SpiffeId, request: Request) {
        let Request { exchange, head, .. } = request;
        let decided = asked(&head).and_then(|target| {
            let upstream = self.state.decide(client, target);
            Ok((target, upstream.map_err(Refusal::Connect)?))
        });
        match decided {
            Ok((_, Upstream::Probe)) => say(&exchange, Head::response(200)),
            Ok((target, upstream)) => {
                let Ok(permit) = self.tunnels.clone().try_acquire_owned() else {
                    self.bounds.strike(Limit::Tunnels);
                    self.refuse(client, &exchange, Refusal::Connect(Reason::Overloaded));
                    return;
                };
                let tunnel = Tunnel {
                    client: client.clone(),
                    target,
                    upstream,
                    exchange,
                };
                let gateway = self.clone();
                let span = debug_span!("tunnel", %client, ?target);
                let tunnel = async move {
                    tunnel.run(gateway).await;
                    drop(permit);
                };
                debug_assert!(size_of_val(&tunnel) <= LARGEST, "{}", size_of_val(&tunnel));
                self.tasks.spawn(tunnel.instrument(span));
            }
            Err(refusal) => self.refuse(client, &exchange, refusal),
        }
    }

    /// Says no, and counts it.
    pub(crate) fn refuse(&self, client: &SpiffeId, exchange: &Exchange, why: Refusal) {
        debug!(%client, reason = why.label(), "refused");
        let link = self.state.link(client);
        self.metrics.tunnel_refused(client, link, why.label());
        say(exchange, refusal(why));
    }
}

/// Waits for the client's first bytes, which are read again later.
async fn speaks_http2(session: Tls<TcpStream>) -> io::Result<Session> {
    let mut session = Replay::new(session);
    while session.peeked() != PREFACE {
        if session.peek_more(PREFACE.len()).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(session.peeked()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(session)
}

/// What a connection bears.
fn limits(bounds: &Bounds) -> Arc<Limits> {
    Arc::new(Limits {
        connection_window: CONNECTION_WINDOW,
        // Pings tell whether the client is still there.
        idle_time: Duration::MAX,
        ..(*bounds.clients()).clone()
    })
}

/// Answers, and that is all. Whether the client still wants the answer is its
/// own affair.
fn say(exchange: &Exchange, answer: Result<Head, Invalid>) {
    if let Ok(head) = answer {
        let _ = exchange.send_head(&head, true);
    }
}

/// The answer to a refused stream: the reason, and nothing else.
fn refusal(refusal: Refusal) -> Result<Head, Invalid> {
    let mut head = Head::response(refusal.status().as_u16())?;
    head.push(
        mesh1::ERROR.as_bytes(),
        refusal.reason().as_str().as_bytes(),
    )?;
    if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
        head.push(b"allow", b"CONNECT")?;
    }
    Ok(head)
}

fn well(ended: conduit::Ended) -> Result<(), Ended> {
    match ended {
        conduit::Ended::Fault(fault) if fault.is_clean() => Ok(()),
        ended => Err(Ended::Http2(ended)),
    }
}

/// A label for metrics; the set of values is closed.
const fn label(ended: &Result<(), Ended>) -> &'static str {
    match ended {
        Ok(()) => "done",
        Err(Ended::Tls(error)) => error.reason(),
        Err(Ended::HandshakeTimeout) => "timeout",
        Err(Ended::Crowded) => "crowded",
        Err(Ended::NotHttp2(_)) => "not_http2",
        Err(Ended::Http2(_)) => "broken",
        Err(Ended::Silent) => "silent",
        Err(Ended::Unlinked) => "unlinked",
        Err(Ended::Distrusted) => "distrusted",
    }
}
