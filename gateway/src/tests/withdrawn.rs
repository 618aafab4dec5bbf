use std::time::Duration;

use http::StatusCode;
use mesh_dataplane::TunnelStream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};

use super::world::{DOWN, EXPORTED, LONG, WEB, World, connect_endpoint, endpoint};

/// What the rows of G7 allow.
const SOON: Duration = Duration::from_secs(5);

async fn running_tunnel(world: &World) -> TunnelStream {
    let (tunnels, link) = (world.tunnels(WEB), world.link());
    let opened = tunnels.open(&link, endpoint(EXPORTED));
    let mut stream = timeout(LONG, opened).await.unwrap().unwrap();
    echoes(&mut stream).await;
    stream
}

async fn echoes(stream: &mut TunnelStream) {
    stream.write_all(b"x").await.unwrap();
    assert_eq!(
        timeout(LONG, stream.read_u8()).await.unwrap().unwrap(),
        b'x'
    );
}

/// Asserts that the gateway breaks the tunnel off within the time allowed.
pub(super) async fn is_broken_off(stream: &mut TunnelStream) {
    let since = Instant::now();
    let end = timeout(SOON, stream.read_u8()).await;
    let error = end.expect("still open after 5 s").unwrap_err();
    assert_ne!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    assert!(since.elapsed() < SOON);
}

#[tokio::test]
async fn g7_when_an_export_is_withdrawn_its_tunnels_end() {
    let world = World::new().await;
    let mut raw = world.raw(&world.client(WEB)).await;
    let mut stream = running_tunnel(&world).await;
    world.withdraw(EXPORTED);
    // New ones are refused at once.
    let (status, _) = raw.ask(connect_endpoint(EXPORTED)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    is_broken_off(&mut stream).await;
    world.shows(r#"end="withdrawn"} 1"#).await;
}

#[tokio::test]
async fn g7_when_a_link_is_removed_its_connections_end() {
    let world = World::new().await;
    let mut stream = running_tunnel(&world).await;
    world.unlink();
    is_broken_off(&mut stream).await;
    world
        .shows(r#"connections_ended_total{reason="unlinked"} 1"#)
        .await;
    world
        .shows(r#"open_tunnels{trust_domain="west",service="shop/web",link="west",client="spiffe://west/ns/shop/sa/web"} 0"#)
        .await;
}

#[tokio::test]
async fn what_others_lose_breaks_nothing() {
    let world = World::new().await;
    let mut stream = running_tunnel(&world).await;
    world.withdraw(DOWN);
    let mut raw = world.raw(&world.client(WEB)).await;
    let (status, _) = raw.ask(connect_endpoint(DOWN)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    echoes(&mut stream).await;
}

#[tokio::test]
async fn an_endpoint_that_comes_back_in_time_keeps_its_tunnels() {
    let world = World::new().await;
    let mut stream = running_tunnel(&world).await;
    let table = world.table.borrow().clone();
    world.withdraw(EXPORTED);
    world.table.send_replace(table);
    let quiet = timeout(SOON, stream.read_u8()).await;
    assert!(quiet.is_err(), "broken off: {quiet:?}");
    echoes(&mut stream).await;
}
