//! Peers in memory, for tests: each exports what it is told to, and may lie.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use mesh_core::link::{Gateway, Link, Links};
use mesh_proto::v1::{
    ExportedEndpointsRequest, ExportedEndpointsUpdate, ExportedService, ExportedServicePort,
    ExportedServices, ExportedServicesRequest, ExportedServicesUpdate, Heartbeat,
    exported_services_update::Update,
    exports_server::{Exports, ExportsServer},
};
use mesh_tls::Clock;
use serde_json::{Value, json};
use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, transport::Endpoint};

use crate::{
    controller, fake_api::FakeApi, feed::Dial, importer::Context, local::Local, metrics::Metrics,
    writer::Writer,
};

/// What a peer says and how.
#[derive(Clone, Default)]
pub(crate) struct Says {
    /// Ports, by namespace and name.
    pub(crate) services: BTreeMap<(String, String), u16>,
    pub(crate) mood: Mood,
}

/// How truthful a peer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Honest,
    /// Exports nothing, it says.
    Empty,
    /// Exports half of it.
    Half,
    /// Exports what no cluster can have.
    Garbage,
    /// Is another cluster.
    Stranger,
    /// Says no word.
    Silent,
    /// Knows us no more.
    Refusing,
    /// Hangs up.
    Cut,
}

/// One peer per link, and what leads to them.
pub(crate) struct Peers {
    pub(crate) dial: Dial,
    pub(crate) peers: BTreeMap<String, watch::Sender<Says>>,
    _servers: JoinSet<()>,
}

impl Peers {
    /// Runs the controller against an API server and these peers, whose
    /// gateways all answer. It lives as long as what is returned.
    pub(crate) fn mirror_into(
        &self,
        api: &FakeApi,
        links: watch::Receiver<Option<Arc<Links>>>,
    ) -> JoinSet<()> {
        let local = Local::new();
        let cx = Context {
            clock: Clock::SYSTEM,
            local: local.clone(),
            writer: Writer::new(api.client()),
            links,
            dial: self.dial.clone(),
            probe: Arc::new(|_| Box::pin(async { Ok(()) })),
            metrics: Metrics::default(),
        };
        let mut tasks = JoinSet::new();
        local.follow(&api.client(), &mut tasks);
        tasks.spawn(async move { controller::run(&cx).await });
        tasks
    }

    /// The peers of links with these names, which are the clusters' names too.
    pub(crate) fn start(names: &[&str]) -> Self {
        let mut servers = JoinSet::new();
        let mut peers = BTreeMap::new();
        let mut ways = HashMap::new();
        for name in names {
            let says = watch::Sender::new(Says::default());
            let (connections, incoming) = mpsc::channel(8);
            let peer = Peer {
                name: (*name).into(),
                says: says.subscribe(),
            };
            servers.spawn(async move {
                let exports = ExportsServer::new(peer).max_encoding_message_size(usize::MAX);
                let server = tonic::transport::Server::builder().add_service(exports);
                let incoming = ReceiverStream::new(incoming);
                let _ = server.serve_with_incoming(incoming).await;
            });
            peers.insert((*name).to_owned(), says);
            ways.insert((*name).to_owned(), connections);
        }
        Self {
            dial: dial(ways),
            peers,
            _servers: servers,
        }
    }

    pub(crate) fn says(&self, peer: &str, change: impl FnOnce(&mut Says)) {
        self.peers[peer].send_modify(change);
    }
}

fn dial(ways: HashMap<String, mpsc::Sender<std::io::Result<DuplexStream>>>) -> Dial {
    Arc::new(move |link| {
        let way = ways[&*link.name].clone();
        let connector = tower::service_fn(move |_| {
            let way = way.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                way.send(Ok(theirs)).await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(ours))
            }
        });
        Endpoint::from_static("http://peer").connect_with_connector_lazy(connector)
    })
}

struct Peer {
    name: String,
    says: watch::Receiver<Says>,
}

type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Exports for Peer {
    type WatchServicesStream = Updates<ExportedServicesUpdate>;
    type WatchEndpointsStream = Updates<ExportedEndpointsUpdate>;

    async fn watch_services(
        &self,
        _: Request<ExportedServicesRequest>,
    ) -> Result<Response<Self::WatchServicesStream>, Status> {
        let mut says = self.says.clone();
        says.mark_changed();
        if says.borrow().mood == Mood::Refusing {
            return Err(Status::permission_denied("not linked"));
        }
        let updates =
            futures::stream::unfold((says, self.name.clone()), |(mut says, name)| async {
                let update = next(&mut says, &name).await?;
                Some((update, (says, name)))
            });
        Ok(Response::new(Box::pin(updates)))
    }

    async fn watch_endpoints(
        &self,
        _: Request<ExportedEndpointsRequest>,
    ) -> Result<Response<Self::WatchEndpointsStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// The next word of a feed: a snapshot after each change, else a heartbeat.
async fn next(
    says: &mut watch::Receiver<Says>,
    name: &str,
) -> Option<Result<ExportedServicesUpdate, Status>> {
    loop {
        let changed = match timeout(HEARTBEAT, says.changed()).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) => return None,
            Err(_) => false,
        };
        let now = says.borrow_and_update();
        let update = match now.mood {
            Mood::Cut => return None,
            Mood::Refusing => return Some(Err(Status::permission_denied("not linked"))),
            Mood::Silent => continue,
            _ if changed => Update::Services(snapshot(&now, name)),
            _ => Update::Heartbeat(Heartbeat {}),
        };
        return Some(Ok(ExportedServicesUpdate {
            update: Some(update),
        }));
    }
}

fn snapshot(says: &Says, name: &str) -> ExportedServices {
    let mut services: Vec<ExportedService> = says
        .services
        .iter()
        .map(|((namespace, name), port)| exported(namespace, name, (*port).into()))
        .collect();
    match says.mood {
        Mood::Honest | Mood::Stranger | Mood::Silent | Mood::Refusing | Mood::Cut => {}
        Mood::Empty => services.clear(),
        Mood::Half => services.truncate(services.len() / 2),
        Mood::Garbage => {
            services.extend([
                exported("kube-system", "web", 80),
                exported("shop\n", "web", 80),
                exported("shop", "../web", 80),
                exported("shop", &"x".repeat(70), 80),
                exported("shop", "zero", 0),
                exported("shop", "large", 65536),
                exported("shop", "web", 1),
            ]);
        }
    }
    let stranger = says.mood == Mood::Stranger;
    ExportedServices {
        cluster: name.into(),
        cluster_uid: if stranger {
            "stranger".into()
        } else {
            format!("{name}-uid")
        },
        services,
        ..ExportedServices::default()
    }
}

fn exported(namespace: &str, name: &str, port: u32) -> ExportedService {
    ExportedService {
        namespace: namespace.into(),
        name: name.into(),
        ports: vec![ExportedServicePort {
            port,
            ..ExportedServicePort::default()
        }],
        ..ExportedService::default()
    }
}

/// What mesh-control says of links with these names.
pub(crate) fn links(names: &[&str]) -> Links {
    let link = |(index, name): (usize, &&str)| {
        let id = |program: &str| format!("spiffe://{name}/ns/mesh/sa/{program}").parse();
        Arc::new(Link {
            name: (*name).into(),
            cluster: name.parse().expect("a name"),
            trust_domain: name.parse().expect("a name"),
            roots: Vec::new(),
            gateway: Gateway {
                hosts: vec!["192.0.2.1".into()],
                port: 4143,
                identity: id("gateway").expect("an id"),
                server_name: "gateway".into(),
            },
            prefix: format!("fd6d:6573:6800:{index}::/64")
                .parse()
                .expect("a prefix"),
            control: id("control").expect("an id"),
            mirror: id("mirror").expect("an id"),
            import: true,
            export: true,
        })
    };
    Links {
        cluster: "home".parse().expect("a name"),
        trust_domain: "home".parse().expect("a name"),
        roots: Vec::new(),
        links: names.iter().enumerate().map(link).collect(),
    }
}

/// The Link object of that name.
pub(crate) fn link_object(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "Link",
        "metadata": { "name": name, "uid": uid },
        "spec": {
            "cluster": name,
            "trustDomain": name,
            "bundle": "",
            "gateway": {
                "addresses": ["192.0.2.1"],
                "port": 4143,
                "identity": format!("spiffe://{name}/ns/mesh-multicluster/sa/mesh-gateway"),
                "serverName": "gateway",
            },
            "peers": {
                "control": format!("spiffe://{name}/ns/mesh-system/sa/mesh-control"),
                "mirror": format!("spiffe://{name}/ns/mesh-multicluster/sa/mesh-mirror"),
            },
            "prefix": "fd6d:6573:6800:1::/64",
        },
    })
}

const HEARTBEAT: Duration = Duration::from_secs(5);
