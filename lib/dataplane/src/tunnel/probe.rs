//! Tries a gateway step by step, on connections of its own: what the pool
//! knows takes no part in it and does not change.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use mesh_core::link::Link;
use mesh_drive::exchange::Answer;
use mesh_tls::{ALPN_H2, TlsError};
use mesh_wire::mesh1;
use serde::Serialize;
use tokio::time::timeout;

use super::{
    Target, TunnelError, Tunnels,
    outer::{CONNECT, Outer, handshake},
};
use crate::{TunnelRefused, TunnelStream, resolve::ResolveError};

/// How the way through one address of a gateway is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressReport {
    /// The address and port, or the name that could not be resolved.
    pub address: String,
    /// As far as it came; only the last one may have failed.
    pub steps: Vec<Step>,
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// `resolve`, `dial`, `tls`, `probe`, `exports`.
    pub step: &'static str,
    /// Whether it succeeded.
    pub ok: bool,
    /// How long it took.
    pub millis: u64,
    /// One word for programs; empty if it succeeded.
    pub reason: &'static str,
    /// A sentence for people; empty if it succeeded.
    pub text: String,
}

/// Why a step failed.
struct Failed {
    reason: &'static str,
    text: String,
}

impl Tunnels {
    /// Tries every address of the gateway of `link`: TCP, TLS with our
    /// identity, the gateway itself, and the peer's mesh-control behind it.
    pub async fn probe(&self, link: &Link) -> Vec<AddressReport> {
        let resolving = timeout(RESOLVE, self.all_addresses(link));
        let addresses = match resolving.await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return vec![unresolved(link, error.to_string())],
            Err(_) => return vec![unresolved(link, "no answer from DNS in time".into())],
        };
        join_all(
            addresses
                .into_iter()
                .map(|address| self.try_address(link, address)),
        )
        .await
    }

    async fn all_addresses(&self, link: &Link) -> Result<Vec<SocketAddr>, ResolveError> {
        let gateway = &link.gateway;
        let answers = gateway.hosts.iter().map(|host| self.resolver.resolve(host));
        let mut addresses = Vec::new();
        for answer in join_all(answers).await {
            addresses.extend(answer?);
        }
        let addresses = addresses.into_iter().take(MOST_ADDRESSES);
        Ok(addresses.map(|ip| (ip, gateway.port).into()).collect())
    }

    async fn try_address(&self, link: &Link, address: SocketAddr) -> AddressReport {
        let mut steps = Vec::new();
        // Where it ends is in `steps`.
        let _ = self.try_steps(link, address, &mut steps).await;
        AddressReport {
            address: address.to_string(),
            steps,
        }
    }

    async fn try_steps(
        &self,
        link: &Link,
        address: SocketAddr,
        steps: &mut Vec<Step>,
    ) -> Option<()> {
        let dialling = async {
            let stream = mesh_net::socket::connect(address, CONNECT).await;
            stream.map_err(|error| Failed::io(&error))
        };
        let stream = step(steps, "dial", CONNECT, dialling).await?;
        let shaking = async {
            let fresh = handshake(&self.tls, link, stream, self.limits.clone()).await;
            let fresh = fresh.map_err(|error| Failed::tunnel(&error))?;
            let outer = fresh.outer.clone();
            // Ends with the last clone of `outer`.
            tokio::spawn(fresh.run());
            Ok(outer)
        };
        let gateway = step(steps, "tls", TLS, shaking).await?;
        step(steps, "probe", PROBE, ask_gateway(&gateway)).await?;
        step(steps, "exports", EXPORTS, self.ask_control(link, &gateway)).await
    }

    /// A TLS session with the peer's mesh-control, through the gateway.
    async fn ask_control(&self, link: &Link, gateway: &Outer) -> Result<(), Failed> {
        let asked = gateway.ask(Target::Exports);
        let asked = asked.map_err(|error| Failed::http2(gateway, &error))?;
        let tunnel = TunnelStream::asked(asked);
        let expected = [link.control.clone()];
        let session = self.tls.connect(tunnel, &expected, None, ALPN_H2).await;
        session.map(drop).map_err(|error| Failed::tls(&error))
    }
}

/// Whether the gateway answers us.
async fn ask_gateway(gateway: &Outer) -> Result<(), Failed> {
    let asked = gateway.ask(Target::Probe);
    let asked = asked.map_err(|error| Failed::http2(gateway, &error))?;
    let answer = loop {
        match asked.answer().await {
            Ok(Answer::Final { head, .. }) => break head,
            Ok(Answer::Informational(_)) => {}
            Err(broken) => return Err(Failed::http2(gateway, &broken)),
        }
    };
    let Some(TunnelRefused { status, reason }) = TunnelRefused::by(&answer) else {
        return Ok(());
    };
    Err(Failed {
        reason: reason.map_or("refused", mesh1::Reason::as_str),
        text: format!("the gateway refuses with status {status}"),
    })
}

/// Runs one step within `limit`, and notes how it went.
async fn step<T>(
    steps: &mut Vec<Step>,
    name: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, Failed>>,
) -> Option<T> {
    let start = Instant::now();
    let result = timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Failed {
            reason: "timeout",
            text: format!("no answer within {} ms", limit.as_millis()),
        })
    });
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (value, reason, text) = match result {
        Ok(value) => (Some(value), "", String::new()),
        Err(failed) => (None, failed.reason, failed.text),
    };
    steps.push(Step {
        step: name,
        ok: value.is_some(),
        millis,
        reason,
        text,
    });
    value
}

fn unresolved(link: &Link, text: String) -> AddressReport {
    let hosts: Vec<&str> = link.gateway.hosts.iter().map(Arc::as_ref).collect();
    AddressReport {
        address: hosts.join(", "),
        steps: vec![Step {
            step: "resolve",
            ok: false,
            millis: 0,
            reason: "unresolved",
            text,
        }],
    }
}

impl Failed {
    fn io(error: &io::Error) -> Self {
        let (reason, text) = match error.kind() {
            io::ErrorKind::ConnectionRefused => ("refused", "the connection is refused".into()),
            io::ErrorKind::TimedOut => ("timeout", "nobody answers: packets get lost".into()),
            _ => ("unreachable", error.to_string()),
        };
        Self { reason, text }
    }

    fn tls(error: &TlsError) -> Self {
        Self {
            reason: error.reason(),
            text: error.to_string(),
        }
    }

    /// A peer that refuses our certificate says so after its handshake is over
    /// for us (TLS 1.3): the next read fails with its alert.
    fn http2(gateway: &Outer, error: &impl ToString) -> Self {
        match gateway.failure() {
            Some(TlsError::RefusedByPeer(_)) => Self {
                reason: "refused_by_peer",
                text: "it ended the handshake: it does not accept our certificate".into(),
            },
            _ => Self::other(error),
        }
    }

    fn other(error: &impl ToString) -> Self {
        Self {
            reason: "http2",
            text: error.to_string(),
        }
    }

    fn tunnel(error: &TunnelError) -> Self {
        match error {
            TunnelError::Tls { source, .. } => Self::tls(source),
            TunnelError::Http2 { source, .. } => Self::other(source),
            TunnelError::Unreachable { source, .. } => Self::io(source),
            TunnelError::Timeout { .. } | TunnelError::Resting { .. } => Self {
                reason: "timeout",
                text: error.to_string(),
            },
        }
    }
}

/// Addresses that are tried, all at once.
const MOST_ADDRESSES: usize = 8;
/// The steps of one address together stay below 9 s.
const RESOLVE: Duration = Duration::from_millis(1500);
const TLS: Duration = Duration::from_secs(2);
const PROBE: Duration = Duration::from_millis(1500);
const EXPORTS: Duration = Duration::from_secs(2);
