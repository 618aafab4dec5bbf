//! The sidecar: takes a pod's connections in both directions, gives them the
//! pod's identity, and brings them to the right place.
//!
//! It decides by what the control plane last said and keeps no state of its
//! own beyond connections. It does not redirect traffic to itself
//! (`mesh-redirect` does) and issues nothing.
//!
//! The life of a connection is told in `outbound.rs` and `inbound.rs`.

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

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use mesh_core::{destination::Endpoint, inbound::InboundPolicy};
use mesh_dataplane::{
    control::ControlPlane,
    health::IdentityHealth,
    links::{LinksReceiver, watch_links},
    peer::Peers,
    stream,
    tunnel::Tunnels,
};
use mesh_net::{accept::Acceptor, listen::listen};
use mesh_proto::{
    convert::inbound_policy_from_proto,
    v1::{InboundRequest, Workload, inbound_policies_client::InboundPoliciesClient},
};
use mesh_runtime::{Admin, Readiness, Shutdown, drain, init_tracing, registry};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use crate::config::Config;
use crate::{
    inbound::Inbound,
    metrics::Metrics,
    outbound::{Outbound, balancer::Reach, discovery::Discovery},
};

/// Connections of each direction at one time.
const MOST_CONNECTIONS: usize = 20_000;

/// What the control plane last said of who may reach this pod.
pub(crate) type PolicyReceiver = watch::Receiver<Option<Arc<InboundPolicy>>>;

/// Runs the sidecar until it is told to end.
///
/// # Errors
/// If a listener cannot be bound or the roots cannot be read.
pub async fn run(config: Config) -> Result<()> {
    init_tracing(&config.log(), config.runtime.log_format)?;
    info!(?config, "mesh-proxy");
    let shutdown = Shutdown::on_signals()?;
    let mut registry = registry("mesh-proxy", env!("CARGO_PKG_VERSION"));
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::new();
    let identity = IdentityHealth::register(&mut registry, readiness.clone());
    let registry = Arc::new(registry);
    let admin = Admin::bind(config.runtime.admin_addr, readiness.clone(), registry)
        .await
        .context("the admin port")?;
    let background = TaskTracker::new();
    let control = ControlPlane::start(&config.workload, identity, &background)?;
    let links = watch_links(&control, &background);
    let policy = watch_policy(&control, workload(&config), &background);
    let connections = TaskTracker::new();
    let outbound = Arc::new(outbound(&config, &control, links.clone(), metrics.clone()));
    let prober = probe::Prober {
        tls: control.tls().clone(),
        outbound: outbound.clone(),
    };
    let admin = admin.with_page("/probe", move |query| prober.clone().answer(query));
    // Health has to be answered until the very end.
    let last = Shutdown::new();
    let admin = tokio::spawn(admin.serve(last.clone()));
    let inbound = Arc::new(inbound(&config, &control, policy.clone(), metrics));
    let (out, into) = (bind(config.outbound_addr)?, bind(config.inbound_addr)?);
    connections.spawn(outbound.serve(out, connections.clone(), shutdown.clone()));
    connections.spawn(inbound.serve(into, connections.clone(), shutdown.clone()));

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
    last.trigger();
    admin.await?;
    Ok(())
}

fn workload(config: &Config) -> Workload {
    Workload {
        namespace: config.pod_namespace.clone(),
        pod: config.pod_name.clone(),
    }
}

fn outbound(
    config: &Config,
    control: &ControlPlane,
    links: LinksReceiver,
    metrics: Metrics,
) -> Outbound {
    let tunnels = Tunnels::new(control.tls().clone(), control.resolver().clone());
    metrics.links.follow(tunnels.clone());
    let reach = reach(links.clone(), tunnels.clone());
    Outbound {
        discovery: Discovery::new(control.channel(), workload(config), reach),
        peers: Peers::new(control.tls().clone(), tunnels),
        plain: plain::Clients::default(),
        links,
        listening: config.outbound_addr.port(),
        metrics,
    }
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

fn inbound(
    config: &Config,
    control: &ControlPlane,
    policy: PolicyReceiver,
    metrics: Metrics,
) -> Inbound {
    Inbound {
        tls: control.tls().clone(),
        pod_ips: config.pod_ips.clone(),
        listening: config.inbound_addr.port(),
        application: plain::Clients::default(),
        policy,
        first_policy: Arc::new(config.first_policy()),
        metrics,
    }
}

fn bind(address: SocketAddr) -> Result<Acceptor> {
    let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
    Ok(Acceptor::new(listener, MOST_CONNECTIONS))
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
