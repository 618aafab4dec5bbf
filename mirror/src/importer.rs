//! The controller of one link. It looks at what is here and what the peer
//! says, writes the difference, says what it found, and waits for a change.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use mesh_api::link::Link;
use mesh_runtime::Backoff;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use crate::{
    decide::{Decision, Memory, decide, imports},
    feed::{self, Dial, Feed, LinksReceiver},
    local::Local,
    metrics::{Metrics, Verb},
    plan::Action,
    status::{Synced, status},
    writer::{Outcome, Writer},
};

/// What the controllers of all links share.
#[derive(Clone)]
pub(crate) struct Context {
    /// This cluster.
    pub(crate) local: Local,
    /// Our hand in it.
    pub(crate) writer: Writer,
    /// The links, as mesh-control gives them.
    pub(crate) links: LinksReceiver,
    /// The way to a peer.
    pub(crate) dial: Dial,
    /// What is counted.
    pub(crate) metrics: Metrics,
}

/// Works for the Link with this uid for as long as it exists.
pub(crate) async fn run(cx: Context, link_uid: String) {
    let feed = watch::Sender::new(Feed::default());
    let again = Notify::new();
    tokio::select! {
        () = follow(&cx, &link_uid, &feed, &again) => {}
        () = reconcile(&cx, &link_uid, &feed, &again) => {}
    }
}

/// Follows the feed while the link imports.
async fn follow(cx: &Context, link_uid: &str, feed: &watch::Sender<Feed>, again: &Notify) {
    let mut changes = cx.local.changes();
    loop {
        let importing = link(cx, link_uid).filter(|link| imports(link));
        let Some(link) = importing else {
            feed.send_replace(Feed::default());
            wait(&mut changes).await;
            continue;
        };
        let name = link.name_any();
        tokio::select! {
            () = feed::follow(&name, cx.links.clone(), cx.dial.clone(), feed, again) => {}
            () = stops_importing(cx, link_uid) => {}
        }
    }
}

async fn stops_importing(cx: &Context, link_uid: &str) {
    let mut changes = cx.local.changes();
    while link(cx, link_uid).is_some_and(|link| imports(&link)) {
        wait(&mut changes).await;
    }
}

async fn reconcile(cx: &Context, link_uid: &str, feed: &watch::Sender<Feed>, again: &Notify) {
    let mut changes = cx.local.changes();
    let mut feed = feed.subscribe();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let Some(link) = link(cx, link_uid) else {
        return;
    };
    let _shown = cx.metrics.show(&link.name_any());
    let mut memory = Memory::new(&link);
    loop {
        changes.mark_unchanged();
        let Some(link) = self::link(cx, link_uid) else {
            return;
        };
        let now = feed.borrow_and_update().clone();
        let decision = decide(&mut memory, &link, &cx.local.objects(), &now);
        let ask_again = decision.ask_again;
        let retry = if pass(cx, &link, decision).await {
            backoff.reset();
            None
        } else {
            Some(Instant::now() + backoff.next())
        };
        tokio::select! {
            () = wait(&mut changes) => {}
            _ = feed.changed() => {}
            () = at(retry) => {}
            () = at(ask_again) => {
                again.notify_one();
                wait_for_feed(&mut feed).await;
            }
        }
        sleep(PACE).await;
    }
}

/// Carries out a decision; says whether nothing is left to be tried again.
async fn pass(cx: &Context, link: &Link, mut decision: Decision) -> bool {
    let mut complete = true;
    let outcomes: Vec<(String, Outcome)> = stream::iter(std::mem::take(&mut decision.actions))
        .map(|action| execute(cx, action))
        .buffer_unordered(WRITES_AT_ONCE)
        .collect()
        .await;
    for (service, outcome) in outcomes {
        match outcome {
            Outcome::Done => {}
            Outcome::Outdated => complete = false,
            Outcome::Failed(reason) => {
                warn!(link = link.name_any(), service, reason, "a write failed");
                decision.findings.synced = Synced::Failing(format!("{service}: {reason}"));
                complete = false;
            }
        }
    }
    cx.metrics.found(&link.name_any(), &decision.findings);
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let Some(new) = status(link.status.as_ref(), &decision.findings, &now) else {
        return complete;
    };
    match cx.writer.write_status(link, &new).await {
        Outcome::Done => complete,
        Outcome::Outdated => false,
        Outcome::Failed(reason) => {
            warn!(
                link = link.name_any(),
                reason, "the Link's status cannot be written"
            );
            false
        }
    }
}

async fn execute(cx: &Context, action: Action) -> (String, Outcome) {
    let service = action.name().to_string();
    let what = match &action {
        Action::Create { .. } => "mirror created",
        Action::Update { .. } => "mirror updated",
        Action::Delete { .. } => "mirror removed",
    };
    let verb = Verb::from(&action);
    let outcome = cx.writer.execute(action).await;
    cx.metrics.wrote(verb, &outcome);
    if outcome == Outcome::Done {
        info!(service, "{what}");
    }
    (service, outcome)
}

fn link(cx: &Context, uid: &str) -> Option<Arc<Link>> {
    cx.local.objects().links().get(uid).cloned()
}

/// Waits for a change; for ever if none can come.
async fn wait(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn wait_for_feed(feed: &mut watch::Receiver<Feed>) {
    let _ = tokio::time::timeout(feed::SILENCE, feed.changed()).await;
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Between two looks: changes in a row are looked at together.
const PACE: Duration = Duration::from_millis(200);
/// Before the next attempt to write what the API server refused.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Requests to the API server at the same time, for one link.
const WRITES_AT_ONCE: usize = 8;
