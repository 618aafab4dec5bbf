//! The sidecar: takes a pod's connections in both directions, gives them the
//! pod's identity, and brings them to the right place.
//!
//! It decides by what the control plane last said and keeps no state of its
//! own beyond connections. It does not redirect traffic to itself
//! (`mesh-redirect` does) and issues nothing.
//!
//! The life of a connection is told in `outbound.rs` and `inbound.rs`; which
//! thread it is on, in `workers.rs`.

mod access;
mod body;
mod config;
mod inbound;
mod metrics;
mod opaque;
mod outbound;
mod plain;
mod probe;
mod protocol;
mod serve;
#[cfg(test)]
mod tests;
mod tunnel;
mod workers;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use mesh_core::{
    destination::Endpoint,
    inbound::InboundPolicy,
    limits::{Limit, Limits, Program},
};
use mesh_dataplane::{
    control::ControlPlane,
    crowd::Crowd,
    health::IdentityHealth,
    limits::{Bounds, Strikes, budget},
    links::{LinksReceiver, watch_links},
    peer::Peers,
    stream,
    tunnel::Tunnels,
};
use mesh_net::{accept::Acceptor, listen::listen, spread::Spread};
use mesh_proto::{
    convert::inbound_policy_from_proto,
    v1::{InboundRequest, Workload, inbound_policies_client::InboundPoliciesClient},
};
use mesh_runtime::{Admin, Readiness, Shutdown, Workers, drain, init_tracing, registry};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use crate::config::Config;
use crate::{
    inbound::Inbound,
    metrics::Metrics,
    outbound::{Outbound, balancer::Reach, discovery::Discovery},
    workers::{Door, Shares},
};

/// How long workers may take to end when their connections have.
const WORKERS_END: Duration = Duration::from_secs(1);

/// What the control plane last said of who may reach this pod.
pub(crate) type PolicyReceiver = watch::Receiver<Option<Arc<InboundPolicy>>>;

/// Runs the sidecar until it is told to end.
///
/// # Errors
/// If a listener cannot be bound or the roots cannot be read; if a worker or the
/// task of a listener panics, since a part of the connections would be lost then,
/// and all that come after them.
pub async fn run(config: Config) -> Result<()> {
    init_tracing(&config.log(), config.runtime.log_format)?;
    info!(?config, "mesh-proxy");
    let shutdown = Shutdown::on_signals()?;
    let mut registry = registry("mesh-proxy", env!("CARGO_PKG_VERSION"));
    let metrics = Metrics::register(&mut registry);
    let mut workers = Workers::start(config.workers).await.context("workers")?;
    let spread = Spread::over(workers.runtimes());
    let bounds = Directions::bearing(&config.limits.0);
    let proxy = registry.sub_registry_with_prefix("mesh_proxy");
    proxy.register_collector(Box::new(bounds.strikes()));
    proxy.register_collector(Box::new(Shares(spread.clone())));
    let readiness = Readiness::new();
    let identity = IdentityHealth::register(&mut registry, readiness.clone());
    let registry = Arc::new(registry);
    let admin = Admin::bind(config.runtime.admin_addr, readiness.clone(), registry)
        .await
        .context("the admin port")?;
    let background = TaskTracker::new();
    background.spawn(bounds.strikes().report());
    let control = ControlPlane::start(&config.workload, identity, &background)?;
    let links = watch_links(&control, &background);
    let policy = watch_policy(&control, workload(&config), &background);
    let connections = TaskTracker::new();
    let outbound = outbound(
        &config,
        &control,
        &workers,
        links.clone(),
        metrics.clone(),
        &bounds,
    );
    let prober = probe::Prober {
        tls: control.tls().clone(),
        // The admin port is on the first worker.
        outbound: outbound[0].clone(),
    };
    let admin = admin.with_page("/probe", move |query| prober.clone().answer(query));
    // Health has to be answered until the very end.
    let last = Shutdown::new();
    let admin = tokio::spawn(admin.serve(last.clone()));
    let inbound = inbound(
        &config,
        &control,
        &workers,
        policy.clone(),
        metrics,
        &bounds,
    );
    let most = config.limits.0.size(Limit::Connections);
    let door = |address| bind(address, most, &spread, &connections, &shutdown);
    let (out, into) = (door(config.outbound_addr)?, door(config.inbound_addr)?);
    let mut doors = JoinSet::new();
    doors.spawn(connections.track_future(out.serve(outbound)));
    doors.spawn(connections.track_future(into.serve(inbound)));

    let life = async {
        tokio::select! {
            () = become_ready(&control, links, policy) => {
                readiness.set(true);
                info!("ready");
                shutdown.signalled().await;
            }
            () = shutdown.signalled() => {}
        }
        if !drain(&connections, config.grace()).await {
            warn!("connections were still open at the end of the grace time");
        }
    };
    whole(life, &mut workers, &mut doors).await?;
    if !workers.stop(WORKERS_END).await {
        warn!("a worker was still busy at the end");
    }
    last.trigger();
    admin.await?;
    Ok(())
}

/// `life`, for as long as all parts of the program are there. Without one of them
/// some connections would go on as if nothing had happened, and others be lost.
async fn whole(
    life: impl Future<Output = ()>,
    workers: &mut Workers,
    doors: &mut JoinSet<()>,
) -> Result<()> {
    tokio::select! {
        () = life => Ok(()),
        ended = workers.failed() => bail!(ended),
        panic = panicked(doors) => bail!("a listener's task has ended: {panic}"),
    }
}

/// Waits until one of `tasks` panics. Those that end were told to.
async fn panicked(tasks: &mut JoinSet<()>) -> JoinError {
    loop {
        match tasks.join_next().await {
            Some(Ok(())) => {}
            Some(Err(panic)) => return panic,
            None => std::future::pending().await,
        }
    }
}

/// What connections bear, by who has opened them.
struct Directions {
    inbound: Bounds,
    outbound: Bounds,
}

impl Directions {
    fn bearing(limits: &Limits) -> Self {
        let budget = budget(limits);
        Self {
            inbound: Bounds::new(limits.clone(), budget.clone()),
            outbound: Bounds::new(limits.clone(), budget),
        }
    }

    fn strikes(&self) -> Strikes {
        let directions = [("inbound", &self.inbound), ("outbound", &self.outbound)];
        let directions = directions.map(|(name, bounds)| (name, bounds.clone()));
        Strikes::new(Program::Sidecar, directions.into())
    }
}

fn workload(config: &Config) -> Workload {
    Workload {
        namespace: config.pod_namespace.clone(),
        pod: config.pod_name.clone(),
    }
}

/// For each worker; all know the same destinations, and share what they learn of
/// endpoints and gateways.
fn outbound(
    config: &Config,
    control: &ControlPlane,
    workers: &Workers,
    links: LinksReceiver,
    metrics: Metrics,
    Directions {
        outbound: bounds, ..
    }: &Directions,
) -> Vec<Arc<Outbound>> {
    let tunnels = Tunnels::new(control.tls().clone(), control.resolver().clone());
    let tunnels = tunnels.bearing(bounds);
    metrics.links.follow(tunnels.clone());
    let reach = reach(links.clone(), tunnels.clone());
    let discovery = Discovery::new(control.channel(), workload(config), reach);
    workers.each(|| {
        Arc::new(Outbound {
            discovery: discovery.clone(),
            peers: Peers::new(control.tls().clone(), tunnels.clone()).bearing(bounds),
            plain: plain::Clients::bearing(bounds),
            links: links.clone(),
            listening: config.outbound_addr.port(),
            metrics: metrics.clone(),
            bounds: bounds.clone(),
        })
    })
}

/// An endpoint behind a link is in reach while the link is good.
fn reach(links: LinksReceiver, tunnels: Tunnels) -> Reach {
    Arc::new(move |endpoint: &Endpoint, now| {
        let IpAddr::V6(address) = endpoint.address.ip() else {
            return true;
        };
        let linked = links
            .borrow()
            .as_ref()
            .and_then(|links| links.endpoint(address));
        linked.is_none_or(|(link, _)| tunnels.is_available(&link, now))
    })
}

/// For each worker.
fn inbound(
    config: &Config,
    control: &ControlPlane,
    workers: &Workers,
    policy: PolicyReceiver,
    metrics: Metrics,
    Directions {
        inbound: bounds, ..
    }: &Directions,
) -> Vec<Arc<Inbound>> {
    let first_policy = Arc::new(config.first_policy());
    let crowd = Crowd::new(bounds.limits().size(Limit::ConnectionsPerPeer));
    workers.each(|| {
        Arc::new(Inbound {
            tls: control.tls().clone(),
            pod_ips: config.pod_ips.clone(),
            listening: config.inbound_addr.port(),
            application: plain::Clients::bearing(bounds),
            policy: policy.clone(),
            first_policy: first_policy.clone(),
            metrics: metrics.clone(),
            bounds: bounds.clone(),
            crowd: crowd.clone(),
        })
    })
}

fn bind(
    address: SocketAddr,
    most: usize,
    spread: &Spread,
    connections: &TaskTracker,
    shutdown: &Shutdown,
) -> Result<Door> {
    let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
    Ok(Door {
        acceptor: Acceptor::new(listener, most),
        spread: spread.clone(),
        tasks: connections.clone(),
        shutdown: shutdown.clone(),
    })
}

fn watch_policy(control: &ControlPlane, workload: Workload, tasks: &TaskTracker) -> PolicyReceiver {
    let (sender, receiver) = watch::channel(None);
    let client = InboundPoliciesClient::new(control.channel());
    let open = move || {
        let mut client = client.clone();
        let request = InboundRequest {
            workload: Some(workload.clone()),
        };
        async move { client.watch_inbound(request).await }
    };
    let tls = control.tls().clone();
    tasks.spawn(async move {
        tls.certified().await;
        let convert = |message| inbound_policy_from_proto(message).map(Arc::new);
        stream::follow("inbound policy", sender, open, convert).await;
    });
    receiver
}

/// Returns when the pod can be served: identity, links and policy are there.
async fn become_ready(
    control: &ControlPlane,
    mut links: LinksReceiver,
    mut policy: PolicyReceiver,
) {
    control.tls().certified().await;
    // An error means that the sender is gone, which ends the program anyway.
    let _ = links.wait_for(Option::is_some).await;
    let _ = policy.wait_for(Option::is_some).await;
}
