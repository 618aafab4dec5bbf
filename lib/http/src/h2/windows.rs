//! What the peer may send (RFC 9113 §5.2).

use std::time::{Duration, Instant};

use super::{
    Connection,
    frame::{self, MAX_WINDOW},
    stream::Receiving,
};
use crate::{event::StreamId, limits::Bound};

/// A reader that takes nothing for so long, while all streams of the connection have
/// to wait for readers, keeps the others from being served.
pub(super) const HELD_UP: Duration = Duration::from_secs(1);

/// How much credit is worth a frame: half of a narrow window; of a wide one an eighth,
/// because what the peer was not told of is not under way. With halves a burst that
/// begins just short of one leaves the other unsaid for a round trip, again and again,
/// and a window holds half of what it is for.
const fn worth(window: u32) -> u32 {
    const FEW: u32 = 32 * 1024;
    let (half, eighth) = (window / 2, window / 8);
    let wide = if eighth > FEW { eighth } else { FEW };
    if wide < half { wide } else { half }
}

impl Connection {
    /// `n` bytes of a stream's data are no longer held by anybody.
    pub(crate) fn consume(&mut self, now: Instant, stream: StreamId, n: usize) {
        let Some(found) = self.streams.get_mut(stream.0) else {
            return;
        };
        let n = n.min(found.unconsumed);
        // The peer's time to send begins again, and so does the reader's.
        found.progress = now;
        found.unconsumed -= n;
        found.credit = found
            .credit
            .saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        self.unconsumed = self.unconsumed.saturating_sub(n);
        self.announce_stream_credit(stream.0);
        self.announce_connection_credit(now);
    }

    /// Opens a stream's window again, when it is worth a frame.
    pub(super) fn announce_stream_credit(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let worth = stream.credit > 0 && stream.credit >= worth(stream.window);
        if worth && stream.receiving != Receiving::Done {
            stream.receive_window += i64::from(stream.credit);
            frame::window_update(id, stream.credit, self.output.bytes());
            stream.credit = 0;
        }
    }

    pub(super) fn announce_connection_credit(&mut self, now: Instant) {
        let worth = self.credit > 0 && self.credit >= worth(self.window);
        if !worth {
            return;
        }
        let has_to_stop = self.unconsumed > self.limits.connection_unconsumed;
        if has_to_stop && !self.is_stopped {
            self.limits.struck.count(Bound::ConnectionUnconsumed);
            let soon = now.checked_add(HELD_UP).unwrap_or(now);
            self.inspection = self.inspection.min(soon);
        }
        self.is_stopped = has_to_stop;
        if !has_to_stop {
            self.receive_window += i64::from(self.credit);
            frame::window_update(0, self.credit, &mut self.control);
            self.credit = 0;
        }
    }

    /// Lets the peer send more on a stream at once. Windows never shrink.
    pub(crate) fn grow_window(&mut self, stream: StreamId, window: u32) {
        let window = window.min(MAX_WINDOW as u32);
        let Some(found) = self.streams.get_mut(stream.0) else {
            return;
        };
        if window > found.window && found.receiving != Receiving::Done {
            let more = window - found.window;
            found.window = window;
            found.receive_window += i64::from(more);
            frame::window_update(stream.0, more, self.output.bytes());
        }
    }

    /// Lets a stream's queue hold more.
    pub(crate) fn grow_queue(&mut self, stream: StreamId, bytes: usize) {
        if let Some(stream) = self.streams.get_mut(stream.0) {
            stream.queue_bytes = stream.queue_bytes.max(bytes);
        }
    }

    /// Lets the peer send more on all streams together.
    pub(crate) fn grow_connection_window(&mut self, window: u32) {
        let window = window.min(MAX_WINDOW as u32);
        if window > self.window {
            let more = window - self.window;
            self.window = window;
            self.receive_window += i64::from(more);
            frame::window_update(0, more, &mut self.control);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_window_holds_almost_all_that_it_says() {
        for (window, credit) in [
            (0, 0),
            (10, 5),
            (65_535, 32_767),
            (128 << 10, 32 << 10),
            (1 << 20, 128 << 10),
            (16 << 20, 2 << 20),
            (MAX_WINDOW as u32, 268_435_455),
        ] {
            assert_eq!(worth(window), credit, "{window}");
        }
    }
}
