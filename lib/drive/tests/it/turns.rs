//! Who has its turn when, beside a peer that never stops.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use mesh_drive::{
    conduit::{self, Version},
    exchange::as_they_are,
    socket::Socket,
};
use mesh_http::{head::Head, limits::Limits};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::timeout,
};

const LONG: Duration = Duration::from_secs(20);
/// A preface, empty SETTINGS, and a POST on stream 1.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                       \0\0\x08\x01\x04\0\0\0\x01\x83\x86\x84\x01\x03web";
/// DATA of stream 1: this head, and as many bytes.
const DATA: [u8; 9] = [0, 0x40, 0, 0, 0, 0, 0, 0, 1];
const PAYLOAD: usize = 0x4000;

/// A client that goes on with a body that nobody wants, and of whom there is always
/// more to read.
struct Endless {
    said: usize,
    reads: Arc<AtomicUsize>,
}

impl Endless {
    fn byte(at: usize) -> u8 {
        match at.checked_sub(BEGIN.len()) {
            None => BEGIN[at],
            Some(at) => DATA
                .get(at % (DATA.len() + PAYLOAD))
                .copied()
                .unwrap_or(b'x'),
        }
    }
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let end = self.said + buffer.remaining();
        let bytes: Vec<u8> = (self.said..end).map(Self::byte).collect();
        buffer.put_slice(&bytes);
        self.said = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Socket for Endless {
    fn break_off(&self) {}
}

#[tokio::test]
async fn h13_h14_what_others_say_is_heard_between_the_turns_of_one_that_never_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut far = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut near, _) = listener.accept().await.unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    let endless = Endless {
        said: 0,
        reads: reads.clone(),
    };
    // Who drops a request wants nothing of its body.
    let (_, life) = conduit::serve(endless, Version::Http2, Arc::new(Limits::default()), drop);
    let life = tokio::spawn(life);
    while reads.load(Ordering::SeqCst) == 0 {
        yield_now().await;
    }
    let mut most = 0;
    for _ in 0..20 {
        let before = reads.load(Ordering::SeqCst);
        let mut byte = [0];
        // It waits already when there is something for it.
        let heard = timeout(LONG, near.read_exact(&mut byte));
        let (heard, said) = tokio::join!(heard, far.write_all(b"?"));
        said.unwrap();
        heard.expect("in time").unwrap();
        most = most.max(reads.load(Ordering::SeqCst) - before);
    }
    assert!(!life.is_finished(), "it stops");
    let all = reads.load(Ordering::SeqCst);
    assert!(all >= 20, "it has no turns: {all}");
    assert!(most <= 8, "{most} turns before others are heard");
}

#[tokio::test]
async fn h14_small_pieces_that_come_at_once_go_on_as_one() {
    const PIECES: usize = 200;
    let limits = Arc::new(Limits::default());
    let (up, mut server) = tokio::io::duplex(1 << 16);
    let (up, life) = conduit::connect(up, Version::Http2, limits.clone());
    tokio::spawn(life);
    let (mut client, down) = tokio::io::duplex(1 << 16);
    let piece = [&[0, 0, 1][..], &DATA[3..], b"x"].concat();
    let all = [BEGIN, &piece.repeat(PIECES)].concat();
    client.write_all(&all).await.unwrap();
    let mut held = Vec::new();
    let join = move |request: conduit::Request| {
        let onward = up.open(&Head::request("POST", "web", "/").unwrap(), false);
        let onward = onward.unwrap();
        request.exchange.join(&onward, as_they_are);
        held.push((request.exchange, onward));
    };
    let (_, life) = conduit::serve(down, Version::Http2, limits, join);
    tokio::spawn(life);
    let mut preface = [0; 24];
    server.read_exact(&mut preface).await.unwrap();
    let (mut frames, mut bytes) = (0, 0);
    while bytes < PIECES {
        let mut head = [0; 9];
        let heard = timeout(LONG, server.read_exact(&mut head)).await;
        heard.expect("in time").unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        server.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == 0 {
            (frames, bytes) = (frames + 1, bytes + length);
        }
    }
    assert_eq!((frames, bytes), (1, PIECES));
}
