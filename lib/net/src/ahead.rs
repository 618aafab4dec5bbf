//! Reading ahead, for readers that take little at a time.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read with one call.
const READ: usize = 64 * 1024;

thread_local! {
    /// A buffer that nobody holds.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A stream that is read in large pieces, however small those are that are asked
/// for. It holds a buffer only while there is something in it.
#[derive(Debug)]
pub struct ReadAhead<IO> {
    io: IO,
    held: Option<Held>,
}

/// What was read and not handed out: `buffer[at..end]`.
#[derive(Debug)]
struct Held {
    buffer: Vec<u8>,
    at: usize,
    end: usize,
}

impl<IO> ReadAhead<IO> {
    /// A stream of which nothing was read.
    pub const fn new(io: IO) -> Self {
        Self { io, held: None }
    }

    /// The stream below.
    #[must_use]
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl Held {
    /// Hands out what fits; whether something is left.
    fn give(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let left = &self.buffer[self.at..self.end];
        let n = left.len().min(into.remaining());
        into.put_slice(&left[..n]);
        self.at += n;
        self.at < self.end
    }
}

/// The buffer is for the next one of this thread.
fn give_back(buffer: Vec<u8>) {
    SPARE.with_borrow_mut(|spare| *spare = buffer);
}

fn borrow() -> Vec<u8> {
    let mut buffer = SPARE.with_borrow_mut(std::mem::take);
    buffer.resize(READ, 0);
    buffer
}

impl<IO: AsyncRead + Unpin> AsyncRead for ReadAhead<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.held.is_none() {
            let mut buffer = borrow();
            let mut space = ReadBuf::new(&mut buffer);
            let read = Pin::new(&mut this.io).poll_read(cx, &mut space);
            let end = space.filled().len();
            if !matches!(read, Poll::Ready(Ok(()))) || end == 0 {
                give_back(buffer);
                ready!(read)?;
                return Poll::Ready(Ok(()));
            }
            this.held = Some(Held { buffer, at: 0, end });
        }
        let Some(mut held) = this.held.take() else {
            return Poll::Ready(Ok(()));
        };
        if held.give(into) {
            this.held = Some(held);
        } else {
            give_back(held.buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ReadAhead<IO> {
    crate::pass_writes!(io);
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn every_byte_comes_once_and_in_order_whatever_is_asked_for() {
        let (mut near, far) = duplex(1 << 20);
        let sent: Vec<u8> = (0..300_000).map(|at| (at / 3 + at % 251) as u8).collect();
        near.write_all(&sent).await.unwrap();
        drop(near);
        let (mut ahead, mut read) = (ReadAhead::new(far), Vec::new());
        for size in [1, 7, 4096, 100, 70_000].into_iter().cycle() {
            let mut piece = vec![0; size];
            let n = ahead.read(&mut piece).await.unwrap();
            read.extend_from_slice(&piece[..n]);
            if n == 0 {
                break;
            }
        }
        assert!(read == sent);
        assert!(ahead.held.is_none());
    }

    #[tokio::test]
    async fn nothing_is_held_while_nothing_is_left() {
        let (mut near, far) = duplex(1000);
        let mut ahead = ReadAhead::new(far);
        near.write_all(b"abcd").await.unwrap();
        let mut two = [0; 2];
        ahead.read_exact(&mut two).await.unwrap();
        assert!(ahead.held.is_some());
        ahead.read_exact(&mut two).await.unwrap();
        assert!(ahead.held.is_none() && two == *b"cd");
    }
}
