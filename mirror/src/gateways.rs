//! Whether the addresses of a peer's gateway answer: each is asked every few
//! seconds, on a connection of its own, with our identity.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::{BoxFuture, join_all};
use mesh_core::link::Link;
use mesh_runtime::Backoff;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use crate::feed::{Feed, LinksReceiver, current};

/// Asks the gateway of a link, which has a single address here.
pub(crate) type Probe =
    Arc<dyn Fn(Arc<Link>) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What is known of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    /// An IP address or host name.
    pub(crate) address: String,
    /// Whether it answers.
    pub(crate) alive: bool,
    /// How long the last answer took.
    pub(crate) latency: Option<Duration>,
}

/// In order of addresses; none before the first verdict.
pub(crate) type Gateways = Option<Vec<Probed>>;

/// Asks the gateway of the link called `name` for ever. What changes is
/// published; how long answers take alone is not, or rarely.
pub(crate) async fn watch(
    name: &str,
    mut links: LinksReceiver,
    feed: &watch::Sender<Feed>,
    probe: &Probe,
    into: &watch::Sender<Gateways>,
) {
    let mut ways: BTreeMap<String, Way> = BTreeMap::new();
    let mut pauses = Backoff::new(LONGEST_PAUSE, LONGEST_PAUSE);
    let mut published = Instant::now();
    loop {
        if let Some(link) = current(&mut links, name) {
            let addresses = addresses(&link, &feed.borrow());
            ways.retain(|address, _| addresses.contains(address));
            let asked = addresses
                .into_iter()
                .map(|address| ask(probe, &link, address));
            for (address, outcome) in join_all(asked).await {
                ways.entry(address).or_default().heard(outcome);
            }
            let now = Instant::now();
            let known = known(&ways);
            let due = now.duration_since(published) >= LATENCY_EVERY;
            if into.send_if_modified(|there| replace(there, known, due)) {
                published = now;
            }
        }
        sleep(pauses.next()).await;
    }
}

/// Where the gateway is: as we use it, and as the peer says.
fn addresses(link: &Link, feed: &Feed) -> Vec<String> {
    let mut addresses: Vec<String> = link
        .gateway
        .hosts
        .iter()
        .take(MOST_ADDRESSES)
        .map(ToString::to_string)
        .collect();
    if let Some(received) = &feed.received {
        addresses.extend(received.snapshot.introduction.hosts());
    }
    addresses.sort();
    addresses.dedup();
    addresses
}

async fn ask(probe: &Probe, link: &Link, address: String) -> (String, Option<Duration>) {
    let mut link = link.clone();
    link.gateway.hosts = vec![address.as_str().into()];
    let start = Instant::now();
    let outcome = timeout(DEADLINE, probe(Arc::new(link))).await;
    let latency = match outcome {
        Ok(Ok(())) => Some(start.elapsed()),
        Ok(Err(reason)) => {
            debug!(address, reason, "a gateway's address does not answer");
            None
        }
        Err(_) => {
            debug!(address, "a gateway's address does not answer in time");
            None
        }
    };
    (address, latency)
}

/// One address over time.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    failures: u32,
    /// None before there is a verdict.
    alive: Option<bool>,
    latency: Option<Duration>,
}

impl Way {
    /// One answer is a sign of life; one that is missing is no proof.
    fn heard(&mut self, latency: Option<Duration>) {
        if latency.is_some() {
            *self = Self {
                failures: 0,
                alive: Some(true),
                latency,
            };
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.alive = Some(false);
            self.latency = None;
        }
    }
}

fn known(ways: &BTreeMap<String, Way>) -> Vec<Probed> {
    let known = ways.iter().filter_map(|(address, way)| {
        Some(Probed {
            address: address.clone(),
            alive: way.alive?,
            latency: way.latency,
        })
    });
    known.collect()
}

/// Says whether there is news: a change of the addresses or of their life,
/// or, if that is `due`, answers that take much longer or shorter.
fn replace(there: &mut Gateways, new: Vec<Probed>, due: bool) -> bool {
    if new.is_empty() && there.is_none() {
        return false;
    }
    let old = there.as_deref().unwrap_or_default();
    let lives = |all: &[Probed]| -> Vec<(String, bool)> {
        all.iter().map(|p| (p.address.clone(), p.alive)).collect()
    };
    let slower = || {
        let mut pairs = old.iter().zip(&new);
        pairs.any(|(old, new)| differ(old.latency, new.latency))
    };
    let news = there.is_none() || lives(old) != lives(&new) || (due && slower());
    if news {
        *there = Some(new);
    }
    news
}

/// Whether a person would care about the difference.
pub(crate) fn differ(old: Option<Duration>, new: Option<Duration>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return old.is_some() != new.is_some();
    };
    let (short, long) = (old.min(new), old.max(new));
    long > short * 2 && long - short > SMALL
}

/// Between two questions; each pause is shortened by up to a half.
const LONGEST_PAUSE: Duration = Duration::from_secs(6);
/// For one question, name look-up and handshakes included.
const DEADLINE: Duration = Duration::from_secs(4);
/// So many questions in a row without an answer mean death.
const FAILURES: u32 = 2;
/// How often a different latency alone is worth a write.
const LATENCY_EVERY: Duration = Duration::from_secs(600);
/// Differences that nobody notices.
const SMALL: Duration = Duration::from_millis(5);
/// Of one Link.
const MOST_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests;
