//! The controller of one link. It looks at what is here and what the peer
//! says, writes the difference, says what it found, and waits for a change.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;
use mesh_api::{link::Link, time::timestamp};
use mesh_runtime::Backoff;
use mesh_tls::Clock;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use crate::{
    budget::Budget,
    decide::{Decision, Memory, decide, imports},
    feed::{self, Dial, Feed, LinksReceiver},
    gateways::{self, Gateways, Probe},
    local::Local,
    metrics::{Metrics, Verb},
    news::{Done, News, Note},
    plan::Action,
    status::{Findings, Synced, status},
    writer::{Outcome, Writer},
};

/// What the controllers of all links share.
#[derive(Clone)]
pub(crate) struct Context {
    /// What time it is.
    pub(crate) clock: Clock,
    /// This cluster.
    pub(crate) local: Local,
    /// Our hand in it.
    pub(crate) writer: Writer,
    /// The links, as mesh-control gives them.
    pub(crate) links: LinksReceiver,
    /// The way to a peer.
    pub(crate) dial: Dial,
    /// How a peer's gateway is asked for a sign of life.
    pub(crate) probe: Probe,
    /// What is counted.
    pub(crate) metrics: Metrics,
}

/// Works for the Link with this uid for as long as it exists.
pub(crate) async fn run(cx: Context, link_uid: String) {
    let feed = watch::Sender::new(Feed::default());
    let again = Notify::new();
    let gateways = watch::Sender::new(None);
    let (say, said) = mpsc::channel(NOTES);
    let peer = Peer {
        feed: feed.subscribe(),
        again: &again,
        gateways: gateways.subscribe(),
    };
    tokio::select! {
        () = follow(&cx, &link_uid, &feed, &again, &gateways) => {}
        () = reconcile(&cx, &link_uid, peer, say) => {}
        () = tell(&cx, &link_uid, said) => {}
    }
}

/// What is known of the peer, and how to ask it for more.
struct Peer<'a> {
    feed: watch::Receiver<Feed>,
    again: &'a Notify,
    gateways: watch::Receiver<Gateways>,
}

/// Follows the feed and asks the gateway while the link imports.
async fn follow(
    cx: &Context,
    link_uid: &str,
    feed: &watch::Sender<Feed>,
    again: &Notify,
    gateways: &watch::Sender<Gateways>,
) {
    let mut changes = cx.local.changes();
    loop {
        let importing = link(cx, link_uid).filter(|link| imports(link));
        let Some(link) = importing else {
            feed.send_replace(Feed::default());
            gateways.send_replace(None);
            wait(&mut changes).await;
            continue;
        };
        let name = link.name_any();
        tokio::select! {
            () = feed::follow(&name, cx.links.clone(), cx.dial.clone(), feed, again) => {}
            () = gateways::watch(&name, cx.links.clone(), feed, &cx.probe, gateways) => {}
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

async fn reconcile(cx: &Context, link_uid: &str, mut peer: Peer<'_>, say: mpsc::Sender<Note>) {
    let mut changes = cx.local.changes();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let Some(link) = link(cx, link_uid) else {
        return;
    };
    let _shown = cx.metrics.show(&link.name_any());
    let mut memory = Memory::new(&link);
    let mut hand = Hand::new(say);
    loop {
        changes.mark_unchanged();
        let Some(link) = self::link(cx, link_uid) else {
            return;
        };
        let feed = peer.feed.borrow_and_update().clone();
        let gateways = peer.gateways.borrow_and_update().clone();
        let decision = {
            let objects = cx.local.objects();
            decide(&mut memory, &link, &objects, &feed, gateways.as_deref())
        };
        let ask_again = decision.ask_again;
        let retry = match hand.pass(cx, &link, decision).await {
            Pass::Complete => {
                backoff.reset();
                None
            }
            Pass::GoesOn(at) => Some(at),
            Pass::Failed => Some(Instant::now() + backoff.next()),
        };
        tokio::select! {
            () = wait(&mut changes) => {}
            _ = peer.feed.changed() => {}
            _ = peer.gateways.changed() => {}
            () = at(retry) => {}
            () = at(hand.news.due()) => {}
            () = at(ask_again) => {
                peer.again.notify_one();
                wait_for_feed(&mut peer.feed).await;
            }
        }
        sleep(PACE).await;
    }
}

/// Writes the Events that `said` gives, for ever.
async fn tell(cx: &Context, link_uid: &str, mut said: mpsc::Receiver<Note>) {
    while let Some(note) = said.recv().await {
        let Some(link) = link(cx, link_uid) else {
            continue;
        };
        let now = timestamp(cx.clock.now());
        if let Outcome::Failed(reason) = cx.writer.write_event(&link, &note, now).await {
            let (link, event) = (link.name_any(), note.reason);
            warn!(link, event, reason, "an Event cannot be written");
        }
    }
    std::future::pending::<()>().await;
}

/// What carries out decisions.
struct Hand {
    budget: Budget,
    news: News,
    say: mpsc::Sender<Note>,
    /// When the status was written last.
    status: Option<Instant>,
}

/// How a decision was carried out.
enum Pass {
    Complete,
    /// There is more to do, then.
    GoesOn(Instant),
    /// Something is to be tried again.
    Failed,
}

impl Hand {
    fn new(say: mpsc::Sender<Note>) -> Self {
        Self {
            budget: Budget::new(Instant::now()),
            news: News::default(),
            say,
            status: None,
        }
    }

    async fn pass(&mut self, cx: &Context, link: &Link, mut decision: Decision) -> Pass {
        let more = self.budget.grant(&mut decision.actions, Instant::now());
        let (written, done) = write(cx, link, &mut decision).await;
        let findings = &decision.findings;
        cx.metrics.found(&link.name_any(), findings);
        for note in self.news.after(findings, done, Instant::now()) {
            // Whoever is that far behind does not tell everything.
            let _ = self.say.try_send(note);
        }
        let said = self.write_status(cx, link, findings).await;
        match (written, said, more) {
            (Pass::Failed, ..) | (_, Pass::Failed, _) => Pass::Failed,
            (_, _, Some(at)) | (_, Pass::GoesOn(at), None) | (Pass::GoesOn(at), _, None) => {
                Pass::GoesOn(at)
            }
            (Pass::Complete, Pass::Complete, None) => Pass::Complete,
        }
    }

    /// Not more often than people read it.
    async fn write_status(&mut self, cx: &Context, link: &Link, findings: &Findings) -> Pass {
        let now = timestamp(cx.clock.now());
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let Some(new) = status(link.status.as_ref(), findings, &now) else {
            return Pass::Complete;
        };
        let next = self.status.map(|written| written + STATUS_PACE);
        if let Some(next) = next.filter(|next| *next > Instant::now()) {
            return Pass::GoesOn(next);
        }
        self.status = Some(Instant::now());
        match cx.writer.write_status(link, &new).await {
            Outcome::Done => Pass::Complete,
            Outcome::Outdated => Pass::Failed,
            Outcome::Failed(reason) => {
                let link = link.name_any();
                warn!(link, reason, "the Link's status cannot be written");
                Pass::Failed
            }
        }
    }
}

/// Writes what was decided, and counts what was done.
async fn write(cx: &Context, link: &Link, decision: &mut Decision) -> (Pass, Done) {
    let mut pass = Pass::Complete;
    let mut done = Done::default();
    let outcomes: Vec<(Action, Outcome)> = stream::iter(std::mem::take(&mut decision.actions))
        .map(|action| execute(cx, action))
        .buffer_unordered(WRITES_AT_ONCE)
        .collect()
        .await;
    for (action, outcome) in outcomes {
        match outcome {
            Outcome::Done => done.count(&action),
            Outcome::Outdated => pass = Pass::Failed,
            Outcome::Failed(reason) => {
                let service = action.name();
                warn!(link = link.name_any(), %service, reason, "a write failed");
                decision.findings.synced = Synced::Failing(format!("{service}: {reason}"));
                pass = Pass::Failed;
            }
        }
    }
    (pass, done)
}

async fn execute(cx: &Context, action: Action) -> (Action, Outcome) {
    let what = match &action {
        Action::Create { .. } => "mirror created",
        Action::Update { .. } => "mirror updated",
        Action::Delete { .. } => "mirror removed",
    };
    let outcome = cx.writer.execute(&action).await;
    cx.metrics.wrote(Verb::from(&action), &outcome);
    if outcome == Outcome::Done {
        info!(service = %action.name(), "{what}");
    }
    (action, outcome)
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
/// Between two writes of a Link's status.
const STATUS_PACE: Duration = Duration::from_secs(1);
/// Events that wait to be written; about as many as there are topics.
const NOTES: usize = 8;
