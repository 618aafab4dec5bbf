//! What a connection speaks: as declared, or by its first bytes.

use std::io;

use mesh_core::{destination::Protocol, limits::Limit};
use mesh_dataplane::limits::Bounds;
use mesh_net::replay::Replay;
use mesh_wire::{
    detect::{Detection, MAX_PEEK, detect},
    hello::{Hello, client_hello},
};
use tokio::{io::AsyncRead, time::timeout};

/// How the bytes of a connection are handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    /// TLS of the application's own, for this server if it names one. Only where
    /// that was asked for; else it is opaque.
    Tls(Option<Box<str>>),
    Opaque,
}

/// What is to be found out of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Whether it is HTTP, unless that is declared.
    Protocol,
    /// Also which server it is for if it is TLS, whatever is declared but HTTP/2.
    ServerName,
}

/// What `io` speaks. What was read to find out stays in `io`. Who is silent for too
/// long waits for the other side to speak first.
pub(crate) async fn spoken<IO>(
    io: &mut Replay<IO>,
    declared: Protocol,
    asked: Asked,
    bounds: &Bounds,
) -> io::Result<Spoken>
where
    IO: AsyncRead + Unpin,
{
    match (declared, asked) {
        (Protocol::Http2, _) => return Ok(Spoken::Http2),
        (Protocol::Opaque, Asked::Protocol) => return Ok(Spoken::Opaque),
        (Protocol::Opaque, Asked::ServerName) | (Protocol::Http1 | Protocol::Detect, _) => {}
    }
    let deadline = bounds.limits().time(Limit::DetectTime);
    if let Ok(spoken) = timeout(deadline, read_first(io, declared, asked)).await {
        return spoken;
    }
    bounds.strike(Limit::DetectTime);
    if asked == Asked::ServerName && begins_hello(io.peeked()) {
        return Ok(Spoken::Tls(None));
    }
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
async fn read_first<IO>(io: &mut Replay<IO>, declared: Protocol, asked: Asked) -> io::Result<Spoken>
where
    IO: AsyncRead + Unpin,
{
    loop {
        if let Some(spoken) = so_far(io.peeked(), declared, asked) {
            return Ok(spoken);
        }
        if io.peek_more(MAX_PEEK).await? == 0 {
            let is_cut = asked == Asked::ServerName && begins_hello(io.peeked());
            return Ok(if is_cut {
                Spoken::Tls(None)
            } else {
                Spoken::Opaque
            });
        }
    }
}

/// What is spoken, if no further byte can change that.
fn so_far(bytes: &[u8], declared: Protocol, asked: Asked) -> Option<Spoken> {
    let detection = match declared {
        Protocol::Opaque => Detection::Opaque,
        Protocol::Http1 | Protocol::Http2 | Protocol::Detect => detect(bytes),
    };
    match detection {
        Detection::NeedMore => None,
        Detection::Http1 => Some(Spoken::Http1),
        Detection::Http2 => Some(Spoken::Http2),
        Detection::Opaque if asked == Asked::Protocol => Some(Spoken::Opaque),
        Detection::Opaque => match client_hello(bytes) {
            Hello::NeedMore => None,
            Hello::Tls(name) => Some(Spoken::Tls(name)),
            Hello::Other => Some(Spoken::Opaque),
        },
    }
}

/// Whether a ClientHello has begun that is not all there.
fn begins_hello(bytes: &[u8]) -> bool {
    !bytes.is_empty() && client_hello(bytes) == Hello::NeedMore
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
        spoken(&mut Replay::new(server), declared, Asked::Protocol, &bounds)
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
            for asked in [Asked::Protocol, Asked::ServerName] {
                let bounds = Bounds::default();
                let spoken = spoken(&mut server, Protocol::Detect, asked, &bounds).await;
                assert_eq!(spoken.unwrap(), Spoken::Http1, "{half}");
            }
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
            let detection = spoken(&mut server, Protocol::Detect, Asked::Protocol, &bounds);
            let (found, ()) = tokio::join!(detection, late);
            assert_eq!(found.unwrap(), Spoken::Http1);
            assert_eq!(bounds.struck(Limit::DetectTime), 0);
            assert!(start.elapsed() < deadline);

            let (_client, server) = tokio::io::duplex(16);
            let (mut server, start) = (Replay::new(server), Instant::now());
            let found = spoken(&mut server, Protocol::Detect, Asked::Protocol, &bounds).await;
            assert_eq!(found.unwrap(), Spoken::Opaque);
            assert!(start.elapsed() >= deadline);
            assert_eq!(bounds.struck(Limit::DetectTime), 1);
        }
    }

    /// A ClientHello for `Web.Example`, as it is in RFC 8446 §4.1.2.
    const HELLO: &[u8] = b"\x16\x03\x01\0\x43\x01\0\0\x3f\x03\x03\
        0123456789abcdef0123456789abcdef\0\0\x02\x13\x01\x01\0\
        \0\x14\0\0\0\x10\0\x0e\0\0\x0bWeb.Example";

    /// What is spoken by who says `bytes` and then leaves, or is silent.
    async fn named(bytes: &[u8], declared: Protocol, leaves: bool) -> (Spoken, Vec<u8>, u64) {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        let client = (!leaves).then_some(client);
        let (mut server, bounds) = (Replay::new(server), Bounds::default());
        let spoken = spoken(&mut server, declared, Asked::ServerName, &bounds).await;
        drop(client);
        let peeked = server.peeked().to_vec();
        (spoken.unwrap(), peeked, bounds.struck(Limit::DetectTime))
    }

    #[tokio::test(start_paused = true)]
    async fn a_tls_client_says_which_server_it_is_for() {
        let web = Spoken::Tls(Some("web.example".into()));
        for declared in [Protocol::Detect, Protocol::Opaque, Protocol::Http1] {
            for leaves in [true, false] {
                let (spoken, peeked, struck) = named(HELLO, declared, leaves).await;
                assert_eq!((spoken, struck), (web.clone(), 0), "{declared:?}");
                assert_eq!(peeked, HELLO, "nothing of it is lost");
                // A part of it is TLS all the same, and never led as anything else.
                for cut in [1, 5, 6, 40, HELLO.len() - 1] {
                    let (spoken, peeked, struck) = named(&HELLO[..cut], declared, leaves).await;
                    assert_eq!(spoken, Spoken::Tls(None), "{declared:?}, {cut}");
                    assert_eq!((peeked.len(), struck), (cut, u64::from(!leaves)));
                }
            }
        }
        assert_eq!(of(HELLO, Protocol::Detect).await, Spoken::Opaque);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_tls_is_handled_as_where_no_name_is_asked_for() {
        let get = b"GET / HTTP/1.1\r\n\r\n";
        for (bytes, declared, expected) in [
            (&get[..], Protocol::Detect, Spoken::Http1),
            (get, Protocol::Opaque, Spoken::Opaque),
            (b"\0\x01", Protocol::Detect, Spoken::Opaque),
            (b"\0\x01", Protocol::Opaque, Spoken::Opaque),
            (b"", Protocol::Detect, Spoken::Opaque),
            (b"", Protocol::Opaque, Spoken::Opaque),
            (HELLO, Protocol::Http2, Spoken::Http2),
        ] {
            for leaves in [true, false] {
                let (spoken, ..) = named(bytes, declared, leaves).await;
                assert_eq!(spoken, expected, "{bytes:?} {declared:?}");
            }
        }
    }
}
