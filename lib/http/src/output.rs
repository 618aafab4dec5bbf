//! The bytes that wait to be written, in one buffer.

use crate::limits::{Granted, Limits};

/// A buffer that is filled at its end and written from its start.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    written: usize,
    /// Whether some of it has been written, maybe up to the middle of a frame.
    begun: bool,
    /// Some of what was in this buffer has left.
    has_left: bool,
    /// More was there at one time than half of what usually may.
    is_much: bool,
    /// It did not leave at once.
    has_waited: bool,
    /// Whether the last buffer held much, and all of it left at once.
    is_swift: bool,
    /// What it has of the budget for more room than usual, while it holds a buffer.
    granted: Option<Granted>,
}

impl Output {
    /// How much may be in it before what comes has to wait elsewhere.
    fn room(&self, limits: &Limits) -> usize {
        if self.granted.is_some() {
            limits.output_bytes_most.max(limits.output_bytes)
        } else {
            limits.output_bytes
        }
    }

    /// How much more there is room for.
    pub(crate) fn free(&self, limits: &Limits) -> usize {
        self.room(limits).saturating_sub(self.len())
    }

    /// How much of it there is no room for.
    pub(crate) fn over_full(&self, limits: &Limits) -> usize {
        self.len().saturating_sub(self.room(limits))
    }

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

    pub(crate) fn wrote(&mut self, n: usize, limits: &Limits) {
        self.has_left |= n > 0;
        self.is_much |= self.len() > limits.output_bytes / 2;
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

    /// What is to be written has to wait for the peer.
    pub(crate) const fn waits(&mut self) {
        self.has_waited = true;
    }

    /// Gives a buffer to fill, if there is none.
    pub(crate) fn lend(&mut self, limits: &Limits, lent: impl FnOnce() -> Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = lent();
            self.bytes.clear();
            if self.is_swift && self.granted.is_none() {
                // Once here, and once where it is sealed.
                let more = limits.output_bytes_most.saturating_sub(limits.output_bytes);
                self.granted = limits.budget.lend_spare(2 * more);
            }
        }
    }

    /// Takes the buffer back, if it is empty. Nothing that was in it is on its way to
    /// the socket any more.
    pub(crate) fn reclaim(&mut self) -> Option<Vec<u8>> {
        if self.is_empty() {
            if self.has_left {
                self.is_swift = self.is_much && !self.has_waited;
            }
            (self.has_left, self.is_much, self.has_waited) = (false, false, false);
            self.granted = None;
        }
        let idle = self.is_empty() && self.bytes.capacity() > 0;
        idle.then(|| std::mem::take(&mut self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::limits::Budget;

    const USUAL: usize = 100;
    const MOST: usize = 400;
    /// What more room takes of the budget.
    const MORE: usize = 2 * (MOST - USUAL);

    fn limits(budget: usize) -> Limits {
        Limits {
            output_bytes: USUAL,
            output_bytes_most: MOST,
            budget: Arc::new(Budget::new(budget)),
            ..Limits::default()
        }
    }

    /// A buffer that holds so many bytes and is emptied, after a while if it `waits`;
    /// how many there was room for.
    fn filled(output: &mut Output, limits: &Limits, bytes: usize, waits: bool) -> usize {
        output.lend(limits, || Vec::with_capacity(1));
        let room = output.free(limits);
        output.bytes().extend(vec![0; bytes]);
        output.wrote(bytes / 2, limits);
        if waits {
            output.waits();
        }
        assert!(output.reclaim().is_none() || bytes == 0);
        output.wrote(bytes - bytes / 2, limits);
        output.reclaim();
        room
    }

    #[test]
    fn h15_there_is_more_room_for_who_took_much_at_once_and_for_nobody_else() {
        let limits = limits(10 * MORE);
        let mut output = Output::default();
        for (bytes, waits, expected) in [
            (USUAL / 2, false, USUAL),
            (USUAL / 2 + 1, true, USUAL),
            (USUAL / 2 + 1, false, USUAL),
            // That nothing was said in between does not matter.
            (0, false, MOST),
            (MOST, false, MOST),
            (MOST, true, MOST),
            (USUAL, false, USUAL),
            (1, false, MOST),
            (1, false, USUAL),
        ] {
            let room = filled(&mut output, &limits, bytes, waits);
            assert_eq!(room, expected, "{bytes} {waits}");
            assert_eq!(limits.budget.granted(), 0, "nothing is held");
        }
    }

    #[test]
    fn h15_more_room_is_of_the_budget_as_long_as_it_is_used() {
        // Half of it is for windows.
        let limits = limits(2 * MORE);
        let [mut one, mut other] = [(); 2].map(|()| Output::default());
        for output in [&mut one, &mut other] {
            filled(output, &limits, USUAL, false);
        }
        one.lend(&limits, || Vec::with_capacity(1));
        assert_eq!((one.free(&limits), limits.budget.granted()), (MOST, MORE));
        assert_eq!(filled(&mut other, &limits, USUAL, false), USUAL);
        one.bytes().extend([0; MOST]);
        one.wrote(MOST - 1, &limits);
        assert!(one.reclaim().is_none());
        assert_eq!(limits.budget.granted(), MORE, "it is not empty");
        drop(one);
        assert_eq!(filled(&mut other, &limits, USUAL, false), MOST);
    }

    #[test]
    fn more_room_is_no_less_than_the_usual() {
        let limits = Limits {
            output_bytes_most: USUAL - 1,
            ..limits(10 * MORE)
        };
        let mut output = Output::default();
        for _ in 0..3 {
            assert_eq!(filled(&mut output, &limits, USUAL, false), USUAL);
        }
    }
}
