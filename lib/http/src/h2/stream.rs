//! One stream's state (RFC 9113 §5), and the table of them.

use std::{cell::Cell, collections::VecDeque, time::Instant};

/// What the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// An answer's head is due.
    Head,
    /// The body, then maybe trailers.
    Body,
    Done,
}

/// What we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// An answer's head is due.
    Head,
    Body,
    /// All is taken, and some of it waits in the queue.
    Ending,
    Done,
}

/// How much a new stream may carry at once, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) receive: u32,
    pub(crate) send: u32,
    pub(crate) queue: usize,
}

/// One stream that is not over.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
    /// The request was HEAD.
    pub(crate) head_only: bool,
    /// A CONNECT: each direction ends by itself.
    pub(crate) tunnel: bool,
    /// The client waits for a 100, and neither was one sent nor has any of the
    /// body come: it is not late.
    pub(crate) expects: bool,
    pub(crate) informational: u8,
    /// It is in the row of streams that have something to send.
    pub(crate) in_turn: bool,
    /// It is in the row of streams of which bytes have left the queue.
    pub(crate) reported: bool,

    /// What the peer may still send, and how much at once.
    pub(crate) receive_window: i64,
    pub(crate) window: u32,
    /// Bytes that were passed on and not consumed.
    pub(crate) unconsumed: usize,
    /// Bytes that were consumed and not announced.
    pub(crate) credit: u32,
    /// Bytes of the declared length that are still to come.
    pub(crate) remaining: Option<u64>,

    /// What we may still send.
    pub(crate) send_window: i64,
    pub(crate) queue: Queue,
    /// How much the queue takes.
    pub(crate) queue_bytes: usize,
    /// Bytes that have left the queue and were not reported.
    pub(crate) sent: usize,
    /// A header block that follows the queue.
    pub(crate) trailers: Option<Vec<u8>>,
    /// The last byte in either direction.
    pub(crate) progress: Instant,
}

impl Stream {
    pub(crate) fn new(id: u32, windows: Windows, now: Instant) -> Self {
        Self {
            id,
            receiving: Receiving::Body,
            sending: Sending::Body,
            head_only: false,
            tunnel: false,
            expects: false,
            informational: 0,
            in_turn: false,
            reported: false,
            receive_window: i64::from(windows.receive),
            window: windows.receive,
            unconsumed: 0,
            credit: 0,
            remaining: None,
            send_window: i64::from(windows.send),
            queue: Queue::default(),
            queue_bytes: windows.queue,
            sent: 0,
            trailers: None,
            progress: now,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.receiving == Receiving::Done && self.sending == Sending::Done
    }

    /// Whether it could send now, as far as it is concerned.
    pub(crate) fn has_turn(&self) -> bool {
        !self.queue.is_empty() && self.send_window > 0
    }
}

/// Bytes that wait for a window.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn front(&self, n: usize) -> &[u8] {
        let end = (self.start + n).min(self.bytes.len());
        self.bytes.get(self.start..end).unwrap_or_default()
    }

    /// Drops the first `n` bytes; an empty queue holds no memory.
    pub(crate) fn pop(&mut self, n: usize) {
        self.start = (self.start + n).min(self.bytes.len());
        if self.is_empty() {
            *self = Self::default();
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

/// All streams that are not over, found by their numbers. New streams have the
/// largest numbers, so that the index stays sorted by itself.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Number and slot. The oldest are over first as a rule.
    index: VecDeque<(u32, u32)>,
    /// What was found last, which is asked for again as a rule; number zero is nobody's.
    recent: Cell<(u32, u32)>,
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
}

/// An empty table keeps room for so many streams.
const KEPT: usize = 32;

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Stream> {
        self.slots.get(self.slot(id)?)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        let slot = self.slot(id)?;
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(crate) fn insert(&mut self, stream: Stream) {
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                // Streams are bounded far below.
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let position = match self.index.back() {
            Some((last, _)) if *last >= id => self.index.partition_point(|(known, _)| *known < id),
            _ => self.index.len(),
        };
        self.index.insert(position, (id, slot));
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(stream);
        }
    }

    /// Forgets a stream; says how many of its bytes were not consumed.
    pub(crate) fn remove(&mut self, id: u32) -> Option<usize> {
        let position = self.position(id)?;
        let (_, slot) = self.index.remove(position)?;
        self.recent.take();
        let place = self.slots.get_mut(slot as usize)?;
        let unconsumed = place.as_ref().map(|stream| stream.unconsumed);
        *place = None;
        self.free.push(slot);
        if self.index.is_empty() && self.slots.len() > KEPT {
            *self = Self::default();
        }
        unconsumed
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.slots.iter().flatten()
    }

    fn slot(&self, id: u32) -> Option<usize> {
        let (recent, slot) = self.recent.get();
        if recent == id && id != 0 {
            return Some(slot as usize);
        }
        let position = self.position(id)?;
        let found = *self.index.get(position)?;
        self.recent.set(found);
        Some(found.1 as usize)
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.index
            .binary_search_by_key(&id, |(known, _)| *known)
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_come_and_go() {
        let now = Instant::now();
        let windows = Windows {
            receive: 1,
            send: 1,
            queue: 1,
        };
        let mut streams = Streams::default();
        for round in 0..3 {
            for id in 0..100 {
                streams.insert(Stream::new(round * 200 + 2 * id + 1, windows, now));
            }
            for id in (0..100).rev().step_by(3) {
                assert!(streams.remove(round * 200 + 2 * id + 1).is_some());
                assert!(streams.remove(round * 200 + 2 * id + 1).is_none());
            }
        }
        assert_eq!(streams.len(), 3 * 66);
        let mut ids: Vec<_> = streams.iter().map(|stream| stream.id).collect();
        ids.sort_unstable();
        for id in ids {
            assert_eq!(streams.get(id).unwrap().id, id);
            streams.remove(id);
        }
        assert!(streams.is_empty() && streams.slots.is_empty());
    }

    #[test]
    fn a_queue_gives_back_what_it_took_and_its_memory() {
        let mut queue = Queue::default();
        queue.push(b"abc");
        queue.pop(2);
        queue.push(b"de");
        assert_eq!(queue.front(9), b"cde");
        queue.pop(3);
        assert!(queue.is_empty() && queue.bytes.capacity() == 0);
    }

    #[test]
    fn a_stream_is_small() {
        assert!(size_of::<Stream>() <= 184, "{}", size_of::<Stream>());
    }
}
