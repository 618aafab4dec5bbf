//! Buffers that belong to the thread: a session has one only while something is on
//! its way.

use std::cell::RefCell;

/// Read, or written, with one call.
pub(crate) const ROOM: usize = 64 * 1024;
/// The same for whoever has as much to write, or room for as much that is read.
pub(crate) const MOST: usize = 4 * ROOM;

#[derive(Default)]
struct Spare {
    /// Each with [`ROOM`].
    usual: Vec<Vec<u8>>,
    /// Each with room for [`MOST`].
    ample: Vec<Vec<u8>>,
}

thread_local! {
    /// Buffers that nobody holds.
    static SPARE: RefCell<Spare> = RefCell::default();
}
/// A thread keeps so many of each size: one to read into, one to write from.
const SPARES: usize = 2;

/// A buffer with room for `wanted` bytes, but no more than [`MOST`].
pub(crate) fn borrow(wanted: usize) -> Vec<u8> {
    let is_ample = wanted > ROOM;
    let spare = SPARE.with_borrow_mut(|spare| {
        let spares = if is_ample {
            &mut spare.ample
        } else {
            &mut spare.usual
        };
        spares.pop()
    });
    spare.unwrap_or_else(|| vec![0; if is_ample { MOST } else { ROOM }])
}

fn give_back(buffer: Vec<u8>) {
    SPARE.with_borrow_mut(|spare| {
        let spares = match buffer.len() {
            ROOM => &mut spare.usual,
            MOST => &mut spare.ample,
            _ => return,
        };
        if spares.len() < SPARES {
            spares.push(buffer);
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

    /// Takes a buffer for `wanted` bytes, if there is none.
    pub(crate) fn begin(&mut self, wanted: usize) {
        if self.buffer.is_empty() {
            *self = Self {
                buffer: borrow(wanted),
                at: 0,
                end: 0,
            };
        }
    }

    /// Makes room behind what is there: in a buffer of the thread's, or a larger one.
    pub(crate) fn room(&mut self, wanted: usize) -> &mut [u8] {
        self.begin(wanted);
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
