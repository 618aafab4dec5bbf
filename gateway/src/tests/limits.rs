//! Each limit strikes at its bound and not below, is counted, and can be set.

mod http2;

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use mesh_core::limits::Limit;
use mesh_dataplane::crowd::Crowd;
use mesh_net::spread::Spread;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::world::{EXPORTED, LONG, Raw, WEB, World, bearing, connect, connect_endpoint};
use crate::{Door, Gateway, unfinished::Unfinished};

const OTHER: &str = "spiffe://west/ns/shop/sa/other";

/// A gateway that bears so much.
async fn world(text: &str) -> World {
    World::with(|gateway: &mut Gateway| {
        let bounds = bearing(text);
        let most = |limit| bounds.limits().size(limit);
        let (all, of_one) = (Limit::Handshakes, Limit::HandshakesPerAddress);
        gateway.unfinished = Unfinished::new(most(all), most(of_one));
        gateway.crowd = Crowd::new(most(Limit::ConnectionsPerPeer));
        gateway.tunnels = Arc::new(Semaphore::new(most(Limit::Tunnels)));
        gateway.bounds = bounds;
    })
    .await
}

impl World {
    /// Waits until a limit has struck once.
    async fn has_struck(&self, limit: Limit) {
        let struck = async {
            while self.gateway.bounds.struck(limit) == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, struck).await.expect("it has to strike");
        self.has_struck_no_more(limit);
    }

    fn has_struck_no_more(&self, limit: Limit) {
        assert_eq!(self.gateway.bounds.struck(limit), 1, "{limit}");
    }

    fn has_not_struck(&self, limit: Limit) {
        assert_eq!(self.gateway.bounds.struck(limit), 0, "{limit}");
    }

    async fn silent(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn closed(mut stream: TcpStream) {
    let end = timeout(LONG, stream.read_u8()).await;
    assert!(end.expect("an end in time").is_err());
}

async fn probes(client: &mut Raw) -> StatusCode {
    client.ask(connect("probe")).await.0
}

#[tokio::test]
async fn g10_handshakes_are_bounded_in_number() {
    for (text, limit, reason) in [
        ("handshakes=2", Limit::Handshakes, "too_many"),
        (
            "handshakes-per-address=2",
            Limit::HandshakesPerAddress,
            "too_many_from_address",
        ),
    ] {
        let world = world(text).await;
        let _silent = [world.silent().await, world.silent().await];
        world.has_not_struck(limit);
        closed(world.silent().await).await;
        world.has_struck(limit).await;
        let line = format!("handshakes_refused_total{{reason=\"{reason}\"}} 1");
        world.shows(&line).await;
    }
}

#[tokio::test]
async fn g10_a_handshake_has_its_time() {
    let world = world("handshake-time=150ms").await;
    let start = Instant::now();
    closed(world.silent().await).await;
    assert!(start.elapsed().as_millis() >= 150);
    world.has_struck(Limit::HandshakeTime).await;
    world
        .shows(r#"handshakes_refused_total{reason="timeout"} 1"#)
        .await;
}

#[tokio::test]
async fn g10_one_identity_has_no_more_connections_than_it_may() {
    let world = world("connections-per-peer=1").await;
    let mut first = world.raw(&world.client(WEB)).await;
    assert_eq!(probes(&mut first).await, StatusCode::OK);
    world.has_not_struck(Limit::ConnectionsPerPeer);
    let second = world.raw(&world.client(WEB)).await;
    second.sent_away().await;
    world.has_struck(Limit::ConnectionsPerPeer).await;
    world
        .shows(r#"handshakes_refused_total{reason="crowded"} 1"#)
        .await;
    let mut other = world.raw(&world.client(OTHER)).await;
    assert_eq!(probes(&mut other).await, StatusCode::OK);
    assert_eq!(probes(&mut first).await, StatusCode::OK);
}

#[tokio::test]
async fn g10_when_all_places_are_taken_the_next_one_waits() {
    for most in [1, 2] {
        let mut world = world(&format!("connections={most}")).await;
        let places = world.gateway.bounds.limits().size(Limit::Connections);
        let door = Door::bind("127.0.0.1:0".parse().unwrap(), places, Spread::over(&[]));
        let door = door.unwrap();
        world.address = door.acceptor.local_addr().unwrap();
        tokio::spawn(world.gateway.clone().accept(door));
        let mut silent = Vec::new();
        for _ in 1..most {
            silent.push(world.silent().await);
        }
        world.has_not_struck(Limit::Connections);
        silent.push(world.silent().await);
        world.has_struck(Limit::Connections).await;
        // Whoever comes now is served when somebody leaves.
        let tls = world.client(WEB);
        let (mut next, ()) = tokio::join!(world.raw(&tls), async { silent.clear() });
        assert_eq!(probes(&mut next).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn h9_heads_have_as_many_lines_as_they_may() {
    for (text, lines) in [("", 100), ("header-lines=9", 9)] {
        let world = world(text).await;
        let mut web = world.raw(&world.client(WEB)).await;
        for (more, expected) in [
            // One is there already.
            (lines - 1, StatusCode::OK),
            (lines, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        ] {
            world.has_not_struck(Limit::HeaderLines);
            let mut request = connect("probe");
            for _ in 0..more {
                let value = HeaderValue::from_static("y");
                request.headers_mut().append("x", value);
            }
            assert_eq!(web.ask(request).await.0, expected, "{more}");
        }
        world.has_struck(Limit::HeaderLines).await;
    }
}

#[tokio::test]
async fn g12_heads_are_as_large_as_they_may_be() {
    for (text, bytes) in [("", 4096), ("header-bytes=2Ki", 2048)] {
        let world = world(text).await;
        let mut web = world.raw(&world.client(WEB)).await;
        for (value, expected) in [
            (bytes - 500, StatusCode::OK),
            (bytes, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        ] {
            world.has_not_struck(Limit::HeaderBytes);
            let mut request = connect("probe");
            let value = "v".repeat(value).parse().unwrap();
            request.headers_mut().insert("x", value);
            assert_eq!(web.ask(request).await.0, expected);
        }
        world.has_struck(Limit::HeaderBytes).await;
    }
}

#[tokio::test]
async fn g12_tunnels_are_as_many_as_they_may_be() {
    for most in [1, 2] {
        let world = world(&format!("tunnels={most}")).await;
        let mut web = world.raw(&world.client(WEB)).await;
        let mut open = Vec::new();
        for _ in 0..most {
            open.push(web.tunnel(connect_endpoint(EXPORTED)).await);
        }
        world.has_not_struck(Limit::Tunnels);
        let (status, headers) = web.ask(connect_endpoint(EXPORTED)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers["mesh-error"], "overloaded");
        world.has_struck(Limit::Tunnels).await;
    }
}
