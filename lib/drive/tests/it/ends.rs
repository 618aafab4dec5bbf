//! What breaks off, and who is told.

use std::{
    future::Future as _,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Waker},
    time::Duration,
};

use mesh_drive::{
    conduit::{self, Request, Version},
    exchange::Broken,
};
use mesh_http::{
    fault::{Code, ResetReason},
    head::Head,
    limits::Limits,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::place::{
    VERSIONS, answer, body, client, echo, eventually, get, limits, origin, post, proxy, soon,
};

/// Begins an answer, and breaks it off.
async fn half_an_answer(request: Request) {
    let head = Head::response(200).unwrap();
    request.exchange.send_head(&head, false).unwrap();
    request.exchange.send(b"half of", false).await.unwrap();
    request.exchange.reset(Code::Internal);
}

#[tokio::test]
async fn half_an_answer_never_looks_whole() {
    for (down, up) in VERSIONS.into_iter().flat_map(|v| VERSIONS.map(|w| (v, w))) {
        let origin = origin(up, half_an_answer).await;
        let proxy = proxy(down, up, origin).await;
        let exchange = client(proxy, down).await.open(&get("/"), true).unwrap();
        // HTTP/1 may lose the head with the rest.
        if let Ok(head) = soon(answer(&exchange)).await
            && head.status() == Some(200)
        {
            assert!(soon(body(&exchange)).await.is_err(), "{down:?} {up:?}");
        }
    }
}

static BROKEN: AtomicUsize = AtomicUsize::new(0);

/// Never answers; counts the requests that break off.
async fn patient(request: Request) {
    let over = body(&request.exchange).await;
    if over.is_ok() {
        // A body that has ended: wait for the client's leaving.
        assert!(request.exchange.over().await.is_err());
    }
    BROKEN.fetch_add(1, Ordering::SeqCst);
}

#[tokio::test]
async fn who_leaves_takes_the_request_along_through_the_proxy() {
    for (down, up) in VERSIONS.into_iter().flat_map(|v| VERSIONS.map(|w| (v, w))) {
        let before = BROKEN.load(Ordering::SeqCst);
        let origin = origin(up, patient).await;
        let proxy = proxy(down, up, origin).await;
        for end in [true, false] {
            let conduit = client(proxy, down).await;
            let exchange = conduit.open(&post("/"), end).unwrap();
            if !end {
                exchange.send(b"some", false).await.unwrap();
            }
            // It has left us before we give it up.
            eventually("it is sent", || !exchange.is_unsent()).await;
            drop(exchange);
        }
        eventually("both are broken off", || {
            BROKEN.load(Ordering::SeqCst) == before + 2
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_dies_before_its_answer_leaves_the_request_to_its_holder() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut some = [0; 10];
                let _ = socket.read_exact(&mut some).await;
            });
        }
    });
    for version in VERSIONS {
        let proxy = proxy(version, Version::Http1, origin).await;
        let exchange = client(proxy, version).await.open(&post("/"), false);
        let exchange = exchange.unwrap();
        exchange
            .send(b"something of some length", false)
            .await
            .unwrap();
        let head = soon(answer(&exchange)).await.unwrap();
        assert_eq!(head.status(), Some(502), "{version:?}");
    }
}

/// Reads nothing and says yes.
async fn unread(request: Request) {
    let head = Head::response(413).unwrap();
    request.exchange.send_head(&head, true).unwrap();
}

#[tokio::test]
async fn an_answer_before_the_request_is_over_arrives_whole() {
    for (down, up) in VERSIONS.into_iter().flat_map(|v| VERSIONS.map(|w| (v, w))) {
        let origin = origin(up, unread).await;
        let proxy = proxy(down, up, origin).await;
        let exchange = client(proxy, down).await.open(&post("/"), false).unwrap();
        let large = vec![7; 3_000_000];
        // The server may refuse the rest.
        let sending = exchange.send(&large, true);
        let answering = answer(&exchange);
        let (_, head) = soon(async { tokio::join!(sending, answering) }).await;
        assert_eq!(head.unwrap().status(), Some(413), "{down:?} {up:?}");
    }
}

#[tokio::test]
async fn a_refused_stream_can_be_told_from_a_broken_one() {
    async fn refuse(request: Request) {
        request.exchange.reset(Code::RefusedStream);
    }
    let origin = origin(Version::Http2, refuse).await;
    let conduit = client(origin, Version::Http2).await;
    let exchange = conduit.open(&get("/"), true).unwrap();
    let broken = soon(answer(&exchange)).await.unwrap_err();
    assert_eq!(broken, Broken::Reset(ResetReason::Refused));
    assert!(conduit.is_open());
}

#[tokio::test]
async fn a_connection_that_takes_nothing_new_ends_what_it_has() {
    for version in VERSIONS {
        let origin = origin(version, echo).await;
        let conduit = client(origin, version).await;
        let exchange = conduit.open(&post("/"), false).unwrap();
        exchange.send(b"before", false).await.unwrap();
        conduit.shutdown();
        assert!(!conduit.is_open() && !conduit.can_open());
        exchange.send(b" and after", true).await.unwrap();
        assert_eq!(soon(answer(&exchange)).await.unwrap().status(), Some(200));
        let (bytes, _) = soon(body(&exchange)).await.unwrap();
        assert_eq!(bytes, b"before and after", "{version:?}");
        drop(exchange);
        assert_eq!(conduit.streams(), 0);
    }
}

/// A server's limits that wait for nobody.
fn impatient() -> Limits {
    Limits {
        head_time: Duration::from_millis(50),
        linger_time: Duration::from_millis(50),
        ..Limits::default()
    }
}

#[tokio::test]
async fn h17_a_client_that_says_nothing_is_let_go_on_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let never = |_| unreachable!("there is no request");
    let (_, life) = conduit::serve(socket, Version::Http1, impatient().into(), never);
    let life = tokio::spawn(life);
    client.write_all(b"GET / HT").await.unwrap();
    let mut said = String::new();
    soon(client.read_to_string(&mut said)).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    drop(client);
    let ended = soon(life).await.unwrap();
    assert_eq!(ended.as_str(), "head_timeout");
}

#[tokio::test]
async fn h17_a_deadline_wakes_whoever_drives_the_connection_now() {
    let (socket, mut client) = tokio::io::duplex(1000);
    client.write_all(b"GET / HT").await.unwrap();
    let never = |_| unreachable!("there is no request");
    let (_, life) = conduit::serve(socket, Version::Http1, impatient().into(), never);
    let mut life = Box::pin(life);
    let mut another = Context::from_waker(Waker::noop());
    assert!(life.as_mut().poll(&mut another).is_pending());
    assert_eq!(soon(life).await.as_str(), "head_timeout");
}

#[tokio::test]
async fn a_driver_that_is_dropped_tells_those_who_wait() {
    let (socket, _peer) = tokio::io::duplex(1000);
    let (conduit, life) = conduit::connect(socket, Version::Http1, limits());
    let exchange = conduit.open(&get("/"), true).unwrap();
    drop(life);
    let broken = soon(answer(&exchange)).await.unwrap_err();
    assert_eq!(broken.as_str(), "dropped");
    assert!(!conduit.is_open() && exchange.is_unsent());
}

/// A server that answers each connection with `text` and closes it at once.
async fn hasty(text: Vec<u8>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let text = text.clone();
            tokio::spawn(async move {
                let mut some = [0; 10];
                let _ = socket.read_exact(&mut some).await;
                let _ = socket.write_all(&text).await;
                // Or the kernel resets it, for what was not read.
                let _ = socket.shutdown().await;
                let _ = socket.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn r12_an_answer_that_came_whole_arrives_though_its_server_left_at_once() {
    for length in [2, 300_000] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let text = [head.into_bytes(), vec![b'o'; length]].concat();
        let origin = hasty(text).await;
        for version in VERSIONS {
            let proxy = proxy(version, Version::Http1, origin).await;
            for _ in 0..20 {
                let exchange = client(proxy, version).await.open(&get("/"), true).unwrap();
                let head = soon(answer(&exchange)).await.unwrap();
                assert_eq!(head.status(), Some(200), "{version:?}");
                // A reader that is late.
                tokio::task::yield_now().await;
                let (bytes, _) = soon(body(&exchange)).await.unwrap();
                assert_eq!(bytes.len(), length, "{version:?}");
            }
        }
    }
}
