//! The bytes that wait to be written, in one buffer.

/// A buffer that is filled at its end and written from its start.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    written: usize,
    /// Whether some of it has been written, maybe up to the middle of a frame.
    begun: bool,
}

impl Output {
    pub(crate) fn pending(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.written)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where to put bytes: behind those that are there.
    pub(crate) const fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Makes room for `n` bytes, and for no more than those if it is more than a buffer
    /// has anyway: who does not read leaves them there for long.
    pub(crate) fn make_room(&mut self, n: usize) {
        if self.bytes.capacity() > 0 {
            self.bytes.reserve_exact(n);
        }
    }

    /// Puts `first` before everything that waits, if no part of it has been
    /// written yet, so that a frame is never cut in two; else behind it.
    pub(crate) fn put_first(&mut self, first: &[u8]) {
        if !self.begun {
            self.bytes.splice(..0, first.iter().copied());
        } else {
            self.bytes.extend_from_slice(first);
        }
    }

    pub(crate) fn wrote(&mut self, n: usize) {
        self.written = self.written.saturating_add(n).min(self.bytes.len());
        self.begun |= n > 0;
        if self.written == self.bytes.len() {
            self.clear();
        } else if self.written > self.bytes.len() / 2 {
            // Keeps the buffer as small as what it holds, for one copy a byte.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
        self.begun = false;
    }

    /// Gives a buffer to fill, if there is none.
    pub(crate) fn lend(&mut self, lent: impl FnOnce() -> Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = lent();
            self.bytes.clear();
        }
    }

    /// Takes the buffer back, if it is empty.
    pub(crate) fn reclaim(&mut self) -> Option<Vec<u8>> {
        let idle = self.is_empty() && self.bytes.capacity() > 0;
        idle.then(|| std::mem::take(&mut self.bytes))
    }
}
