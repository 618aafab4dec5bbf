//! Keeps what mesh-control says in the status of objects: what a person reads
//! when one does not do what it should.
//!
//! Every replica may write: what one has written the others see and find right.
//! What is to be said is decided by pure functions; here it is written, if it
//! differs from what is there.

mod exported;
mod policy;
mod route;
mod verdict;

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope, api::core::v1::Service, apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use mesh_api::{
    policy::{AuthorizationPolicy, MeshTLSAuthentication, NetworkAuthentication, Server},
    route::{HTTPRoute, TLSRoute},
    time::timestamp,
};
use mesh_runtime::Backoff;
use mesh_tls::Clock;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub(crate) use self::verdict::{Verdict, Verdicts};
use crate::{
    snapshot::{Name, Snapshot},
    world::WorldReceiver,
};

/// What is to be said must stand for so long: while a pod is replaced, its
/// endpoint and itself are seen one after the other.
const SETTLED: Duration = Duration::from_secs(2);
/// Between two writes, and how long one may take.
const PACE: Duration = Duration::from_millis(100);
const WRITE: Duration = Duration::from_secs(10);
/// Between two looks after a write that failed, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A kind of objects of whose status a part is ours.
trait Kept:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
    /// What is to be said of one.
    type Due: Clone + Debug + PartialEq + Send + Sync;

    /// The objects that say something else than they should.
    fn due(snapshot: &Snapshot) -> BTreeMap<Name, Self::Due>;

    /// How their status is changed. One that names the object's version is
    /// refused, and decided anew, if somebody else was first.
    fn patch(due: &Self::Due, now: &Time) -> (PatchParams, Patch<Value>);
}

/// Keeps all of it for as long as the program runs.
pub(crate) fn keep_all(client: &Client, world: &WorldReceiver, clock: Clock, tasks: &TaskTracker) {
    tasks.spawn(keep::<Service>(client.clone(), world.clone(), clock));
    tasks.spawn(keep::<HTTPRoute>(client.clone(), world.clone(), clock));
    tasks.spawn(keep::<TLSRoute>(client.clone(), world.clone(), clock));
    tasks.spawn(keep::<Server>(client.clone(), world.clone(), clock));
    tasks.spawn(keep::<AuthorizationPolicy>(
        client.clone(),
        world.clone(),
        clock,
    ));
    tasks.spawn(keep::<MeshTLSAuthentication>(
        client.clone(),
        world.clone(),
        clock,
    ));
    tasks.spawn(keep::<NetworkAuthentication>(
        client.clone(),
        world.clone(),
        clock,
    ));
}

async fn keep<K: Kept>(client: Client, mut world: WorldReceiver, clock: Clock) {
    let mut before = BTreeMap::new();
    let mut backoff = Backoff::new(SETTLED, LONGEST_PAUSE);
    loop {
        let snapshot = world
            .borrow_and_update()
            .as_ref()
            .map(|w| w.snapshot.clone());
        let now = snapshot
            .map(|snapshot| K::due(&snapshot))
            .unwrap_or_default();
        let mut pause = SETTLED;
        for (name, due) in now
            .iter()
            .filter(|(name, due)| before.get(*name) == Some(*due))
        {
            let patch = K::patch(due, &Time(timestamp(clock.now())));
            match write::<K>(&client, name, patch).await {
                Ok(Outcome::Written) => backoff.reset(),
                // Looked at again, and less often if that does not help: a
                // definition may be too old to have the status.
                Ok(Outcome::Overtaken) => pause = backoff.next(),
                Ok(Outcome::Refused(reason)) => {
                    let object = format!("{} {}/{}", K::kind(&()), name.0, name.1);
                    warn!(object, reason, "its status is refused");
                    pause = backoff.next();
                }
                Err(reason) => {
                    let object = format!("{} {}/{}", K::kind(&()), name.0, name.1);
                    warn!(object, reason, "its status cannot be written");
                    pause = backoff.next();
                    break;
                }
            }
            sleep(PACE).await;
        }
        if now.is_empty() && world.changed().await.is_err() {
            return;
        }
        before = now;
        sleep(pause).await;
    }
}

/// Puts these fields into the status of this version of an object.
fn for_version(
    manager: &str,
    version: Option<&str>,
    status: &Value,
) -> (PatchParams, Patch<Value>) {
    let how = PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
    (how, Patch::Merge(patch))
}

/// What became of a write.
enum Outcome {
    Written,
    /// The object is gone, or has changed meanwhile.
    Overtaken,
    /// It answers: what is wrong may be with this object, and others go through.
    Refused(String),
}

async fn write<K: Kept>(
    client: &Client,
    name: &Name,
    (how, patch): (PatchParams, Patch<Value>),
) -> Result<Outcome, String> {
    let objects: Api<K> = Api::namespaced(client.clone(), &name.0);
    match timeout(WRITE, objects.patch_status(&name.1, &how, &patch)).await {
        Ok(Ok(_)) => {
            let kind = K::kind(&());
            debug!(namespace = name.0, name = name.1, %kind, ?patch, "status written");
            Ok(Outcome::Written)
        }
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            Ok(Outcome::Overtaken)
        }
        // Whatever its code is: an admission webhook that is down answers 500, and
        // for some objects only.
        Ok(Err(kube::Error::Api(status))) => Ok(Outcome::Refused(status.message.clone())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server does not answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests;
