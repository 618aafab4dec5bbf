//! The three ports: who is let in, and to which services.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use mesh_core::identity::SpiffeId;
use mesh_dataplane::trust::{Standing, Trusted};
use mesh_net::{
    accept::{Accepted, Acceptor, Slot},
    listen::listen,
};
use mesh_runtime::Shutdown;
use mesh_tls::{ALPN_H2, PeerChain, Session as TlsSession, Tls, TlsError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{
    Request, Status,
    service::Routes,
    transport::{Server, server::Connected},
};
use tracing::debug;

use crate::metrics::Metrics;

/// Connections of one port at one time.
const MOST_CONNECTIONS: usize = 20_000;
/// Sessions that wait to be served; more wait in their handshake.
const WAITING: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often an idle client is asked for a sign of life, and how long that may take.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);

/// Who is at the other end: none on the port that asks for no certificate.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Option<SpiffeId>);

/// The verified identity of the caller of `request`.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<SpiffeId, Status> {
    let caller = request.extensions().get::<Caller>();
    caller
        .and_then(|caller| caller.0.clone())
        .ok_or_else(|| Status::unauthenticated("no identity"))
}

/// Whom a port lets in.
#[derive(Clone, Copy)]
pub(crate) enum Admit {
    /// Anybody: who has no certificate yet.
    Anybody,
    /// Identities of the local trust domain.
    Local,
    /// Identities of any linked trust domain; the service decides further.
    Linked,
}

/// Serves `routes` on `address` until `shutdown`.
pub(crate) fn serve(address: SocketAddr, admit: Admit, routes: Routes, door: &Door) -> Result<()> {
    let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
    let acceptor = Acceptor::new(listener, MOST_CONNECTIONS);
    let (sender, sessions) = mpsc::channel::<io::Result<Session>>(WAITING);
    door.tasks
        .spawn(accept(acceptor, admit, door.clone(), sender));
    let shutdown = door.shutdown.clone();
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PONG))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(sessions), async move {
            shutdown.signalled().await;
        });
    door.tasks.spawn(async move {
        if let Err(error) = server.await {
            debug!(%error, "server ended");
        }
    });
    Ok(())
}

/// What all ports share.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) tls: Tls,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
    pub(crate) tasks: TaskTracker,
}

async fn accept(
    acceptor: Acceptor,
    admit: Admit,
    door: Door,
    sessions: mpsc::Sender<io::Result<Session>>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = door.shutdown.signalled() => return,
        };
        let (door, sessions) = (door.clone(), sessions.clone());
        door.tasks.clone().spawn(async move {
            let peer = accepted.peer;
            match timeout(HANDSHAKE, handshake(&door.tls, admit, accepted)).await {
                Ok(Ok(session)) => drop(sessions.send(Ok(session)).await),
                Ok(Err(reason)) => {
                    debug!(%peer, reason, "refused");
                    door.metrics.refused(reason);
                }
                Err(_) => door.metrics.refused("timeout"),
            }
        });
    }
}

async fn handshake(tls: &Tls, admit: Admit, accepted: Accepted) -> Result<Session, &'static str> {
    let Accepted { stream, slot, .. } = accepted;
    let reason = |error: TlsError| error.reason();
    let trust = tls.trust();
    let (stream, caller) = match admit {
        Admit::Anybody => {
            let stream = tls.accept_unauthenticated(stream, ALPN_H2).await;
            (stream.map_err(reason)?, Caller(None))
        }
        Admit::Local | Admit::Linked => {
            let (stream, id) = tls.accept(stream, ALPN_H2).await.map_err(reason)?;
            let local = id.trust_domain() == tls.trust().local();
            if matches!(admit, Admit::Local) != local {
                return Err("trust_domain");
            }
            (stream, Caller(Some(id)))
        }
    };
    let client = PeerChain::of_client(&stream, &trust, tls.clock().now());
    Ok(Session {
        stream: Trusted::new(stream, Standing::new(tls, client)),
        caller,
        _slot: Arc::new(slot),
    })
}

/// A TLS session whose client is known, for as long as it is trusted.
struct Session {
    stream: Trusted<TlsSession<TcpStream>>,
    caller: Caller,
    _slot: Arc<Slot>,
}

impl Connected for Session {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Session {
    mesh_net::pass_reads!(stream);
}

impl AsyncWrite for Session {
    mesh_net::pass_writes!(stream);
}
