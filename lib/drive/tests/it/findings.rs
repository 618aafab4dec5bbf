//! Faults that a driver had, or must not have.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mesh_drive::{
    conduit::{self, Request, Version},
    exchange::as_they_are,
};
use mesh_http::{fault::Code, head::Head, limits::Limits};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::place::{VERSIONS, answer, body, client, eventually, get, limits, origin, post, soon};

const N: usize = 100_000;

async fn large(request: Request) {
    let mut head = Head::response(200).unwrap();
    let length = N.to_string();
    head.push(b"content-length", length.as_bytes()).unwrap();
    request.exchange.send_head(&head, false).unwrap();
    request.exchange.send(&vec![7; N], true).await.unwrap();
}

#[tokio::test]
async fn pipelined_requests_with_large_answers_are_all_answered() {
    let address = origin(Version::Http1, large).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let one = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(one.repeat(3).as_bytes()).await.unwrap();
    let (mut got, mut buffer) = (0, vec![0; 65536]);
    while got < 3 * N {
        let n = soon(client.read(&mut buffer)).await.unwrap();
        assert!(n > 0);
        got += n;
    }
}

#[tokio::test]
async fn an_early_answer_is_read_though_the_request_is_stuck() {
    for closes in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.read_exact(&mut [0; 10]).await.unwrap();
            let head = format!("HTTP/1.1 413 Too Large\r\ncontent-length: {N}\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            socket.write_all(&[7; N]).await.unwrap();
            if !closes {
                let _ = ended.await;
            }
        });
        let conduit = client(address, Version::Http1).await;
        let exchange = Arc::new(conduit.open(&post("/"), false).unwrap());
        let sending = exchange.clone();
        tokio::spawn(async move { sending.send(&vec![7; 30_000_000], true).await });
        let head = soon(answer(&exchange)).await.unwrap();
        assert_eq!(head.status(), Some(413), "{closes}");
        if !closes {
            assert_eq!(soon(body(&exchange)).await.unwrap().0.len(), N);
        }
        drop(end);
    }
}

#[tokio::test]
async fn what_is_whole_arrives_at_a_slow_reader_though_the_connection_has_ended() {
    let short = Limits {
        linger_time: Duration::from_millis(1),
        ..Limits::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let serve = |request| drop(tokio::spawn(large(request)));
    let (_, life) = conduit::serve(socket, Version::Http1, short.into(), serve);
    let life = tokio::spawn(life);
    let asked = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    client.write_all(asked).await.unwrap();
    // All of it is in the kernel.
    soon(life).await.unwrap();
    let mut all = Vec::new();
    soon(client.read_to_end(&mut all)).await.unwrap();
    assert!(all.len() > N, "{}", all.len());
}

#[tokio::test]
async fn who_sends_to_a_client_that_left_is_told() {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    async fn endless(request: Request) {
        let head = Head::response(200).unwrap();
        request.exchange.send_head(&head, false).unwrap();
        while request.exchange.send(&[7; 1000], false).await.is_ok() {
            tokio::task::yield_now().await;
        }
        TOLD.fetch_add(1, Ordering::SeqCst);
    }
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let conduit = client(origin(version, endless).await, version).await;
        let exchange = conduit.open(&get("/"), true).unwrap();
        soon(answer(&exchange)).await.unwrap();
        exchange.reset(Code::Cancel);
        eventually(&format!("it is told: {version:?}"), || {
            TOLD.load(Ordering::SeqCst) == at + 1
        })
        .await;
    }
}

#[tokio::test]
async fn a_connect_that_ends_before_its_answer_ends() {
    for sent in ["bye", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = listener.local_addr().unwrap();
        let reading = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut all = String::new();
            socket.read_to_string(&mut all).await.unwrap();
            all
        });
        let (near, accepted) = tokio::io::duplex(1 << 16);
        let (tell, told) = oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let serve = move |request: Request| {
            let tell = tell.lock().unwrap().take().unwrap();
            tokio::spawn(async move {
                let exchange = request.exchange;
                let has_come = || exchange.carried().received == sent.len() as u64;
                eventually("all has come", has_come).await;
                let (up, life) = conduit::bytes(TcpStream::connect(far).await.unwrap(), limits());
                tokio::spawn(life);
                exchange
                    .send_head(&Head::response(200).unwrap(), false)
                    .unwrap();
                exchange.join(&up, as_they_are);
                up.join(&exchange, as_they_are);
                tell.send(exchange.over().await).unwrap();
            });
        };
        let (_, life) = conduit::serve(accepted, Version::Http2, limits(), serve);
        tokio::spawn(life);
        let (conduit, life) = conduit::connect(near, Version::Http2, limits());
        tokio::spawn(life);
        let head = Head::request("CONNECT", "mesh.tcp:0", "").unwrap();
        let exchange = conduit.open(&head, false).unwrap();
        exchange.send(sent.as_bytes(), true).await.unwrap();
        soon(answer(&exchange)).await.unwrap();
        assert_eq!(soon(reading).await.unwrap(), sent);
        soon(told).await.unwrap().unwrap();
    }
}

/// GET, http, /, and an authority (RFC 7541 appendix A).
const HEAD: &[u8] = b"\x82\x86\x84\x41\x03web";
/// Of a frame with it.
const HEADERS: usize = 9 + HEAD.len();

/// An HTTP/2 client's first bytes: settings, and so many requests.
fn requests(count: usize) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1u32..).step_by(2).take(count) {
        // All of the head, and no body.
        bytes.extend_from_slice(&[0, 0, HEAD.len() as u8, 1, 5]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(HEAD);
    }
    bytes
}

/// How much `measure` finds that each turn has brought of `bytes`, until it is all.
async fn turns(bytes: &[u8], all: usize, measure: fn(&[Request]) -> usize) -> Vec<usize> {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    client.write_all(bytes).await.unwrap();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let take = {
        let taken = taken.clone();
        move |request| taken.lock().unwrap().push(request)
    };
    let (_connection, life) = conduit::serve(server, Version::Http2, limits(), take);
    let (mut life, mut turns, mut before) = (Box::pin(life), Vec::new(), 0);
    // Nothing more comes: each turn is one that the last has asked for.
    let taking = std::future::poll_fn(|cx| {
        assert!(life.as_mut().poll(cx).is_pending());
        let so_far = measure(&taken.lock().unwrap());
        turns.push(so_far - before);
        before = so_far;
        if so_far < all {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    });
    soon(taking).await;
    turns
}

#[tokio::test]
async fn h13_a_client_of_many_requests_takes_turns_with_others() {
    const COUNT: usize = 250;
    let turns = turns(&requests(COUNT), COUNT, <[_]>::len).await;
    assert!((1..COUNT).contains(&turns[0]), "{turns:?}");
}

#[tokio::test]
async fn h13_who_gives_up_what_it_asks_for_takes_short_turns() {
    const COUNT: usize = 100;
    let asked = requests(COUNT);
    let (hello, frames) = asked.split_at(asked.len() - COUNT * HEADERS);
    let mut wasted = hello.to_vec();
    for frame in frames.chunks(HEADERS) {
        wasted.extend_from_slice(frame);
        // RST_STREAM of the same stream, CANCEL.
        wasted.extend_from_slice(&[0, 0, 4, 3, 0]);
        wasted.extend_from_slice(&frame[5..9]);
        wasted.extend_from_slice(&[0, 0, 0, 8]);
    }
    let turns = turns(&wasted, COUNT, <[_]>::len).await;
    assert!(turns[1..].iter().all(|taken| *taken <= 2), "{turns:?}");
    assert!(turns[0] < COUNT / 2, "{turns:?}");
}

#[tokio::test]
async fn h14_a_client_of_many_small_frames_takes_turns_with_others() {
    const COUNT: usize = 2000;
    let mut bytes = requests(1);
    // POST, and more is to come.
    let head = bytes.len() - HEADERS;
    bytes[head + 4] = 4;
    bytes[head + 9] = 0x83;
    for _ in 0..COUNT {
        bytes.extend_from_slice(&[0, 0, 1, 0, 0, 0, 0, 0, 1, b'x']);
    }
    let received = |taken: &[Request]| {
        let carried = taken.first().map(|request| request.exchange.carried());
        carried.map_or(0, |carried| carried.received as usize)
    };
    let turns = turns(&bytes, COUNT, received).await;
    assert!(turns.iter().all(|taken| *taken < COUNT / 3), "{turns:?}");
}
