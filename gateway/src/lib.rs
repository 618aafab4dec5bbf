//! The gateway: the one door between clusters, a single public port that
//! switches authenticated tunnels.
//!
//! A client proves who it is (mutual TLS), asks with `CONNECT` for one exported
//! endpoint by its opaque id, and gets the bytes of a connection to that
//! endpoint's sidecar. What travels inside is another TLS session, of which the
//! gateway holds no key: it reads no request, and decides by the table and the
//! links that the control plane last sent. What is not exported has no id, so
//! there is nothing to reach.
//!
//! Read `connection.rs` for the life of a connection, `decide.rs` for who is let
//! through, `tunnel.rs` for the life of a tunnel.

mod config;
mod connection;
mod decide;
#[cfg(test)]
mod fixtures;
mod metrics;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod tunnel;
mod unfinished;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use mesh_core::{
    limits::{Limit, Program},
    ports,
};
use mesh_dataplane::{
    control::ControlPlane,
    crowd::Crowd,
    health::IdentityHealth,
    limits::{Bounds, Strikes, budget},
    links::watch_links,
    resolve::Resolver,
};
use mesh_net::{
    accept::Acceptor,
    listen::listen,
    spread::{Dialler, Spread},
};
use mesh_runtime::{Admin, Readiness, Shutdown, Workers, drain, init_tracing, registry};
use mesh_tls::Tls;
use tokio::{net::TcpStream, sync::Semaphore, time::sleep};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, debug_span, info, warn};

pub use crate::config::Config;
use crate::{metrics::Metrics, state::State, table::watch_table, unfinished::Unfinished};

/// How long workers may take to end when their tunnels have.
const WORKERS_END: Duration = Duration::from_secs(1);

/// Runs the gateway until it is told to end.
///
/// # Errors
/// If a listener cannot be bound or the roots cannot be read; if a worker panics,
/// since its tunnels would be lost then, and all that come after them.
pub async fn run(config: Config) -> Result<()> {
    init_tracing(&config.runtime.log, config.runtime.log_format)?;
    info!(?config, "mesh-gateway");
    let shutdown = Shutdown::on_signals()?;
    let mut registry = registry("mesh-gateway", env!("CARGO_PKG_VERSION"));
    let metrics = Metrics::register(&mut registry);
    let limits = &config.limits.0;
    let bounds = Bounds::new(limits.clone(), budget(limits));
    let strikes = Strikes::new(Program::Gateway, vec![("inbound", bounds.clone())]);
    let gateway = registry.sub_registry_with_prefix("mesh_gateway");
    gateway.register_collector(Box::new(strikes.clone()));
    let readiness = Readiness::new();
    let identity = IdentityHealth::register(&mut registry, readiness.clone());
    let registry = Arc::new(registry);
    let admin = Admin::bind(config.runtime.admin_addr, readiness.clone(), registry)
        .await
        .context("the admin port")?;
    // Health has to be answered until the very end.
    let last = Shutdown::new();
    let admin = tokio::spawn(admin.serve(last.clone()));

    let background = TaskTracker::new();
    background.spawn(strikes.report());
    let control = ControlPlane::start(&config.workload, identity, &background)?;
    let links = watch_links(&control, &background);
    let table = watch_table(&control, &background);
    let mut state = State::new(table, links);
    let mut workers = Workers::start(config.workers).await.context("workers")?;
    let spread = Spread::over(workers.runtimes());
    let door = Door::bind(config.gateway_addr, limits.size(Limit::Connections), spread)?;

    let life = async {
        tokio::select! {
            () = become_ready(&control, &mut state) => {
                readiness.set(true);
                info!("ready");
                let gateway = Gateway::new(&config, &control, state, metrics, bounds);
                serve(Arc::new(gateway), door, &config, &readiness, &shutdown).await;
            }
            () = shutdown.signalled() => {}
        }
    };
    tokio::select! {
        () = life => {}
        ended = workers.failed() => return Err(ended.into()),
    }
    if !workers.stop(WORKERS_END).await {
        warn!("a worker was still busy at the end");
    }
    last.trigger();
    admin.await?;
    Ok(())
}

/// Returns when tunnels can be decided on: identity, table and links are there.
async fn become_ready(control: &ControlPlane, state: &mut State) {
    control.tls().certified().await;
    state.known().await;
}

/// Serves until the end is wished for, goes on while others learn of it, and
/// then lets the tunnels end.
async fn serve(
    gateway: Arc<Gateway>,
    door: Door,
    config: &Config,
    readiness: &Readiness,
    shutdown: &Shutdown,
) {
    tokio::select! {
        () = gateway.clone().accept(door) => {}
        () = settled(shutdown, readiness, config.settle()) => {}
    }
    if !gateway.drain(config.grace()).await {
        warn!("tunnels were still open at the end of the grace time");
    }
}

async fn settled(shutdown: &Shutdown, readiness: &Readiness, settle: Duration) {
    shutdown.signalled().await;
    readiness.set(false);
    sleep(settle).await;
}

/// What all connections share.
pub(crate) struct Gateway {
    tls: Tls,
    state: State,
    exports: Exports,
    metrics: Metrics,
    bounds: Bounds,
    unfinished: Unfinished,
    /// Verified clients.
    crowd: Crowd,
    /// One permit for each tunnel.
    tunnels: Arc<Semaphore>,
    /// Connections and tunnels.
    tasks: TaskTracker,
    /// Set off when clients are to go elsewhere.
    draining: Shutdown,
}

/// Where mesh-control serves its export streams.
pub(crate) struct Exports {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) resolver: Resolver,
}

impl Gateway {
    fn new(
        config: &Config,
        control: &ControlPlane,
        state: State,
        metrics: Metrics,
        bounds: Bounds,
    ) -> Self {
        let most = |limit| bounds.limits().size(limit);
        let (all, of_one) = (Limit::Handshakes, Limit::HandshakesPerAddress);
        let tunnels = most(Limit::Tunnels).min(Semaphore::MAX_PERMITS);
        Self {
            tls: control.tls().clone(),
            state,
            exports: Exports {
                host: config.exports_host.as_str().into(),
                port: ports::EXPORTS,
                resolver: control.resolver().clone(),
            },
            metrics,
            unfinished: Unfinished::new(most(all), most(of_one)),
            crowd: Crowd::new(most(Limit::ConnectionsPerPeer)),
            tunnels: Arc::new(Semaphore::new(tunnels)),
            tasks: TaskTracker::new(),
            draining: Shutdown::new(),
            bounds,
        }
    }

    /// Takes connections for ever. Dropping it closes the door; the connections
    /// go on.
    async fn accept(self: Arc<Self>, door: Door) {
        loop {
            if door.acceptor.is_full() {
                self.bounds.strike(Limit::Connections);
            }
            let accepted = door.acceptor.accept().await;
            match self.unfinished.admit(accepted.peer.ip()) {
                Ok(place) => {
                    let span = debug_span!("connection", client = %accepted.peer);
                    let gateway = self.clone();
                    let carry = move |_, accepted| {
                        let connection = gateway.connection(accepted, place);
                        connection.instrument(span)
                    };
                    let dialler = |_: &TcpStream| Dialler::Peer;
                    door.spread.spawn(&self.tasks, accepted, dialler, carry);
                }
                Err(too_many) => {
                    debug!(client = %accepted.peer, reason = too_many.label(), "closed");
                    self.bounds.strike(too_many.limit());
                    self.metrics.handshake_refused(too_many.label());
                }
            }
        }
    }

    /// Tells all clients to go elsewhere, and waits until they have, or until
    /// the grace time is over. Says whether they have.
    async fn drain(&self, grace: Duration) -> bool {
        self.draining.trigger();
        drain(&self.tasks, grace).await
    }
}

/// The public port, bound, and the workers that its connections go to.
struct Door {
    acceptor: Acceptor,
    spread: Spread,
}

impl Door {
    fn bind(address: SocketAddr, most_connections: usize, spread: Spread) -> Result<Self> {
        let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
        Ok(Self {
            acceptor: Acceptor::new(listener, most_connections),
            spread,
        })
    }
}
