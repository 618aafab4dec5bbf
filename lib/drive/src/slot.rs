//! What a connection knows of each of its streams, beyond the protocol.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Waker},
};

use mesh_http::{event::StreamId, head::Head};

use crate::{
    exchange::{Broken, Carried},
    growth::Growth,
    join::Place,
};

pub(crate) type Slots = BTreeMap<StreamId, Box<Slot>>;

/// One stream.
#[derive(Default)]
pub(crate) struct Slot {
    /// What came and was not taken yet, in this order.
    pub(crate) heads: VecDeque<Heading>,
    pub(crate) data: Vec<u8>,
    pub(crate) tail: Option<Tail>,
    /// Why nothing more comes, if not by its end.
    pub(crate) broken: Option<Broken>,
    /// Those who wait for any of this.
    pub(crate) wakers: Vec<Waker>,
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
    /// How often the socket had been written to when it was opened.
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
