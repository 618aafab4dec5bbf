//! What comes on a connection's streams, and where it goes.

use std::time::Instant;

use mesh_http::{event::StreamId, fault::Code, head::Head};

use crate::{
    buffers,
    conduit::{Conduit, State},
    join::Place,
    slot::{Slot, Tail},
};

impl State {
    /// The socket has given so many bytes; none are its end.
    pub(crate) fn has_read(&mut self, bytes: usize, now: Instant) {
        self.reads += 1;
        self.read += bytes as u64;
        if bytes == 0 {
            self.core.receive_eof(now);
        }
    }

    /// A request has come; says whether its client gives up much of what it asks for.
    pub(crate) fn asked(&mut self, stream: StreamId, head: &Head, end: bool) -> bool {
        let slot = Slot {
            is_held: true,
            asked_to_connect: head.is_connect(),
            has_received_all: end,
            // The end of a tunnel's bytes that there are none of.
            tail: (end && head.is_connect()).then_some(Tail::Bare),
            ..Slot::default()
        };
        self.slots.insert(stream, slot);
        self.core.is_wasteful()
    }

    /// Bytes of a body have come. They wait, unless the stream is joined to another:
    /// then they are to be [passed](Conduit::pass) to where this says.
    pub(crate) fn arrives(
        &mut self,
        stream: StreamId,
        bytes: &[u8],
        end: bool,
        now: Instant,
    ) -> Option<Place> {
        let Some(slot) = self.slot(stream) else {
            // Nobody wants it.
            self.core.consume(now, stream, bytes.len());
            return None;
        };
        slot.has_received_all |= end;
        slot.carried.received += bytes.len() as u64;
        let onward = slot.onward.as_ref().filter(|_| !slot.has_waiting());
        let onward = onward.cloned();
        if onward.is_some() {
            slot.has_passed = true;
        } else {
            slot.take_in(bytes, end);
        }
        onward
    }
}

impl Conduit {
    /// Bytes go straight on if the stream is joined to another, else they wait.
    pub(crate) fn data(&self, stream: StreamId, bytes: &[u8], end: bool, now: Instant) {
        let onward = self.lock().arrives(stream, bytes, end, now);
        if let Some(onward) = onward {
            self.pass(stream, &onward, bytes, end, now);
        }
    }

    /// Passes on what has come for `onward`; what it does not take waits.
    pub(crate) fn pass(
        &self,
        stream: StreamId,
        onward: &Place,
        bytes: &[u8],
        end: bool,
        now: Instant,
    ) {
        let taken = onward.send(bytes, end);
        let mut state = self.lock();
        let wider = state.consume(stream, taken.bytes - taken.queued, now);
        if taken.bytes < bytes.len()
            && let Some(slot) = state.slot(stream)
        {
            slot.take_in(&bytes[taken.bytes..], end);
        } else if end {
            let partners = state.settle(stream, self.is_server());
            drop(state);
            return partners.tell(Code::Cancel);
        }
        drop(state);
        if wider.is_some() {
            Place::new(self.clone(), stream).widen(wider);
        }
    }

    /// The end of a body, behind what waits of it.
    pub(crate) fn tail(&self, stream: StreamId, tail: Tail) {
        {
            let mut state = self.lock();
            let Some(slot) = state.slot(stream) else {
                return;
            };
            slot.has_received_all = true;
            slot.tail = Some(tail);
            slot.wake();
        }
        let place = Place::new(self.clone(), stream);
        place.pump();
        let partners = self.lock().settle(stream, self.is_server());
        partners.tell(Code::Cancel);
    }

    /// There is room again: those who wait for it are told.
    pub(crate) fn sent(&self, stream: StreamId, bytes: usize) {
        let source = {
            let mut state = self.lock();
            let Some(slot) = state.slot(stream) else {
                return;
            };
            slot.wake();
            slot.source.clone()
        };
        if let Some(source) = source {
            source.consume(bytes);
            source.pump();
        }
    }
}

impl Slot {
    /// Keeps what came for whoever holds the stream.
    fn take_in(&mut self, bytes: &[u8], end: bool) {
        if self.data.capacity() == 0 && !bytes.is_empty() {
            self.data = buffers::output();
        }
        self.data.extend_from_slice(bytes);
        if end {
            self.tail = Some(Tail::Bare);
        }
        self.wake();
    }
}
