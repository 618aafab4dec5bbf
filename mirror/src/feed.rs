//! Following a peer's feed of exported Services.

mod assembly;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use mesh_core::link::{Link, Links};
use mesh_proto::v1::{ExportedServicesRequest, exports_client::ExportsClient};
use mesh_runtime::Backoff;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tonic::transport::Channel;
use tracing::{debug, info};

use self::assembly::{Assembly, Step};
use crate::export::Snapshot;

/// Opens the way to a peer's mesh-control.
pub(crate) type Dial = Arc<dyn Fn(&Arc<Link>) -> Channel + Send + Sync>;

/// The links as mesh-control gives them; none before its first answer.
pub(crate) type LinksReceiver = watch::Receiver<Option<Arc<Links>>>;

/// What is known of a peer's exports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Feed {
    /// What it said last, kept when it falls silent.
    pub(crate) received: Option<Arc<Received>>,
    /// Whether it is still saying it.
    pub(crate) health: Health,
}

/// Everything that a peer says, and when it did.
#[derive(Debug)]
pub(crate) struct Received {
    /// What the peer says.
    pub(crate) snapshot: Snapshot,
    /// How it was asked: the link as mesh-control gave it.
    pub(crate) link: Arc<Link>,
    /// When it said all of it: single changes may have come since.
    pub(crate) at: Instant,
    /// When something of it was new.
    pub(crate) changed: Instant,
}

/// Whether a feed is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    /// There has been no answer yet.
    #[default]
    Connecting,
    /// It spoke within the last [`SILENCE`].
    Alive,
    /// It does not, because of this.
    Lost(String),
}

/// Follows the feed of the link called `name` for ever, and publishes what it
/// says. `again` asks for a new complete snapshot.
pub(crate) async fn follow(
    name: &str,
    mut links: LinksReceiver,
    dial: Dial,
    feed: &watch::Sender<Feed>,
    again: &Notify,
) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut assembly = Assembly::default();
    loop {
        let Some(link) = current(&mut links, name) else {
            lose(feed, "mesh-control does not know this link: see its log");
            changed(&mut links).await;
            continue;
        };
        let outcome = tokio::select! {
            outcome = listen(&link, &dial, &mut assembly, feed, again) => outcome,
            () = replaced(&mut links, &link) => Outcome::Again,
        };
        match outcome {
            Outcome::Again => backoff.reset(),
            Outcome::Lost { reason, had_answer } => {
                info!(link = name, reason, "the feed is lost");
                lose(feed, &reason);
                if had_answer {
                    backoff.reset();
                }
                sleep(backoff.next()).await;
            }
        }
    }
}

/// Why one stream ended.
enum Outcome {
    /// We want another one.
    Again,
    /// It broke.
    Lost { reason: String, had_answer: bool },
}

async fn listen(
    link: &Arc<Link>,
    dial: &Dial,
    assembly: &mut Assembly,
    feed: &watch::Sender<Feed>,
    again: &Notify,
) -> Outcome {
    let mut had_answer = false;
    let mut has_content = false;
    let mut client = ExportsClient::new(dial(link)).max_decoding_message_size(MAX_MESSAGE);
    assembly.begin();
    let request = ExportedServicesRequest {
        deltas: true,
        version: assembly.version().to_owned(),
    };
    let started = timeout(SILENCE, client.watch_services(request)).await;
    let mut stream = match started {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return lost(explain(&status), had_answer),
        Err(_) => return lost(silence(), had_answer),
    };
    loop {
        let message = tokio::select! {
            message = timeout(SILENCE, stream.message()) => message,
            () = again.notified() => return Outcome::Again,
        };
        match message {
            Ok(Ok(Some(update))) => {
                had_answer = true;
                let start = Instant::now();
                match assembly.take(update.update) {
                    Ok(step) => {
                        has_content |= step != Step::Alive;
                        // Before that, what is known may be older than the peer.
                        if has_content && publish(feed, link, step) {
                            // What is not read waits in buffers and grows old
                            // there, so a pause is as long as the work: half of
                            // the time.
                            sleep(start.elapsed().min(PACE)).await;
                        }
                    }
                    Err(misfit) => return lost(format!("the peer says {misfit}"), had_answer),
                }
            }
            Ok(Ok(None)) => return lost("the peer ended it".into(), had_answer),
            Ok(Err(status)) => return lost(explain(&status), had_answer),
            Err(_) => return lost(silence(), had_answer),
        }
    }
}

/// Says whether there is something new to look at.
fn publish(feed: &watch::Sender<Feed>, link: &Arc<Link>, step: Step) -> bool {
    let known = feed.borrow().received.clone();
    let now = Instant::now();
    let received = match (step, known) {
        (Step::Alive, _) | (Step::Confirmed, None) => None,
        (Step::Complete(snapshot), _) | (Step::Changed(snapshot), None) => Some(Received {
            snapshot,
            link: link.clone(),
            at: now,
            changed: now,
        }),
        (Step::Changed(snapshot), Some(known)) => Some(Received {
            snapshot,
            link: link.clone(),
            at: known.at,
            changed: now,
        }),
        (Step::Confirmed, Some(known)) => Some(Received {
            snapshot: known.snapshot.clone(),
            link: link.clone(),
            at: now,
            changed: known.changed,
        }),
    };
    let Some(received) = received else {
        set_health(feed, Health::Alive);
        return false;
    };
    debug!(services = received.snapshot.services.len(), "the feed");
    feed.send_modify(|feed| {
        feed.received = Some(Arc::new(received));
        feed.health = Health::Alive;
    });
    true
}

fn lose(feed: &watch::Sender<Feed>, reason: &str) {
    set_health(feed, Health::Lost(reason.into()));
}

fn set_health(feed: &watch::Sender<Feed>, health: Health) {
    feed.send_if_modified(|feed| {
        let changed = feed.health != health;
        feed.health = health;
        changed
    });
}

fn lost(reason: String, had_answer: bool) -> Outcome {
    Outcome::Lost { reason, had_answer }
}

fn silence() -> String {
    format!("nothing was heard for {} seconds", SILENCE.as_secs())
}

/// What the peer said, or why it could not be asked, down to the cause.
fn explain(status: &tonic::Status) -> String {
    let mut text = match status.code() {
        tonic::Code::PermissionDenied => "the peer does not export to this cluster".to_owned(),
        tonic::Code::OutOfRange => "the peer exports too much for one message".to_owned(),
        _ => String::new(),
    };
    let message = status.message();
    if !message.is_empty() {
        let separator = if text.is_empty() { "" } else { ": " };
        // Writing to a String does not fail.
        let _ = write!(text, "{separator}{message}");
    }
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !text.contains(&error_text) {
            let _ = write!(text, ": {error_text}");
        }
        cause = error.source();
    }
    if text.is_empty() {
        text = status.code().description().into();
    }
    text
}

/// The link called `name`, as it is now.
pub(crate) fn current(links: &mut LinksReceiver, name: &str) -> Option<Arc<Link>> {
    let known = links.borrow_and_update();
    let link = known
        .as_ref()?
        .links
        .iter()
        .find(|link| *link.name == *name);
    link.cloned()
}

/// Waits until the link is no longer what it was.
async fn replaced(links: &mut LinksReceiver, link: &Arc<Link>) {
    loop {
        changed(links).await;
        if current(links, &link.name).as_ref() != Some(link) {
            return;
        }
    }
}

/// Waits for a change, for ever if no more can come.
async fn changed(links: &mut LinksReceiver) {
    if links.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A feed that says nothing for so long is lost; its heart beats every 5 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
/// The longest pause after a snapshot.
const PACE: Duration = Duration::from_millis(100);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// 100,000 Services with short names. Two bytes can stand for one that takes
/// 200 in memory, which is why it is no more.
const MAX_MESSAGE: usize = 2 * 1024 * 1024;

#[cfg(test)]
pub(crate) mod tests;
