//! The state of the cluster and of its peers, kept up to date by watches: the
//! one thing that every stream looks at.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher},
};
use mesh_api::{
    link::Link,
    policy::{AuthorizationPolicy, MeshTLSAuthentication, NetworkAuthentication, Server},
    split::TrafficSplit,
};
use mesh_core::{cluster::ClusterName, identity::TrustDomain};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::{
    destination::Remote,
    root::PublishedReceiver,
    snapshot::{Objects, PolicyObjects, Snapshot, read},
};

/// Changes that come within this time are taken together.
const TOGETHER: Duration = Duration::from_millis(50);
/// A watch that is broken is opened again after this, and again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the first states of custom resources are waited for: their
/// definitions may not be installed.
const OPTIONAL: Duration = Duration::from_secs(30);

/// What streams answer from.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) remote: Arc<Remote>,
}

/// Follows the world; none before the first whole picture.
pub(crate) type WorldReceiver = watch::Receiver<Option<World>>;

/// Who we are; only the roots change while the program runs.
#[derive(Clone)]
pub(crate) struct Own {
    pub(crate) cluster: ClusterName,
    pub(crate) trust_domain: TrustDomain,
    /// What everybody here is to trust.
    pub(crate) roots: PublishedReceiver,
}

struct Stores {
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<Pod>,
    splits: Store<TrafficSplit>,
    links: Store<Link>,
    policies: PolicyStores,
}

struct PolicyStores {
    namespaces: Store<Namespace>,
    servers: Store<Server>,
    authorizations: Store<AuthorizationPolicy>,
    mesh_tls: Store<MeshTLSAuthentication>,
    networks: Store<NetworkAuthentication>,
}

/// Starts the watches and sends a new world to `into` after every change of
/// the cluster or of `remote`.
pub(crate) fn follow(
    client: &Client,
    own: Own,
    into: watch::Sender<Option<World>>,
    remote: watch::Receiver<Arc<Remote>>,
    tasks: &TaskTracker,
) {
    let changed = Arc::new(Notify::new());
    let stores = Stores {
        services: store(Api::all(client.clone()), &changed, tasks),
        slices: store(Api::all(client.clone()), &changed, tasks),
        pods: store(Api::all(client.clone()), &changed, tasks),
        splits: store(Api::all(client.clone()), &changed, tasks),
        links: store(Api::all(client.clone()), &changed, tasks),
        policies: PolicyStores {
            namespaces: store(Api::all(client.clone()), &changed, tasks),
            servers: store(Api::all(client.clone()), &changed, tasks),
            authorizations: store(Api::all(client.clone()), &changed, tasks),
            mesh_tls: store(Api::all(client.clone()), &changed, tasks),
            networks: store(Api::all(client.clone()), &changed, tasks),
        },
    };
    tasks.spawn(rebuild(stores, own, into, remote, changed));
}

/// A store of all objects of a kind, followed for as long as the program runs.
/// A watch that breaks leaves what it said last.
fn store<K>(api: Api<K>, changed: &Arc<Notify>, tasks: &TaskTracker) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changed = changed.clone();
    tasks.spawn(async move {
        let events = watcher(api, watcher::Config::default()).modify(|object| {
            object.meta_mut().managed_fields = None;
        });
        let mut events = std::pin::pin!(reflector(writer, events));
        let mut warned = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => {
                    warned = false;
                    changed.notify_one();
                }
                Err(error) => {
                    // Once per outage: a definition may be missing for hours.
                    if !warned {
                        warn!(kind = %K::kind(&()), %error, "watch");
                        warned = true;
                    }
                    sleep(AGAIN).await;
                }
            }
        }
    });
    store
}

async fn rebuild(
    stores: Stores,
    mut own: Own,
    into: watch::Sender<Option<World>>,
    mut remote: watch::Receiver<Arc<Remote>>,
    changed: Arc<Notify>,
) {
    stores.wait_until_ready().await;
    let mut problems = BTreeSet::new();
    loop {
        let roots = own.roots.borrow_and_update().clone();
        let snapshot = read(
            &stores.objects(),
            &own.cluster,
            &own.trust_domain,
            &roots.der,
        );
        report(&mut problems, &snapshot);
        let remote_now = remote.borrow_and_update().clone();
        debug!(
            services = snapshot.services.len(),
            "the cluster has changed"
        );
        into.send_replace(Some(World {
            snapshot: Arc::new(snapshot),
            remote: remote_now,
        }));
        tokio::select! {
            () = changed.notified() => {}
            change = remote.changed() => if change.is_err() { return },
            change = own.roots.changed() => if change.is_err() { return },
        }
        sleep(TOGETHER).await;
    }
}

impl Stores {
    /// Returns when everything that must exist is known.
    async fn wait_until_ready(&self) {
        // An error means that a writer is gone, and with it the program.
        let _ = self.services.wait_until_ready().await;
        let _ = self.slices.wait_until_ready().await;
        let _ = self.pods.wait_until_ready().await;
        let custom = async {
            let _ = self.links.wait_until_ready().await;
            let _ = self.splits.wait_until_ready().await;
            self.policies.wait_until_ready().await;
        };
        if timeout(OPTIONAL, custom).await.is_err() {
            warn!(
                "some custom resources cannot be read yet; going on without them, \
                 but no sidecar is told a policy before policies are known"
            );
        }
    }

    fn objects(&self) -> Objects {
        Objects {
            services: self.services.state(),
            slices: self.slices.state(),
            pods: self.pods.state(),
            splits: self.splits.state(),
            links: self.links.state(),
            policies: self.policies.objects(),
        }
    }
}

impl PolicyStores {
    async fn wait_until_ready(&self) {
        let _ = self.namespaces.wait_until_ready().await;
        let _ = self.servers.wait_until_ready().await;
        let _ = self.authorizations.wait_until_ready().await;
        let _ = self.mesh_tls.wait_until_ready().await;
        let _ = self.networks.wait_until_ready().await;
    }

    /// None until all are known: with some of them missing a pod would be more
    /// open than it should be.
    fn objects(&self) -> Option<PolicyObjects> {
        self.wait_until_ready().now_or_never()?;
        Some(PolicyObjects {
            namespaces: self.namespaces.state(),
            servers: self.servers.state(),
            authorizations: self.authorizations.state(),
            mesh_tls: self.mesh_tls.state(),
            networks: self.networks.state(),
        })
    }
}

/// Says what is wrong with policies, once for as long as it is.
fn report(known: &mut BTreeSet<String>, snapshot: &Snapshot) {
    let policies = snapshot.policies.as_ref();
    let problems = policies.map(|policies| policies.problems.clone());
    let problems = problems.unwrap_or_default();
    for problem in problems.difference(known) {
        warn!("{problem}");
    }
    *known = problems;
}
