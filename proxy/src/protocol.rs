//! What a connection speaks: as declared, or by its first bytes.

use std::{io, time::Duration};

use mesh_core::destination::Protocol;
use mesh_net::replay::Replay;
use mesh_wire::detect::{Detection, MAX_PEEK, detect};
use tokio::{io::AsyncRead, time::timeout};

/// How long the first bytes may take; who is silent so long waits for the
/// other side to speak first.
const DEADLINE: Duration = Duration::from_secs(10);

/// How the bytes of a connection are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    Opaque,
}

/// What `io` speaks. What was read to find out stays in `io`.
pub(crate) async fn spoken<IO>(io: &mut Replay<IO>, declared: Protocol) -> io::Result<Spoken>
where
    IO: AsyncRead + Unpin,
{
    match declared {
        Protocol::Http1 => read_first(io).await,
        Protocol::Http2 => Ok(Spoken::Http2),
        Protocol::Opaque => Ok(Spoken::Opaque),
        Protocol::Detect => timeout(DEADLINE, read_first(io))
            .await
            .unwrap_or(Ok(Spoken::Opaque)),
    }
}

/// Reads until it is clear what is spoken.
async fn read_first<IO>(io: &mut Replay<IO>) -> io::Result<Spoken>
where
    IO: AsyncRead + Unpin,
{
    loop {
        match detect(io.peeked()) {
            Detection::Http1 if asks_to_switch(io.peeked()) => return Ok(Spoken::Opaque),
            Detection::Http1 => return Ok(Spoken::Http1),
            Detection::Http2 => return Ok(Spoken::Http2),
            Detection::Opaque => return Ok(Spoken::Opaque),
            Detection::NeedMore => {}
        }
        if io.peek_more(MAX_PEEK).await? == 0 {
            return Ok(Spoken::Opaque);
        }
    }
}

/// Whether a first request that has arrived whole wants to leave HTTP/1
/// (websocket and the like): the connection is then carried as it is. h2c is
/// not such a wish: it is declined by answering in HTTP/1.
fn asks_to_switch(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    if !matches!(request.parse(bytes), Ok(httparse::Status::Complete(_))) {
        return false;
    }
    request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("upgrade") && !header.value.eq_ignore_ascii_case(b"h2c")
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn of(bytes: &[u8], declared: Protocol) -> Spoken {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        drop(client);
        spoken(&mut Replay::new(server), declared).await.unwrap()
    }

    #[tokio::test]
    async fn the_first_bytes_say_what_is_spoken() {
        let get = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";
        let websocket = b"GET / HTTP/1.1\r\nhost: web\r\nupgrade: websocket\r\n\r\n";
        let h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for (bytes, expected) in [
            (&get[..], Spoken::Http1),
            (websocket, Spoken::Opaque),
            (h2, Spoken::Http2),
            (b"\x16\x03\x01\x02", Spoken::Opaque),
            (b"", Spoken::Opaque),
        ] {
            assert_eq!(of(bytes, Protocol::Detect).await, expected, "{bytes:?}");
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
    async fn a_silent_client_is_opaque_after_the_deadline() {
        let (_client, server) = tokio::io::duplex(16);
        let spoken = spoken(&mut Replay::new(server), Protocol::Detect).await;
        assert_eq!(spoken.unwrap(), Spoken::Opaque);
    }
}
