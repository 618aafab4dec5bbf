//! An exchange as a socket, for code that wants one.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    buffers,
    exchange::{Broken, Exchange},
    socket::Socket,
};

/// The peer may send more each time so much was read: readers may take very
/// little at a time.
const CREDIT: usize = 16 * 1024;

/// The bytes of a stream that is a tunnel, in both directions.
pub struct ByteStream {
    exchange: Exchange,
    /// What was taken off the connection and not read yet: all behind `at`.
    held: Vec<u8>,
    at: usize,
    /// What was read and the peer was given no credit for.
    uncredited: usize,
    has_ended: bool,
}

impl ByteStream {
    /// Of an exchange that was agreed to be a tunnel, or that is no HTTP.
    #[must_use]
    pub const fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            held: Vec::new(),
            at: 0,
            uncredited: 0,
            has_ended: false,
        }
    }

    /// The exchange.
    #[must_use]
    pub const fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The exchange. What was read and written here stays so.
    #[must_use]
    pub fn into_exchange(mut self) -> Exchange {
        self.exchange.place.consume(self.uncredited);
        self.held.drain(..self.at);
        self.exchange.put_back(self.held);
        self.exchange
    }

    /// Takes what has come; false if nothing more will.
    fn poll_more(&mut self, cx: &Context<'_>) -> Poll<io::Result<bool>> {
        let more = self.exchange.poll_slot(cx, |_, slot| {
            if slot.data.is_empty() {
                let is_over = slot.tail.is_some() || slot.has_received_all;
                return is_over.then(Vec::new);
            }
            Some(std::mem::take(&mut slot.data))
        });
        self.held = ready!(more).map_err(broken_off)?;
        self.at = 0;
        Poll::Ready(Ok(!self.held.is_empty()))
    }

    /// Notes that so much was read.
    fn credit(&mut self, read: usize) {
        self.at += read;
        self.uncredited += read;
        let is_all = self.at == self.held.len();
        if is_all {
            buffers::give_back_output(std::mem::take(&mut self.held));
            self.at = 0;
        }
        if is_all || self.uncredited >= CREDIT {
            let bytes = std::mem::take(&mut self.uncredited);
            self.exchange.place.consume(bytes);
        }
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
        let this = self.get_mut();
        if this.held.is_empty() && !ready!(this.poll_more(cx))? {
            return Poll::Ready(Ok(()));
        }
        let left = &this.held[this.at..];
        let read = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..read]);
        this.credit(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.has_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        loop {
            ready!(self.exchange.poll_room(cx)).map_err(broken_off)?;
            let taken = self.exchange.place.send(bytes, false).bytes;
            // Another thread's stream may have taken the room meanwhile.
            if taken > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(taken));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver writes it as soon as it runs.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_ended {
            self.has_ended = true;
            self.exchange.place.send(&[], true);
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
