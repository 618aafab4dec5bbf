//! Connections of several threads.

use std::thread;

use mesh_drive::{
    conduit,
    exchange::{Exchange, as_they_are},
    stream::ByteStream,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    runtime,
    sync::oneshot,
};

use super::place::{limits, soon};

/// A connection of bytes that another thread drives until the sender is dropped,
/// and its other end.
fn elsewhere() -> (Exchange, DuplexStream, oneshot::Sender<()>) {
    let (theirs, ours) = duplex(1024);
    let (end, ended) = oneshot::channel();
    let (say, exchange) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut builder = runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(async {
            let (exchange, life) = conduit::bytes(ours, limits());
            tokio::spawn(life);
            say.send(exchange).unwrap();
            let _ = ended.await;
        });
    });
    (exchange.recv().unwrap(), theirs, end)
}

#[tokio::test]
#[should_panic(expected = "connections of different threads are joined")]
async fn connections_of_different_threads_are_not_joined() {
    let (theirs, _far, _end) = elsewhere();
    let (socket, _near) = duplex(1024);
    let (ours, _life) = conduit::bytes(socket, limits());
    ours.join(&theirs, as_they_are);
}

/// As a `mesh/1` connection of a worker uses a tunnel of the first one.
#[tokio::test]
async fn a_stream_that_is_not_joined_may_be_used_by_another_thread() {
    const N: usize = 1_000_000;
    let (exchange, far, _end) = elsewhere();
    let echo = async {
        let (mut read, mut write) = tokio::io::split(far);
        tokio::io::copy(&mut read, &mut write).await.unwrap()
    };
    let (mut read, mut write) = tokio::io::split(ByteStream::new(exchange));
    let sent: Vec<u8> = (0..N).map(|at| (at % 251) as u8).collect();
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let receive = async { read.read_to_end(&mut received).await.unwrap() };
    let (_, _, echoed) = soon(async { tokio::join!(send, receive, echo) }).await;
    assert_eq!(echoed, N as u64);
    assert!(received == sent, "{} bytes", received.len());
}
