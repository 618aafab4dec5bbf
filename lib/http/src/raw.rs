//! A connection that is no HTTP: one stream of bytes in each direction, without
//! a head, so that it goes through the same hands as a body does.

use std::{sync::Arc, time::Instant};

use crate::{
    event::{Event, StreamId, Taken},
    fault::{Fault, Misuse},
    head::Head,
    limits::Limits,
    output::Output,
};

/// The one stream there is.
pub(crate) const STREAM: StreamId = StreamId(1);

/// One connection. It knows no deadline: its ends may be silent for as long as
/// they like.
#[derive(Debug)]
pub(crate) struct Connection {
    limits: Arc<Limits>,
    output: Output,
    /// How much may come before some of it is consumed.
    window: usize,
    unconsumed: usize,
    /// Bytes that were taken while the output was full, and how many may be.
    queued: usize,
    queue_bytes: usize,
    /// Bytes that have left the queue and were not reported yet.
    sent: usize,
    receiving: Half,
    sending: Half,
    /// To be reported once.
    fault: Option<Fault>,
    aborted: bool,
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Open,
    /// Nothing follows, which has not been told yet.
    Ending,
    Ended,
}

impl Connection {
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self {
            window: limits.stream_window as usize,
            queue_bytes: limits.queue_bytes,
            limits,
            output: Output::default(),
            unconsumed: 0,
            queued: 0,
            sent: 0,
            receiving: Half::Open,
            sending: Half::Open,
            fault: None,
            aborted: false,
        }
    }

    pub(crate) const fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// The next thing that has happened; the bytes in it are taken off `input`.
    pub(crate) fn poll_event<'a>(
        &mut self,
        _: Instant,
        input: &mut &'a [u8],
        _: &mut Head,
    ) -> Option<Event<'a>> {
        if self.sent > 0 {
            let bytes = std::mem::take(&mut self.sent);
            let stream = STREAM;
            return Some(Event::Sent { stream, bytes });
        }
        if self.receiving != Half::Ended
            && let Some(data) = self.data(input)
        {
            return Some(data);
        }
        self.fault.take().map(Event::Closed)
    }

    fn data<'a>(&mut self, input: &mut &'a [u8]) -> Option<Event<'a>> {
        let taken = input.len().min(self.window_left());
        let (bytes, rest) = input.split_at(taken);
        let end = self.receiving == Half::Ending && rest.is_empty();
        if bytes.is_empty() && !end {
            return None;
        }
        *input = rest;
        self.unconsumed += taken;
        if end {
            self.receiving = Half::Ended;
            self.settle();
        }
        let stream = STREAM;
        Some(Event::Data { stream, bytes, end })
    }

    pub(crate) fn receive_eof(&mut self, _: Instant) {
        if self.receiving == Half::Open {
            self.receiving = Half::Ending;
        }
    }

    pub(crate) const fn has_event(&self) -> bool {
        self.sent > 0 || self.fault.is_some() || matches!(self.receiving, Half::Ending)
    }

    /// Not for the last few bytes of the window: they would travel alone.
    pub(crate) fn wants_read(&self) -> bool {
        let has_room = self.window_left() > self.window / 2;
        self.receiving == Half::Open && has_room && !self.aborted
    }

    pub(crate) fn wants_write(&self) -> bool {
        !self.output.is_empty() && !self.aborted
    }

    pub(crate) fn output(&mut self, _: Instant) -> &[u8] {
        self.output.pending()
    }

    pub(crate) fn wrote(&mut self, n: usize, _: Instant) {
        self.output.wrote(n, &self.limits);
        let queued = self.queued.min(self.over_full());
        self.sent = self.sent.saturating_add(self.queued - queued);
        self.queued = queued;
    }

    pub(crate) const fn waits(&mut self) {
        self.output.waits();
    }

    pub(crate) fn lend(&mut self, lent: impl FnOnce() -> Vec<u8>) {
        self.output.lend(&self.limits, lent);
    }

    pub(crate) fn reclaim(&mut self) -> Option<Vec<u8>> {
        self.output.reclaim()
    }

    pub(crate) fn wants_shutdown(&self) -> bool {
        self.sending == Half::Ended && self.output.is_empty() && !self.aborted
    }

    pub(crate) fn is_over(&self) -> bool {
        let both = self.sending == Half::Ended && self.receiving == Half::Ended;
        self.aborted || (both && self.output.is_empty())
    }

    pub(crate) const fn is_aborted(&self) -> bool {
        self.aborted
    }

    #[expect(clippy::unused_self, reason = "the same as the other kinds")]
    pub(crate) const fn next_deadline(&self) -> Option<Instant> {
        None
    }

    #[expect(clippy::unused_self, reason = "the same as the other kinds")]
    pub(crate) const fn on_deadline(&self, _: Instant) {}

    pub(crate) fn streams(&self) -> usize {
        usize::from(!self.is_over())
    }

    #[expect(clippy::unused_self, reason = "the same as the other kinds")]
    pub(crate) const fn can_open(&self) -> bool {
        false
    }

    #[expect(clippy::unused_self, reason = "the same as the other kinds")]
    pub(crate) const fn open(&self, _: Instant, _: &Head, _: bool) -> Result<StreamId, Misuse> {
        Err(Misuse::Full)
    }

    #[expect(clippy::unused_self, reason = "the same as the other kinds")]
    pub(crate) const fn send_head(
        &self,
        _: Instant,
        _: StreamId,
        _: &Head,
        _: bool,
    ) -> Result<(), Misuse> {
        Err(Misuse::Head)
    }

    pub(crate) fn capacity(&self, stream: StreamId) -> usize {
        if stream != STREAM || self.sending != Half::Open || self.aborted {
            return 0;
        }
        let direct = self.output.free(&self.limits);
        direct.saturating_add(self.queue_bytes.saturating_sub(self.queued))
    }

    pub(crate) fn send_data(
        &mut self,
        _: Instant,
        stream: StreamId,
        bytes: &[u8],
        end: bool,
    ) -> Result<Taken, Misuse> {
        if stream != STREAM || self.sending != Half::Open || self.aborted {
            return Err(Misuse::NoStream);
        }
        let taken = bytes.len().min(self.capacity(stream));
        let before = self.over_full();
        self.output.bytes().extend_from_slice(&bytes[..taken]);
        let queued = taken.min(self.over_full() - before);
        self.queued += queued;
        if end && taken == bytes.len() {
            self.sending = Half::Ended;
            self.settle();
        }
        Ok(Taken {
            bytes: taken,
            queued,
        })
    }

    /// The end; there is no place for trailers.
    pub(crate) fn send_trailers(
        &mut self,
        now: Instant,
        stream: StreamId,
        _: &Head,
    ) -> Result<(), Misuse> {
        self.send_data(now, stream, &[], true).map(drop)
    }

    /// Gives the connection up: its peer sees that it was not whole.
    pub(crate) fn reset(&mut self, _: Instant, stream: StreamId) {
        if stream == STREAM && !self.is_over() {
            self.output.clear();
            self.aborted = true;
            self.fault = Some(Fault::Aborted);
            self.receiving = Half::Ended;
        }
    }

    pub(crate) fn consume(&mut self, _: Instant, stream: StreamId, n: usize) {
        if stream == STREAM {
            self.unconsumed = self.unconsumed.saturating_sub(n);
        }
    }

    pub(crate) fn grow_window(&mut self, stream: StreamId, window: usize) {
        if stream == STREAM {
            self.window = self.window.max(window);
        }
    }

    pub(crate) fn grow_queue(&mut self, stream: StreamId, bytes: usize) {
        if stream == STREAM {
            self.queue_bytes = self.queue_bytes.max(bytes);
        }
    }

    /// Does nothing: what is under way is all there is.
    #[expect(clippy::unused_self, reason = "the same as the other kinds")]
    pub(crate) const fn shutdown(&self, _: Instant) {}

    const fn window_left(&self) -> usize {
        self.window.saturating_sub(self.unconsumed)
    }

    fn over_full(&self) -> usize {
        self.output.over_full(&self.limits)
    }

    fn settle(&mut self) {
        if self.sending == Half::Ended && self.receiving == Half::Ended {
            self.fault = Some(Fault::Finished);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 10;

    fn connection() -> Connection {
        let limits = Limits {
            stream_window: WINDOW,
            output_bytes: 4,
            queue_bytes: 10,
            ..Limits::default()
        };
        Connection::new(Arc::new(limits))
    }

    fn poll<'a>(raw: &mut Connection, input: &mut &'a [u8]) -> Option<Event<'a>> {
        raw.poll_event(Instant::now(), input, &mut Head::new())
    }

    fn data(bytes: &[u8], end: bool) -> Option<Event<'_>> {
        let stream = STREAM;
        Some(Event::Data { stream, bytes, end })
    }

    #[test]
    fn no_more_comes_than_the_window_until_it_is_consumed() {
        let (mut raw, now) = (connection(), Instant::now());
        let mut input = &b"0123456789abc"[..];
        assert_eq!(poll(&mut raw, &mut input), data(b"0123456789", false));
        assert_eq!(poll(&mut raw, &mut input), None);
        assert!(!raw.wants_read());
        raw.consume(now, STREAM, 2);
        assert!(!raw.wants_read(), "it is not worth it");
        raw.receive_eof(now);
        assert_eq!(poll(&mut raw, &mut input), data(b"ab", false));
        raw.consume(now, STREAM, 10);
        assert_eq!(poll(&mut raw, &mut input), data(b"c", true));
        assert_eq!(poll(&mut raw, &mut input), None, "our half is open");
        assert!(!raw.is_over());
    }

    #[test]
    fn what_waits_for_room_is_reported_when_it_leaves() {
        let (mut raw, now) = (connection(), Instant::now());
        let taken = raw.send_data(now, STREAM, b"0123456789abcdefghij", true);
        let expected = Taken {
            bytes: 14,
            queued: 10,
        };
        assert_eq!(taken, Ok(expected));
        assert_eq!(raw.capacity(STREAM), 0);
        raw.wrote(5, now);
        let stream = STREAM;
        let sent = Some(Event::Sent { stream, bytes: 5 });
        assert_eq!(poll(&mut raw, &mut &b""[..]), sent);
        assert!(!raw.wants_shutdown(), "the last bytes were not taken");
    }

    #[test]
    fn h15_who_takes_much_at_once_may_be_sent_more() {
        let now = Instant::now();
        let limits = Limits {
            output_bytes: 4,
            output_bytes_most: 12,
            queue_bytes: 10,
            ..Limits::default()
        };
        let mut raw = Connection::new(Arc::new(limits));
        for (waits, direct) in [(false, 4), (true, 12), (false, 4)] {
            raw.lend(|| Vec::with_capacity(1));
            assert_eq!(raw.capacity(STREAM), direct + 10);
            let taken = raw.send_data(now, STREAM, &[0; 20], false).unwrap();
            assert_eq!(taken.bytes - taken.queued, direct.min(20));
            raw.wrote(1, now);
            if waits {
                raw.waits();
            }
            raw.wrote(taken.bytes - 1, now);
            let sent = taken.queued;
            let expected = Event::Sent {
                stream: STREAM,
                bytes: sent,
            };
            assert_eq!(poll(&mut raw, &mut &b""[..]), Some(expected));
            raw.reclaim();
        }
    }

    #[test]
    fn each_half_ends_by_itself_and_both_end_the_connection() {
        let (mut raw, now) = (connection(), Instant::now());
        raw.send_data(now, STREAM, b"bye", true).unwrap();
        assert!(!raw.wants_shutdown());
        raw.wrote(3, now);
        assert!(raw.wants_shutdown() && !raw.is_over());
        raw.receive_eof(now);
        assert_eq!(poll(&mut raw, &mut &b""[..]), data(b"", true));
        assert!(raw.is_over() && !raw.is_aborted());
        let closed = Some(Event::Closed(Fault::Finished));
        assert_eq!(poll(&mut raw, &mut &b""[..]), closed);
        assert_eq!(poll(&mut raw, &mut &b""[..]), None);
    }

    #[test]
    fn a_reset_is_no_end() {
        let (mut raw, now) = (connection(), Instant::now());
        raw.send_data(now, STREAM, b"half of", false).unwrap();
        raw.reset(now, STREAM);
        assert!(raw.is_over() && raw.is_aborted() && !raw.wants_write());
        let more = raw.send_data(now, STREAM, b" it", true);
        assert_eq!(more, Err(Misuse::NoStream));
        let closed = Some(Event::Closed(Fault::Aborted));
        assert_eq!(poll(&mut raw, &mut &b"rest"[..]), closed);
    }
}
