//! The root of trust, followed: the Secret `mesh-root` may change while we run.
//!
//! A Secret that has become wrong changes nothing: what was taken last stays.
//! A wish that the user left on it is carried out by whichever replica is
//! first; the others find it done.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use mesh_api::names;
use mesh_tls::Clock;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    authority::{Authority, new_root},
    metrics::Metrics,
    rotation::{
        Held, Refused, Wish,
        secret::{Wrong, read, write},
        step,
    },
};

/// How often the Secret is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// How long the API server may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The roots that everybody is to trust, the one that signs first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) pem: String,
    pub(crate) der: Vec<Vec<u8>>,
}

/// Follows what is published.
pub(crate) type PublishedReceiver = watch::Receiver<Arc<Published>>;

/// What was taken from the Secret last, and who has to hear of the next.
pub(crate) struct RootOfTrust {
    api: Api<Secret>,
    recorder: Recorder,
    authority: Authority,
    published: watch::Sender<Arc<Published>>,
    metrics: Metrics,
    /// What was wrong at the last look: it is said once.
    wrong: Option<Wrong>,
}

impl RootOfTrust {
    /// Starts from what the Secret holds.
    pub(crate) fn new(
        client: &Client,
        held: &Held,
        authority: Authority,
        metrics: Metrics,
    ) -> Self {
        let reporter = Reporter {
            controller: names::CONTROL.to_owned(),
            instance: None,
        };
        Self {
            api: Api::namespaced(client.clone(), names::SYSTEM_NAMESPACE),
            recorder: Recorder::new(client.clone(), reporter),
            authority,
            published: watch::Sender::new(Arc::new(Published::of(held))),
            metrics,
            wrong: None,
        }
    }

    /// What is published, and will be.
    pub(crate) fn published(&self) -> PublishedReceiver {
        self.published.subscribe()
    }

    /// Looks at the Secret for as long as the program runs.
    pub(crate) async fn follow(mut self, clock: Clock) {
        loop {
            sleep(LOOK).await;
            self.look(clock.now()).await;
        }
    }

    async fn look(&mut self, now: SystemTime) {
        let secret = match answer(self.api.get_opt(names::ROOT_SECRET)).await {
            Ok(secret) => secret,
            Err(error) => {
                warn!(error = format!("{error:#}"), "the root's Secret");
                self.metrics.root("unread");
                return;
            }
        };
        let held = match &secret {
            Some(secret) => read(secret, now),
            None => Err(Wrong::Gone),
        };
        match (held, secret) {
            (Ok(held), Some(secret)) => {
                self.wrong = None;
                self.take(&held);
                self.carry_out(secret, &held, now).await;
            }
            (Err(wrong), _) => self.keep(wrong).await,
            (Ok(_), None) => {}
        }
    }

    /// Publishes, and signs with, what the Secret holds now.
    fn take(&self, held: &Held) {
        let published = Published::of(held);
        let changed = self.published.send_if_modified(|last| {
            let changed = **last != published;
            if changed {
                info!(roots = published.der.len(), "other roots are published");
                *last = Arc::new(published);
            }
            changed
        });
        match self.authority.sign_with(&held.signing.pem()) {
            Ok(replaced) if replaced || changed => self.metrics.root("taken"),
            Ok(_) => {}
            // It was read without a fault, so this is ours.
            Err(error) => warn!(error = format!("{error:#}"), "the root cannot sign"),
        }
    }

    /// Goes on with what was taken last, and says why, once.
    async fn keep(&mut self, wrong: Wrong) {
        self.metrics.root(wrong.label());
        if self.wrong.as_ref() == Some(&wrong) {
            return;
        }
        warn!(reason = %wrong, "the root's Secret is wrong; the last good root stays");
        let note = format!("{wrong}: the last good root stays in use");
        self.say(EventType::Warning, "RootKept", note).await;
        self.wrong = Some(wrong);
    }

    /// Does what the user wrote on the Secret, if anything.
    async fn carry_out(&self, secret: Secret, held: &Held, now: SystemTime) {
        let wishes = secret.metadata.annotations.as_ref();
        let Some(wish) = wishes.and_then(|all| all.get(names::ROTATE_ROOT)).cloned() else {
            return;
        };
        let make = || new_root(self.authority.trust_domain(), now);
        let outcome = wish
            .parse::<Wish>()
            .and_then(|wish| step(held, wish, now, make));
        let secret = noted(secret, &outcome);
        let parameters = PostParams::default();
        let written = self.api.replace(names::ROOT_SECRET, &parameters, &secret);
        if let Err(error) = answer(written).await {
            // Of several replicas one is first; else the next look tries again.
            info!(error = format!("{error:#}"), "the Secret was not written");
            return;
        }
        match outcome {
            Ok(held) => {
                self.take(&held);
                info!(wish, "the root's rotation went on");
                self.metrics.root("rotated");
                self.say(EventType::Normal, "RootRotation", format!("{wish}: done"))
                    .await;
            }
            Err(refused) => {
                warn!(wish, reason = %refused, "the root's rotation does not go on");
                self.metrics.root("refused");
                let note = format!("{wish}: {refused}");
                self.say(EventType::Warning, "RootRotationRefused", note)
                    .await;
            }
        }
    }

    async fn say(&self, kind: EventType, reason: &str, note: String) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(names::ROOT_SECRET.to_owned()),
            namespace: Some(names::SYSTEM_NAMESPACE.to_owned()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: "RotateRoot".to_owned(),
            secondary: None,
        };
        if let Err(error) = answer(self.recorder.publish(&event, &about)).await {
            warn!(error = format!("{error:#}"), "no Event was written");
        }
    }
}

impl Published {
    fn of(held: &Held) -> Self {
        let roots = held.published();
        Self {
            pem: roots.iter().map(|root| &*root.pem).collect(),
            der: roots.iter().map(|root| root.der.clone()).collect(),
        }
    }
}

/// The Secret after a wish: what it holds then, or why nothing was done. The
/// version stays in it, so that only one replica writes it.
fn noted(mut secret: Secret, outcome: &Result<Held, Refused>) -> Secret {
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.remove(names::ROTATE_ROOT);
    match outcome {
        Ok(held) => {
            annotations.remove(names::ROTATE_ROOT_REFUSED);
            write(&mut secret, held);
        }
        Err(refused) => {
            annotations.insert(names::ROTATE_ROOT_REFUSED.to_owned(), refused.to_string());
        }
    }
    secret
}

async fn answer<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T> {
    let answer = timeout(ANSWER, question).await;
    Ok(answer.context("the API server is too slow")??)
}

#[cfg(test)]
mod tests;
