use std::io;

use mesh_dataplane::{
    TunnelRefused, TunnelStream,
    tunnel::{Target, Tunnels},
};
use mesh_wire::mesh1::Reason;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::world::{DOWN, EXPORTED, LONG, WEB, World, connect_endpoint, endpoint};

/// Sends `sent`, ends, and gives what came back until the end.
async fn exchange(mut stream: TunnelStream, sent: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(sent).await?;
    stream.shutdown().await?;
    let mut back = Vec::new();
    timeout(LONG, stream.read_to_end(&mut back)).await??;
    Ok(back)
}

async fn open(world: &World, tunnels: &Tunnels, target: Target) -> TunnelStream {
    let link = world.link();
    let opening = timeout(LONG, tunnels.open(&link, target));
    opening.await.unwrap().unwrap()
}

fn why(error: &io::Error) -> Option<Reason> {
    error.get_ref()?.downcast_ref::<TunnelRefused>()?.reason
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_end_of_one_leaves_the_other() {
    let world = World::new().await;
    let stream = open(&world, &world.tunnels(WEB), endpoint(EXPORTED)).await;
    assert_eq!(exchange(stream, b"hello").await.unwrap(), b"hello");
    let way = r#"trust_domain="west",service="shop/web",link="west",client="spiffe://west/ns/shop/sa/web""#;
    world
        .shows(&format!(r#"tunnels_closed_total{{{way},end="done"}} 1"#))
        .await;
    world
        .shows(&format!(r#"carried_bytes_total{{{way},direction="up"}} 5"#))
        .await;
    world
        .shows(&format!(
            r#"carried_bytes_total{{{way},direction="down"}} 5"#
        ))
        .await;
}

#[tokio::test]
async fn many_bytes_arrive_as_they_were_sent() {
    let world = World::new().await;
    let mut sent = vec![0; 24 << 20];
    StdRng::seed_from_u64(1).fill(&mut sent[..]);
    let stream = open(&world, &world.tunnels(WEB), endpoint(EXPORTED)).await;
    let (mut read, mut write) = tokio::io::split(stream);
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&sent).await?;
        write.shutdown().await
    });
    let mut back = Vec::new();
    timeout(LONG, read.read_to_end(&mut back))
        .await
        .unwrap()
        .unwrap();
    writing.await.unwrap().unwrap();
    assert!(back == expected, "{} bytes came back", back.len());
}

#[tokio::test]
async fn tunnels_of_one_client_share_a_connection() {
    let world = World::new().await;
    let tunnels = world.tunnels(WEB);
    let mut running = tokio::task::JoinSet::new();
    for n in 0..50_u8 {
        let stream = open(&world, &tunnels, endpoint(EXPORTED)).await;
        running.spawn(async move { exchange(stream, &[n; 70_000]).await.unwrap() == [n; 70_000] });
    }
    while let Some(same) = running.join_next().await {
        assert!(same.unwrap());
    }
    world
        .shows(r#"open_connections{trust_domain="west"} 1"#)
        .await;
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_refusal() {
    let world = World::new().await;
    let stream = open(&world, &world.tunnels(WEB), endpoint(DOWN)).await;
    let error = exchange(stream, b"hello").await.unwrap_err();
    assert_eq!(why(&error), Some(Reason::ConnectFailed), "{error}");
}

#[tokio::test]
async fn the_gateway_answers_a_probe_itself() {
    let world = World::new().await;
    for client in [WEB, "spiffe://west/ns/any/sa/body"] {
        let stream = open(&world, &world.tunnels(client), Target::Probe).await;
        assert_eq!(exchange(stream, b"").await.unwrap(), b"");
    }
}

#[tokio::test]
async fn the_feed_is_reached_by_the_peers_programs_alone() {
    let world = World::new().await;
    for client in [
        "spiffe://west/ns/mesh-system/sa/mesh-control",
        "spiffe://west/ns/mesh-multicluster/sa/mesh-mirror",
    ] {
        let stream = open(&world, &world.tunnels(client), Target::Exports).await;
        assert_eq!(exchange(stream, b"feed").await.unwrap(), b"feed");
    }
    let stream = open(&world, &world.tunnels(WEB), Target::Exports).await;
    let error = exchange(stream, b"feed").await.unwrap_err();
    assert_eq!(why(&error), Some(Reason::NotAllowed), "{error}");
}

#[tokio::test]
async fn beyond_the_cap_on_tunnels_new_ones_are_refused() {
    let world = World::with(|gateway| {
        gateway.tunnels = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    })
    .await;
    let tunnels = world.tunnels(WEB);
    let mut first = open(&world, &tunnels, endpoint(EXPORTED)).await;
    first.write_all(b"x").await.unwrap();
    timeout(LONG, first.read_u8()).await.unwrap().unwrap();

    let second = open(&world, &tunnels, endpoint(EXPORTED)).await;
    let error = exchange(second, b"hello").await.unwrap_err();
    assert_eq!(why(&error), Some(Reason::Overloaded), "{error}");
}

#[tokio::test]
async fn while_draining_running_tunnels_go_on_and_then_the_gateway_ends() {
    let world = World::new().await;
    let tunnels = world.tunnels(WEB);
    let mut stream = open(&world, &tunnels, endpoint(EXPORTED)).await;
    stream.write_all(b"x").await.unwrap();
    timeout(LONG, stream.read_u8()).await.unwrap().unwrap();

    world.door.abort();
    let gateway = world.gateway.clone();
    let draining = tokio::spawn(async move { gateway.drain(LONG).await });
    assert_eq!(exchange(stream, b"the rest").await.unwrap(), b"the rest");
    assert!(draining.await.unwrap(), "not drained in time");
}

#[tokio::test]
async fn g13_a_tunnel_of_another_implementation_goes_on_while_it_is_sent_away() {
    let world = World::new().await;
    let mut raw = world.raw(&world.client(WEB)).await;
    let mut tunnel = raw.tunnel(connect_endpoint(EXPORTED)).await;
    // More than any first window.
    let sent: Vec<u8> = (0..400_000_u32).map(|at| (at / 7) as u8).collect();
    tunnel.send(&sent, false);
    assert!(tunnel.receive(sent.len()).await == sent);

    world.door.abort();
    let gateway = world.gateway.clone();
    let draining = tokio::spawn(async move { gateway.drain(LONG).await });
    raw.sent_away().await;
    tunnel.send(&sent, true);
    assert!(tunnel.receive(usize::MAX).await == sent);
    assert!(draining.await.unwrap(), "not drained in time");
}
