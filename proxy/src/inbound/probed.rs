//! A peer's sidecar that asks before it sends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mesh_core::{authorization::DefaultPolicy, inbound::InboundPolicy};
use mesh_dataplane::{
    crowd::Crowd,
    limits::Bounds,
    peer::{Peer, PeerAddress, Peers, ProbeAnswer},
    resolve::Resolver,
    tunnel::Tunnels,
};
use mesh_net::{accept::Acceptor, listen::listen, spread::Spread};
use mesh_runtime::Shutdown;
use mesh_testing::ca::{TestRoot, id};
use mesh_wire::mesh1::Reason;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::task::TaskTracker;

use super::Inbound;
use crate::{metrics::Metrics, plain, workers::Door};

const WEB: &str = "spiffe://east/ns/shop/sa/web";

/// The sidecar of `web` in east, which exports the application's port to west.
fn web(east: &TestRoot, west: &TestRoot, exported: u16) -> SocketAddr {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = listener.local_addr().expect("an address");
    let west_domain = "west".parse().expect("a trust domain");
    let policy = InboundPolicy {
        exported: [((west_domain, exported), "shop/web".into())].into(),
        ..InboundPolicy::of_default(DefaultPolicy::AllUnauthenticated)
    };
    let (_, policy) = watch::channel(Some(Arc::new(policy)));
    let inbound = Inbound {
        tls: east.tls_trusting(WEB, &[west]),
        pod_ips: vec![address.ip()],
        listening: address.port(),
        application: plain::Clients::default(),
        policy,
        first_policy: Arc::default(),
        metrics: Metrics::default(),
        bounds: Bounds::default(),
        crowd: Crowd::new(10),
    };
    let door = Door {
        acceptor: Acceptor::new(listener, 10),
        spread: Spread::over(&[]),
        tasks: TaskTracker::new(),
        shutdown: Shutdown::new(),
    };
    tokio::spawn(door.serve(vec![Arc::new(inbound)]));
    address
}

#[tokio::test]
async fn who_asks_is_told_and_the_application_hears_nothing() {
    let (east, west) = (TestRoot::new("east"), TestRoot::new("west"));
    let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = application.local_addr().unwrap().port();
    let address = web(&east, &west, port);
    let tls = west.tls_trusting("spiffe://west/ns/shop/sa/client", &[&east]);
    let tunnels = Tunnels::new(tls.clone(), Resolver::from_system().unwrap());
    let peer = Peer {
        address: PeerAddress::Direct(address),
        identity: id(WEB).into(),
    };
    let connection = Peers::new(tls, tunnels).connection(&peer).await.unwrap();
    assert_eq!(connection.probe(port).await.unwrap(), ProbeAnswer::Admitted);
    // One that is not exported to west, and one that is the sidecar's own.
    for port in [port ^ 1, 4143] {
        let answer = connection.probe(port).await.unwrap();
        assert_eq!(answer, ProbeAnswer::Refused(Reason::NotAllowed));
    }
    let heard = timeout(Duration::from_millis(100), application.accept()).await;
    assert!(heard.is_err(), "the application was connected to");
}
