//! East's root is replaced while west's requests go on: through the gateway to
//! a sidecar behind it.

use std::{sync::Arc, time::Duration};

use mesh_dataplane::{
    peer::{Peer, PeerAddress, Peers},
    resolve::Resolver,
    tunnel::Tunnels,
};
use mesh_testing::ca::TestRoot;
use mesh_tls::{Tls, Trust};
use tokio::time::Instant;

use super::{
    peers::{POD, TARGET, post, sidecar},
    world::{GATEWAY, WEB, World},
};
use crate::fixtures::id;

/// What T5 allows from the removal of a root to the end of what it vouched for.
const CLOSED: Duration = Duration::from_secs(60);

/// Trust of `local` in itself with several roots, and in another cluster.
fn trust(local: &[&TestRoot], other: &[&TestRoot]) -> Trust {
    let bundle = |roots: &[&TestRoot]| -> Vec<Vec<u8>> {
        roots.iter().flat_map(|root| root.bundle()).collect()
    };
    Trust::new(local[0].trust_domain().clone(), &bundle(local))
        .and_then(|trust| trust.with_bundle(other[0].trust_domain().clone(), &bundle(other)))
        .expect("bundles")
}

/// A workload of west and its way to the sidecar behind east's gateway.
struct West {
    tls: Tls,
    peers: Peers,
    peer: Peer,
}

impl West {
    fn new(world: &World) -> Self {
        let tls = world.client(WEB);
        let tunnels = Tunnels::new(tls.clone(), Resolver::from_system().expect("resolv.conf"));
        Self {
            peers: Peers::new(tls.clone(), tunnels),
            tls,
            peer: Peer {
                address: PeerAddress::Linked(Arc::new(world.link()), POD),
                identity: id(TARGET).into(),
            },
        }
    }

    /// A request, which must be answered.
    async fn ask(&self) {
        let connection = self.peers.connection(&self.peer).await.expect("a way");
        assert_eq!(post(&connection, "x").await.status(), 200);
    }
}

#[tokio::test]
async fn t5_no_request_fails_and_connections_of_the_old_root_are_closed() {
    let world = World::new().await;
    let (old, new) = (&world.east, &TestRoot::new("east"));
    let target = old.tls_trusting(TARGET, &[&world.west]);
    world.expose(POD, sidecar(target.clone()).await);
    let west = West::new(&world);
    let east = [&world.gateway.tls, &target];
    west.ask().await;

    // Both are published, then the new one signs.
    west.tls.set_trust(trust(&[&world.west], &[old, new]));
    for tls in east {
        tls.set_trust(trust(&[old, new], &[&world.west]));
    }
    west.ask().await;
    world.gateway.tls.set_certificate(new.issue(GATEWAY));
    target.set_certificate(new.issue(TARGET));
    west.ask().await;
    assert!(!world.metrics().contains("connections_ended_total{"));

    // The old one is gone: so is what it vouched for, and no request is lost.
    for tls in east {
        tls.set_trust(trust(&[new], &[&world.west]));
    }
    west.tls.set_trust(trust(&[&world.west], &[new]));
    let start = Instant::now();
    while !world
        .metrics()
        .contains(r#"connections_ended_total{reason="done"} 1"#)
    {
        west.ask().await;
        assert!(start.elapsed() < CLOSED, "{}", world.metrics());
    }
    west.ask().await;

    // Who still shows a certificate of the old one is refused.
    world.gateway.tls.set_certificate(old.issue(GATEWAY));
    let late = West::new(&world);
    late.tls.set_trust(trust(&[&world.west], &[new]));
    let refused = late.peers.connection(&late.peer).await.map(drop);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("certificate is refused"), "{refused}");
}

#[tokio::test]
async fn t5_a_client_of_a_root_that_is_gone_is_sent_away() {
    let world = World::new().await;
    let target = world.east.tls_trusting(TARGET, &[&world.west]);
    world.expose(POD, sidecar(target).await);
    let west = West::new(&world);
    west.ask().await;
    // West's root has changed, and west knows it; the sidecar need not.
    let new = TestRoot::new("west");
    west.tls.set_certificate(new.issue(WEB));
    world.gateway.tls.set_trust(trust(&[&world.east], &[&new]));
    let start = Instant::now();
    let slot = west.peers.slot(&west.peer);
    while west
        .peers
        .open_connection(&slot, Instant::now().into_std())
        .is_some()
    {
        tokio::task::yield_now().await;
        assert!(start.elapsed() < CLOSED, "{}", world.metrics());
    }
}
