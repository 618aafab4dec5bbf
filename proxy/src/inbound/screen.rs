//! Bytes on their way to an application that nobody reads, though it may speak
//! HTTP there.
//!
//! A client that was silent until detection gave up, and a peer that says `tcp` of
//! what is HTTP, could say in our headers what they like: unread, those would reach
//! the application. So the first bytes are looked at as they pass, and a connection
//! that begins with HTTP is cut before its first request line is whole. Who meant no
//! harm dials again, as after an idle connection that its server has closed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use mesh_drive::socket::Socket;
use mesh_wire::detect::{Detection, MAX_PEEK, detect};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use crate::metrics::Metrics;

/// Under which it is counted.
const REASON: &str = "unread_http";

/// A connection to an application, for what was not found to be HTTP.
pub(super) struct Screened<IO> {
    io: IO,
    state: State,
}

enum State {
    Open(Box<Open>),
    /// It is something else than HTTP, or declared to be.
    Passed,
    Cut,
}

/// What may become HTTP.
struct Open {
    /// The bytes that have passed.
    seen: Vec<u8>,
    metrics: Metrics,
}

impl<IO: Socket> Screened<IO> {
    /// What `metrics` counts, if it is cut.
    pub(super) fn new(io: IO, metrics: &Metrics) -> Self {
        let open = Open {
            seen: Vec::new(),
            metrics: metrics.clone(),
        };
        let state = State::Open(Box::new(open));
        Self { io, state }
    }

    /// For a port that is declared to speak something else.
    pub(super) const fn opaque(io: IO) -> Self {
        let state = State::Passed;
        Self { io, state }
    }

    /// Whether `bytes` may follow those that have passed.
    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        let open = match &mut self.state {
            State::Open(open) => open,
            State::Passed => return Ok(()),
            State::Cut => return Err(cut()),
        };
        let passed = open.seen.len();
        let room = MAX_PEEK - passed;
        open.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match detect(&open.seen) {
            Detection::NeedMore => open.seen.truncate(passed),
            Detection::Opaque => self.state = State::Passed,
            Detection::Http1 | Detection::Http2 => {
                open.metrics.refused("inbound", REASON);
                debug!("bytes that were not to be read are HTTP");
                self.state = State::Cut;
                self.io.break_off();
                return Err(cut());
            }
        }
        Ok(())
    }

    /// These have passed.
    fn passed(&mut self, bytes: &[u8]) {
        if let State::Open(open) = &mut self.state {
            open.seen.extend_from_slice(bytes);
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "HTTP that nobody reads")
}

impl<IO: Socket> Socket for Screened<IO> {
    fn break_off(&self) {
        self.io.break_off();
    }
}

impl<IO: Socket> AsyncRead for Screened<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.state, State::Cut) {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: Socket> AsyncWrite for Screened<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.look(bytes)?;
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.passed(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    mesh_net::pass_ends!(io);
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const FORGED: &[u8] = b"GET / HTTP/1.1\r\nl5d-client-id: spiffe://east/ns/a/sa/admin\r\n\r\n";

    /// What the application gets of `bytes`, written in pieces of `size`.
    async fn passes(bytes: &[u8], size: usize, is_opaque: bool) -> Vec<u8> {
        let (near, mut far) = duplex(64 * 1024);
        let mut screened = if is_opaque {
            Screened::opaque(near)
        } else {
            Screened::new(near, &Metrics::register(&mut Registry::default()))
        };
        for piece in bytes.chunks(size) {
            if screened.write_all(piece).await.is_err() {
                assert!(screened.read_u8().await.is_err(), "it is over");
                break;
            }
        }
        drop(screened);
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        got
    }

    #[tokio::test]
    async fn h7_no_head_passes_unread_however_it_is_cut() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        for bytes in [FORGED, preface] {
            for size in [1, 3, 10, bytes.len()] {
                let got = passes(bytes, size, false).await;
                assert!(bytes.starts_with(&got));
                let line = got.iter().filter(|byte| **byte == b'\n').count();
                let whole = if bytes == FORGED { 0 } else { 4 };
                assert!(line <= whole && got.len() < 25, "{size}: {got:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_http_passes_and_is_kept_no_longer_than_it_has_to_be() {
        let long = [b"SELECT 1;\n".as_slice(), &[b'x'; 40_000]].concat();
        let token = vec![b'x'; 3 * MAX_PEEK];
        for bytes in [b"\x16\x03\x01".as_slice(), b"EHLO web\r\n", &long, &token] {
            for size in [1, 1000, bytes.len()] {
                assert!(passes(bytes, size, false).await == *bytes);
            }
        }
        assert_eq!(passes(FORGED, 10, true).await, FORGED);
    }
}
