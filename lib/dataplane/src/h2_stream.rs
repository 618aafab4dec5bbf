//! The bytes of one HTTP/2 stream, as a reader and writer.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use mesh_wire::mesh1;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much one write hands to the stream at most.
const LARGEST_WRITE: usize = 64 * 1024;

/// The two directions of an HTTP/2 stream after a `CONNECT`.
///
/// A stream that was just opened may be written to before the peer has
/// answered; its first read waits for the answer, and fails when the answer is
/// a refusal. Flow control is returned as bytes are read. Shutting down ends
/// our direction only; dropping the stream before resets it.
pub struct H2Stream {
    send: SendStream<Bytes>,
    receive: Receive,
    ended: bool,
    _place: Place,
}

/// How many streams a connection carries. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<AtomicUsize>);

impl Streams {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn place(&self) -> Place {
        self.0.fetch_add(1, Ordering::Relaxed);
        Place(self.clone())
    }
}

/// The place that a stream takes on its connection, free again when dropped.
#[derive(Debug)]
pub(crate) struct Place(Streams);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Receive {
    /// The answer is outstanding.
    Asked(ResponseFuture),
    Open {
        stream: RecvStream,
        /// Received, and not read yet.
        rest: Bytes,
    },
}

impl H2Stream {
    /// A stream whose `CONNECT` has not been answered yet.
    pub(crate) const fn asked(
        send: SendStream<Bytes>,
        answer: ResponseFuture,
        place: Place,
    ) -> Self {
        Self {
            send,
            receive: Receive::Asked(answer),
            ended: false,
            _place: place,
        }
    }
}

impl AsyncRead for H2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.receive {
                Receive::Asked(answer) => {
                    let answer = ready!(Pin::new(answer).poll(cx)).map_err(into_io)?;
                    if !answer.status().is_success() {
                        return Poll::Ready(Err(refused(&answer)));
                    }
                    self.receive = Receive::Open {
                        stream: answer.into_body(),
                        rest: Bytes::new(),
                    };
                }
                Receive::Open { stream, rest } => {
                    if !rest.is_empty() {
                        let count = rest.len().min(buffer.remaining());
                        buffer.put_slice(&rest[..count]);
                        rest.advance(count);
                        // Only what was read makes room for more.
                        let _ = stream.flow_control().release_capacity(count);
                        return Poll::Ready(Ok(()));
                    }
                    match ready!(stream.poll_data(cx)) {
                        Some(Ok(data)) => *rest = data,
                        Some(Err(error)) if is_clean(&error) => return Poll::Ready(Ok(())),
                        Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                        None => return Poll::Ready(Ok(())),
                    }
                }
            }
        }
    }
}

impl AsyncWrite for H2Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wanted = bytes.len().min(LARGEST_WRITE);
        self.send.reserve_capacity(wanted);
        loop {
            // `poll_capacity` tells of increases only: what was granted before
            // has to be asked for first.
            let count = self.send.capacity().min(wanted);
            if count > 0 {
                let data = Bytes::copy_from_slice(&bytes[..count]);
                self.send.send_data(data, false).map_err(into_io)?;
                return Poll::Ready(Ok(count));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(granted) => {
                    granted.map_err(into_io)?;
                }
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            // A peer that is gone needs no end.
            let _ = self.send.send_data(Bytes::new(), true);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        if !self.ended {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}

/// A peer that wants nothing more, after all was said.
fn is_clean(error: &h2::Error) -> bool {
    error.reason() == Some(Reason::NO_ERROR)
}

fn refused<B>(answer: &http::Response<B>) -> io::Error {
    let reason = mesh1::Reason::from_headers(answer.headers());
    io::Error::new(
        io::ErrorKind::ConnectionRefused,
        TunnelRefused {
            status: answer.status(),
            reason,
        },
    )
}

/// The peer answered a `CONNECT` with something else than success: not one
/// byte went further.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the gateway refused the tunnel: {status}{}", reason_text(*reason))]
pub struct TunnelRefused {
    /// The status of the answer.
    pub status: http::StatusCode,
    /// Why, where the gateway said so.
    pub reason: Option<mesh1::Reason>,
}

fn reason_text(reason: Option<mesh1::Reason>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({})", reason.as_str()))
}

fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    match error.reason() {
        Some(Reason::CANCEL | Reason::NO_ERROR | Reason::REFUSED_STREAM) => {
            io::Error::new(io::ErrorKind::ConnectionReset, error)
        }
        _ => io::Error::other(error),
    }
}
