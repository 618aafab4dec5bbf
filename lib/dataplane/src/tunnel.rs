//! Tunnels through gateways: pooled HTTP/2 connections in mutual TLS, a
//! `CONNECT` stream each.
//!
//! A gateway may have several addresses. A task of its own ([`keeper`]) keeps a
//! few of them connected; a tunnel takes the less loaded of two. What is known
//! of them is in [`door`], which address to dial in [`plan`], and whether the
//! link is good enough for traffic that could go elsewhere in [`damping`].

mod damping;
mod door;
mod keeper;
mod outer;
mod plan;
mod report;
#[cfg(test)]
mod tests;

pub mod probe;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mesh_core::{
    endpoint::EndpointId,
    link::{Gateway, Link},
};
use mesh_http::{fault::Misuse, limits::Limits};
use mesh_tls::{Tls, TlsError};
use tokio::{runtime::Handle, time::timeout};

pub(crate) use self::outer::Outer;
pub use self::report::LinkReport;
use self::{door::Door, keeper::Keeper};
use crate::{TunnelStream, limits::Bounds, resolve::Resolver};

/// How long it may take to find or open a connection that takes a stream.
const OPEN: Duration = Duration::from_secs(6);

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
    /// The HTTP/2 connection takes no stream, against expectation.
    #[error("the connection to the gateway of {link} failed: {source}")]
    Http2 {
        /// The link.
        link: Arc<str>,
        /// What happened.
        source: Misuse,
    },
    /// A deadline passed.
    #[error("the gateway of {link} does not answer in time")]
    Timeout {
        /// The link.
        link: Arc<str>,
    },
    /// No address could be reached a moment ago.
    #[error("the gateway of {link} is left alone for a moment: {said}")]
    Resting {
        /// The link.
        link: Arc<str>,
        /// What happened then.
        said: Arc<str>,
        /// The same, as a label.
        reason: &'static str,
    },
}

impl TunnelError {
    /// A label for metrics; the set of values is closed.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { source, .. } => source.reason(),
            Self::Http2 { .. } => "http2",
            Self::Timeout { .. } => "timeout",
            Self::Resting { reason, .. } => reason,
        }
    }
}

/// The pool of connections to gateways. Clones share it.
#[derive(Clone)]
pub struct Tunnels {
    tls: Tls,
    resolver: Resolver,
    doors: Arc<Doors>,
    limits: Arc<Limits>,
    /// Where connections are kept, whichever worker asks for a tunnel.
    home: Handle,
}

/// The gateways in use, each with a task that keeps its connections.
type Doors = Mutex<HashMap<Gateway, Arc<Door>>>;

impl Tunnels {
    /// An empty pool. Its connections will be on the runtime that this is called
    /// on; tunnels may be used on any.
    #[must_use]
    pub fn new(tls: Tls, resolver: Resolver) -> Self {
        Self {
            tls,
            resolver,
            doors: Arc::default(),
            limits: outer::limits(&Bounds::default()),
            home: Handle::current(),
        }
    }

    /// The same, whose connections bear so much.
    #[must_use]
    pub fn bearing(self, bounds: &Bounds) -> Self {
        let limits = outer::limits(bounds);
        Self { limits, ..self }
    }

    /// Opens a tunnel. It may be written to at once; whether the gateway lets
    /// it through shows at the first read.
    ///
    /// # Errors
    /// If there is no way to the gateway.
    pub async fn open(&self, link: &Link, target: Target) -> Result<TunnelStream, TunnelError> {
        Ok(self.open_on(link, target).await?.0)
    }

    /// The same, with the connection that carries the tunnel.
    pub(crate) async fn open_on(
        &self,
        link: &Link,
        target: Target,
    ) -> Result<(TunnelStream, Outer), TunnelError> {
        let door = self.door(link, Instant::now());
        let opened = open_through(&door, link, target).await;
        door.count(opened.as_ref().map(drop));
        opened
    }

    /// Whether traffic that could go elsewhere should use the link: not while
    /// its gateway cannot be reached, and not before it has been reached for
    /// long enough. A link that nobody has used yet is as good as any.
    #[must_use]
    pub fn is_available(&self, link: &Link, now: Instant) -> bool {
        let door = lock(&self.doors).get(&link.gateway).cloned();
        door.is_none_or(|door| door.is_available(now))
    }

    /// What can be told of each link in use.
    #[must_use]
    pub fn report(&self, now: Instant) -> Vec<LinkReport> {
        let mut doors: Vec<_> = lock(&self.doors).values().cloned().collect();
        doors.sort_by_key(|door| std::cmp::Reverse(door.last_use()));
        let mut reports: Vec<LinkReport> = Vec::new();
        for report in doors.iter().map(|door| door.report(now)) {
            match reports.iter_mut().find(|newer| newer.link == report.link) {
                Some(newer) => newer.merge(report),
                None => reports.push(report),
            }
        }
        reports
    }

    /// The door of the link's gateway, with a keeper, which ends with the last
    /// clone of the pool or when nobody uses the gateway any more.
    fn door(&self, link: &Link, now: Instant) -> Arc<Door> {
        let mut doors = lock(&self.doors);
        if let Some(door) = doors.get(&link.gateway) {
            door.used(now);
            return door.clone();
        }
        let door = Arc::new(Door::new(link.name.clone(), now));
        doors.insert(link.gateway.clone(), door.clone());
        let keeper = Keeper {
            door: door.clone(),
            doors: Arc::downgrade(&self.doors),
            link: Arc::new(link.clone()),
            tls: self.tls.clone(),
            resolver: self.resolver.clone(),
            limits: self.limits.clone(),
        };
        self.home.spawn(keeper.run());
        door
    }
}

async fn open_through(
    door: &Door,
    link: &Link,
    target: Target,
) -> Result<(TunnelStream, Outer), TunnelError> {
    let connecting = timeout(OPEN, door.connection());
    let outer = connecting.await.map_err(|_| TunnelError::Timeout {
        link: link.name.clone(),
    })??;
    let asked = outer.ask(target).map_err(|source| TunnelError::Http2 {
        link: link.name.clone(),
        source,
    })?;
    Ok((TunnelStream::asked(asked), outer))
}

/// Forgets the gateway if nobody needs it any more, and says whether so.
fn forget(doors: &Doors, gateway: &Gateway) -> bool {
    // Under the lock, so that nobody takes it up meanwhile.
    let mut doors = lock(doors);
    let is_idle = doors
        .get(gateway)
        .is_none_or(|door| door.is_idle(Instant::now()));
    if is_idle {
        doors.remove(gateway);
    }
    is_idle
}

fn lock(doors: &Doors) -> MutexGuard<'_, HashMap<Gateway, Arc<Door>>> {
    doors.lock().unwrap_or_else(PoisonError::into_inner)
}
