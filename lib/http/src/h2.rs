//! HTTP/2 (RFC 9113), one connection in either role.
//!
//! The connection holds no input but the pieces of a header block that is not
//! complete, and no data but what waits for the peer's windows. Frames of all
//! streams go into one output buffer, in fair turns.

mod deadlines;
mod flood;
mod frame;
mod hpack;
mod message;
mod receive;
mod receive_control;
mod receive_head;
mod send;
mod stream;
#[cfg(test)]
mod tests;
mod windows;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use self::{flood::Floods, frame::FIRST_WINDOW, hpack::decode::Decoder, stream::Streams};
use crate::{
    event::{Event, Role, StreamId},
    fault::{Code, Fault, Flood, ResetReason},
    head::Head,
    limits::Limits,
    output::Output,
};

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    role: Role,
    limits: Arc<Limits>,
    streams: Streams,
    decoder: Decoder,
    floods: Floods,
    peer: PeerSettings,

    /// What of the peer's beginning is still to come.
    opening: Opening,
    /// The frame whose payload comes in pieces.
    partial: Partial,
    /// A header block that is not complete.
    block: Option<Block>,
    /// The highest number of a stream that the peer has opened.
    last_peer_stream: u32,
    /// The number of the next stream that we open.
    next_stream: u32,
    /// Streams that we have reset, on which the peer may not know yet.
    forgotten: VecDeque<u32>,

    /// What the peer may still send on all streams, and how much at once.
    receive_window: i64,
    window: u32,
    credit: u32,
    /// Of all streams.
    unconsumed: usize,
    /// Too much is unconsumed for the peer to go on.
    is_stopped: bool,
    send_window: i64,

    output: Output,
    /// Frames of the connection, to be written before all others.
    control: Vec<u8>,
    /// Streams that have something to send, each once.
    turns: VecDeque<u32>,
    /// Streams of which bytes have left the queue, each once.
    reports: VecDeque<u32>,
    /// Streams that ended without input.
    resets: VecDeque<(u32, ResetReason)>,
    pong: Option<u64>,
    went_away: Option<Code>,
    fault: Option<Fault>,
    wrote_block: bool,

    /// The peer takes no new stream; with the code that it gave.
    peer_leaving: Option<Code>,
    leaving: Leaving,
    ending: Ending,
    peer_closed: bool,
    blocked: bool,
    settings_acknowledged: bool,
    started: Instant,
    /// Since when a frame or a block has been incomplete.
    incomplete: Option<Instant>,
    /// The end of the last stream, or the beginning of the connection's end.
    progress: Instant,
    writing: Option<Instant>,
    /// When streams are looked at next for standing still.
    inspection: Instant,
}

/// The peer's settings, as far as they concern us.
#[derive(Clone, Copy, Debug)]
struct PeerSettings {
    initial_window: u32,
    streams: u32,
    /// Whether it takes extended CONNECTs (RFC 8441 §3); none until it has said
    /// anything.
    connect_protocol: Option<bool>,
}

/// How far the peer's connection preface is (RFC 9113 §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Preface,
    Settings,
    Done,
}

/// A payload that is taken as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partial {
    None,
    Data(DataFrame),
    Skip { left: usize },
}

/// A DATA frame that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DataFrame {
    stream: u32,
    /// Bytes of data, and of padding behind them, that are still to come.
    left: usize,
    padding: usize,
    end: bool,
}

/// A header block whose end has not come.
#[derive(Debug)]
struct Block {
    stream: u32,
    end_stream: bool,
    frames: u16,
    bytes: Vec<u8>,
}

/// How far a graceful end is (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The peer knows that we want to; streams that it opened meanwhile are
    /// served.
    Announced(Instant),
    /// It was told which stream is the last.
    Final(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// GOAWAY is written, then our half is closed, then the peer's is awaited.
    Linger,
    Now,
    Abort,
}

/// How many of our resets are remembered: more than are under way at once.
const FORGOTTEN: usize = 1024;
/// The ping that asks whether a GOAWAY has arrived.
const LEAVING_PING: u64 = 0x6d65_7368_6c65_6176;
/// A server with so many times its output bound unsent, beyond what there is room for,
/// reads nothing more.
const OUTPUT_HELD: usize = 3;
/// Frames of the connection that may wait, in bytes.
const CONTROL_HELD: usize = 64 * 1024;

impl Connection {
    pub(crate) fn new(role: Role, limits: Arc<Limits>, now: Instant) -> Self {
        let mut connection = Self {
            role,
            streams: Streams::default(),
            decoder: Decoder::new(),
            floods: Floods::new(&limits, now),
            peer: PeerSettings {
                initial_window: FIRST_WINDOW,
                streams: u32::MAX,
                connect_protocol: None,
            },
            opening: match role {
                Role::Server => Opening::Preface,
                Role::Client => Opening::Settings,
            },
            partial: Partial::None,
            block: None,
            last_peer_stream: 0,
            next_stream: 1,
            forgotten: VecDeque::new(),
            receive_window: i64::from(FIRST_WINDOW),
            window: FIRST_WINDOW,
            credit: 0,
            unconsumed: 0,
            is_stopped: false,
            send_window: i64::from(FIRST_WINDOW),
            output: Output::default(),
            control: Vec::new(),
            turns: VecDeque::new(),
            reports: VecDeque::new(),
            resets: VecDeque::new(),
            pong: None,
            went_away: None,
            fault: None,
            wrote_block: false,
            peer_leaving: None,
            leaving: Leaving::No,
            ending: Ending::No,
            peer_closed: false,
            blocked: false,
            settings_acknowledged: false,
            started: now,
            incomplete: None,
            progress: now,
            writing: None,
            inspection: now,
            limits,
        };
        connection.open_connection();
        connection
    }

    /// Our side of the preface, and the connection's window.
    fn open_connection(&mut self) {
        let limits = &self.limits;
        let header_list = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
        let common = [
            (
                frame::INITIAL_WINDOW_SIZE,
                limits.stream_window.min(frame::MAX_WINDOW as u32),
            ),
            (frame::MAX_HEADER_LIST_SIZE, header_list),
        ];
        match self.role {
            Role::Server => {
                let own = [
                    (frame::MAX_CONCURRENT_STREAMS, limits.streams),
                    (frame::ENABLE_CONNECT_PROTOCOL, 1),
                ];
                frame::settings(&[common, own].concat(), &mut self.control);
            }
            Role::Client => {
                self.control.extend_from_slice(frame::PREFACE);
                let own = [(frame::ENABLE_PUSH, 0)];
                frame::settings(&[&common[..], &own].concat(), &mut self.control);
            }
        }
        let window = limits.connection_window;
        self.grow_connection_window(window);
    }

    /// The next thing that `input` says, taken off it. With none, what is left
    /// has to come again with more behind it.
    pub(crate) fn poll_event<'a>(
        &mut self,
        now: Instant,
        input: &mut &'a [u8],
        head: &mut Head,
    ) -> Option<Event<'a>> {
        if let Some(event) = self.reported() {
            return Some(event);
        }
        let event = match self.receive(now, input, head) {
            Ok(event) => event,
            Err(fault) => {
                self.fail(fault, now);
                self.reported()
            }
        };
        let held = self.is_output_held();
        let waits = !input.is_empty() || self.block.is_some();
        let incomplete = event.is_none() && waits && !held && self.ending == Ending::No;
        if !incomplete {
            self.incomplete = None;
        } else if self.incomplete.is_none() {
            self.incomplete = Some(now);
        }
        self.blocked = event.is_none() && !input.is_empty() && held;
        event.or_else(|| self.reported())
    }

    pub(crate) fn receive_eof(&mut self, now: Instant) {
        if !self.peer_closed {
            self.peer_closed = true;
            self.progress = now;
        }
    }

    /// Everything that can be written now, control frames first.
    pub(crate) fn output(&mut self, now: Instant) -> &[u8] {
        self.fill(now);
        if !self.control.is_empty() {
            self.output.put_first(&self.control);
            self.control.clear();
            self.control.shrink_to(256);
        }
        if !self.output.is_empty() {
            self.writing.get_or_insert(now);
        }
        self.output.pending()
    }

    pub(crate) fn wants_write(&self) -> bool {
        let turns = !self.turns.is_empty() && self.send_window > 0;
        let waits = !self.output.is_empty() || !self.control.is_empty() || turns;
        waits && self.ending != Ending::Abort
    }

    pub(crate) fn wrote(&mut self, n: usize, now: Instant) {
        self.output.wrote(n, &self.limits);
        self.writing = (!self.output.is_empty()).then_some(now);
        if self.ending != Ending::No {
            self.progress = now;
        }
        self.blocked = false;
    }

    pub(crate) const fn limits(&self) -> &Arc<Limits> {
        &self.limits
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

    pub(crate) fn wants_read(&self) -> bool {
        !self.blocked && !self.peer_closed && self.ending != Ending::Abort
    }

    pub(crate) fn has_event(&self) -> bool {
        self.fault.is_some()
            || self.pong.is_some()
            || self.went_away.is_some()
            || !self.resets.is_empty()
            || !self.reports.is_empty()
    }

    pub(crate) fn wants_shutdown(&self) -> bool {
        self.ending == Ending::Linger && !self.wants_write()
    }

    pub(crate) fn is_over(&self) -> bool {
        match self.ending {
            Ending::No => false,
            Ending::Linger => self.peer_closed && !self.wants_write(),
            Ending::Now => !self.wants_write(),
            Ending::Abort => true,
        }
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.ending == Ending::Abort
    }

    /// Whether all streams have to wait until readers take what has come.
    pub(crate) const fn is_held_up(&self) -> bool {
        self.is_stopped
    }

    pub(crate) fn is_wasteful(&self) -> bool {
        self.floods.wastes(&self.limits)
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// What is to be reported whatever the input is.
    fn reported<'a>(&mut self) -> Option<Event<'a>> {
        if let Some((id, reason)) = self.resets.pop_front() {
            let stream = StreamId(id);
            return Some(Event::Reset { stream, reason });
        }
        if let Some(code) = self.went_away.take() {
            return Some(Event::GoAway { code });
        }
        if let Some(fault) = self.fault.take() {
            return Some(Event::Closed(fault));
        }
        if let Some(payload) = self.pong.take() {
            return Some(Event::Pong { payload });
        }
        while let Some(id) = self.reports.pop_front() {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.reported = false;
                let bytes = std::mem::take(&mut stream.sent);
                let stream = StreamId(id);
                return Some(Event::Sent { stream, bytes });
            }
        }
        None
    }

    /// Ends the connection, and says why to the peer.
    fn fail(&mut self, fault: Fault, now: Instant) {
        if self.ending != Ending::No {
            self.ending = Ending::Abort;
            return;
        }
        if let Some(bound) = fault.bound(self.role) {
            self.limits.struck.count(bound);
        }
        self.ending = match fault {
            Fault::WriteTimeout | Fault::Truncated => Ending::Abort,
            Fault::PeerClosed => Ending::Now,
            _ => Ending::Linger,
        };
        if !matches!(fault, Fault::PeerClosed | Fault::Truncated) {
            frame::go_away(self.last_peer_stream, fault.code(), self.output.bytes());
        }
        self.streams = Streams::default();
        self.turns.clear();
        self.reports.clear();
        self.block = None;
        self.incomplete = None;
        self.progress = now;
        self.fault = Some(fault);
    }

    /// Forgets a stream that is over; the connection's end may follow.
    fn remove(&mut self, id: u32, now: Instant) {
        if let Some(unconsumed) = self.streams.remove(id) {
            self.unconsumed = self.unconsumed.saturating_sub(unconsumed);
            self.announce_connection_credit(now);
            if self.streams.is_empty() {
                self.progress = now;
            }
        }
        self.finish_if_last(now);
    }

    fn finish_if_last(&mut self, now: Instant) {
        let left = match (self.role, self.leaving, self.peer_leaving) {
            (_, Leaving::Final(_), _) | (Role::Client, _, Some(_)) => self.streams.is_empty(),
            _ => false,
        };
        if left && self.ending == Ending::No {
            let code = self.peer_leaving.filter(|code| *code != Code::NoError);
            self.fail(code.map_or(Fault::Finished, Fault::GoAway), now);
        }
    }

    /// Resets a stream on our part. What the peer still sends on it is ignored.
    fn reset_stream(&mut self, id: u32, code: Code, now: Instant) {
        frame::rst_stream(id, code, self.output.bytes());
        self.forget(id);
        self.remove(id, now);
    }

    fn forget(&mut self, id: u32) {
        if self.forgotten.len() == FORGOTTEN {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(id);
    }

    fn is_forgotten(&self, id: u32) -> bool {
        self.forgotten.contains(&id)
    }

    /// Whether nobody has opened this stream yet.
    const fn is_idle(&self, id: u32) -> bool {
        match self.role {
            Role::Server => id > self.last_peer_stream || id.is_multiple_of(2),
            Role::Client => id >= self.next_stream || id.is_multiple_of(2),
        }
    }

    fn is_output_held(&self) -> bool {
        let most = self.limits.output_bytes.saturating_mul(OUTPUT_HELD);
        self.role == Role::Server && self.output.over_full(&self.limits) > most
    }

    fn spend(&mut self, flood: Flood, now: Instant) -> Result<(), Fault> {
        self.floods.spend(flood, &self.limits, now)
    }
}
