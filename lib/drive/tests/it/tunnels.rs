//! Bytes of other protocols, on streams of HTTP/2.

use std::net::SocketAddr;

use mesh_drive::{
    conduit::{self, Request, Version},
    exchange::{Answer, Broken, Chunk, as_they_are},
    stream::ByteStream,
};
use mesh_http::head::Head;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::place::{client, eventually, limits, origin, proxy, refuse, soon};

const LARGE: usize = 5_000_000;

/// Takes TCP connections and carries each on a stream of one connection to
/// `far`; its address.
async fn near_end(far: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let conduit = client(far, Version::Http2).await;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (near, life) = conduit::bytes(socket, limits());
            tokio::spawn(life);
            let head = Head::request("CONNECT", "mesh.tcp:0", "").unwrap();
            let far = conduit.open(&head, false).unwrap();
            tokio::spawn(async move {
                if let Ok(Answer::Final { head, .. }) = far.answer().await {
                    assert_eq!(head.status(), Some(200));
                    near.join(&far, as_they_are);
                    far.join(&near, as_they_are);
                }
            });
        }
    });
    address
}

/// Connects a stream to the TCP server that its authority names.
async fn dial(request: Request, server: SocketAddr) {
    let Ok(socket) = TcpStream::connect(server).await else {
        return refuse(&request.exchange, 502);
    };
    let (far, life) = conduit::bytes(socket, limits());
    tokio::spawn(life);
    let agreed = Head::response(200).unwrap();
    request.exchange.send_head(&agreed, false).unwrap();
    request.exchange.join(&far, as_they_are);
    far.join(&request.exchange, as_they_are);
}

/// A server of streams that lead to `server`.
async fn far_end(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let serve = move |request| drop(tokio::spawn(dial(request, server)));
            let (_, life) = conduit::serve(socket, Version::Http2, limits(), serve);
            tokio::spawn(life);
        }
    });
    address
}

async fn tunnel_to(server: SocketAddr) -> TcpStream {
    let far = far_end(server).await;
    TcpStream::connect(near_end(far).await).await.unwrap()
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|at| (at / 7 + at % 251) as u8).collect()
}

#[tokio::test]
async fn each_half_ends_by_itself_and_no_byte_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        // Only now, after the client's end.
        socket.write_all(&all).await.unwrap();
        all.len()
    });
    let mut client = tunnel_to(server).await;
    let sent = pattern(LARGE);
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut back = Vec::new();
    soon(client.read_to_end(&mut back)).await.unwrap();
    assert!(back == sent);
    assert_eq!(serving.await.unwrap(), LARGE);
}

#[tokio::test]
async fn a_reset_is_passed_on_as_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move { listener.accept().await.unwrap().0 });
    let mut client = tunnel_to(server).await;
    client.write_all(b"hello").await.unwrap();
    let mut accepted = soon(accepting).await.unwrap();
    let mut hello = [0; 5];
    soon(accepted.read_exact(&mut hello)).await.unwrap();
    accepted.set_zero_linger().unwrap();
    drop(accepted);
    let error = soon(client.read(&mut hello)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn h15_a_stalled_reader_does_not_block_its_neighbours() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.write_all(&pattern(LARGE)).await;
            });
        }
    });
    let near = near_end(far_end(server).await).await;
    // They read nothing; what is under way for each of them is bounded.
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(TcpStream::connect(near).await.unwrap());
    }
    for _ in 0..3 {
        let mut client = TcpStream::connect(near).await.unwrap();
        let mut all = Vec::new();
        soon(client.read_to_end(&mut all)).await.unwrap();
        assert!(all == pattern(LARGE));
    }
    for mut client in stalled {
        let mut all = Vec::new();
        soon(client.read_to_end(&mut all)).await.unwrap();
        assert!(all == pattern(LARGE), "{}", all.len());
    }
}

/// Agrees, and sends back what comes.
async fn echo_bytes(request: Request) {
    let agreed = Head::response(200).unwrap();
    request.exchange.send_head(&agreed, false).unwrap();
    let (mut reader, mut writer) = tokio::io::split(ByteStream::new(request.exchange));
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_tunnel_is_a_socket_for_code_that_wants_one() {
    for version in super::place::VERSIONS {
        let origin = origin(version, echo_bytes).await;
        let conduit = client(origin, version).await;
        let head = Head::request("CONNECT", "mesh.tcp:0", "").unwrap();
        let exchange = conduit.open(&head, false).unwrap();
        let Answer::Final { head, .. } = soon(exchange.answer()).await.unwrap() else {
            panic!("no final head");
        };
        assert_eq!(head.status(), Some(200));
        let (mut reader, mut writer) = tokio::io::split(ByteStream::new(exchange));
        let sent = pattern(LARGE);
        let writing = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let reading = reader.read_to_end(&mut back);
        let ((), read) = soon(async { tokio::join!(writing, reading) }).await;
        read.unwrap();
        assert!(back == sent, "{version:?}");
        drop((reader, writer));
        eventually("the stream is over", || conduit.streams() == 0).await;
    }
}

/// Agrees, and has nothing to say.
async fn yes_and_no_more(request: Request) {
    let agreed = Head::response(200).unwrap();
    request.exchange.send_head(&agreed, true).unwrap();
}

#[tokio::test]
async fn a_yes_that_is_the_end_is_an_empty_tunnel() {
    let origin = origin(Version::Http2, yes_and_no_more).await;
    let conduit = client(origin, Version::Http2).await;
    let head = Head::request("CONNECT", "mesh.tcp:0", "").unwrap();
    let exchange = conduit.open(&head, false).unwrap();
    let Answer::Final { head, end } = soon(exchange.answer()).await.unwrap() else {
        panic!("no final head");
    };
    assert_eq!((head.status(), end), (Some(200), true));
    let mut read = String::new();
    let mut stream = ByteStream::new(exchange);
    soon(stream.read_to_string(&mut read)).await.unwrap();
    assert_eq!(read, "");
}

/// Declines, and says why a moment later.
async fn no_and_why(request: Request) {
    let no = Head::response(503).unwrap();
    request.exchange.send_head(&no, false).unwrap();
    // What the client sends meanwhile is nobody's.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    request.exchange.send(b"not today", true).await.unwrap();
}

#[tokio::test]
async fn who_is_declined_is_told_why_and_writes_no_more() {
    let origin = origin(Version::Http2, no_and_why).await;
    let conduit = client(origin, Version::Http2).await;
    let head = Head::request("CONNECT", "mesh.tcp:0", "").unwrap();
    let exchange = conduit.open(&head, false).unwrap();
    // More than may be under way before there is an answer.
    let writing = exchange.send(&[0; LARGE], false);
    assert_eq!(soon(writing).await, Err(Broken::GivenUp));
    let Answer::Final { head, end } = soon(exchange.answer()).await.unwrap() else {
        panic!("no final head");
    };
    assert_eq!((head.status(), end), (Some(503), false));
    let mut why = String::new();
    let mut stream = ByteStream::new(exchange);
    soon(stream.read_to_string(&mut why)).await.unwrap();
    assert_eq!(why, "not today");
    assert!(soon(stream.write_all(b"but")).await.is_err());
}

#[tokio::test]
async fn what_follows_a_no_goes_on_whole_though_its_request_is_over() {
    let far = origin(Version::Http2, no_and_why).await;
    let near = proxy(Version::Http2, Version::Http2, far).await;
    let conduit = client(near, Version::Http2).await;
    let head = Head::request("CONNECT", "web:443", "").unwrap();
    let asked = conduit.open(&head, false).unwrap();
    let Answer::Final { head, .. } = soon(asked.answer()).await.unwrap() else {
        panic!("no final head");
    };
    assert_eq!(head.status(), Some(503));
    let mut why = String::new();
    let mut stream = ByteStream::new(asked);
    soon(stream.read_to_string(&mut why)).await.unwrap();
    assert_eq!(why, "not today");
}

#[tokio::test]
async fn what_a_socket_has_not_read_stays_with_its_exchange() {
    let origin = origin(Version::Http2, echo_bytes).await;
    let conduit = client(origin, Version::Http2).await;
    let head = Head::request("CONNECT", "mesh.tcp:0", "").unwrap();
    let exchange = conduit.open(&head, false).unwrap();
    let mut stream = ByteStream::new(exchange);
    stream.write_all(b"and").await.unwrap();
    let mut first = [0; 1];
    soon(stream.read_exact(&mut first)).await.unwrap();
    let exchange = stream.into_exchange();
    exchange.send(b" more", true).await.unwrap();
    let mut rest = Vec::new();
    while let Chunk::Data(data) = soon(exchange.chunk()).await.unwrap() {
        rest.extend(data);
    }
    assert_eq!((&first, &*rest), (b"a", &b"nd more"[..]));
}

#[tokio::test]
async fn h12_a_server_says_whether_it_takes_extended_connects() {
    let origin = origin(Version::Http2, echo_bytes).await;
    let said = soon(client(origin, Version::Http2).await.takes_protocols()).await;
    assert_eq!(said, Some(true));
    let said = soon(client(origin, Version::Http1).await.takes_protocols()).await;
    assert_eq!(said, Some(false), "HTTP/1 has none");
    // One that leaves has said nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = client(listener.local_addr().unwrap(), Version::Http2).await;
    let leaving = async { drop(listener.accept().await.unwrap()) };
    let (said, ()) = soon(async { tokio::join!(silent.takes_protocols(), leaving) }).await;
    assert_eq!(said, None);
}

/// Agrees to an upgrade, and sends back what comes.
async fn switch(request: Request) {
    let mut agreed = Head::response(101).unwrap();
    agreed.set_upgrade(request.head.upgrade()).unwrap();
    request.exchange.send_head(&agreed, false).unwrap();
    let (mut reader, mut writer) = tokio::io::split(ByteStream::new(request.exchange));
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
}

#[tokio::test]
async fn h12_an_upgrade_begins_both_directions_anew() {
    let origin = origin(Version::Http1, switch).await;
    let conduit = client(origin, Version::Http1).await;
    let mut head = Head::request("GET", "web", "/chat").unwrap();
    head.set_upgrade(Some(b"websocket")).unwrap();
    let exchange = conduit.open(&head, true).unwrap();
    assert!(!exchange.is_tunnel());
    let Answer::Final { head, end } = soon(exchange.answer()).await.unwrap() else {
        panic!("no final head");
    };
    assert_eq!((head.status(), end), (Some(101), false));
    assert!(exchange.is_tunnel());
    exchange.send(b"ahoy", true).await.unwrap();
    let mut back = String::new();
    let mut stream = ByteStream::new(exchange);
    soon(stream.read_to_string(&mut back)).await.unwrap();
    assert_eq!(back, "ahoy");
    assert!(!conduit.can_open(), "it is no HTTP any more");
}

#[tokio::test]
async fn who_has_ended_writes_no_more() {
    let origin = origin(Version::Http2, echo_bytes).await;
    let conduit = client(origin, Version::Http2).await;
    let head = Head::request("CONNECT", "mesh.tcp:0", "").unwrap();
    let mut stream = ByteStream::new(conduit.open(&head, false).unwrap());
    stream.shutdown().await.unwrap();
    let error = soon(stream.write(b"more")).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}
