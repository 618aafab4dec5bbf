//! Limits on what a verified client does over HTTP/2, by a client of our own
//! engine, which does as the test says.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, task::Poll, time::Duration};

use mesh_core::endpoint::EndpointId;
use mesh_drive::{
    conduit::{self, Conduit, Ended, Version},
    exchange::{Answer, Broken, Chunk, Exchange},
    socket::Sealed,
};
use mesh_http::{fault::ResetReason, head::Head, limits::Limits};
use mesh_tls::{ALPN_MESH, Session};
use mesh_wire::mesh1;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket},
    time::sleep,
};

use super::{super::world::GATEWAY, *};
use crate::fixtures::id;

/// A connection's life, to be spawned, or to be stopped at any time.
type Life = Pin<Box<dyn Future<Output = Ended> + Send>>;

impl World {
    async fn session(&self) -> Session<TcpStream> {
        let (tls, tcp) = (self.client(WEB), self.silent().await);
        let session = tls.connect(tcp, &[id(GATEWAY)], None, ALPN_MESH).await;
        session.unwrap()
    }

    /// A client that bears this.
    async fn bearing(&self, limits: Limits) -> (Conduit, Life) {
        let session = Sealed(self.session().await);
        let (client, life) = conduit::connect(session, Version::Http2, limits.into());
        let life: Life = Box::pin(life);
        (client, life)
    }

    /// A client that is far away, which the gateway learns by an answer that is
    /// late.
    async fn far(&self) -> Conduit {
        let (client, mut life) = self.bearing(Limits::default()).await;
        // It says hello, and then hears nothing for as long as it takes.
        poll_fn(|cx| {
            assert!(life.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        self.shows(r#"open_connections{trust_domain="west"} 1"#)
            .await;
        sleep(ROUND_TRIP).await;
        tokio::spawn(life);
        client
    }
}

/// Longer than a window takes here.
const ROUND_TRIP: Duration = Duration::from_millis(100);

fn to_endpoint(endpoint: EndpointId) -> Head {
    let mut head = Head::request("CONNECT", mesh1::AUTHORITY_ENDPOINT, "").unwrap();
    for (name, value) in [
        (mesh1::HOPS, "1".to_owned()),
        (mesh1::ENDPOINT, endpoint.to_string()),
    ] {
        head.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    head
}

/// A tunnel that was asked for.
fn asked(client: &Conduit) -> Exchange {
    client.open(&to_endpoint(EXPORTED), false).unwrap()
}

async fn soon<T>(doing: impl Future<Output = T>) -> T {
    timeout(LONG, doing).await.expect("in time")
}

async fn answered(tunnel: &Exchange) -> u16 {
    match soon(tunnel.answer()).await.unwrap() {
        Answer::Final { head, .. } | Answer::Informational(head) => head.status().unwrap(),
    }
}

#[tokio::test]
async fn h13_streams_are_as_many_as_they_may_be() {
    for most in [1, 3] {
        let world = world(&format!("streams={most}")).await;
        let (client, life) = world.bearing(Limits::default()).await;
        // Before the client has heard how many there may be.
        let open: Vec<_> = (0..=most).map(|_| asked(&client)).collect();
        tokio::spawn(life);
        let refused = soon(open[most].gone()).await;
        assert_eq!(refused, Broken::Reset(ResetReason::Refused));
        world.has_struck(Limit::Streams).await;
        for tunnel in &open[..most] {
            assert_eq!(answered(tunnel).await, 200);
        }
    }
}

/// The preface of HTTP/2, and settings without any.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// That the gateway's settings were seen, and the beginning of a frame.
const HALF: &[u8] = b"\0\0\0\x04\x01\0\0\0\0\0\0";

#[tokio::test]
async fn h17_heads_and_settings_have_their_time() {
    let half = [HELLO, HALF].concat();
    for (text, limit, says) in [
        ("header-time=150ms", Limit::HeaderTime, &*half),
        ("settings-time=150ms", Limit::SettingsTime, HELLO),
    ] {
        let world = world(text).await;
        let mut client = world.session().await;
        let start = Instant::now();
        client.write_all(says).await.unwrap();
        client.flush().await.unwrap();
        // It says why, and closes.
        let mut said = Vec::new();
        let _ = soon(client.read_to_end(&mut said)).await;
        let took = start.elapsed().as_millis();
        // Far less than by default.
        assert!((150..5000).contains(&took), "{limit}: {took}");
        world.has_struck(limit).await;
        drop(client);
        world
            .shows(r#"connections_ended_total{reason="broken"} 1"#)
            .await;
    }
}

/// An upstream that says more and more.
async fn pours() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(&[0; 64 << 10]).await.is_ok() {}
    });
    address
}

#[tokio::test]
async fn h17_who_takes_nothing_is_left() {
    let world = world("write-time=150ms").await;
    world.expose(EXPORTED, pours().await);
    // It agrees to everything.
    let most = (1 << 31) - 1;
    let limits = Limits {
        stream_window: most,
        connection_window: most,
        ..Limits::default()
    };
    let (client, mut life) = world.bearing(limits).await;
    let tunnel = asked(&client);
    tokio::select! {
        ended = &mut life => panic!("{ended}"),
        status = answered(&tunnel) => assert_eq!(status, 200),
    }
    world.has_not_struck(Limit::WriteTime);
    // Nobody drives it any more.
    world.has_struck(Limit::WriteTime).await;
    world
        .shows(r#"connections_ended_total{reason="broken"} 1"#)
        .await;
}

/// An upstream that says so when it has taken so many bytes.
async fn takes(bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut vec![0; bytes]).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        // Its end comes when the test is over.
        let _ = stream.read_u8().await;
    });
    address
}

#[tokio::test]
async fn h15_windows_grow_as_far_as_they_may() {
    for (text, limit, bytes, times) in [
        ("", Limit::StreamBytes, 300_000, 0),
        ("stream-bytes=64Ki", Limit::StreamBytes, 300_000, 1),
        ("", Limit::ProcessBytes, 300_000, 0),
        // No more than the first window, once.
        ("process-bytes=0", Limit::ProcessBytes, 100_000, 1),
    ] {
        let world = world(text).await;
        world.expose(EXPORTED, takes(bytes).await);
        let tunnel = asked(&world.far().await);
        assert_eq!(answered(&tunnel).await, 200);
        soon(tunnel.send(&vec![0; bytes], false)).await.unwrap();
        let said = soon(tunnel.chunk()).await;
        assert!(matches!(said, Ok(Chunk::Data(_))), "{said:?}");
        assert_eq!(world.gateway.bounds.struck(limit), times, "{text} {limit}");
    }
}

/// A port where nobody picks up, since too many wait there.
async fn busy() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Whoever finds room is through at once.
    let within = Duration::from_millis(200);
    while let Ok(connected) = timeout(within, TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
    }
    (listener, waiting)
}

#[tokio::test]
async fn h15_what_waits_for_readers_on_one_connection_is_bounded() {
    let world = world("stream-bytes=64Ki,connection-bytes=64Ki").await;
    let (listener, _waiting) = busy().await;
    // What comes waits until the gateway has tried all of them.
    world.expose_any(EXPORTED, &[listener.local_addr().unwrap(); 3]);
    let (client, life) = world.bearing(Limits::default()).await;
    tokio::spawn(life);
    let mut open = Vec::new();
    // More than half of what a client may send before it hears of it again.
    for _ in 0..80 {
        let tunnel = asked(&client);
        assert_eq!(tunnel.try_send(&[0; 65_000], false), 65_000);
        open.push(tunnel);
    }
    world.has_struck(Limit::ConnectionBytes).await;
}
