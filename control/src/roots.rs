//! The ConfigMap `mesh-roots` in every meshed namespace: what a pod must know
//! before it has any stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{reflector, watcher},
};
use mesh_api::names;
use mesh_core::identity::TrustDomain;
use serde_json::json;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::{root::PublishedReceiver, world::Own};

/// Everything is looked at again after this, whether or not something changed.
const RESYNC: Duration = Duration::from_secs(60);
/// After a failed write.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the ConfigMaps for as long as the program runs.
pub(crate) fn keep(client: Client, own: &Own, mut roots: PublishedReceiver, tasks: &TaskTracker) {
    let trust_domain = own.trust_domain.clone();
    let (wake, woken) = mpsc::channel(1);
    let follow = Follow {
        client: client.clone(),
        wake,
    };
    let namespaces = follow.store::<Namespace>(watcher::Config::default(), tasks);
    let meshed = format!("{}=true", names::MESHED);
    let pods = follow.store::<Pod>(watcher::Config::default().labels(&meshed), tasks);
    let only = format!("metadata.name={}", names::ROOTS_CONFIG_MAP);
    let maps = follow.store::<ConfigMap>(watcher::Config::default().fields(&only), tasks);
    tasks.spawn(async move {
        let mut woken = woken;
        let _ = namespaces.wait_until_ready().await;
        let _ = pods.wait_until_ready().await;
        let _ = maps.wait_until_ready().await;
        loop {
            let data = data(&roots.borrow_and_update().pem, &trust_domain);
            let wanted = wanted(&namespaces.state(), &pods.state());
            let mut failed = false;
            for namespace in missing(&wanted, &maps.state(), &data) {
                failed |= !write(&client, &namespace, &data).await;
            }
            let pause = if failed { AGAIN } else { RESYNC };
            tokio::select! {
                () = sleep(pause) => {}
                Some(()) = woken.recv(), if !failed => {}
                Ok(()) = roots.changed() => {}
            }
        }
    });
}

fn data(bundle: &str, trust_domain: &TrustDomain) -> BTreeMap<String, String> {
    BTreeMap::from([
        (names::ROOTS_BUNDLE.to_owned(), bundle.to_owned()),
        (
            names::ROOTS_TRUST_DOMAIN.to_owned(),
            trust_domain.to_string(),
        ),
    ])
}

struct Follow {
    client: Client,
    /// Full means that a look is due already.
    wake: mpsc::Sender<()>,
}

impl Follow {
    fn store<K>(&self, config: watcher::Config, tasks: &TaskTracker) -> reflector::Store<K>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let (store, writer) = reflector::store();
        let (api, wake) = (Api::<K>::all(self.client.clone()), self.wake.clone());
        tasks.spawn(async move {
            // No backoff of the library's: one that gives up ends the watch.
            let events = watcher(api, config);
            let mut events = std::pin::pin!(reflector(writer, events));
            // Once per outage.
            let mut warned = false;
            while let Some(event) = events.next().await {
                match event {
                    Ok(_) => {
                        warned = false;
                        // Full means that a look is due already.
                        let _ = wake.try_send(());
                    }
                    Err(error) => {
                        if !warned {
                            warn!(%error, "watch");
                        }
                        warned = true;
                        sleep(AGAIN).await;
                    }
                }
            }
        });
        store
    }
}

/// The namespaces that ask for the roots, or have meshed pods.
fn wanted(
    namespaces: &[std::sync::Arc<Namespace>],
    pods: &[std::sync::Arc<Pod>],
) -> BTreeSet<String> {
    let asks = |object: &Namespace| {
        let has = |key: &str, value: &str| {
            object.labels().get(key).is_some_and(|v| v == value)
                || object.annotations().get(key).is_some_and(|v| v == value)
        };
        has(names::ROOTS_WANTED, "true") || has(names::INJECT, "enabled")
    };
    let live = |object: &Namespace| object.metadata.deletion_timestamp.is_none();
    let all: BTreeSet<String> = namespaces
        .iter()
        .filter(|namespace| live(namespace))
        .map(|namespace| namespace.name_any())
        .collect();
    let asking = namespaces.iter().filter(|n| asks(n)).map(|n| n.name_any());
    let with_pods = pods.iter().filter_map(|pod| pod.namespace());
    asking
        .chain(with_pods)
        .filter(|name| all.contains(name))
        .collect()
}

/// Those of `wanted` whose ConfigMap is not what it should be.
fn missing(
    wanted: &BTreeSet<String>,
    maps: &[std::sync::Arc<ConfigMap>],
    data: &BTreeMap<String, String>,
) -> Vec<String> {
    let right: BTreeSet<String> = maps
        .iter()
        .filter(|map| map.data.as_ref() == Some(data))
        .filter_map(|map| map.namespace())
        .collect();
    wanted.difference(&right).cloned().collect()
}

async fn write(client: &Client, namespace: &str, data: &BTreeMap<String, String>) -> bool {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names::ROOTS_CONFIG_MAP,
            "labels": {names::MANAGED_BY: names::CONTROL},
        },
        "data": data,
    });
    let parameters = PatchParams::apply(names::CONTROL).force();
    match api
        .patch(names::ROOTS_CONFIG_MAP, &parameters, &Patch::Apply(&object))
        .await
    {
        Ok(_) => {
            info!(namespace, "roots written");
            true
        }
        Err(error) => {
            warn!(namespace, %error, "roots not written");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn namespace(name: &str, label: Option<(&str, &str)>) -> Arc<Namespace> {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace.metadata.labels =
            label.map(|(key, value)| BTreeMap::from([(key.to_owned(), value.to_owned())]));
        Arc::new(namespace)
    }

    #[test]
    fn roots_are_where_they_are_asked_for_or_needed() {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("shop".to_owned());
        let namespaces = [
            namespace("default", None),
            namespace("shop", None),
            namespace("mesh-system", Some((names::ROOTS_WANTED, "true"))),
            namespace("auto", Some((names::INJECT, "enabled"))),
        ];
        let wanted = wanted(&namespaces, &[Arc::new(pod)]);
        let names: Vec<_> = wanted.iter().map(String::as_str).collect();
        assert_eq!(names, ["auto", "mesh-system", "shop"]);
    }

    #[test]
    fn an_edited_map_is_repaired_and_a_right_one_left_alone() {
        let data = BTreeMap::from([("ca.crt".to_owned(), "root".to_owned())]);
        let map = |namespace: &str, text: &str| {
            let mut map = ConfigMap::default();
            map.metadata.namespace = Some(namespace.to_owned());
            map.data = Some(BTreeMap::from([("ca.crt".to_owned(), text.to_owned())]));
            Arc::new(map)
        };
        let wanted = BTreeSet::from(["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        let missing = missing(&wanted, &[map("a", "root"), map("b", "edited")], &data);
        assert_eq!(missing, ["b", "c"]);
    }
}
