//! What following one link costs: measured in a process of its own, since
//! nothing else may allocate meanwhile.

use std::{env::current_exe, fs, process::Command};

use futures::{StreamExt as _, stream};
use mesh_proto::v1::{
    ExportedEndpoint, ExportedEndpointPort, ExportedEndpointsUpdate, ExportedServicesRequest,
    ExportedServicesUpdate,
    exported_endpoints_update::Update,
    exports_server::{Exports, ExportsServer},
};
use tokio_stream::Stream;
use tonic::{
    Request, Response, Status,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use super::*;

const SERVICES: usize = 300;
const ENDPOINTS: usize = 4_000;
/// For all of it, the peer's half of the streams included.
const MOST: usize = 10_000_000;
const PAGE: usize = 4096;

#[test]
fn following_300_services_with_4000_endpoints_takes_at_most_10_mb() {
    let alone = Command::new(current_exe().unwrap())
        .args(["--exact", "feed::memory::alone", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stdout).into_owned();
    assert!(
        alone.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[tokio::test]
#[ignore = "is run by the test above, in a process of its own"]
async fn alone() {
    let channel = peer().await;
    let into = Arc::new(watch::channel(Arc::<Remote>::default()).0);
    // The connection, and whatever a first time needs.
    let mut followed = tokio::task::JoinSet::new();
    followed.spawn(one(mirror(0), channel.clone(), into.clone()));
    heard(&into, 1).await;
    let before = resident();
    for n in 1..SERVICES {
        followed.spawn(one(mirror(n), channel.clone(), into.clone()));
    }
    heard(&into, SERVICES).await;
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes");
    let remote = into.borrow();
    let endpoints: usize = remote.values().map(|h| h.endpoints.endpoints.len()).sum();
    assert_eq!(endpoints, ENDPOINTS);
    assert!(grown <= MOST, "{grown} bytes");
}

async fn heard(into: &watch::Sender<Arc<Remote>>, services: usize) {
    let mut remote = into.subscribe();
    let all = remote.wait_for(|remote| remote.len() == services);
    timeout(Duration::from_secs(60), all)
        .await
        .unwrap()
        .unwrap();
}

fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = statm.split_whitespace().nth(1).unwrap();
    pages.parse::<usize>().unwrap() * PAGE
}

fn mirror(n: usize) -> Mirror {
    Mirror {
        cluster: "north".parse().unwrap(),
        namespace: "shop".to_owned(),
        name: format!("service-{n}"),
    }
}

/// A peer with all those Services.
async fn peer() -> Channel {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let server = Server::builder().add_service(ExportsServer::new(Peer));
    tokio::spawn(server.serve_with_incoming(incoming));
    let uri = format!("http://{address}");
    Endpoint::from_shared(uri).unwrap().connect_lazy()
}

struct Peer;

type Updates<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Exports for Peer {
    type WatchServicesStream = Updates<ExportedServicesUpdate>;
    type WatchEndpointsStream = Updates<ExportedEndpointsUpdate>;

    async fn watch_services(
        &self,
        _: Request<ExportedServicesRequest>,
    ) -> Result<Response<Self::WatchServicesStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn watch_endpoints(
        &self,
        request: Request<ExportedEndpointsRequest>,
    ) -> Result<Response<Self::WatchEndpointsStream>, Status> {
        let name = request.into_inner().name;
        let update = ExportedEndpointsUpdate {
            update: Some(Update::Endpoints(exported(&name))),
        };
        let then_silent = stream::iter([Ok(update)]).chain(stream::pending());
        Ok(Response::new(Box::pin(then_silent)))
    }
}

fn exported(name: &str) -> ExportedEndpoints {
    let number: u64 = name.trim_start_matches("service-").parse().unwrap();
    // 300 times 13, and one more in a third of them, are 4,000.
    let count = if number.is_multiple_of(3) { 14 } else { 13 };
    let identity = format!("spiffe://north/ns/shop/sa/{name}");
    let ports = vec![ExportedEndpointPort {
        service_port: 80,
        target_port: 8080,
        protocol: 0,
    }];
    let endpoint = |n| ExportedEndpoint {
        id: number << 32 | n,
        identity: identity.clone(),
        zone: "europe-west1-b".to_owned(),
        ports: ports.clone(),
        weight: 10_000,
    };
    ExportedEndpoints {
        exported: true,
        authority: format!("{name}.shop.svc.cluster.local"),
        endpoints: (1..=count).map(endpoint).collect(),
        id: number << 32,
        identities: vec![identity.clone()],
        ports: ports.clone(),
        version: "0123456789abcdef0123456789abcdef".to_owned(),
    }
}
