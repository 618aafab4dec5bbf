//! Streams of two connections joined: what comes on one goes on the other.

use mesh_http::{
    event::{StreamId, Taken},
    fault::Code,
    head::Head,
};

use crate::{
    buffers,
    conduit::{Conduit, Partners, State, Wider},
    exchange::Broken,
    slot::Tail,
};

/// A stream of a connection, for those that do not hold it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) conduit: Conduit,
    pub(crate) stream: StreamId,
}

impl Place {
    pub(crate) const fn new(conduit: Conduit, stream: StreamId) -> Self {
        Self { conduit, stream }
    }

    /// Sends bytes of a body. A stream that is no more takes all of them: what
    /// is left of a request after its answer is thrown away.
    pub(crate) fn send(&self, bytes: &[u8], end: bool) -> Taken {
        let (taken, partners) = self.conduit.command(|state, now| {
            let sent = state.core.send_data(now, self.stream, bytes, end);
            let taken = sent.unwrap_or(Taken {
                bytes: bytes.len(),
                queued: 0,
            });
            if let Some(slot) = state.slot(self.stream) {
                slot.carried.sent += taken.bytes as u64;
            }
            let is_all = end && taken.bytes == bytes.len();
            (taken, self.sent(state, is_all))
        });
        partners.tell(Code::Cancel);
        taken
    }

    /// Ends a body with trailers.
    pub(crate) fn finish(&self, trailers: &Head) {
        let partners = self.conduit.command(|state, now| {
            // That it is no more somebody was told.
            let _ = state.core.send_trailers(now, self.stream, trailers);
            self.sent(state, true)
        });
        partners.tell(Code::Cancel);
    }

    /// Takes note of what was sent.
    fn sent(&self, state: &mut State, is_all: bool) -> Partners {
        if !is_all {
            return Partners::default();
        }
        if let Some(slot) = state.slot(self.stream) {
            slot.has_sent_all = true;
        }
        state.settle(self.stream, self.conduit.is_server())
    }

    /// So many of its bytes are held by nobody any more.
    pub(crate) fn consume(&self, bytes: usize) {
        if bytes > 0 {
            let wider = self
                .conduit
                .command(|state, now| state.consume(self.stream, bytes, now));
            self.widen(wider);
        }
    }

    /// Lets more be under way, once there is room for it.
    pub(crate) fn widen(&self, wider: Option<Wider>) {
        let Some(Wider { onward, window }) = wider else {
            return;
        };
        if let Some(onward) = onward {
            let mut state = onward.conduit.lock();
            state.core.grow_queue(onward.stream, window as usize);
        }
        self.conduit
            .command(|state, _| state.widen(self.stream, window));
    }

    /// Passes on what has come and was not taken yet.
    pub(crate) fn pump(&self) {
        let waiting = {
            let mut state = self.conduit.lock();
            let Some(slot) = state.slot(self.stream).filter(|slot| slot.has_waiting()) else {
                return;
            };
            let Some(onward) = slot.onward.clone() else {
                return;
            };
            slot.has_passed = true;
            let mut tail = slot.tail.take();
            if let (Some(Tail::Trailers(trailers)), Some(clean)) = (&mut tail, slot.clean) {
                clean(trailers);
            }
            (std::mem::take(&mut slot.data), tail, onward)
        };
        let (mut data, tail, onward) = waiting;
        let taken = onward.send(&data, matches!(tail, Some(Tail::Bare)));
        let free = taken.bytes - taken.queued;
        if taken.bytes < data.len() {
            data.drain(..taken.bytes);
            self.put_back(data, tail);
            return self.consume(free);
        }
        if let Some(Tail::Trailers(trailers)) = &tail {
            onward.finish(trailers);
        }
        buffers::give_back_output(data);
        self.settle(free);
    }

    /// So many of its bytes, all that have come, are held by nobody any more; the
    /// stream is forgotten if that was the last of it.
    fn settle(&self, bytes: usize) {
        let is_server = self.conduit.is_server();
        let (partners, wider) = if bytes > 0 {
            self.conduit.command(|state, now| {
                let partners = state.settle(self.stream, is_server);
                (partners, state.consume(self.stream, bytes, now))
            })
        } else {
            (self.conduit.lock().settle(self.stream, is_server), None)
        };
        partners.tell(Code::Cancel);
        self.widen(wider);
    }

    /// What was not taken comes before what has come since: nothing has, since
    /// it is the driver that brings it.
    fn put_back(&self, data: Vec<u8>, tail: Option<Tail>) {
        let mut state = self.conduit.lock();
        if let Some(slot) = state.slot(self.stream) {
            slot.data = data;
            slot.tail = tail;
        }
    }

    /// The stream that it was joined to is no more. One that waits for its
    /// answer can still be given one, by whoever holds it.
    pub(crate) fn lost(&self, code: Code) {
        self.conduit.command(|state, now| {
            let is_server = self.conduit.is_server();
            let Some(slot) = state.slot(self.stream) else {
                return;
            };
            let was_answered = slot.source.take().is_some();
            slot.onward = None;
            if is_server && slot.is_held && !was_answered {
                slot.wake();
                return;
            }
            state.core.reset(now, self.stream, code);
            // Its partner is the one that has told it.
            let _ = state.break_stream(self.stream, is_server, Broken::Joined);
        });
    }
}
