//! Somebody in west with the true identity of a pod there, who does with it
//! what no sidecar would.

use std::{fs::File, net::SocketAddr, sync::Arc, thread, time::Duration};

use mesh_core::{
    destination::{Destination, Endpoint},
    endpoint::EndpointId,
    link::Link,
};
use mesh_dataplane::{
    TunnelStream,
    clock::ClockConfig,
    control::{ControlPlane, WorkloadConfig},
    health::IdentityHealth,
    links::watch_links,
    message::Body,
    peer::{self, Peer, PeerAddress, PeerConnection, Peers},
    tunnel::{Target, Tunnels},
};
use mesh_http::head::Head;
use mesh_lab::network::node_namespace;
use mesh_proto::{
    convert::{destination_from_proto, socket_addr_to_proto},
    v1::{DestinationRequest, Workload, discovery_client::DiscoveryClient},
};
use mesh_tls::Tls;
use mesh_wire::mesh1::{Carried, Reason};
use nix::sched::{CloneFlags, setns};
use tokio::{io::AsyncReadExt as _, time::timeout};
use tokio_util::task::TaskTracker;

use super::installed::WEST;
use crate::shared::Shared;

/// How long one attack may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The intruder, with a certificate and what discovery told.
pub(super) struct Intruder {
    control: ControlPlane,
    /// West's link to east.
    pub(super) link: Arc<Link>,
}

/// Runs `attack` on west's node, as the client's ServiceAccount.
pub(super) fn intrude<T: Send>(
    shared: &Shared,
    attack: impl AsyncFnOnce(&Intruder) -> T + Send,
) -> T {
    let roots = tempfile::tempdir().expect("a folder");
    let config = config(shared, roots.path());
    let attack = || {
        let node = format!("/run/netns/{}", node_namespace(WEST));
        let node = File::open(node).expect("west's node");
        // Of this thread only; the runtime stays on it.
        setns(node, CloneFlags::CLONE_NEWNET).expect("root");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let attack = async {
                let intruder = Intruder::certified(&config).await;
                attack(&intruder).await
            };
            timeout(DEADLINE, attack).await.expect("an end in time")
        })
    };
    thread::scope(|scope| scope.spawn(attack).join().expect("no panic"))
}

fn config(shared: &Shared, folder: &std::path::Path) -> WorkloadConfig {
    let kubectl = |words: &[&str]| shared.cluster(WEST).kubectl(words).expect("kubectl");
    for (file, path) in [
        ("ca.crt", r"-o=jsonpath={.data.ca\.crt}"),
        ("trust-domain", "-o=jsonpath={.data.trust-domain}"),
    ] {
        let text = kubectl(&["-n", "mesh-system", "get", "configmap", "mesh-roots", path]);
        std::fs::write(folder.join(file), text).expect("a file");
    }
    let audience = "--audience=identity.mesh.dev";
    let token = kubectl(&["-n", "shop", "create", "token", "client", audience]);
    let token_file = folder.join("token");
    std::fs::write(&token_file, token.trim()).expect("a file");
    WorkloadConfig {
        roots_dir: folder.to_owned(),
        token_file,
        control_host: cluster_ip(shared, "mesh-system", "mesh-control"),
        clock: ClockConfig::default(),
    }
}

/// The address of a Service in west.
pub(super) fn cluster_ip(shared: &Shared, namespace: &str, service: &str) -> String {
    let path = "-o=jsonpath={.spec.clusterIP}";
    let words = ["-n", namespace, "get", "service", service, path];
    shared.cluster(WEST).kubectl(&words).expect("the Service")
}

impl Intruder {
    async fn certified(config: &WorkloadConfig) -> Self {
        let tasks = TaskTracker::new();
        let control =
            ControlPlane::start(config, IdentityHealth::default(), &tasks).expect("roots");
        control.tls().certified().await;
        let mut links = watch_links(&control, &tasks);
        let known = links.wait_for(Option::is_some).await.expect("the stream");
        let links = known.clone().expect("links");
        let link = links.links.first().expect("a link").clone();
        Self { control, link }
    }

    pub(super) fn tls(&self) -> &Tls {
        self.control.tls()
    }

    /// What discovery says of the endpoints of a Service in west.
    pub(super) async fn endpoints(&self, service: &str, port: u16) -> Vec<Endpoint> {
        let address = SocketAddr::new(service.parse().expect("an address"), port);
        let request = DestinationRequest {
            address: Some(socket_addr_to_proto(address)),
            client: Some(Workload {
                namespace: "shop".into(),
                pod: "client".into(),
            }),
        };
        let mut discovery = DiscoveryClient::new(self.control.channel());
        let answer = discovery.watch_destination(request).await;
        let mut answer = answer.expect("discovery").into_inner();
        let first = answer.message().await.expect("discovery").expect("a state");
        match destination_from_proto(first).expect("a destination") {
            Destination::Service(service) => {
                let backends = service.backends.into_iter();
                backends.flat_map(|backend| backend.endpoints).collect()
            }
            other => panic!("{address} is {other:?}"),
        }
    }

    /// The id that stands for an endpoint in east.
    pub(super) fn id(&self, endpoint: &Endpoint) -> EndpointId {
        match endpoint.address.ip() {
            std::net::IpAddr::V6(address) => self.link.prefix.endpoint(address),
            std::net::IpAddr::V4(_) => None,
        }
        .expect("an endpoint behind the link")
    }

    /// What east's gateway says to a tunnel to `id`: nothing if it lets it
    /// through to a server that waits for us to speak.
    pub(super) async fn knock(&self, id: EndpointId) -> Result<TunnelStream, std::io::Error> {
        knock(self.tls(), &self.link, Target::Endpoint(id)).await
    }

    /// A connection to the sidecar of an endpoint in east.
    pub(super) async fn peer(&self, endpoint: &Endpoint) -> PeerConnection {
        let mesh = endpoint.mesh.as_ref().expect("a sidecar");
        let peer = Peer {
            address: PeerAddress::Linked(self.link.clone(), self.id(endpoint)),
            identity: mesh.identity.clone(),
        };
        let resolver = self.control.resolver().clone();
        let peers = Peers::new(
            self.tls().clone(),
            Tunnels::new(self.tls().clone(), resolver),
        );
        peers.connection(&peer).await.expect("east's sidecar")
    }
}

/// Opens a tunnel as `tls`; an error is what the gateway said or did.
pub(super) async fn knock(tls: &Tls, link: &Link, target: Target) -> std::io::Result<TunnelStream> {
    let resolver = mesh_dataplane::resolve::Resolver::from_system().expect("a resolver");
    let mut tunnel = Tunnels::new(tls.clone(), resolver)
        .open(link, target)
        .await
        .map_err(std::io::Error::other)?;
    // The server behind speaks only after us: an answer now is a refusal.
    match timeout(Duration::from_secs(2), tunnel.read_u8()).await {
        Err(_silence) => Ok(tunnel),
        Ok(Ok(byte)) => panic!("the gateway sent {byte}"),
        Ok(Err(error)) => Err(error),
    }
}

/// Status and reason of the answer to a request for `port`.
pub(super) async fn ask(peer: &PeerConnection, port: u16) -> (u16, Option<Reason>) {
    let mut head = Head::request("GET", "web", "/").expect("a request");
    let asking = peer.request(port, Carried::Http1, &mut head, Body::empty());
    let answer = asking.await.expect("an answer");
    (answer.status(), peer::reason(&answer.head))
}
