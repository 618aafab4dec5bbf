//! The life of a connection to the pod: from a peer's sidecar as `mesh/1`, or
//! redirected from a client that has none.

mod application;
mod direct;
mod permit;
#[cfg(test)]
mod probed;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use http::Request;
use mesh_core::{
    destination::Protocol,
    inbound::{InboundPolicy, Refusal},
};
use mesh_dataplane::{message::Incoming, trust::Standing};
use mesh_drive::{conduit, exchange::Broken, socket::Sealed};
use mesh_net::{
    accept::{Accepted, Acceptor},
    ahead::ReadAhead,
    original::{canonical, original_destination},
    replay::Replay,
};
use mesh_runtime::Shutdown;
use mesh_tls::{ALPN_MESH, PeerChain, Tls};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, debug_span};

use self::permit::Caller;
use crate::{
    PolicyReceiver,
    metrics::{BackendLabels, Metrics},
    opaque::{self, Opaque},
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
    /// What holds before the control plane has said anything.
    pub(crate) first_policy: Arc<InboundPolicy>,
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
        let local = stream.local_addr().map_err(Ended::Io)?;
        // Without a record the connection was not redirected.
        let original = original_destination(&stream).unwrap_or(local);
        if original.port() == self.listening {
            self.peer(stream, from, tasks, shutdown).await
        } else {
            self.unmeshed(stream, from, original, shutdown).await
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
        let trust = self.tls.trust();
        let handshake = timeout(
            HANDSHAKE,
            self.tls.accept(ReadAhead::new(stream), ALPN_MESH),
        )
        .await;
        let (session, client) = match handshake {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return Err(Ended::Handshake(error.reason())),
            Err(_) => return Err(Ended::Handshake("timeout")),
        };
        let standing = Standing::new(
            &self.tls,
            PeerChain::of_client(&session, &trust, self.tls.clock().now()),
        );
        let client = Arc::new(direct::Client {
            labels: BackendLabels::inbound(&client),
            caller: Caller {
                identity: Some(client.clone()),
                address: from,
            },
            id: client,
        });
        let answer = |request: Request<Incoming>| {
            direct::answer(self.clone(), client.clone(), tasks.clone(), request)
        };
        let leave = shutdown.child();
        let served = pin!(serve::http(Sealed(session), Spoken::Http2, &leave, answer));
        let ended = standing.drive(served, || leave.trigger()).await;
        Err(Ended::Connection(ended.unwrap_or(conduit::Ended::Dropped)))
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
        let readable = self.readable(&caller, original.port())?;
        let mut stream = Replay::new(stream);
        let spoken = spoken(&mut stream, readable).await.map_err(Ended::Io)?;
        if spoken == Spoken::Opaque {
            return self.unmeshed_bytes(stream, &caller, original).await;
        }
        let client = Arc::new(application::Unmeshed {
            labels: BackendLabels::inbound(""),
            caller,
            server: original,
        });
        let answer = |request| application::answer_unmeshed(self.clone(), client.clone(), request);
        let ended = serve::http(stream, spoken, shutdown, answer).await;
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
        let mut permit = self.permit(caller, server.port())?;
        let server = mesh_net::socket::connect(server, plain::CONNECT).await;
        let server = Opaque::of(server.map_err(Ended::Io)?);
        tokio::select! {
            carried = opaque::join(Opaque::of(stream), server) => {
                carried.map(drop).map_err(Ended::Broken)
            }
            () = permit.withdrawn() => Err(Ended::Withdrawn),
        }
    }

    fn policy(&self) -> Arc<InboundPolicy> {
        let known = self.policy.borrow().clone();
        known.unwrap_or_else(|| self.first_policy.clone())
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
            Self::Refused(refusal) => Some(refusal.as_str()),
            // It is counted where it is noticed.
            Self::Withdrawn | Self::Io(_) | Self::Connection(_) | Self::Broken(_) => None,
        }
    }
}
