//! An exchange as a socket, for code that wants one.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    exchange::{Broken, Exchange},
    socket::Socket,
};

/// The bytes of a stream that is a tunnel, in both directions.
pub struct ByteStream {
    exchange: Exchange,
    has_ended: bool,
}

impl ByteStream {
    /// Of an exchange that was agreed to be a tunnel, or that is no HTTP.
    #[must_use]
    pub const fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            has_ended: false,
        }
    }

    /// The exchange. What was read and written here stays so.
    #[must_use]
    pub fn into_exchange(self) -> Exchange {
        self.exchange
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").finish_non_exhaustive()
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.exchange.poll_slot(cx, |_, slot| {
            if slot.data.is_empty() {
                let is_over = slot.tail.is_some() || slot.has_received_all;
                return is_over.then_some(0);
            }
            let n = slot.data.len().min(buffer.remaining());
            buffer.put_slice(&slot.data[..n]);
            slot.data.drain(..n);
            Some(n)
        });
        let read = ready!(read).map_err(broken_off)?;
        self.exchange.place().consume(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.exchange.poll_room(cx)).map_err(broken_off)?;
        Poll::Ready(Ok(self.exchange.place().send(bytes, false).bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver writes it as soon as it runs.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_ended {
            self.has_ended = true;
            self.exchange.place().send(&[], true);
        }
        Poll::Ready(Ok(()))
    }
}

impl Socket for ByteStream {
    /// Who lets go of a stream that has not ended breaks it off.
    fn break_off(&self) {}
}

fn broken_off(broken: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, broken)
}
