//! What a connection knows of each of its streams, beyond the protocol.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

use mesh_http::{event::StreamId, head::Head};
use smallvec::SmallVec;

use crate::{
    exchange::{Broken, Carried},
    growth::Growth,
    join::Place,
};

/// The streams that somebody still wants something of, by their numbers. New
/// ones have the largest number, so that the order comes by itself.
#[derive(Default)]
pub(crate) struct Slots {
    /// The oldest are over first as a rule.
    known: VecDeque<(StreamId, Box<Slot>)>,
    /// Where one was found last, which is asked for again as a rule.
    recent: usize,
}

impl Slots {
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.known.iter().map(|(stream, _)| *stream)
    }

    pub(crate) fn get_mut(&mut self, stream: StreamId) -> Option<&mut Slot> {
        let is_recent = |(known, _): &(StreamId, _)| *known == stream;
        if !self.known.get(self.recent).is_some_and(is_recent) {
            self.recent = self.position(stream).ok()?;
        }
        self.known.get_mut(self.recent).map(|(_, slot)| &mut **slot)
    }

    pub(crate) fn insert(&mut self, stream: StreamId, slot: Slot) {
        let slot = Box::new(slot);
        match self.position(stream) {
            Ok(at) => self.known[at].1 = slot,
            Err(at) => self.known.insert(at, (stream, slot)),
        }
    }

    pub(crate) fn remove(&mut self, stream: StreamId) {
        if let Ok(at) = self.position(stream) {
            self.known.remove(at);
        }
        if self.known.is_empty() && self.known.capacity() > KEPT {
            self.known = VecDeque::new();
        }
    }

    fn position(&self, stream: StreamId) -> Result<usize, usize> {
        match self.known.back() {
            Some((last, _)) if *last < stream => Err(self.known.len()),
            _ => self
                .known
                .binary_search_by_key(&stream, |(known, _)| *known),
        }
    }
}

/// An empty table keeps room for so many streams.
const KEPT: usize = 32;

/// One stream.
#[derive(Default)]
pub(crate) struct Slot {
    /// What came and was not taken yet, in this order.
    pub(crate) heads: SmallVec<[Heading; 1]>,
    pub(crate) data: Vec<u8>,
    pub(crate) tail: Option<Tail>,
    /// Why nothing more comes, if not by its end.
    pub(crate) broken: Option<Broken>,
    /// Those who wait for any of this.
    pub(crate) wakers: SmallVec<[Waker; 2]>,
    /// Where data goes that comes, and where data comes from that goes.
    pub(crate) onward: Option<Place>,
    pub(crate) source: Option<Place>,
    /// What trailers lose on their way on.
    pub(crate) clean: Option<fn(&mut Head)>,
    /// Something of the body has gone on.
    pub(crate) has_passed: bool,
    pub(crate) carried: Carried,
    pub(crate) growth: Option<Growth>,
    /// Somebody has the exchange in hands.
    pub(crate) is_held: bool,
    /// Both directions are for themselves: the end of one is not the other's.
    pub(crate) is_tunnel: bool,
    pub(crate) asked_to_connect: bool,
    pub(crate) has_received_all: bool,
    pub(crate) has_sent_all: bool,
    /// How much the socket had taken when it was opened.
    pub(crate) opened_at: u64,
}

/// The head of an answer.
pub(crate) enum Heading {
    Informational(Head),
    Final { head: Head, end: bool },
}

/// The end of a body.
pub(crate) enum Tail {
    Bare,
    Trailers(Head),
}

impl Slot {
    /// Whether the protocol is through with it, as a server's or a client's.
    pub(crate) fn is_over(&self, is_server: bool) -> bool {
        // What is left of a request after its answer is thrown away.
        let received = self.has_received_all || (is_server && !self.is_tunnel);
        self.broken.is_some() || (self.has_sent_all && received)
    }

    pub(crate) fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Wakes the task, too, at the next occasion.
    pub(crate) fn waits(&mut self, cx: &Context<'_>) {
        if !self.wakers.iter().any(|known| known.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }

    /// Whether there is something for an onward place.
    pub(crate) const fn has_waiting(&self) -> bool {
        !self.data.is_empty() || self.tail.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use mesh_http::{connection::Connection, event::Role, limits::Limits};

    use super::*;

    /// Numbers as a connection gives them.
    fn streams(count: usize) -> Vec<StreamId> {
        let (now, limits) = (Instant::now(), Arc::new(Limits::default()));
        let mut connection = Connection::http2(Role::Client, limits, now);
        let head = Head::request("GET", "web", "/").unwrap();
        let open = |_| connection.open(now, &head, true).unwrap();
        (0..count).map(open).collect()
    }

    #[test]
    fn streams_are_found_whatever_went_before_them() {
        let (mut slots, streams) = (Slots::default(), streams(50));
        for stream in streams.iter().rev() {
            slots.insert(*stream, Slot::default());
        }
        assert!(slots.streams().eq(streams.iter().copied()));
        for (number, stream) in (0..).zip(&streams) {
            slots.get_mut(*stream).unwrap().opened_at = number;
        }
        for stream in streams.iter().step_by(2) {
            slots.remove(*stream);
            assert!(slots.get_mut(*stream).is_none());
        }
        let left: Vec<u64> = streams
            .iter()
            .filter_map(|stream| slots.get_mut(*stream).map(|slot| slot.opened_at))
            .collect();
        let odd: Vec<u64> = (0..50).filter(|number| number % 2 == 1).collect();
        assert_eq!(left, odd);
    }

    #[test]
    fn h18_an_empty_table_is_small() {
        let (mut slots, streams) = (Slots::default(), streams(50));
        for stream in &streams {
            slots.insert(*stream, Slot::default());
        }
        for stream in &streams {
            slots.remove(*stream);
        }
        assert!(slots.is_empty() && slots.known.capacity() <= KEPT);
        assert!(size_of::<Slot>() <= 240, "{}", size_of::<Slot>());
    }
}
