//! What may take how long.

use std::time::{Duration, Instant};

use super::{
    Connection, Ending, FORGOTTEN, Leaving, Opening,
    stream::{Receiving, Stream},
    windows::HELD_UP,
};
use crate::{
    event::Role,
    fault::{Code, Fault, ResetReason},
    limits::Bound,
};

impl Connection {
    /// How long the connection may go on as it is.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.deadlines().into_iter().flatten();
        let inspection = (!self.streams.is_empty()).then_some(self.inspection);
        deadlines
            .map(|(deadline, _)| deadline)
            .chain(inspection)
            .min()
    }

    /// Acts on a deadline that has passed; one that has not is left alone.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        let passed = self
            .deadlines()
            .into_iter()
            .flatten()
            .find(|(deadline, _)| *deadline <= now);
        match passed {
            Some(_) if self.ending != Ending::No => self.ending = Ending::Abort,
            Some((_, Fault::Finished)) => {
                self.leave();
                self.finish_if_last(now);
            }
            Some((_, fault)) => self.fail(fault, now),
            None => {}
        }
        if self.inspection <= now {
            self.inspect(now);
        }
    }

    fn deadlines(&self) -> [Option<(Instant, Fault)>; 6] {
        let limits = &self.limits;
        let after = |since: Instant, time: Duration, fault| Some((since.checked_add(time)?, fault));
        let unread = self
            .writing
            .filter(|_| self.wants_write())
            .and_then(|since| after(since, limits.write_time, Fault::WriteTimeout));
        if self.ending != Ending::No {
            let written = !self.wants_write();
            let linger = after(self.progress, limits.linger_time, Fault::Finished);
            return [unread, linger.filter(|_| written), None, None, None, None];
        }
        let announced = match self.leaving {
            Leaving::Announced(since) => after(since, limits.settings_time, Fault::Finished),
            Leaving::No | Leaving::Final(_) => None,
        };
        let opening = self.opening != Opening::Done;
        let unacknowledged = !self.settings_acknowledged;
        [
            opening
                .then(|| after(self.started, limits.head_time, Fault::HeadTimeout))
                .flatten(),
            unacknowledged
                .then(|| after(self.started, limits.settings_time, Fault::SettingsTimeout))
                .flatten(),
            self.incomplete
                .and_then(|since| after(since, limits.head_time, Fault::HeadTimeout)),
            self.streams
                .is_empty()
                .then(|| after(self.progress, limits.idle_time, Fault::Idle))
                .flatten(),
            unread,
            announced,
        ]
    }

    /// Resets streams that stand still through the peer: it does not read what
    /// waits for it, or does not send what it has declared (H15, H17). While all have to
    /// wait for readers, also those whose own reader takes nothing.
    fn inspect(&mut self, now: Instant) {
        let (limits, is_stopped) = (self.limits.clone(), self.is_stopped);
        let stands_still = |stream: &Stream| {
            let since = now.saturating_duration_since(stream.progress);
            // A tunnel's ends may be silent for as long as they like.
            let reads = stream.tunnel || stream.queue.is_empty();
            let unread = !reads && since >= limits.write_time;
            let is_body = stream.receiving == Receiving::Body && !stream.expects;
            let due = stream.remaining.is_some() && is_body;
            let unsent = due && stream.receive_window > 0 && since >= limits.body_time;
            let unsent = unsent && self.role == Role::Server;
            let holds_up = is_stopped && stream.unconsumed > 0 && since >= HELD_UP;
            let holds_up = holds_up && !stream.tunnel;
            let unread = unread.then_some(Bound::WriteTime);
            let unsent = unsent.then_some(Bound::BodyTime);
            let holds_up = holds_up.then_some(Bound::ConnectionUnconsumed);
            unread.or(unsent).or(holds_up)
        };
        let still = self.streams.iter();
        let still = still.filter_map(|stream| Some((stream.id, stands_still(stream)?)));
        // No more at once than are remembered.
        let still: Vec<(u32, Bound)> = still.take(FORGOTTEN).collect();
        for (id, bound) in still {
            limits.struck.count(bound);
            self.reset_stream(id, Code::Cancel, now);
            self.resets.push_back((id, ResetReason::Timeout));
        }
        let mut pause = limits.write_time.min(limits.body_time) / 4;
        if self.is_stopped {
            pause = pause.min(HELD_UP / 4);
        }
        self.inspection = now.checked_add(pause).unwrap_or(now);
    }
}
