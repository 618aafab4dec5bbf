//! Windows that grow with the path.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_drive::{
    conduit::{self, Request, Version},
    exchange::Chunk,
    ping::Silent,
};
use mesh_http::head::Head;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf},
    time::sleep_until,
};

use super::place::{get, limits, soon};

/// One way over the path.
const DELAY: Duration = Duration::from_millis(10);
const LARGE: usize = 24_000_000;
/// With the first window alone, a round trip for each 64 KiB of it.
const UNGROWN: Duration = Duration::from_millis(20 * (LARGE as u64 / 65_535));

/// Carries bytes, each of them late by `delay`.
async fn late(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, delay: Duration) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(100_000);
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + delay;
            sender.send((due, buffer[..n].to_vec())).await.unwrap();
        }
    };
    let writing = async move {
        let (mut receiver, mut all) = (receiver, VecDeque::new());
        while let Some(one) = receiver.recv().await {
            all.push_back(one);
            while let Some((due, bytes)) = all.pop_front() {
                sleep_until(due.into()).await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::join!(reading, writing);
}

/// Two ends of a long path.
fn path(delay: Duration) -> (DuplexStream, DuplexStream) {
    const HELD: usize = 64 << 20;
    let (near, a) = tokio::io::duplex(HELD);
    let (b, far) = tokio::io::duplex(HELD);
    let ((a_read, a_write), (b_read, b_write)) = (tokio::io::split(a), tokio::io::split(b));
    tokio::spawn(late(a_read, b_write, delay));
    tokio::spawn(late(b_read, a_write, delay));
    (near, far)
}

async fn large(request: Request) {
    let head = Head::response(200).unwrap();
    request.exchange.send_head(&head, false).unwrap();
    request.exchange.send(&vec![7; LARGE], true).await.unwrap();
}

#[tokio::test]
async fn a_long_path_is_filled() {
    let (near, far) = path(DELAY);
    let serve = |request| drop(tokio::spawn(large(request)));
    let (_, life) = conduit::serve(far, Version::Http2, limits(), serve);
    tokio::spawn(life);
    let (client, life) = conduit::connect(near, Version::Http2, limits());
    tokio::spawn(life);
    let asking = client.clone();
    tokio::spawn(async move {
        asking
            .silence(Duration::from_millis(200), Duration::from_secs(5))
            .await;
    });
    let exchange = Arc::new(client.open(&get("/"), true).unwrap());
    let start = Instant::now();
    soon(exchange.answer()).await.unwrap();
    let mut read = 0;
    while let Chunk::Data(data) = soon(exchange.chunk()).await.unwrap() {
        read += data.len();
    }
    let took = start.elapsed();
    assert_eq!(read, LARGE);
    assert!(took < UNGROWN / 3, "{took:?}, {UNGROWN:?} without growth");
}

/// Says something again and again, and never so much that it has to wait.
async fn endless(request: Request) {
    let head = Head::response(200).unwrap();
    request.exchange.send_head(&head, false).unwrap();
    let mut pace = tokio::time::interval(DELAY / 2);
    while request.exchange.send(&[7; 100], false).await.is_ok() {
        pace.tick().await;
    }
}

#[tokio::test]
async fn a_peer_whose_bytes_come_is_alive_however_late_its_answers_are() {
    let late = 20 * DELAY;
    let (near, far) = path(late);
    let serve = |request| drop(tokio::spawn(endless(request)));
    let (_, life) = conduit::serve(far, Version::Http2, limits(), serve);
    tokio::spawn(life);
    let (client, life) = conduit::connect(near, Version::Http2, limits());
    tokio::spawn(life);
    let exchange = client.open(&get("/"), true).unwrap();
    soon(exchange.answer()).await.unwrap();
    let reading = async {
        let start = Instant::now();
        while start.elapsed() < 6 * late {
            soon(exchange.chunk()).await.unwrap();
        }
    };
    tokio::select! {
        () = reading => {}
        // An answer takes twice as long.
        () = client.silence(Duration::from_millis(1), late) => {
            panic!("taken for dead while bytes come");
        }
    }
}

#[tokio::test]
async fn r1_a_peer_is_silent_when_nothing_of_it_comes_and_not_before() {
    let within = Duration::from_millis(50);
    let (near, far) = path(DELAY);
    let (_, peer) = conduit::serve(far, Version::Http2, limits(), |_| ());
    let (freeze, frozen) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut peer = std::pin::pin!(peer);
        tokio::select! {
            _ = &mut peer => {}
            _ = frozen => std::future::pending().await,
        }
    });
    let (client, life) = conduit::connect(near, Version::Http2, limits());
    tokio::spawn(life);
    for _ in 0..3 {
        let start = Instant::now();
        soon(client.ping(20 * within)).await.unwrap();
        assert!(start.elapsed() >= 2 * DELAY);
    }
    let written = client.written();
    freeze.send(()).unwrap();
    assert_eq!(soon(client.ping(within)).await, Err(Silent));
    assert!(client.written() > written, "it was asked");
}
