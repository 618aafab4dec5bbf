//! The control plane of a cluster: its root of trust, what addresses mean, who
//! may reach what, and what is shared with linked clusters.
//!
//! It watches Kubernetes and answers by streams of complete states. It carries
//! no traffic and writes nothing but its own Secrets, the ConfigMaps
//! `mesh-roots`, the condition `mesh.dev/Exported` of Services and what it makes
//! of HTTPRoutes and policies into their status.
//!
//! What it knows is in `snapshot.rs`; what it makes of it is decided by the
//! pure functions of `destination.rs`, `exports.rs`, `inbound.rs` and
//! `policy.rs`.

mod authority;
mod bootstrap;
mod certify;
mod conditions;
mod config;
mod destination;
mod exports;
mod feed;
#[cfg(test)]
mod fixtures;
mod inbound;
mod metrics;
mod own;
mod policy;
mod root;
mod roots;
mod rotation;
mod routes;
mod server;
mod snapshot;
mod streams;
mod world;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use linkerd2_proxy_api::identity::identity_server::IdentityServer;
use mesh_core::{identity::SpiffeId, ports};
use mesh_dataplane::{health::IdentityHealth, links::trust, resolve::Resolver, tunnel::Tunnels};
use mesh_proto::v1::{
    discovery_server::DiscoveryServer, exports_server::ExportsServer,
    gateway_tables_server::GatewayTablesServer, inbound_policies_server::InboundPoliciesServer,
    links_server::LinksServer,
};
use mesh_runtime::{Admin, Readiness, Shutdown, drain, init_tracing, registry};
use mesh_tls::{Tls, Trust};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tracing::{info, warn};

pub use crate::config::Config;
use crate::{
    authority::Authority,
    certify::Certify,
    metrics::Metrics,
    root::RootOfTrust,
    server::{Admit, Door, serve},
    streams::Streams,
    world::{Own, WorldReceiver},
};

/// How long open streams may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the control plane until it is told to end.
///
/// # Errors
/// If the API server cannot be asked for the root, or a port cannot be bound.
pub async fn run(config: Config) -> Result<()> {
    init_tracing(&config.runtime.log, config.runtime.log_format)?;
    info!(?config, "mesh-control");
    let shutdown = Shutdown::on_signals()?;
    let mut registry = registry("mesh-control", env!("CARGO_PKG_VERSION"));
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::new();
    let identity = IdentityHealth::register(&mut registry, readiness.clone());
    let admin = Admin::bind(
        config.runtime.admin_addr,
        readiness.clone(),
        Arc::new(registry),
    )
    .await
    .context("the admin port")?;
    let last = Shutdown::new();
    let admin = tokio::spawn(admin.serve(last.clone()));
    let background = TaskTracker::new();

    let client = Client::try_default().await.context("the API server")?;
    let clock = config.clock.clock();
    let held = bootstrap::root(&client, &config.trust_domain, clock.now()).await?;
    let key = Arc::new(bootstrap::endpoint_key(&client).await?);
    let cluster_uid = cluster_uid(&client).await?;
    let authority = Authority::new(&held.signing.pem(), config.trust_domain.clone())?;
    let root = RootOfTrust::new(&client, &held, authority.clone(), metrics.clone());
    let own = Own {
        cluster: config.cluster.clone(),
        trust_domain: config.trust_domain.clone(),
        roots: root.published(),
    };
    background.spawn(root.follow(clock));
    let trust = Trust::new(own.trust_domain.clone(), &own.roots.borrow().der)?;
    let tls = Tls::new(trust, clock);
    own::certify(&authority, &tls)?;
    background.spawn(identity.watch(tls.clone()));
    background.spawn(own::stay_certified(authority.clone(), tls.clone()));
    roots::keep(client.clone(), &own, own.roots.clone(), &background);

    let (world_sender, world) = watch::channel(None);
    let (remote_sender, remote) = watch::channel(Arc::default());
    world::follow(&client, own.clone(), world_sender, remote, &background);
    background.spawn(follow_trust(world.clone(), tls.clone()));
    let tunnels = Tunnels::new(tls.clone(), Resolver::from_system()?);
    let feed = feed::follow(
        world.clone(),
        remote_sender,
        tls.clone(),
        tunnels,
        background.clone(),
    );
    background.spawn(feed);
    conditions::keep_all(&client, &world, clock, &background);

    let serving = TaskTracker::new();
    let door = Door {
        tls,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
        tasks: serving.clone(),
    };
    let streams = Streams {
        world: world.clone(),
        key,
        cluster_uid,
        gateway: SpiffeId::new(&own.trust_domain, "mesh-multicluster", "mesh-gateway")?,
        metrics: metrics.clone(),
        tasks: background.clone(),
    };
    let certify = Certify {
        client,
        authority,
        clock,
        trust_domain: own.trust_domain,
        metrics,
    };
    listen(&config, &door, streams, certify)?;

    tokio::select! {
        () = known(world) => {
            readiness.set(true);
            info!("ready");
            shutdown.signalled().await;
        }
        () = shutdown.signalled() => {}
    }
    if !drain(&serving, GRACE).await {
        // Streams of followers have no end of their own.
        info!("streams that were still open are cut");
    }
    last.trigger();
    admin.await?;
    Ok(())
}

fn listen(config: &Config, door: &Door, streams: Streams, certify: Certify) -> Result<()> {
    let at = |port| (config.listen_ip, port).into();
    let certify = Routes::new(IdentityServer::new(certify));
    let control = Routes::new(DiscoveryServer::new(streams.clone()))
        .add_service(InboundPoliciesServer::new(streams.clone()))
        .add_service(LinksServer::new(streams.clone()))
        .add_service(GatewayTablesServer::new(streams.clone()));
    let exports = Routes::new(ExportsServer::new(streams));
    serve(at(ports::CERTIFY), Admit::Anybody, certify, door)?;
    serve(at(ports::CONTROL), Admit::Local, control, door)?;
    serve(at(ports::EXPORTS), Admit::Linked, exports, door)
}

async fn known(mut world: WorldReceiver) {
    // An error means that the sender is gone, and with it the program.
    let _ = world.wait_for(Option::is_some).await;
}

/// What tells this cluster from another of the same name.
async fn cluster_uid(client: &Client) -> Result<Arc<str>> {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = api
        .get("kube-system")
        .await
        .context("the namespace kube-system")?;
    let uid = namespace
        .metadata
        .uid
        .context("the namespace kube-system has no uid")?;
    Ok(uid.into())
}

/// Keeps our trust at the local roots and the bundles of all links.
async fn follow_trust(mut world: WorldReceiver, tls: Tls) {
    let mut last = None;
    loop {
        let links = world
            .borrow_and_update()
            .as_ref()
            .map(|world| world.snapshot.links.clone());
        if let Some(links) = links
            && last.as_ref() != Some(&links)
        {
            match trust(&links.trust_domain, &links.roots, &links.links) {
                Ok(trust) => tls.set_trust(trust),
                Err(error) => warn!(%error, "trust stays as it was"),
            }
            last = Some(links);
        }
        if world.changed().await.is_err() {
            return;
        }
    }
}
