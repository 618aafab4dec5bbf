//! Keeps the condition `mesh.dev/Exported` on Services that ask to be exported:
//! what a person reads when a Service does not appear in a linked cluster.
//!
//! Every replica may write: what one has written the others see and find right.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::core::v1::Service as KubeService, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use mesh_api::{names, time::timestamp};
use mesh_runtime::Backoff;
use mesh_tls::Clock;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::{
    exports::{Said, condition},
    snapshot::{Name, Snapshot},
    world::WorldReceiver,
};

/// Whose fields they are.
const FIELD_MANAGER: &str = "mesh-control-exports";
/// What is to be said must stand for so long: while a pod is replaced, its
/// endpoint and itself are seen one after the other.
const SETTLED: Duration = Duration::from_secs(2);
/// Between two writes, and how long one may take.
const PACE: Duration = Duration::from_millis(100);
const WRITE: Duration = Duration::from_secs(10);
/// Between two looks after a write that failed, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a Service should be told, and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    /// None takes the condition away.
    said: Option<Said>,
    /// When `status` became what it is; none if it does now.
    since: Option<Time>,
}

/// Keeps the conditions for as long as the program runs.
pub(crate) async fn keep(client: Client, mut world: WorldReceiver, clock: Clock) {
    let mut before = BTreeMap::new();
    let mut backoff = Backoff::new(SETTLED, LONGEST_PAUSE);
    loop {
        let snapshot = world
            .borrow_and_update()
            .as_ref()
            .map(|w| w.snapshot.clone());
        let now = snapshot.map(|snapshot| due(&snapshot)).unwrap_or_default();
        let mut pause = SETTLED;
        for (name, due) in now
            .iter()
            .filter(|(name, due)| before.get(*name) == Some(*due))
        {
            if let Err(reason) = write(&client, name, due, &Time(timestamp(clock.now()))).await {
                let service = format!("{}/{}", name.0, name.1);
                warn!(service, reason, "its condition cannot be written");
                pause = backoff.next();
                break;
            }
            backoff.reset();
            sleep(PACE).await;
        }
        if now.is_empty() && world.changed().await.is_err() {
            return;
        }
        before = now;
        sleep(pause).await;
    }
}

/// The Services whose condition is not what it should be.
fn due(snapshot: &Snapshot) -> BTreeMap<Name, Due> {
    let services = snapshot.services.iter();
    let due = services.filter_map(|(name, service)| {
        let said = condition(snapshot, name, service);
        let standing = service.condition.as_ref();
        if standing.map(|standing| &standing.said) == said.as_ref() {
            return None;
        }
        let same = |said: &Said| standing.filter(|old| old.said.exported == said.exported);
        let since = said.as_ref().and_then(same).map(|old| old.since.clone());
        Some((name.clone(), Due { said, since }))
    });
    due.collect()
}

async fn write(client: &Client, name: &Name, due: &Due, now: &Time) -> Result<(), String> {
    let services: Api<KubeService> = Api::namespaced(client.clone(), &name.0);
    let patch = Patch::Apply(status(due, now));
    let how = PatchParams::apply(FIELD_MANAGER).force();
    match timeout(WRITE, services.patch_status(&name.1, &how, &patch)).await {
        Ok(Ok(_)) => {
            debug!(
                namespace = name.0,
                service = name.1,
                ?due,
                "condition written"
            );
            Ok(())
        }
        // It is gone, and its condition with it.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server does not answer in time".to_owned()),
    }
}

/// The part of the object that is ours.
fn status(due: &Due, now: &Time) -> Value {
    let condition = due.said.as_ref().map(|said| {
        json!({
            "type": names::EXPORTED_CONDITION,
            "status": if said.exported { "True" } else { "False" },
            "reason": said.reason,
            "message": said.message,
            "lastTransitionTime": due.since.as_ref().unwrap_or(now),
        })
    });
    let conditions: Vec<Value> = condition.into_iter().collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "status": {"conditions": conditions},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::snapshot, snapshot::Standing};

    fn web() -> Name {
        ("shop".to_owned(), "web".to_owned())
    }

    fn time(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    #[test]
    fn only_what_differs_is_written() {
        let mut snapshot = snapshot();
        let first = due(&snapshot);
        let names: Vec<_> = first.keys().map(|name| name.1.as_str()).collect();
        assert_eq!(names, ["api", "web"], "the Services that ask");
        for (name, due) in first {
            let said = due.said.unwrap();
            let since = time("2026-11-20T10:00:00Z");
            snapshot.services.get_mut(&name).unwrap().condition = Some(Standing { said, since });
        }
        assert!(due(&snapshot).is_empty());
    }

    #[test]
    fn the_time_of_the_last_transition_is_kept_while_the_status_is() {
        let mut snapshot = snapshot();
        let since = time("2026-11-20T10:00:00Z");
        for exported in [true, false] {
            let said = Said {
                exported,
                reason: "Old".to_owned(),
                message: String::new(),
            };
            let standing = Standing {
                said,
                since: since.clone(),
            };
            snapshot.services.get_mut(&web()).unwrap().condition = Some(standing);
            let kept = due(&snapshot).remove(&web()).unwrap().since;
            assert_eq!(kept, exported.then(|| since.clone()));
        }
    }

    #[test]
    fn a_service_that_asks_no_more_loses_the_condition() {
        let mut snapshot = snapshot();
        let service = snapshot.services.get_mut(&web()).unwrap();
        service.export = crate::snapshot::Export::No;
        service.condition = Some(Standing {
            said: Said {
                exported: true,
                reason: "Exported".to_owned(),
                message: String::new(),
            },
            since: time("2026-11-20T10:00:00Z"),
        });
        let due = due(&snapshot).remove(&web()).unwrap();
        assert_eq!(due.said, None);
        let written = status(&due, &time("2026-11-21T10:00:00Z"));
        assert_eq!(written["status"]["conditions"], json!([]));
    }

    #[test]
    fn what_is_written_is_the_condition_alone() {
        let due = due(&snapshot()).remove(&web()).unwrap();
        let written = status(&due, &time("2026-11-21T10:00:00Z"));
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "status": {"conditions": [{
                "type": "mesh.dev/Exported",
                "status": "True",
                "reason": "Exported",
                "message": "Its pods are shared with linked clusters.",
                "lastTransitionTime": "2026-11-21T10:00:00Z",
            }]},
        });
        assert_eq!(written, expected);
    }
}
