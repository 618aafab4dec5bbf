//! What a connection speaks: as declared, or by its first bytes.

use std::io;

use mesh_core::{destination::Protocol, limits::Limit};
use mesh_dataplane::limits::Bounds;
use mesh_net::replay::Replay;
use mesh_wire::detect::{Detection, MAX_PEEK, detect};
use tokio::{io::AsyncRead, time::timeout};

/// How the bytes of a connection are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    Opaque,
}

/// What `io` speaks. What was read to find out stays in `io`. Who is silent for too
/// long waits for the other side to speak first.
pub(crate) async fn spoken<IO>(
    io: &mut Replay<IO>,
    declared: Protocol,
    bounds: &Bounds,
) -> io::Result<Spoken>
where
    IO: AsyncRead + Unpin,
{
    match declared {
        Protocol::Http2 => return Ok(Spoken::Http2),
        Protocol::Opaque => return Ok(Spoken::Opaque),
        Protocol::Http1 | Protocol::Detect => {}
    }
    let deadline = bounds.limits().time(Limit::DetectTime);
    if let Ok(spoken) = timeout(deadline, read_first(io)).await {
        return spoken;
    }
    bounds.strike(Limit::DetectTime);
    Ok(match declared {
        // Whoever serves HTTP has deadlines of its own for the rest.
        Protocol::Http1 => Spoken::Http1,
        // Nor does anybody else begin a line and wait: it would be unread bytes to us,
        // and might become a request for the application.
        Protocol::Detect if !io.peeked().is_empty() => Spoken::Http1,
        Protocol::Http2 | Protocol::Opaque | Protocol::Detect => Spoken::Opaque,
    })
}

/// Reads until it is clear what is spoken.
async fn read_first<IO>(io: &mut Replay<IO>) -> io::Result<Spoken>
where
    IO: AsyncRead + Unpin,
{
    loop {
        match detect(io.peeked()) {
            Detection::Http1 => return Ok(Spoken::Http1),
            Detection::Http2 => return Ok(Spoken::Http2),
            Detection::Opaque => return Ok(Spoken::Opaque),
            Detection::NeedMore => {}
        }
        if io.peek_more(MAX_PEEK).await? == 0 {
            return Ok(so_far(io.peeked()));
        }
    }
}

/// What is spoken if nothing more is to be learnt.
fn so_far(bytes: &[u8]) -> Spoken {
    match detect(bytes) {
        Detection::Http1 => Spoken::Http1,
        Detection::Http2 => Spoken::Http2,
        Detection::Opaque | Detection::NeedMore => Spoken::Opaque,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_core::limits::{Limits, Program};
    use mesh_dataplane::limits::budget;
    use tokio::{
        io::AsyncWriteExt as _,
        time::{Instant, sleep},
    };

    use super::*;

    async fn of(bytes: &[u8], declared: Protocol) -> Spoken {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        drop(client);
        let bounds = Bounds::default();
        spoken(&mut Replay::new(server), declared, &bounds)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn h12_the_first_bytes_say_what_is_spoken_and_not_what_is_asked_for() {
        let get = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";
        let websocket = b"GET / HTTP/1.1\r\nhost: web\r\nupgrade: websocket\r\n\r\n";
        let h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for (bytes, expected) in [
            (&get[..], Spoken::Http1),
            (websocket, Spoken::Http1),
            (b"CONNECT web:80 HTTP/1.1\r\n", Spoken::Http1),
            (h2, Spoken::Http2),
            (b"\x16\x03\x01\x02", Spoken::Opaque),
            (b"", Spoken::Opaque),
        ] {
            assert_eq!(of(bytes, Protocol::Detect).await, expected, "{bytes:?}");
        }
    }

    /// The rest of it would come as bytes that nobody reads.
    #[tokio::test(start_paused = true)]
    async fn h7_half_a_request_line_is_http_after_the_deadline() {
        for half in ["G", "GET ", "GET / HT", "\r\n"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(half.as_bytes()).await.unwrap();
            let mut server = Replay::new(server);
            let spoken = spoken(&mut server, Protocol::Detect, &Bounds::default()).await;
            assert_eq!(spoken.unwrap(), Spoken::Http1, "{half}");
        }
    }

    #[tokio::test]
    async fn what_is_declared_is_not_looked_at() {
        assert_eq!(
            of(b"GET / HTTP/1.1\r\n", Protocol::Opaque).await,
            Spoken::Opaque
        );
        assert_eq!(of(b"", Protocol::Http2).await, Spoken::Http2);
    }

    #[tokio::test(start_paused = true)]
    async fn h17_a_silent_client_is_opaque_after_the_deadline() {
        for text in ["", "detect-time=500ms"] {
            let limits = Limits::parse(Program::Sidecar, text).unwrap();
            let bounds = Bounds::new(limits.clone(), budget(&limits));
            let deadline = bounds.limits().time(Limit::DetectTime);
            let (mut client, server) = tokio::io::duplex(64);
            let (mut server, start) = (Replay::new(server), Instant::now());
            let late = async {
                sleep(deadline - Duration::from_millis(20)).await;
                client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            };
            let detection = spoken(&mut server, Protocol::Detect, &bounds);
            let (found, ()) = tokio::join!(detection, late);
            assert_eq!(found.unwrap(), Spoken::Http1);
            assert_eq!(bounds.struck(Limit::DetectTime), 0);
            assert!(start.elapsed() < deadline);

            let (_client, server) = tokio::io::duplex(16);
            let (mut server, start) = (Replay::new(server), Instant::now());
            let found = spoken(&mut server, Protocol::Detect, &bounds).await;
            assert_eq!(found.unwrap(), Spoken::Opaque);
            assert!(start.elapsed() >= deadline);
            assert_eq!(bounds.struck(Limit::DetectTime), 1);
        }
    }
}
