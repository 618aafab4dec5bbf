//! Windows that grow with the path.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_drive::{
    conduit::{self, Request, Version},
    exchange::Chunk,
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

/// Carries bytes, each of them late.
async fn late(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(100_000);
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + DELAY;
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
fn path() -> (DuplexStream, DuplexStream) {
    const HELD: usize = 64 << 20;
    let (near, a) = tokio::io::duplex(HELD);
    let (b, far) = tokio::io::duplex(HELD);
    let ((a_read, a_write), (b_read, b_write)) = (tokio::io::split(a), tokio::io::split(b));
    tokio::spawn(late(a_read, b_write));
    tokio::spawn(late(b_read, a_write));
    (near, far)
}

async fn large(request: Request) {
    let head = Head::response(200).unwrap();
    request.exchange.send_head(&head, false).unwrap();
    request.exchange.send(&vec![7; LARGE], true).await.unwrap();
}

#[tokio::test]
async fn a_long_path_is_filled() {
    let (near, far) = path();
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

async fn endless(request: Request) {
    let head = Head::response(200).unwrap();
    request.exchange.send_head(&head, false).unwrap();
    while request.exchange.send(&[7; 100], false).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_peer_whose_bytes_come_is_alive_however_late_its_answers_are() {
    let (near, far) = path();
    let serve = |request| drop(tokio::spawn(endless(request)));
    let (_, life) = conduit::serve(far, Version::Http2, limits(), serve);
    tokio::spawn(life);
    let (client, life) = conduit::connect(near, Version::Http2, limits());
    tokio::spawn(life);
    let exchange = client.open(&get("/"), true).unwrap();
    soon(exchange.answer()).await.unwrap();
    let reading = async {
        let start = Instant::now();
        while start.elapsed() < 20 * DELAY {
            soon(exchange.chunk()).await.unwrap();
        }
    };
    tokio::select! {
        () = reading => {}
        () = client.silence(Duration::from_millis(1), 2 * DELAY - DELAY / 2) => {
            panic!("taken for dead while bytes come");
        }
    }
}
