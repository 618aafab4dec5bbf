//! Tunnels to an export: the gateway picks the pod.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use http::StatusCode;
use mesh_core::{endpoint::EndpointId, identities::Identities};
use mesh_dataplane::{
    TunnelStream,
    peer::{Peer, PeerAddress, Peers},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use super::{
    peers::{TARGET, post, sidecar},
    world::{LONG, WEB, World, connect_endpoint, echo, endpoint},
};
use crate::fixtures::{id, leading_to};

/// The id of a whole export.
const WHOLE: EndpointId = EndpointId(0xe);

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    closed.local_addr().unwrap()
}

/// A server that says who it is.
async fn named(name: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(&[name]).await.unwrap();
            kept.push(stream);
        }
    });
    address
}

async fn open(world: &World) -> TunnelStream {
    let (tunnels, link) = (world.tunnels(WEB), world.link());
    let opened = timeout(LONG, tunnels.open(&link, endpoint(WHOLE)));
    opened.await.unwrap().unwrap()
}

async fn who_answers(stream: &mut TunnelStream) -> u8 {
    timeout(LONG, stream.read_u8()).await.unwrap().unwrap()
}

#[tokio::test]
async fn any_pod_that_is_ready_serves_an_export() {
    let world = World::new().await;
    let mut route = leading_to("west", &[named(1).await, named(2).await, named(3).await]);
    route.members[2].ready = false;
    world.set_table([(WHOLE, route)]);
    let mut answered = HashSet::new();
    while answered.len() < 2 {
        answered.insert(who_answers(&mut open(&world).await).await);
    }
    assert_eq!(answered, HashSet::from([1, 2]));
}

#[tokio::test]
async fn r11_a_pod_that_cannot_be_connected_is_passed_over() {
    let world = World::new().await;
    world.expose_any(WHOLE, &[nobody().await, named(1).await, nobody().await]);
    for _ in 0..20 {
        assert_eq!(who_answers(&mut open(&world).await).await, 1);
    }
}

#[tokio::test]
async fn g1_an_export_of_others_is_as_unknown_as_none() {
    let world = World::new().await;
    let mut web = world.raw(&world.client(WEB)).await;
    world.set_table([(WHOLE, leading_to("north", &[named(1).await]))]);
    let others = web.ask(connect_endpoint(WHOLE)).await;
    world.set_table([]);
    let none = web.ask(connect_endpoint(WHOLE)).await;
    assert_eq!(others, none);
    assert_eq!(none.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn g7_a_tunnel_ends_with_the_pod_that_it_was_led_to_and_with_the_export() {
    let world = World::new().await;
    let (one, two) = (named(1).await, named(2).await);
    world.expose_any(WHOLE, &[one]);
    let mut stream = open(&world).await;
    assert_eq!(who_answers(&mut stream).await, 1);
    // Others come, and it is not ready any more: what runs goes on.
    let mut route = leading_to("west", &[one, two]);
    route.members[0].ready = false;
    world.set_table([(WHOLE, route)]);
    let mut next = open(&world).await;
    assert_eq!(who_answers(&mut next).await, 2);
    // It leaves.
    world.expose_any(WHOLE, &[two]);
    super::withdrawn::is_broken_off(&mut stream).await;
    // The export is withdrawn.
    world.set_table([]);
    super::withdrawn::is_broken_off(&mut next).await;
    world.shows(r#"end="withdrawn"} 2"#).await;
}

#[tokio::test]
async fn r11_a_sidecar_behind_an_export_may_be_any_of_its_identities_and_no_other() {
    let world = World::new().await;
    let tls = world.east.tls_trusting(TARGET, &[&world.west]);
    world.expose_any(WHOLE, &[sidecar(tls).await]);
    let peers = Peers::new(world.client(WEB), world.tunnels(WEB));
    let canary = "spiffe://east/ns/shop/sa/canary";
    let peer = |ids: &[&str]| Peer {
        address: PeerAddress::Linked(Arc::new(world.link()), WHOLE),
        identity: Identities::any_of(ids.iter().map(|uri| id(uri))).unwrap(),
    };
    let connection = peers.connection(&peer(&[canary, TARGET])).await.unwrap();
    let answer = post(&connection, "x").await;
    let seen = answer.head.get_single(b"seen-client");
    assert_eq!(seen, Some(WEB.as_bytes()));
    let refused = peers.connection(&peer(&[canary])).await.err().unwrap();
    assert_eq!(refused.reason(), "unexpected_identity", "{refused}");
}

#[tokio::test]
async fn g12_unknown_targets_are_refused_from_the_table_alone() {
    const MISSES: u64 = 10_000;
    let upstream = Counted::start().await;
    let address = upstream.address;
    let world = World::with(|gateway| gateway.exports.port = address.port()).await;
    world.expose_any(WHOLE, &[echo().await, address]);
    let mut web = world.raw(&world.client(WEB)).await;
    for miss in 0..MISSES {
        let (status, _) = web.ask(connect_endpoint(EndpointId(1000 + miss))).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    let refused = format!(r#"reason="unknown-endpoint",link="west",client="{WEB}"}} {MISSES}"#);
    world.shows(&refused).await;
    assert_eq!(
        upstream.connections(),
        0,
        "neither mesh-control nor a pod was asked"
    );
}

/// A port that counts who connects.
struct Counted {
    address: SocketAddr,
    count: Arc<std::sync::atomic::AtomicUsize>,
}

impl Counted {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::default();
        let counting: Arc<std::sync::atomic::AtomicUsize> = Arc::clone(&count);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        Self { address, count }
    }

    fn connections(&self) -> usize {
        self.count.load(std::sync::atomic::Ordering::Relaxed)
    }
}
