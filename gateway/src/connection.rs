//! The life of a connection: handshake, then streams until either side ends.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Ping, PingPong, Reason as Reset, RecvStream,
    server::{self, SendResponse},
};
use http::{Request, Response};
use mesh_core::identity::SpiffeId;
use mesh_dataplane::trust::Standing;
use mesh_net::accept::Accepted;
use mesh_tls::{ALPN_MESH, PeerChain, ServerStream, TlsError};
use mesh_wire::mesh1::Reason;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tracing::{Instrument as _, debug, debug_span};

use crate::{
    Gateway,
    decide::{Refusal, Upstream, asked},
    tunnel::{Tunnel, refusal},
    unfinished::Place,
};

/// How long it may take until HTTP/2 stands: from the first byte of TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often a client is asked for a sign of life, and how long that may take.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);
/// How long a client that is sent away may take to go.
const GOODBYE: Duration = Duration::from_secs(1);
/// Streams of one connection at one time.
const MOST_STREAMS: u32 = 1000;
/// Bytes of a request's head; ours have a few hundred.
const LARGEST_HEAD: u32 = 4 * 1024;
/// Bytes on their way to an upstream, per stream and per connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes that wait for a client, per stream.
const SEND_BUFFER: usize = 256 * 1024;

type Connection = server::Connection<ServerStream<TcpStream>, Bytes>;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// No verified client within the deadline.
    #[error("no TLS session: {0}")]
    Tls(#[from] TlsError),
    #[error("no handshake in time")]
    HandshakeTimeout,
    /// A verified client that does not speak HTTP/2.
    #[error("no HTTP/2: {0}")]
    NotHttp2(h2::Error),
    /// The connection broke, or the client broke the protocol's rules.
    #[error("{0}")]
    Http2(h2::Error),
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
        match within_handshake(self.handshake(stream)).await {
            Ok((connection, client, standing)) => {
                drop(place);
                let _open = self.metrics.connection(client.trust_domain().as_str());
                let ended = self.streams(connection, client, &standing).await;
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

    async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Result<(Connection, SpiffeId, Standing), Ended> {
        let trust = self.tls.trust();
        let (session, client) = self.tls.accept(stream, ALPN_MESH).await?;
        let standing = Standing::new(
            &self.tls,
            PeerChain::of_client(&session, &trust, self.tls.clock().now()),
        );
        let connection = server::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(LARGEST_HEAD)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(session)
            .await
            .map_err(Ended::NotHttp2)?;
        Ok((connection, client, standing))
    }

    /// Takes streams until the connection ends. Once the program is to end, or
    /// the client is not trusted as it was, the client is told to go elsewhere,
    /// and the tunnels under way go on.
    async fn streams(
        self: &Arc<Self>,
        mut connection: Connection,
        client: SpiffeId,
        standing: &Standing,
    ) -> Result<(), Ended> {
        let mut silent = pin!(silent(connection.ping_pong()));
        let mut unlinked = pin!(self.state.clone().unlinked(&client));
        let mut distrusted = pin!(standing.end());
        let mut leave = pin!(async {
            tokio::select! {
                () = self.draining.signalled() => {}
                () = standing.leave() => {}
            }
        });
        let mut leaving = false;
        loop {
            tokio::select! {
                stream = connection.accept() => match stream {
                    Some(Ok((request, respond))) => self.stream(&client, request, respond),
                    Some(Err(error)) => return Err(Ended::Http2(error)),
                    None => return Ok(()),
                },
                () = &mut silent => return Err(Ended::Silent),
                () = &mut unlinked => {
                    send_away(&mut connection).await;
                    return Err(Ended::Unlinked);
                }
                () = &mut distrusted => {
                    send_away(&mut connection).await;
                    return Err(Ended::Distrusted);
                }
                () = &mut leave, if !leaving => {
                    leaving = true;
                    connection.graceful_shutdown();
                }
            }
        }
    }

    /// Refuses a stream, answers it, or makes it a tunnel.
    fn stream(
        self: &Arc<Self>,
        client: &SpiffeId,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let decided = asked(&request).and_then(|target| {
            let upstream = self.state.decide(client, target);
            Ok((target, upstream.map_err(Refusal::Connect)?))
        });
        match decided {
            // Whether the client still wants the answer is its own affair.
            Ok((_, Upstream::Probe)) => drop(respond.send_response(Response::new(()), true)),
            Ok((target, upstream)) => {
                let Ok(permit) = self.tunnels.clone().try_acquire_owned() else {
                    self.refuse(client, &mut respond, Refusal::Connect(Reason::Overloaded));
                    return;
                };
                let tunnel = Tunnel {
                    client: client.clone(),
                    target,
                    upstream,
                    receive: request.into_body(),
                    respond,
                };
                let gateway = self.clone();
                let span = debug_span!("tunnel", %client, ?target);
                let tunnel = async move {
                    tunnel.run(gateway).await;
                    drop(permit);
                };
                self.tasks.spawn(tunnel.instrument(span));
            }
            Err(refusal) => self.refuse(client, &mut respond, refusal),
        }
    }

    /// Says no, and counts it.
    pub(crate) fn refuse(
        &self,
        client: &SpiffeId,
        respond: &mut SendResponse<Bytes>,
        why: Refusal,
    ) {
        debug!(%client, reason = why.label(), "refused");
        let link = self.state.link(client);
        self.metrics.tunnel_refused(client, link, why.label());
        // Whether the client still wants the answer is its own affair.
        drop(respond.send_response(refusal(why), true));
    }
}

async fn within_handshake<T>(
    handshake: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    timeout(HANDSHAKE, handshake)
        .await
        .unwrap_or(Err(Ended::HandshakeTimeout))
}

/// Returns when a ping is not answered.
async fn silent(pings: Option<PingPong>) {
    let Some(mut pings) = pings else {
        // Taken before, which it was not.
        return std::future::pending().await;
    };
    loop {
        sleep(PING).await;
        let pong = timeout(PONG, pings.ping(Ping::opaque())).await;
        if !matches!(pong, Ok(Ok(_))) {
            return;
        }
    }
}

/// Closes the connection and all its streams.
async fn send_away(connection: &mut Connection) {
    connection.abrupt_shutdown(Reset::CANCEL);
    // It is dropped next; a client that does not go is left behind.
    let _ = timeout(GOODBYE, poll_fn(|cx| connection.poll_closed(cx))).await;
}

/// A label for metrics; the set of values is closed.
const fn label(ended: &Result<(), Ended>) -> &'static str {
    match ended {
        Ok(()) => "done",
        Err(Ended::Tls(error)) => error.reason(),
        Err(Ended::HandshakeTimeout) => "timeout",
        Err(Ended::NotHttp2(_)) => "not_http2",
        Err(Ended::Http2(_)) => "broken",
        Err(Ended::Silent) => "silent",
        Err(Ended::Unlinked) => "unlinked",
        Err(Ended::Distrusted) => "distrusted",
    }
}
