//! A gateway that is far away: windows grow until they hold what is under way.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_core::link::Link;
use mesh_dataplane::TunnelStream;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep_until, timeout},
};

use super::world::{EXPORTED, LONG, WEB, World, endpoint};

/// One way over the path.
const DELAY: Duration = Duration::from_millis(25);
const LARGE: usize = 16 << 20;
/// With the first window alone, a round trip for each 64 KiB.
const UNGROWN: Duration = Duration::from_millis(50 * (LARGE as u64 / 65_535));

/// A port that leads to `server` by a long path.
async fn far(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.unwrap();
            for end in [&client, &server] {
                end.set_nodelay(true).unwrap();
            }
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(late(from_client, to_server));
            tokio::spawn(late(from_server, to_client));
        }
    });
    address
}

/// Carries bytes, each of them late.
async fn late(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    // As much as the path holds.
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(10_000);
    let reading = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + DELAY;
            sender.send((due, buffer[..n].to_vec())).await.unwrap();
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// A tunnel over the path to an upstream, which is given, too.
async fn tunnel(world: &World) -> (TunnelStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.expose(EXPORTED, listener.local_addr().unwrap());
    let mut link: Link = world.link();
    link.gateway.port = far(world.address).await.port();
    let tunnels = world.tunnels(WEB);
    let opening = timeout(LONG, tunnels.open(&link, endpoint(EXPORTED)));
    let mut client = opening.await.unwrap().unwrap();
    client.write_all(b"x").await.unwrap();
    let (mut server, _) = timeout(LONG, listener.accept()).await.unwrap().unwrap();
    server.read_u8().await.unwrap();
    (client, server)
}

/// How long it takes until all has come.
async fn took(from: &mut (impl AsyncWrite + Unpin), to: &mut (impl AsyncRead + Unpin)) -> Duration {
    let (sent, mut come) = (vec![7; LARGE], vec![0; LARGE]);
    let start = Instant::now();
    let both = async { tokio::join!(from.write_all(&sent), to.read_exact(&mut come)) };
    let (written, read) = timeout(LONG, both).await.unwrap();
    written.unwrap();
    read.unwrap();
    assert!(sent == come);
    start.elapsed()
}

#[tokio::test]
async fn h15_a_long_path_is_filled_both_ways() {
    let world = World::new().await;
    let (mut client, mut server) = tunnel(&world).await;
    let up = took(&mut client, &mut server).await;
    assert!(up < UNGROWN / 3, "{up:?}, {UNGROWN:?} without growth");
    let down = took(&mut server, &mut client).await;
    assert!(down < UNGROWN / 3, "{down:?}, {UNGROWN:?} without growth");
}
