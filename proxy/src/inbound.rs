//! The life of a connection to the pod: from a peer's sidecar as `mesh/1`, or
//! redirected from a client that has none.

mod application;
mod direct;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use mesh_core::{
    identity::SpiffeId,
    inbound::{InboundPolicy, Refusal},
};
use mesh_net::{
    accept::{Accepted, Acceptor},
    copy::copy,
    original::original_destination,
    replay::Replay,
};
use mesh_runtime::Shutdown;
use mesh_tls::{ALPN_MESH, Tls};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, debug_span};

use crate::{
    PolicyReceiver,
    metrics::{BackendLabels, Metrics},
    plain,
    protocol::{Spoken, spoken},
    serve,
};

/// How long a peer's handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What all connections share.
pub(crate) struct Inbound {
    pub(crate) tls: Tls,
    pub(crate) pod_ips: Vec<IpAddr>,
    /// Our own port: who dials it speaks `mesh/1`.
    pub(crate) listening: u16,
    pub(crate) application: plain::Clients,
    pub(crate) policy: PolicyReceiver,
    pub(crate) metrics: Metrics,
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// The address is not the pod's, or the port is ours.
    #[error("{0} may not be dialled through the sidecar")]
    Address(SocketAddr),
    /// No `mesh/1` peer.
    #[error("no mesh/1 handshake: {0}")]
    Handshake(&'static str),
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Http(hyper::Error),
}

impl Inbound {
    /// Takes connections until `shutdown`.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: Acceptor,
        tasks: TaskTracker,
        shutdown: Shutdown,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.signalled() => return,
            };
            let span = debug_span!("inbound", client = %accepted.peer);
            let connection = self
                .clone()
                .connection(accepted, tasks.clone(), shutdown.clone());
            tasks.spawn(connection.instrument(span));
        }
    }

    async fn connection(
        self: Arc<Self>,
        accepted: Accepted,
        tasks: TaskTracker,
        shutdown: Shutdown,
    ) {
        let _open = self.metrics.open("inbound");
        let Accepted { stream, slot, .. } = accepted;
        if let Err(ended) = self.clone().carry(stream, tasks, &shutdown).await {
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
        tasks: TaskTracker,
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        let local = stream.local_addr().map_err(Ended::Io)?;
        // Without a record the connection was not redirected.
        let original = original_destination(&stream).unwrap_or(local);
        if original.port() == self.listening {
            self.peer(stream, tasks, shutdown).await
        } else {
            self.unmeshed(stream, original, shutdown).await
        }
    }

    /// A peer's sidecar, or nobody.
    async fn peer(
        self: Arc<Self>,
        stream: TcpStream,
        tasks: TaskTracker,
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        let handshake = timeout(HANDSHAKE, self.tls.accept(stream, ALPN_MESH)).await;
        let (session, client) = match handshake {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return Err(Ended::Handshake(error.reason())),
            Err(_) => return Err(Ended::Handshake("timeout")),
        };
        let client = Arc::new(direct::Client {
            labels: BackendLabels::inbound(&client),
            id: client,
        });
        let answer = |request| direct::answer(self.clone(), client.clone(), tasks.clone(), request);
        serve::http(session, Spoken::Http2, shutdown, answer)
            .await
            .map_err(Ended::Http)
    }

    /// A client without a sidecar: its bytes go to the application, and what
    /// only a verified peer may say is taken out.
    async fn unmeshed(
        self: Arc<Self>,
        stream: TcpStream,
        original: SocketAddr,
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        if !self.pod_ips.contains(&original.ip())
            || mesh_core::ports::is_proxy_port(original.port())
        {
            return Err(Ended::Address(original));
        }
        let declared = self.policy().protocol(original.port());
        let mut stream = Replay::new(stream);
        let spoken = spoken(&mut stream, declared).await.map_err(Ended::Io)?;
        if spoken == Spoken::Opaque {
            let server = mesh_net::socket::connect(original, plain::CONNECT).await;
            let mut server = server.map_err(Ended::Io)?;
            let copied = copy(&mut stream, &mut server).await;
            return copied.map(drop).map_err(Ended::Io);
        }
        let labels = Arc::new(BackendLabels::inbound(""));
        let answer =
            |request| application::answer_unmeshed(self.clone(), labels.clone(), original, request);
        serve::http(stream, spoken, shutdown, answer)
            .await
            .map_err(Ended::Http)
    }

    /// Whether `client` may reach `port`, by the policy of now.
    fn authorize(&self, client: &SpiffeId, port: u16) -> Result<(), Refusal> {
        let trust = self.tls.trust();
        self.policy().authorize(trust.local(), client, port)
    }

    fn policy(&self) -> Arc<InboundPolicy> {
        self.policy.borrow().clone().unwrap_or_default()
    }

    /// Where the application listens: on the pod's address, never on loopback.
    fn application(&self, port: u16) -> Option<SocketAddr> {
        self.pod_ips.first().map(|ip| (*ip, port).into())
    }
}

impl Ended {
    /// The label under which it is counted as refused, if it was.
    const fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Address(_) => Some("address"),
            Self::Handshake(reason) => Some(reason),
            Self::Io(_) | Self::Http(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
