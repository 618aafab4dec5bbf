//! Turns what linked clusters export into Services of this cluster.
//!
//! One controller per Link follows the peer's feed, compares what should be
//! with what is, and writes the difference: level-triggered, without an end of
//! its attempts, and only to Services that carry its label and owner record.
//! It writes no endpoints (mesh-control and the proxies find those by the
//! owner record), carries no traffic, and may be away for as long as it likes.
//!
//! A look goes through: [`feed`] and [`local`] (what is known), [`decide`]
//! (what to do; with the rules in [`desired`], [`plan`] and [`removal`]), and
//! [`writer`] (the doing). [`importer`] is the life of one such controller.

mod budget;
pub mod config;
mod controller;
mod decide;
mod desired;
mod export;
#[cfg(test)]
mod fake_api;
#[cfg(test)]
mod fake_peer;
mod feed;
mod gateways;
mod importer;
mod introduction;
mod lease;
mod local;
mod metrics;
mod mirror;
mod news;
mod plan;
mod probe;
mod removal;
mod status;
mod writer;

use std::sync::Arc;

use anyhow::Context as _;
use config::Config;
use kube::Client;
use mesh_dataplane::{
    channel,
    control::ControlPlane,
    health::IdentityHealth,
    links::watch_links,
    tunnel::{Target, Tunnels},
};
use mesh_runtime::{Admin, Readiness, Shutdown, registry};
use tokio::{io::AsyncReadExt as _, task::JoinSet};
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::{
    feed::Dial, gateways::Probe, importer::Context, lease::Candidate, local::Local,
    metrics::Metrics, probe::Prober, writer::Writer,
};

/// Lives until `shutdown`.
///
/// # Errors
/// If it cannot start: the configuration names what is not there, or a port is
/// taken.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    info!(?config, "starting");
    let tasks = TaskTracker::new();
    let readiness = Readiness::new();
    let client = Client::try_default()
        .await
        .context("the API server of this cluster is not known")?;
    let mut registry = registry("mesh-mirror", env!("CARGO_PKG_VERSION"));
    let identity = IdentityHealth::register(&mut registry, readiness.clone());
    let control = ControlPlane::start(&config.workload, identity, &tasks)?;
    let local = Local::new();
    let clock = control.tls().clock();
    let cx = Context {
        clock,
        local: local.clone(),
        writer: Writer::new(client.clone()),
        links: watch_links(&control, &tasks),
        dial: dial(&control),
        probe: probe(&control),
        metrics: Metrics::register(&mut registry),
    };
    let prober = Prober {
        tls: control.tls().clone(),
        tunnels: Tunnels::new(control.tls().clone(), control.resolver().clone()),
        links: cx.links.clone(),
    };
    let mut watches = JoinSet::new();
    local.follow(&client, &mut watches);
    watches.spawn(ready_when_complete(local, readiness.clone()));

    let admin = Admin::bind(config.runtime.admin_addr, readiness, registry.into())
        .await
        .context("the admin port cannot be bound")?
        .with_page("/probe", move |query| prober.clone().answer(query))
        .serve(shutdown);
    let mut candidate = Candidate::new(&client, &config.pod_namespace, &config.pod_name, clock);
    tokio::select! {
        () = candidate.lead(|| controller::run(&cx)) => {}
        () = admin => {}
    }
    candidate.release().await;
    Ok(())
}

/// The way to a peer's mesh-control: through its gateway.
fn dial(control: &ControlPlane) -> Dial {
    let tls = control.tls().clone();
    let tunnels = Tunnels::new(tls.clone(), control.resolver().clone());
    Arc::new(move |link| channel::exports(link.clone(), tunnels.clone(), tls.clone()))
}

/// Asks a gateway for a sign of life. Each question opens a connection, as
/// those do who come next.
fn probe(control: &ControlPlane) -> Probe {
    let (tls, resolver) = (control.tls().clone(), control.resolver().clone());
    Arc::new(move |link| {
        let tunnels = Tunnels::new(tls.clone(), resolver.clone());
        Box::pin(async move {
            let opened = tunnels.open(&link, Target::Probe).await;
            let mut tunnel = opened.map_err(|error| error.to_string())?;
            match tunnel.read(&mut [0]).await {
                Ok(0) => Ok(()),
                Ok(_) => Err("it answers with what nobody asked for".into()),
                Err(error) => Err(error.to_string()),
            }
        })
    })
}

async fn ready_when_complete(local: Local, readiness: Readiness) {
    local.complete().await;
    readiness.set(true);
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod performance;
#[cfg(test)]
mod tests;
