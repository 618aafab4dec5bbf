//! The `mesh.v1` services: each stream sends what a pure function makes of the
//! world, again whenever that changes.

use std::{pin::Pin, sync::Arc, time::Duration};

use mesh_core::identity::SpiffeId;
use mesh_core::link::Link;
use mesh_proto::{
    convert::{
        destination_to_proto, inbound_policy_to_proto, links_to_proto, socket_addr_from_proto,
    },
    v1::{
        self, discovery_server::Discovery, exported_endpoints_update, exported_services_update,
        exports_server::Exports, gateway_tables_server::GatewayTables,
        inbound_policies_server::InboundPolicies, links_server::Links,
    },
};
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::{
    destination::{destination, is_known},
    exports::{self, EndpointKey},
    inbound,
    metrics::Metrics,
    server::caller,
    world::{World, WorldReceiver},
};

/// States that wait for a slow client; it is the last that counts.
const WAITING: usize = 1;
/// How long a client waits for peers that have not been heard yet.
const FIRST_WORD: Duration = Duration::from_secs(3);
/// How often a feed shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// All services. Clones share everything.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) world: WorldReceiver,
    pub(crate) key: Arc<EndpointKey>,
    pub(crate) cluster_uid: Arc<str>,
    /// Who may have the gateway's table.
    pub(crate) gateway: SpiffeId,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: TaskTracker,
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Streams {
    /// A stream of what `state` makes of the world, without repetitions. With
    /// `heartbeat` that message is sent when nothing else was for a while.
    fn stream<T>(
        &self,
        name: &'static str,
        state: impl Fn(&World) -> Result<T, Status> + Send + 'static,
        heartbeat: Option<T>,
    ) -> Response<Answer<T>>
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        let mut last = None;
        let updates = move |world: &World| {
            let next = state(world)?;
            if last.as_ref() == Some(&next) {
                return Ok(Vec::new());
            }
            last = Some(next.clone());
            Ok(vec![next])
        };
        self.updates(name, updates, heartbeat)
    }

    /// A stream of what is to be said whenever the world has changed.
    fn updates<T>(
        &self,
        name: &'static str,
        mut updates: impl FnMut(&World) -> Result<Vec<T>, Status> + Send + 'static,
        heartbeat: Option<T>,
    ) -> Response<Answer<T>>
    where
        T: Clone + Send + Sync + 'static,
    {
        let (sender, receiver) = mpsc::channel(WAITING);
        let guard = self.metrics.stream(name);
        let mut world = self.world.clone();
        self.tasks.spawn(async move {
            let _guard = guard;
            let mut beat = interval(HEARTBEAT);
            loop {
                let next = world.borrow_and_update().as_ref().map(&mut updates);
                match next.unwrap_or_else(|| Ok(Vec::new())) {
                    Ok(updates) => {
                        for update in updates {
                            if sender.send(Ok(update)).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(status) => {
                        // The client is told why, if it still listens.
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                }
                tokio::select! {
                    change = world.changed() => if change.is_err() { return },
                    () = sender.closed() => return,
                    _ = beat.tick() => {
                        if let Some(heartbeat) = &heartbeat
                            && sender.send(Ok(heartbeat.clone())).await.is_err()
                        {
                            return;
                        }
                    }
                }
            }
        });
        Response::new(Box::pin(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl Discovery for Streams {
    type WatchDestinationStream = Answer<v1::Destination>;

    async fn watch_destination(
        &self,
        request: Request<v1::DestinationRequest>,
    ) -> Result<Response<Self::WatchDestinationStream>, Status> {
        caller(&request)?;
        let address = socket_addr_from_proto("address", request.into_inner().address)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let meaning = move |world: &World| destination(&world.snapshot, &world.remote, address);
        // Peers that have not been heard since the start get a moment.
        let mut world = self.world.clone();
        let known = world.wait_for(|world| {
            let meaning = world.as_ref().map(meaning);
            meaning.is_some_and(|meaning| is_known(&meaning))
        });
        // What is not known then is said to be so.
        let _ = timeout(FIRST_WORD, known).await;
        let state = move |world: &World| Ok(destination_to_proto(&meaning(world)));
        Ok(self.stream("destination", state, None))
    }
}

#[tonic::async_trait]
impl InboundPolicies for Streams {
    type WatchInboundStream = Answer<v1::InboundPolicy>;

    async fn watch_inbound(
        &self,
        request: Request<v1::InboundRequest>,
    ) -> Result<Response<Self::WatchInboundStream>, Status> {
        let caller = caller(&request)?;
        let workload = request.into_inner().workload;
        let workload = workload.ok_or_else(|| Status::invalid_argument("no workload"))?;
        let name = (workload.namespace, workload.pod);
        let state = move |world: &World| {
            // One that the cache does not have yet asks again, and keeps what
            // it knows.
            let pod = world.snapshot.pods.get(&name);
            let pod = pod.ok_or_else(|| Status::not_found("the workload is not known"))?;
            if pod.identity.as_ref() != Some(&caller) {
                return Err(Status::permission_denied(
                    "the workload is not the caller's",
                ));
            }
            let policy = inbound::policy(&world.snapshot, &name);
            let policy =
                policy.ok_or_else(|| Status::unavailable("policies cannot be read yet"))?;
            Ok(inbound_policy_to_proto(&policy))
        };
        Ok(self.stream("inbound", state, None))
    }
}

#[tonic::async_trait]
impl Links for Streams {
    type WatchLinksStream = Answer<v1::LinkSet>;

    async fn watch_links(
        &self,
        request: Request<v1::LinksRequest>,
    ) -> Result<Response<Self::WatchLinksStream>, Status> {
        caller(&request)?;
        let state = |world: &World| Ok(links_to_proto(&world.snapshot.links));
        Ok(self.stream("links", state, None))
    }
}

#[tonic::async_trait]
impl GatewayTables for Streams {
    type WatchTableStream = Answer<v1::GatewayTable>;

    async fn watch_table(
        &self,
        request: Request<v1::TableRequest>,
    ) -> Result<Response<Self::WatchTableStream>, Status> {
        if caller(&request)? != self.gateway {
            return Err(Status::permission_denied(
                "the table is for the gateway only",
            ));
        }
        let key = self.key.clone();
        let state = move |world: &World| Ok(exports::table(&world.snapshot, &key));
        Ok(self.stream("table", state, None))
    }
}

#[tonic::async_trait]
impl Exports for Streams {
    type WatchServicesStream = Answer<v1::ExportedServicesUpdate>;
    type WatchEndpointsStream = Answer<v1::ExportedEndpointsUpdate>;

    async fn watch_services(
        &self,
        request: Request<v1::ExportedServicesRequest>,
    ) -> Result<Response<Self::WatchServicesStream>, Status> {
        use exported_services_update::Update;
        let caller = caller(&request)?;
        let uid = self.cluster_uid.clone();
        let mut sent = exports::Sent::nothing(request.into_inner());
        let updates = move |world: &World| {
            let peer = reader(world, &caller)?;
            Ok(sent.next(exports::services(&world.snapshot, peer, &uid)))
        };
        let heartbeat = v1::ExportedServicesUpdate {
            update: Some(Update::Heartbeat(v1::Heartbeat {})),
        };
        Ok(self.updates("exported services", updates, Some(heartbeat)))
    }

    async fn watch_endpoints(
        &self,
        request: Request<v1::ExportedEndpointsRequest>,
    ) -> Result<Response<Self::WatchEndpointsStream>, Status> {
        use exported_endpoints_update::Update;
        let caller = caller(&request)?;
        let request = request.into_inner();
        let mut sent = exports::SentEndpoints::nothing(&request);
        let name = (request.namespace, request.name);
        let key = self.key.clone();
        let updates = move |world: &World| {
            let peer = reader(world, &caller)?;
            let update = sent.next(exports::endpoints(&world.snapshot, &key, peer, &name));
            let update = update.map(|update| v1::ExportedEndpointsUpdate {
                update: Some(update),
            });
            Ok(update.into_iter().collect())
        };
        let heartbeat = v1::ExportedEndpointsUpdate {
            update: Some(Update::Heartbeat(v1::Heartbeat {})),
        };
        Ok(self.updates("exported endpoints", updates, Some(heartbeat)))
    }
}

/// The link whose controllers `caller` is one of. A link that goes away ends
/// the streams of its peer.
fn reader<'a>(world: &'a World, caller: &SpiffeId) -> Result<&'a Arc<Link>, Status> {
    let links = &world.snapshot.links.links;
    links
        .iter()
        .find(|link| link.export && (link.control == *caller || link.mirror == *caller))
        .ok_or_else(|| Status::permission_denied("no link lets the caller read exports"))
}
