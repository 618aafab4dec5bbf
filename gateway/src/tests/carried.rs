//! What goes through a tunnel: every byte, either end, and what breaks.

use std::{io, net::SocketAddr, sync::Arc};

use mesh_core::endpoint::EndpointId;
use mesh_dataplane::{TunnelStream, tunnel::Tunnels};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};

use super::world::{LONG, WEB, World, echo, endpoint};
use crate::fixtures::leading_to;

const POD: EndpointId = EndpointId(6);
const OTHER: EndpointId = EndpointId(7);

/// More than all buffers on the way hold together.
const LARGE: usize = 8 << 20;

/// An upstream whose connections the test has in its hands.
async fn upstream() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            sender.send(stream).await.unwrap();
        }
    });
    (address, receiver)
}

async fn open(world: &World, tunnels: &Tunnels, id: EndpointId) -> TunnelStream {
    let link = world.link();
    let opening = timeout(LONG, tunnels.open(&link, endpoint(id)));
    opening.await.unwrap().unwrap()
}

/// A tunnel and the connection behind it, over which a byte has gone.
async fn both_ends(world: &World) -> (TunnelStream, TcpStream) {
    let (address, mut accepted) = upstream().await;
    world.expose(POD, address);
    let mut client = open(world, &world.tunnels(WEB), POD).await;
    client.write_all(b"x").await.unwrap();
    let mut server = timeout(LONG, accepted.recv()).await.unwrap().unwrap();
    assert_eq!(soon(server.read_u8()).await.unwrap(), b'x');
    (client, server)
}

async fn soon<T>(doing: impl Future<Output = T>) -> T {
    timeout(LONG, doing).await.expect("in time")
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|at| (at / 7 + at % 251) as u8).collect()
}

#[tokio::test]
async fn an_upstream_that_has_ended_still_takes_what_comes() {
    let world = World::new().await;
    let (mut client, mut server) = both_ends(&world).await;
    server.write_all(b"that is all").await.unwrap();
    server.shutdown().await.unwrap();
    let mut said = String::new();
    soon(client.read_to_string(&mut said)).await.unwrap();
    assert_eq!(said, "that is all");

    client.write_all(b"but not from me").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    soon(server.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "but not from me");
    world.shows(r#"end="done"} 1"#).await;
}

#[tokio::test]
async fn an_upstream_that_breaks_off_breaks_the_tunnel() {
    let world = World::new().await;
    let (mut client, server) = both_ends(&world).await;
    server.set_zero_linger().unwrap();
    drop(server);
    let error = soon(client.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    let error = soon(client.write_all(&vec![0; LARGE])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    world.shows(r#"end="upstream_broke"} 1"#).await;
}

#[tokio::test]
async fn a_client_that_gives_its_tunnel_up_breaks_the_upstream_off() {
    let world = World::new().await;
    let (client, mut server) = both_ends(&world).await;
    drop(client);
    let error = soon(server.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    world.shows(r#"end="client_broke"} 1"#).await;
}

#[tokio::test]
async fn a_client_that_is_gone_breaks_the_upstream_off() {
    let world = World::new().await;
    let (_client, mut server) = both_ends(&world).await;
    world.unlink();
    let error = soon(server.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    world.shows(r#"end="client_broke"} 1"#).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_leaves_nothing_behind() {
    let world = World::new().await;
    let (address, mut accepted) = upstream().await;
    world.expose(POD, address);
    let tunnels = world.tunnels(WEB);
    for _ in 0..20 {
        drop(open(&world, &tunnels, POD).await);
    }
    let mut last = open(&world, &tunnels, POD).await;
    last.write_all(b"x").await.unwrap();
    let served = async {
        while let Some(mut server) = accepted.recv().await {
            if let Ok(byte) = server.read_u8().await {
                return byte;
            }
        }
        panic!("nobody came");
    };
    assert_eq!(soon(served).await, b'x');
    drop(last);
    let is_free = async {
        while world.gateway.tunnels.available_permits() < 100 {
            tokio::task::yield_now().await;
        }
    };
    soon(is_free).await;
}

#[tokio::test]
async fn bytes_are_counted_while_they_go_and_none_twice() {
    let world = World::new().await;
    let (mut client, mut server) = both_ends(&world).await;
    let sent = pattern(LARGE);
    let (upwards, downwards) = (sent.clone(), sent[..LARGE / 2].to_vec());
    let ((), (), (), ()) = soon(async {
        let (mut client_read, mut client_write) = tokio::io::split(&mut client);
        let (mut server_read, mut server_write) = server.split();
        let (mut heard, mut back) = (vec![0; LARGE], vec![0; LARGE / 2]);
        tokio::join!(
            async { client_write.write_all(&upwards).await.unwrap() },
            async { server_write.write_all(&downwards).await.unwrap() },
            async {
                server_read.read_exact(&mut heard).await.unwrap();
                assert!(heard == upwards);
            },
            async {
                client_read.read_exact(&mut back).await.unwrap();
                assert!(back == downwards);
            },
        )
    })
    .await;
    // It is still open, and no byte goes.
    let (up, down) = (LARGE + 1, LARGE / 2);
    world.shows(&format!(r#"direction="up"}} {up}"#)).await;
    world.shows(&format!(r#"direction="down"}} {down}"#)).await;
    assert!(!world.metrics().contains("tunnels_closed_total{"));

    client.write_all(b"y").await.unwrap();
    client.shutdown().await.unwrap();
    server.write_all(b"z").await.unwrap();
    server.shutdown().await.unwrap();
    world.shows(r#"end="done"} 1"#).await;
    for (direction, bytes) in [("up", up + 1), ("down", down + 1)] {
        let line = format!(r#"direction="{direction}"}} {bytes}"#);
        assert!(world.metrics().contains(&line), "{line}");
    }
}

#[tokio::test]
async fn h15_clients_that_read_nothing_do_not_block_their_neighbours() {
    let world = World::with(|gateway| gateway.tunnels = Arc::new(Semaphore::new(1000))).await;
    let routes = |id, address| (id, leading_to("west", &[address]));
    let (some, all) = (says(SOME).await, says(LARGE).await);
    world.set_table([routes(POD, some), routes(OTHER, all)]);
    let tunnels = world.tunnels(WEB);
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut client = open(&world, &tunnels, POD).await;
        soon(client.read_u8()).await.unwrap();
        stalled.push(client);
    }
    for _ in 0..2 {
        let mut client = open(&world, &tunnels, OTHER).await;
        let mut all = vec![0; LARGE];
        soon(client.read_exact(&mut all)).await.unwrap();
        assert!(all == pattern(LARGE));
    }
    world
        .shows(r#"open_connections{trust_domain="west"} 1"#)
        .await;
    // And they lose nothing by it.
    for mut client in stalled {
        let mut rest = vec![0; SOME - 1];
        soon(client.read_exact(&mut rest)).await.unwrap();
        assert!(rest == pattern(SOME)[1..]);
    }
}

/// What a tunnel may hold; so many of them that it is more than a connection's
/// first window.
const SOME: usize = 64 << 10;
const STALLED: usize = 200;

/// An upstream that says `n` bytes to everybody.
async fn says(n: usize) -> SocketAddr {
    let (address, mut accepted) = upstream().await;
    tokio::spawn(async move {
        let sent: Arc<[u8]> = pattern(n).into();
        let mut saying = JoinSet::new();
        while let Some(mut server) = accepted.recv().await {
            let sent = sent.clone();
            saying.spawn(async move {
                server.write_all(&sent).await.unwrap();
                // Its end comes when the test is over.
                let _ = server.read_u8().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn h15_upstreams_that_read_nothing_do_not_block_their_neighbours() {
    const STALLED: usize = 8;
    // Each of them holds what its first window lets through.
    let world = World::new().await;
    let (address, mut accepted) = upstream().await;
    let routes = |id, address| (id, leading_to("west", &[address]));
    world.set_table([routes(POD, address), routes(OTHER, echo().await)]);
    let tunnels = world.tunnels(WEB);
    let (mut writing, mut kept) = (JoinSet::new(), Vec::new());
    for _ in 0..STALLED {
        let mut client = open(&world, &tunnels, POD).await;
        writing.spawn(async move {
            let some = vec![0; 64 << 10];
            while client.write_all(&some).await.is_ok() {}
        });
        kept.push(soon(accepted.recv()).await.unwrap());
    }
    let mut client = open(&world, &tunnels, OTHER).await;
    let (sent, mut back) = (pattern(LARGE), vec![0; LARGE]);
    let (mut read, mut write) = tokio::io::split(&mut client);
    let (written, read) =
        soon(async { tokio::join!(write.write_all(&sent), read.read_exact(&mut back)) }).await;
    written.unwrap();
    read.unwrap();
    assert!(back == sent);
    world
        .shows(r#"open_connections{trust_domain="west"} 1"#)
        .await;
    assert_eq!(writing.len(), STALLED);
    assert!(writing.try_join_next().is_none(), "none has broken");
}
