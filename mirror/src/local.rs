//! What is in this cluster: Links, namespaces and Services, kept up to date by
//! watches. A watch that breaks off leaves what it said last.

mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use mesh_api::link::Link;
use mesh_runtime::Backoff;
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet};
use tracing::warn;

use self::table::Table;
use crate::mirror::{Actual, ServiceName};

/// The state of this cluster. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    objects: Arc<Mutex<Objects>>,
    /// Counts the changes.
    version: watch::Sender<u64>,
}

/// Everything that we know of this cluster.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// By uid.
    links: Table<String, Arc<Link>>,
    /// Those that are not being deleted.
    namespaces: Table<String, ()>,
    services: Table<ServiceName, Actual>,
}

impl Local {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self {
            objects: Arc::default(),
            version: watch::Sender::new(0),
        }
    }

    /// Starts the watches; they run for as long as `tasks`.
    pub(crate) fn follow(&self, client: &Client, tasks: &mut JoinSet<()>) {
        tasks.spawn(follow(self.clone(), Api::all(client.clone()), link_event));
        tasks.spawn(follow(
            self.clone(),
            Api::all(client.clone()),
            namespace_event,
        ));
        tasks.spawn(follow(
            self.clone(),
            Api::all(client.clone()),
            service_event,
        ));
    }

    /// What is known now. Not to be held over an await.
    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of changes from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until all is known.
    pub(crate) async fn complete(&self) {
        let mut changes = self.changes();
        while !self.objects().is_complete() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn apply<K>(&self, event: Event<K>, apply: fn(&mut Objects, Event<K>) -> bool) {
        let changed = apply(&mut self.objects(), event);
        if changed {
            self.version.send_modify(|version| *version += 1);
        }
    }
}

impl Objects {
    /// Whether each watch has listed everything once.
    pub(crate) const fn is_complete(&self) -> bool {
        self.links.is_complete() && self.namespaces.is_complete() && self.services.is_complete()
    }

    /// All Links, by uid.
    pub(crate) const fn links(&self) -> &BTreeMap<String, Arc<Link>> {
        self.links.rows()
    }

    /// The namespaces that a Service can be made in.
    pub(crate) fn namespaces(&self) -> BTreeSet<String> {
        self.namespaces.rows().keys().cloned().collect()
    }

    /// All Services.
    pub(crate) const fn services(&self) -> &BTreeMap<ServiceName, Actual> {
        self.services.rows()
    }
}

/// Applies the events of one watch for ever.
async fn follow<K>(local: Local, api: Api<K>, apply: fn(&mut Objects, Event<K>) -> bool)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    let events = watcher(api, watcher::Config::default()).backoff(Pauses::default());
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => local.apply(event, apply),
            Err(error) => {
                let kind = K::kind(&K::DynamicType::default()).into_owned();
                warn!(%kind, %error, "the watch of this cluster is interrupted");
            }
        }
    }
}

/// Pauses before a watch that broke off is tried again: short enough to be
/// back soon after an API server that was away for long.
struct Pauses(Backoff);

impl Default for Pauses {
    fn default() -> Self {
        Self(Backoff::new(FIRST_PAUSE, LONGEST_PAUSE))
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next())
    }
}

impl kube::runtime::utils::Backoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

fn link_event(objects: &mut Objects, event: Event<Link>) -> bool {
    let key = |link: &Link| link.uid().unwrap_or_default();
    objects.links.apply(event, key, |link| Some(Arc::new(link)))
}

fn namespace_event(objects: &mut Objects, event: Event<Namespace>) -> bool {
    objects
        .namespaces
        .apply(event, Namespace::name_any, |namespace| {
            namespace
                .metadata
                .deletion_timestamp
                .is_none()
                .then_some(())
        })
}

fn service_event(objects: &mut Objects, event: Event<Service>) -> bool {
    let key = |service: &Service| {
        ServiceName::new(
            &service.namespace().unwrap_or_default(),
            &service.name_any(),
        )
    };
    objects
        .services
        .apply(event, key, |service| Some(Actual::from(&service)))
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A cluster that has these.
    pub(crate) fn objects(
        links: Vec<Link>,
        namespaces: &[&str],
        services: Vec<(ServiceName, Actual)>,
    ) -> Objects {
        let mut objects = Objects::default();
        for link in links {
            link_event(&mut objects, Event::Apply(link));
        }
        for name in namespaces {
            let mut namespace = Namespace::default();
            namespace.metadata.name = Some((*name).into());
            namespace_event(&mut objects, Event::Apply(namespace));
        }
        for (name, actual) in services {
            let row = |_| Some(actual.clone());
            objects
                .services
                .apply(Event::Apply(()), |()| name.clone(), row);
        }
        objects
    }

    #[test]
    fn m13_a_namespace_counts_until_it_is_being_deleted() {
        let mut objects = objects(Vec::new(), &["shop"], Vec::new());
        assert!(objects.namespaces().contains("shop"));
        let mut going = Namespace::default();
        going.metadata.name = Some("shop".into());
        going.metadata.deletion_timestamp =
            Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap());
        assert!(namespace_event(&mut objects, Event::Apply(going)));
        assert!(objects.namespaces().is_empty());
    }

    #[tokio::test]
    async fn a_cluster_is_known_when_all_was_listed_once() {
        let local = Local::new();
        local.apply(Event::Init, link_event);
        local.apply(Event::InitDone, link_event);
        local.apply(Event::Init, namespace_event);
        local.apply(Event::InitDone, namespace_event);
        assert!(!local.objects().is_complete());
        local.apply(Event::Init, service_event);
        local.apply(Event::InitDone, service_event);
        local.complete().await;
    }
}
