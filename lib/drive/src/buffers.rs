//! Buffers that belong to the thread: a connection has one only while it holds
//! bytes, so that thousands of idle ones cost next to nothing.

use std::cell::RefCell;

use mesh_http::head::Head;

/// How much is read at one time, behind what is left from before.
pub(crate) const READ: usize = 64 * 1024;
/// Buffers of each kind that wait for their next use.
const KEPT: usize = 64;
/// A buffer that has grown beyond this is given back to the system.
const LARGEST: usize = 512 * 1024;

#[derive(Default)]
struct Pool {
    reading: Vec<u8>,
    output: Vec<Vec<u8>>,
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
    if buffer.len() <= LARGEST {
        POOL.with_borrow_mut(|pool| pool.reading = buffer);
    }
}

/// An empty buffer, with room from its last use.
pub(crate) fn output() -> Vec<u8> {
    POOL.with_borrow_mut(|pool| pool.output.pop())
        .unwrap_or_default()
}

pub(crate) fn give_back_output(mut buffer: Vec<u8>) {
    buffer.clear();
    let fits = (1..=LARGEST).contains(&buffer.capacity());
    POOL.with_borrow_mut(|pool| {
        if fits && pool.output.len() < KEPT {
            pool.output.push(buffer);
        }
    });
}

/// An empty head, with room from its last use.
pub(crate) fn head() -> Head {
    POOL.with_borrow_mut(|pool| pool.heads.pop())
        .unwrap_or_default()
}

pub(crate) fn give_back_head(mut head: Head) {
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
        give_back_output(Vec::with_capacity(LARGEST + 1));
        POOL.with_borrow(|pool| {
            assert_eq!(pool.output.len(), KEPT);
            assert!(pool.output.iter().all(|buffer| buffer.capacity() < LARGEST));
        });
        assert!(output().capacity() >= 1000);
    }
}
