//! A controller for each Link, and a broom for what deleted Links leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mesh_runtime::Backoff;
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tracing::{info, warn};

use crate::{
    importer::{self, Context},
    local::Objects,
    metrics::Verb,
    plan::{Action, orphans},
    writer::Outcome,
};

/// Works for all Links, for ever. Dropping it ends all work.
pub(crate) async fn run(cx: &Context) {
    cx.local.complete().await;
    tokio::join!(importers(cx), sweep(cx));
}

/// Keeps one controller per Link running.
async fn importers(cx: &Context) {
    let mut changes = cx.local.changes();
    let mut running: BTreeMap<String, JoinSet<()>> = BTreeMap::new();
    loop {
        let links = link_uids(&cx.local.objects());
        running.retain(|uid, task| links.contains(uid) && task.try_join_next().is_none());
        for uid in links {
            running.entry(uid.clone()).or_insert_with(|| {
                let mut task = JoinSet::new();
                task.spawn(importer::run(cx.clone(), uid));
                task
            });
        }
        wait(&mut changes).await;
    }
}

/// Removes the mirrors of Links that are gone.
async fn sweep(cx: &Context) {
    let mut changes = cx.local.changes();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        changes.mark_unchanged();
        let removals = left_behind(&cx.local.objects());
        if remove(cx, removals).await {
            backoff.reset();
            wait(&mut changes).await;
        } else {
            sleep(backoff.next()).await;
        }
    }
}

/// Says whether all went.
async fn remove(cx: &Context, removals: Vec<Action>) -> bool {
    let mut complete = true;
    for removal in removals {
        let service = removal.name().to_string();
        let outcome = cx.writer.execute(&removal).await;
        cx.metrics.wrote(Verb::Delete, &outcome);
        match outcome {
            Outcome::Done => info!(service, "mirror of a deleted link removed"),
            Outcome::Outdated => complete = false,
            Outcome::Failed(reason) => {
                warn!(
                    service,
                    reason, "the mirror of a deleted link cannot be removed"
                );
                complete = false;
            }
        }
    }
    complete
}

fn left_behind(objects: &Objects) -> Vec<Action> {
    orphans(&link_uids(objects), objects.services())
}

fn link_uids(objects: &Objects) -> BTreeSet<String> {
    objects.links().keys().cloned().collect()
}

async fn wait(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
