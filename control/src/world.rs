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
    runtime::{
        WatchStreamExt as _, reflector,
        reflector::{Store, store::Writer},
        watcher,
    },
};
use mesh_api::{
    link::Link,
    policy::{AuthorizationPolicy, MeshTLSAuthentication, NetworkAuthentication, Server},
    route::{HTTPRoute, TLSRoute},
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
/// A kind that is not defined is looked for again after this.
const RARELY: Duration = Duration::from_secs(10);
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
    routes: Foreign<HTTPRoute>,
    tls_routes: Foreign<TLSRoute>,
}

struct PolicyStores {
    namespaces: Store<Namespace>,
    servers: Store<Server>,
    authorizations: Store<AuthorizationPolicy>,
    mesh_tls: Store<MeshTLSAuthentication>,
    networks: Store<NetworkAuthentication>,
}

/// Objects of a kind whose definition is installed by others, or not at all.
struct Foreign<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    /// The API server has said that it does not know the kind.
    undefined: watch::Receiver<bool>,
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
        routes: foreign(client, &changed, tasks),
        tls_routes: foreign(client, &changed, tasks),
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
    tasks.spawn(keep(api, writer, changed.clone()));
    store
}

/// The same of a kind that may come to be defined later, or never.
fn foreign<K>(client: &Client, changed: &Arc<Notify>, tasks: &TaskTracker) -> Foreign<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (is_undefined, undefined) = watch::channel(false);
    let (store, writer) = reflector::store();
    let (client, changed) = (client.clone(), changed.clone());
    tasks.spawn(async move {
        loop {
            match is_defined::<K>(&client).await {
                Ok(true) => break,
                Ok(false) => {
                    is_undefined.send_replace(true);
                    sleep(RARELY).await;
                }
                Err(error) => {
                    debug!(kind = %K::kind(&()), %error, "discovery");
                    sleep(AGAIN).await;
                }
            }
        }
        keep(Api::<K>::all(client), writer, changed).await;
    });
    Foreign { store, undefined }
}

/// Whether the API server knows the kind. (To ask for its objects would tell
/// the same, with a line in both logs each time.)
async fn is_defined<K>(client: &Client) -> kube::Result<bool>
where
    K: Resource<DynamicType = ()>,
{
    let (group, version) = (K::group(&()), K::api_version(&()));
    let groups = client.list_api_groups().await?.groups;
    let mut versions = groups.iter().filter(|known| known.name == *group);
    let is_served = versions.any(|known| {
        let mut versions = known.versions.iter();
        versions.any(|known| known.group_version == *version)
    });
    if !is_served {
        return Ok(false);
    }
    let kinds = client.list_api_group_resources(&version).await?;
    let plural = K::plural(&());
    Ok(kinds.resources.iter().any(|known| known.name == *plural))
}

/// Follows all objects of a kind for as long as the program runs.
async fn keep<K>(api: Api<K>, writer: Writer<K>, changed: Arc<Notify>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
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
            self.routes.wait_until_settled().await;
            self.tls_routes.wait_until_settled().await;
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
            routes: self.routes.store.state(),
            tls_routes: self.tls_routes.store.state(),
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
    let problems = policies.map(|policies| policies.problems());
    let problems = problems.unwrap_or_default();
    for problem in problems.difference(known) {
        warn!("{problem}");
    }
    *known = problems;
}

impl<K> Foreign<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// Returns when its objects are known, or known not to exist.
    async fn wait_until_settled(&self) {
        let mut undefined = self.undefined.clone();
        tokio::select! {
            _ = self.store.wait_until_ready() => {}
            _ = undefined.wait_for(|undefined| *undefined) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicBool, Ordering},
    };

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// An API server that knows one HTTPRoute, once `defined`.
    fn api_server(defined: Arc<AtomicBool>) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let watching = request.uri().query().is_some_and(|q| q.contains("watch="));
            let text = match request.uri().path() {
                "/apis" if !defined.load(Ordering::Relaxed) => r#"{"groups": []}"#,
                "/apis" => GROUPS,
                "/apis/gateway.networking.k8s.io/v1" => KINDS,
                _ => ROUTES,
            };
            async move {
                if watching {
                    std::future::pending::<()>().await;
                }
                let body = Body::from(text.as_bytes().to_vec());
                Ok::<_, Infallible>(Response::new(body))
            }
        });
        Client::new(service, "default")
    }

    const GROUPS: &str = r#"{"groups": [{
        "name": "gateway.networking.k8s.io",
        "versions": [{"groupVersion": "gateway.networking.k8s.io/v1", "version": "v1"}]
    }]}"#;

    const KINDS: &str = r#"{
        "groupVersion": "gateway.networking.k8s.io/v1",
        "resources": [{
            "name": "httproutes",
            "kind": "HTTPRoute",
            "singularName": "httproute",
            "namespaced": true,
            "verbs": ["list", "watch"]
        }]
    }"#;

    const ROUTES: &str = r#"{
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRouteList",
        "metadata": {"resourceVersion": "1"},
        "items": [{"metadata": {"name": "web", "namespace": "shop"}, "spec": {}}]
    }"#;

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_is_not_defined_is_not_waited_for_and_noticed_later() {
        let defined = Arc::new(AtomicBool::new(false));
        let changed = Arc::new(Notify::new());
        let tasks = TaskTracker::new();
        let server = api_server(defined.clone());
        let routes: Foreign<HTTPRoute> = foreign(&server, &changed, &tasks);
        let settled = timeout(AGAIN, routes.wait_until_settled()).await;
        assert!(settled.is_ok());
        assert!(routes.store.state().is_empty());

        defined.store(true, Ordering::Relaxed);
        let known = async {
            while routes.store.state().is_empty() {
                changed.notified().await;
            }
        };
        assert!(timeout(RARELY * 2, known).await.is_ok());
    }
}
