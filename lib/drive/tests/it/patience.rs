//! Who goes on sending when it was told of the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mesh_drive::{
    conduit::{self, Version},
    socket::{Sealed, Socket},
};
use mesh_http::{head::Head, limits::Limits};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

const LONG: Duration = Duration::from_secs(20);
/// A preface, empty SETTINGS, and a PRIORITY that is too short.
const FAULTY: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                        \0\0\x04\x02\0\0\0\0\x01abcd";
const PIECE: [u8; 16 << 10] = [0; 16 << 10];
/// What the kernel may hold of it on both sides, and what is read until it is broken off.
const TAKEN: u64 = 24 << 20;

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// What a client hears that does not look at it before it can send no more; and how much
/// it has sent.
async fn goes_on(
    client: impl AsyncRead + AsyncWrite + Send + 'static,
    server: impl Socket + Send + 'static,
) -> (Vec<u8>, u64) {
    let limits = Limits {
        // It is not what ends it.
        linger_time: LONG * 2,
        ..Limits::default()
    };
    let (_, life) = conduit::serve(server, Version::Http2, Arc::new(limits), drop);
    let life = tokio::spawn(life);
    let (mut reading, mut writing) = split(client);
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let sending = tokio::spawn(async move {
        writing.write_all(FAULTY).await.unwrap();
        while let Ok(now) = writing.write(&PIECE).await {
            counted.fetch_add(now as u64, Ordering::SeqCst);
        }
    });
    let hearing = tokio::spawn(async move {
        let mut heard = Vec::new();
        // It is reset at last.
        let _ = reading.read_to_end(&mut heard).await;
        heard
    });
    let broken_off = timeout(LONG, sending).await;
    broken_off.expect("it is broken off").unwrap();
    timeout(LONG, life).await.expect("it is over").unwrap();
    let heard = timeout(LONG, hearing).await.unwrap().unwrap();
    (heard, sent.load(Ordering::SeqCst))
}

#[tokio::test]
async fn h13_h14_who_was_sent_away_and_goes_on_is_broken_off() {
    let (client, server) = sockets().await;
    let (sealed_client, sealed) = sockets().await;
    for (of, (heard, sent)) in [
        ("a socket", goes_on(client, server).await),
        ("TLS", goes_on(sealed_client, Sealed(sealed)).await),
    ] {
        // GOAWAY, with FRAME_SIZE_ERROR.
        let told = heard
            .windows(17)
            .any(|frame| frame.starts_with(&[0, 0, 8, 7]) && frame.ends_with(&[0, 0, 0, 6]));
        assert!(told, "{of}: {heard:?}");
        assert!(sent < TAKEN, "{of}: {sent}");
    }
}

async fn refuse(server: impl Socket + Send + 'static, limits: Limits) {
    let (_, life) = conduit::serve(server, Version::Http1, Arc::new(limits), |request| {
        let head = Head::response(401).unwrap();
        request.exchange.send_head(&head, true).unwrap();
    });
    life.await;
}

fn asks(body: usize) -> String {
    format!("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {body}\r\n\r\n")
}

/// RFC 9112 §9.6: it would else lose the answer.
#[tokio::test]
async fn who_sends_all_before_it_looks_at_the_answer_gets_it() {
    let linger_time = Duration::from_secs(1);
    // Much of it at once; and little, which takes longer than any of it is waited for.
    for (pieces, pause) in [(2_560, Duration::ZERO), (25, linger_time / 10)] {
        let (mut client, server) = sockets().await;
        let limits = Limits {
            linger_time,
            ..Limits::default()
        };
        tokio::spawn(refuse(server, limits));
        let answer = timeout(LONG, async move {
            let head = asks(pieces * PIECE.len());
            client.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..pieces {
                client.write_all(&PIECE).await.unwrap();
                sleep(pause).await;
            }
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let answer = answer.await.expect("in time");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[tokio::test]
async fn h17_who_was_answered_and_never_ends_its_body_is_left() {
    let limits = || Limits {
        linger_time: LONG * 2,
        linger_most: Duration::from_millis(300),
        ..Limits::default()
    };
    let (client, server) = sockets().await;
    let (other_client, other) = sockets().await;
    for (mut client, life) in [
        (client, tokio::spawn(refuse(server, limits()))),
        (other_client, tokio::spawn(refuse(Sealed(other), limits()))),
    ] {
        let sending = tokio::spawn(async move {
            let head = asks(1 << 40);
            client.write_all(head.as_bytes()).await.unwrap();
            while client.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        timeout(LONG, life).await.expect("it is over").unwrap();
        timeout(LONG, sending).await.expect("it is told").unwrap();
    }
}
