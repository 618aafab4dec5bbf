//! Keeps the connections to one gateway, for as long as anybody wants them:
//! resolves its names, dials its addresses, and goes on when one is lost. No
//! user's request has to find out what is wrong.

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use mesh_core::link::Link;
use mesh_http::limits::Limits;
use mesh_tls::Tls;
use tokio::{task::JoinSet, time::sleep};
use tracing::debug;

use super::{
    Doors, TunnelError,
    door::Door,
    forget,
    outer::{self, Fresh},
};
use crate::resolve::{Answer, ResolveError, Resolver};

/// How often the connections are looked at when nobody asks for it.
const LOOK: Duration = Duration::from_secs(1);
/// Names are resolved again when their time is over, but no sooner and no later
/// than this.
const SOONEST: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_secs(300);

/// The task of one gateway.
pub(super) struct Keeper {
    pub(super) door: Arc<Door>,
    pub(super) doors: Weak<Doors>,
    pub(super) link: Arc<Link>,
    pub(super) tls: Tls,
    pub(super) resolver: Resolver,
    pub(super) limits: Arc<Limits>,
}

/// What a task of the keeper found out.
enum Found {
    Addresses(Result<Answer, ResolveError>),
    Way(IpAddr, Result<Box<Fresh>, TunnelError>),
}

impl Keeper {
    /// Runs until nobody wants tunnels to this gateway any more.
    pub(super) async fn run(self) {
        // Dials and look-ups end with the keeper.
        let mut tasks = JoinSet::new();
        let mut resolve_at = Some(Instant::now());
        loop {
            let now = Instant::now();
            if resolve_at.is_some_and(|at| at <= now) {
                resolve_at = None;
                tasks.spawn(resolve(self.resolver.clone(), self.link.clone()));
            }
            let look_at = match self.door.next_dial(now) {
                Ok(address) => {
                    let limits = self.limits.clone();
                    tasks.spawn(dial(self.tls.clone(), self.link.clone(), address, limits));
                    continue;
                }
                Err(look_at) => look_at,
            };
            let wake = [look_at, resolve_at].into_iter().flatten().min();
            let wait = wake.map_or(LOOK, |at| at.saturating_duration_since(now).min(LOOK));
            tokio::select! {
                Some(Ok(found)) = tasks.join_next() => {
                    if let Some(again) = self.found(found, Instant::now()) {
                        resolve_at = Some(again);
                    }
                }
                () = self.door.poked.notified() => {}
                () = sleep(wait) => {}
            }
            if self
                .doors
                .upgrade()
                .is_none_or(|doors| forget(&doors, &self.link.gateway))
            {
                // Each connection's task holds the door.
                self.door.close();
                return;
            }
        }
    }

    /// Takes note of it, and says when to resolve again, if it knows now.
    fn found(&self, found: Found, now: Instant) -> Option<Instant> {
        match found {
            Found::Addresses(Ok(answer)) => {
                self.door.resolved(&answer.addresses);
                Some(answer.valid_until.clamp(now + SOONEST, now + LATEST))
            }
            Found::Addresses(Err(error)) => {
                debug!(link = %self.link.name, %error, "gateway names");
                self.door.unresolved(&error, now);
                Some(now + LOOK)
            }
            Found::Way(address, Ok(fresh)) => {
                self.door.connected(address, fresh.outer.clone(), now);
                tokio::spawn(watched(self.door.clone(), *fresh));
                None
            }
            Found::Way(address, Err(error)) => {
                debug!(link = %self.link.name, %address, %error, "gateway address");
                self.door.failed(address, &error, now);
                None
            }
        }
    }
}

/// Runs a connection, which may outlive the keeper with the tunnels on it.
async fn watched(door: Arc<Door>, fresh: Fresh) {
    let mark = fresh.mark();
    let end = fresh.run().await;
    door.ended(&mark, end, Instant::now());
}

async fn dial(tls: Tls, link: Arc<Link>, address: IpAddr, limits: Arc<Limits>) -> Found {
    let server = (address, link.gateway.port).into();
    Found::Way(
        address,
        outer::connect(&tls, &link, server, limits)
            .await
            .map(Box::new),
    )
}

/// All addresses of the gateway, in an order that differs between clients.
async fn resolve(resolver: Resolver, link: Arc<Link>) -> Found {
    let hosts = &link.gateway.hosts;
    let answers = hosts.iter().map(|host| resolver.answer(host));
    let mut all: Option<Answer> = None;
    let mut problem = None;
    for answer in futures::future::join_all(answers).await {
        match (answer, &mut all) {
            (Ok(answer), Some(all)) => all.extend(answer),
            (Ok(answer), None) => all = Some(answer),
            (Err(error), _) => problem = Some(error),
        }
    }
    let Some(mut all) = all else {
        return Found::Addresses(Err(problem.unwrap_or_else(ResolveError::no_host)));
    };
    if !all.addresses.is_empty() {
        let start = rand::random_range(0..all.addresses.len());
        all.addresses.rotate_left(start);
    }
    Found::Addresses(Ok(all))
}
