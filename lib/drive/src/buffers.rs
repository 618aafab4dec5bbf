//! Buffers that belong to the thread: a connection has one only while it holds
//! bytes, so that thousands of idle ones cost next to nothing.
//!
//! Whoever is handed a [`Chunk`](crate::exchange::Chunk) or a head may give it
//! back here when it is done with; nothing is lost if it does not.

use std::cell::RefCell;

use mesh_http::head::Head;

/// How much is read at one time, behind what is left from before: what makes 64 KiB
/// on an HTTP/2 connection, in four frames and four TLS records.
pub(crate) const READ: usize = SEALED - 4 * (9 + 22);
const SEALED: usize = 64 * 1024;
/// The same where the last reads have brought much: a peer that sends megabytes is heard,
/// and told that it was, four times as seldom.
pub(crate) const READ_MOST: usize = AMPLE * READ;
const AMPLE: usize = 4;
/// What [`READ_MOST`] is longer by when it is sealed.
pub(crate) const SEALS: usize = AMPLE * (SEALED - READ);
/// Buffers of each kind that wait for their next use.
const KEPT: usize = 128;
/// Room of a new buffer for output: an answer with a small body, which would else be
/// moved again and again while it grows.
const FEW_BYTES: usize = 2 * 1024;
/// What all buffers of bytes that wait have room for together; a larger one goes back
/// to the allocator.
const KEPT_BYTES: usize = 512 * 1024;

#[derive(Default)]
struct Pool {
    reading: Vec<u8>,
    output: Vec<Vec<u8>>,
    output_bytes: usize,
    heads: Vec<Head>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// The buffer to read into. Whoever asks while it is lent gets one of its own.
pub(crate) fn reading() -> Vec<u8> {
    POOL.with_borrow_mut(|pool| std::mem::take(&mut pool.reading))
}

pub(crate) fn give_back_reading(buffer: Vec<u8>) {
    if buffer.len() <= KEPT_BYTES {
        POOL.with_borrow_mut(|pool| pool.reading = buffer);
    }
}

/// An empty buffer, with room from its last use.
pub(crate) fn output() -> Vec<u8> {
    POOL.with_borrow_mut(|pool| {
        let buffer = pool.output.pop()?;
        pool.output_bytes -= buffer.capacity();
        Some(buffer)
    })
    .unwrap_or_else(|| Vec::with_capacity(FEW_BYTES))
}

/// Takes back a buffer of bytes.
pub fn give_back_output(mut buffer: Vec<u8>) {
    buffer.clear();
    POOL.with_borrow_mut(|pool| {
        let bytes = pool.output_bytes + buffer.capacity();
        if buffer.capacity() > 0 && pool.output.len() < KEPT && bytes <= KEPT_BYTES {
            pool.output_bytes = bytes;
            pool.output.push(buffer);
        }
    });
}

/// An empty head, with room from its last use.
#[must_use]
pub fn head() -> Head {
    POOL.with_borrow_mut(|pool| pool.heads.pop())
        .unwrap_or_default()
}

/// Takes back a head.
pub fn give_back_head(mut head: Head) {
    head.clear();
    POOL.with_borrow_mut(|pool| {
        if pool.heads.len() < KEPT {
            pool.heads.push(head);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h18_buffers_are_used_again_and_no_more_are_kept_than_some() {
        for n in 0..2 * KEPT {
            give_back_output(Vec::with_capacity(1000 + n));
        }
        POOL.with_borrow(|pool| assert_eq!(pool.output.len(), KEPT));
        assert!(output().capacity() >= 1000);
        for _ in 0..2 * KEPT {
            give_back_output(Vec::with_capacity(KEPT_BYTES / 3));
            give_back_output(Vec::with_capacity(KEPT_BYTES + 1));
        }
        POOL.with_borrow(|pool| {
            let held: usize = pool.output.iter().map(Vec::capacity).sum();
            assert_eq!(pool.output_bytes, held);
            assert!(held <= KEPT_BYTES);
        });
    }
}
