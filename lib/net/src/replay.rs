//! A stream whose first bytes have been looked at.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How much is read at one time: most requests' heads are shorter.
const AT_ONCE: usize = 4 * 1024;

/// A stream that hands out bytes read earlier before it reads on.
#[derive(Debug)]
pub struct Replay<IO> {
    peeked: Vec<u8>,
    given: usize,
    io: IO,
}

impl<IO> Replay<IO> {
    /// A stream of which nothing has been read.
    pub const fn new(io: IO) -> Self {
        Self {
            peeked: Vec::new(),
            given: 0,
            io,
        }
    }

    /// What [`Self::peek_more`] has read.
    #[must_use]
    pub fn peeked(&self) -> &[u8] {
        &self.peeked
    }

    /// The stream below.
    #[must_use]
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + Unpin> Replay<IO> {
    /// Reads once and keeps at most `max` bytes in all; says how many came, 0 at
    /// the end of the stream or when `max` is reached. Cancel safe.
    ///
    /// # Errors
    /// If the stream does.
    pub async fn peek_more(&mut self, max: usize) -> io::Result<usize> {
        let room = max.saturating_sub(self.peeked.len());
        self.peeked.reserve(room.min(AT_ONCE));
        let mut limited = (&mut self.io).take(u64::try_from(room).unwrap_or(u64::MAX));
        limited.read_buf(&mut self.peeked).await
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Replay<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.peeked.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let left = &this.peeked[this.given..];
        let now = left.len().min(buf.remaining());
        buf.put_slice(&left[..now]);
        this.given += now;
        if this.given == this.peeked.len() {
            this.peeked = Vec::new();
            this.given = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Replay<IO> {
    crate::pass_writes!(io);
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn peeked_bytes_are_read_again_and_only_once() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"hello").await.unwrap();
        let mut replay = Replay::new(server);
        assert_eq!(replay.peek_more(3).await.unwrap(), 3);
        assert_eq!(replay.peek_more(3).await.unwrap(), 0);
        assert_eq!(replay.peeked(), b"hel");
        client.write_all(b" there").await.unwrap();
        drop(client);
        let mut all = String::new();
        replay.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "hello there");
    }
}
