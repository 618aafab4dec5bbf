//! Buffers that belong to the thread: a session has one only while something is on
//! its way.

use std::cell::RefCell;

/// Read, or written, with one call. (More would come from another part of the
/// allocator, which is dear.)
pub(crate) const ROOM: usize = 64 * 1024;

thread_local! {
    /// Buffers that nobody holds, each with room for [`ROOM`].
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}
/// A thread keeps so many: one to read into, one to write from.
const SPARES: usize = 2;

pub(crate) fn borrow() -> Vec<u8> {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| vec![0; ROOM])
}

fn give_back(buffer: Vec<u8>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARES && buffer.len() == ROOM {
            spare.push(buffer);
        }
    });
}

/// Bytes that are on their way: `buffer[at..end]`.
#[derive(Default)]
pub(crate) struct Under {
    pub(crate) buffer: Vec<u8>,
    pub(crate) at: usize,
    pub(crate) end: usize,
}

impl Under {
    pub(crate) const fn of(buffer: Vec<u8>) -> Self {
        let end = buffer.len();
        Self { buffer, at: 0, end }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.at..self.end]
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// Takes a buffer, if there is none.
    fn begin(&mut self) {
        if self.buffer.is_empty() {
            *self = Self {
                buffer: borrow(),
                at: 0,
                end: 0,
            };
        }
    }

    /// Makes room behind what is there: in a buffer of the thread's, or a larger one.
    pub(crate) fn room(&mut self, wanted: usize) -> &mut [u8] {
        self.begin();
        if self.buffer.len() - self.end < wanted {
            self.buffer.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, self.end - self.at);
        }
        if self.buffer.len() - self.end < wanted {
            self.buffer.resize(self.end + wanted, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// The buffer goes back to the thread, but for what is in it.
    pub(crate) fn rest(&mut self) {
        if self.buffer.len() < ROOM && !self.is_empty() {
            return;
        }
        let left = Self::of(self.bytes().to_vec());
        give_back(std::mem::replace(self, left).buffer);
    }
}
