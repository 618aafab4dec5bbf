//! HTTP/1.0 and HTTP/1.1 (RFC 9112), one connection in either role.
//!
//! One exchange at a time: the next request is not looked at before the answer
//! to the last one is out, so that pipelining costs what one read costs. The
//! connection holds no input, and no output but what waits to be written.

mod chunked;
mod encode;
mod parse;
mod receive;
mod scan;
mod send;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::{chunked::Chunked, encode::Framing, scan::Scan};
use crate::{
    event::{Event, Role, StreamId},
    fault::Fault,
    head::Head,
    limits::Limits,
    output::Output,
};

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    role: Role,
    limits: Arc<Limits>,
    receiving: Receiving,
    sending: Sending,
    scan: Scan,
    exchange: Exchange,
    stream: StreamId,
    output: Output,
    /// How much may come before some of it is consumed.
    window: usize,
    unconsumed: usize,
    /// Bytes of data that were taken while the output was full, and how many
    /// may be.
    queued: usize,
    queue_bytes: usize,
    /// Bytes that have left the queue and were not reported yet.
    sent: usize,
    /// To be reported once.
    fault: Option<Fault>,
    /// Input was left over that cannot be looked at yet.
    blocked: bool,
    peer_closed: bool,
    no_more: bool,
    ending: Ending,
    /// The last input that was of use, or when waiting for some began.
    progress: Instant,
    /// Since when the peer has taken no byte of the output.
    writing: Option<Instant>,
}

/// What the exchange under way is, as far as it decides how it goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Exchange {
    /// The request was HEAD: the answer has no body.
    head_only: bool,
    connect: bool,
    /// Another protocol was asked for.
    upgrade: bool,
    /// Something came behind the request before its answer.
    early: bool,
    http11: bool,
    keep_alive: bool,
    /// The client waits for a 100, and neither was one sent nor has any of the
    /// body come: it is not late.
    expects: bool,
    informational: u8,
}

/// The message that comes in.
#[derive(Clone, Copy, Debug)]
enum Receiving {
    /// A head is due, or the beginning of one has come.
    Head {
        begun: bool,
    },
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Tunnel,
    /// It is over.
    Done,
    /// Nothing is read any more.
    Closed,
}

/// The message that goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// None yet: a client that may ask, a server before a request.
    Idle,
    /// A request has come.
    Head,
    /// A CONNECT was sent and is not answered.
    Asked,
    Body(Framing),
    Tunnel,
    Done,
}

/// How far the connection's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// Our half is to be closed once the output is written; what the peer sends
    /// goes on (a tunnel).
    Half,
    /// As before, and what the peer sends is thrown away until it closes.
    Linger {
        /// Since our last byte.
        since: Instant,
    },
    /// The socket is to be closed, once the output is written.
    Now,
    /// The socket is to be reset at once.
    Abort,
}

impl Connection {
    pub(crate) fn new(role: Role, limits: Arc<Limits>, now: Instant) -> Self {
        Self {
            role,
            window: limits.stream_window as usize,
            queue_bytes: limits.queue_bytes,
            limits,
            // A client that connects says what it wants: its first head is due.
            receiving: Receiving::Head {
                begun: role == Role::Server,
            },
            sending: Sending::Idle,
            scan: Scan::default(),
            exchange: Exchange::default(),
            stream: StreamId(1),
            output: Output::default(),
            unconsumed: 0,
            queued: 0,
            sent: 0,
            fault: None,
            blocked: false,
            peer_closed: false,
            no_more: false,
            ending: Ending::No,
            progress: now,
            writing: None,
        }
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
        let before = input.len();
        let event = match self.receive(now, input, head) {
            Ok(event) => event,
            Err(fault) => {
                self.fail(fault, now);
                self.reported()
            }
        };
        if input.len() != before {
            self.progress = now;
        }
        self.blocked = event.is_none() && !input.is_empty() && !self.awaits_input();
        self.exchange.early |= !input.is_empty() && matches!(self.receiving, Receiving::Done);
        event
    }

    /// The peer has closed its half; whatever it sent has been passed in.
    pub(crate) fn receive_eof(&mut self, now: Instant) {
        if !self.peer_closed {
            self.peer_closed = true;
            self.progress = now;
        }
    }

    pub(crate) fn output(&mut self, now: Instant) -> &[u8] {
        if !self.output.is_empty() {
            self.writing.get_or_insert(now);
        }
        self.output.pending()
    }

    pub(crate) fn wants_write(&self) -> bool {
        !self.output.is_empty() && self.ending != Ending::Abort
    }

    pub(crate) fn wrote(&mut self, n: usize, now: Instant) {
        self.output.wrote(n, &self.limits);
        // What waited for room in it may be looked at.
        self.blocked = false;
        self.writing = (!self.output.is_empty()).then_some(now);
        if let Ending::Linger { since } = &mut self.ending {
            (*since, self.progress) = (now, now);
        }
        let queued = self.queued.min(self.output.over_full(&self.limits));
        self.sent = self.sent.saturating_add(self.queued - queued);
        self.queued = queued;
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
        // While an answer is awaited only the peer's leaving is of interest, or
        // one read's worth of what it sends in advance.
        let useful = self.awaits_input() || matches!(self.receiving, Receiving::Done);
        useful && !self.blocked && !self.peer_closed && self.ending != Ending::Abort
    }

    /// Whether an event waits that needs no input.
    pub(crate) const fn has_event(&self) -> bool {
        self.sent > 0 || self.fault.is_some()
    }

    pub(crate) fn wants_shutdown(&self) -> bool {
        self.output.is_empty() && matches!(self.ending, Ending::Half | Ending::Linger { .. })
    }

    pub(crate) fn is_over(&self) -> bool {
        match self.ending {
            Ending::No | Ending::Half => false,
            Ending::Linger { .. } => self.output.is_empty() && self.peer_closed,
            Ending::Now => self.output.is_empty(),
            Ending::Abort => true,
        }
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.ending == Ending::Abort
    }

    #[cfg(test)]
    pub(crate) const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Exchanges under way: one or none.
    pub(crate) fn streams(&self) -> usize {
        let over = matches!(self.receiving, Receiving::Closed);
        usize::from(self.sending != Sending::Idle && !over)
    }

    /// How long the connection may go on as it is.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (reading, writing) = (self.read_deadline(), self.write_deadline());
        let both = [reading, writing].into_iter().flatten();
        both.map(|(deadline, _)| deadline).min()
    }

    /// Acts on a deadline that has passed; one that has not is left alone.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        let due = [self.write_deadline(), self.read_deadline()];
        let passed = due
            .into_iter()
            .flatten()
            .find(|(deadline, _)| *deadline <= now);
        match passed {
            // What the kernel holds still arrives.
            Some((_, Fault::Finished)) => self.ending = Ending::Now,
            Some((_, fault)) => self.fail(fault, now),
            None => {}
        }
    }

    fn read_deadline(&self) -> Option<(Instant, Fault)> {
        let after = |time: Duration, fault| Some((self.progress.checked_add(time)?, fault));
        let limits = &self.limits;
        if let Ending::Linger { since } = self.ending {
            let most = since.checked_add(limits.linger_most)?;
            let quiet = self.progress.checked_add(limits.linger_time)?;
            let written = self.output.is_empty();
            return written.then_some((quiet.min(most), Fault::Finished));
        }
        match (self.role, self.receiving) {
            (Role::Server, Receiving::Head { begun: true }) => {
                after(limits.head_time, Fault::HeadTimeout)
            }
            (Role::Server, Receiving::Head { begun: false }) => {
                after(limits.idle_time, Fault::Idle)
            }
            (Role::Client, Receiving::Head { .. }) if self.sending == Sending::Idle => {
                after(limits.idle_time, Fault::Idle)
            }
            (Role::Server, Receiving::Length(_) | Receiving::Chunked(_))
                if self.window_left() > 0 && !self.exchange.expects =>
            {
                after(limits.body_time, Fault::BodyTimeout)
            }
            _ => None,
        }
    }

    fn write_deadline(&self) -> Option<(Instant, Fault)> {
        // A tunnel's ends may be silent for as long as they like.
        let is_tunnel =
            self.sending == Sending::Tunnel || matches!(self.receiving, Receiving::Tunnel);
        let counts = self.wants_write() && !is_tunnel;
        let since = self.writing.filter(|_| counts)?;
        let deadline = since.checked_add(self.limits.write_time)?;
        Some((deadline, Fault::WriteTimeout))
    }

    const fn window_left(&self) -> usize {
        self.window.saturating_sub(self.unconsumed)
    }

    /// Whether more input could be of use, rather than something else.
    fn awaits_input(&self) -> bool {
        match self.receiving {
            // An answer may come while its request is stuck; but whoever does not
            // read answers gets no more of them.
            Receiving::Head { .. } => {
                self.role == Role::Client || self.output.over_full(&self.limits) == 0
            }
            Receiving::Closed => true,
            Receiving::Done => false,
            _ => self.window_left() > 0,
        }
    }

    /// What is to be reported before any input is looked at.
    fn reported<'a>(&mut self) -> Option<Event<'a>> {
        if let Some(fault) = self.fault.take() {
            self.sent = 0;
            return Some(Event::Closed(fault));
        }
        let bytes = std::mem::take(&mut self.sent);
        let stream = self.stream;
        (bytes > 0).then_some(Event::Sent { stream, bytes })
    }

    /// Ends the connection, with an answer to the client if there is none yet.
    fn fail(&mut self, fault: Fault, now: Instant) {
        if !matches!(self.ending, Ending::No | Ending::Half) {
            self.ending = Ending::Abort;
            return;
        }
        if let Some(bound) = fault.bound(self.role) {
            self.limits.struck.count(bound);
        }
        self.ending = self.ending_of(fault, now);
        if let (Ending::Linger { .. }, Some(status)) = (self.ending, fault.status()) {
            send::refusal(status, self.output.bytes());
        }
        if self.role == Role::Client {
            // What is left of a request is of no use to anybody.
            self.output.clear();
        }
        self.receiving = Receiving::Closed;
        self.sending = Sending::Done;
        self.progress = now;
        self.fault = Some(fault);
        self.queued = 0;
    }

    /// What is half an answer must not look like a whole one; what is whole must
    /// arrive, also when the client is still sending (RFC 9112 §9.6).
    fn ending_of(&self, fault: Fault, now: Instant) -> Ending {
        let unanswered = matches!(self.sending, Sending::Idle | Sending::Head);
        match (self.role, fault) {
            (_, Fault::Aborted | Fault::WriteTimeout) => Ending::Abort,
            (_, Fault::PeerClosed | Fault::Idle) | (Role::Client, _) => Ending::Now,
            (Role::Server, Fault::Finished | Fault::EarlyAnswer) => Ending::Linger { since: now },
            (Role::Server, Fault::Truncated) if unanswered => Ending::Now,
            (Role::Server, _) if unanswered => Ending::Linger { since: now },
            (Role::Server, _) => Ending::Abort,
        }
    }

    /// Looks whether the exchange is over, and what then.
    fn settle(&mut self, now: Instant) {
        let sent = self.sending == Sending::Done;
        match (self.role, &self.receiving) {
            (_, Receiving::Closed) => {}
            (_, Receiving::Done) if sent => self.next_exchange(now),
            (Role::Server, Receiving::Tunnel) => {}
            (Role::Server, _) if sent => self.fail(Fault::EarlyAnswer, now),
            (Role::Client, Receiving::Done) if self.sending != Sending::Tunnel => {
                self.fail(Fault::EarlyAnswer, now);
            }
            _ => {}
        }
    }

    fn next_exchange(&mut self, now: Instant) {
        if !self.exchange.keep_alive || self.no_more {
            self.fail(Fault::Finished, now);
            return;
        }
        self.stream = StreamId(self.stream.0.wrapping_add(1));
        self.receiving = Receiving::Head { begun: false };
        self.sending = Sending::Idle;
        self.scan = Scan::default();
        self.exchange = Exchange::default();
        self.sent = 0;
        self.queued = 0;
        self.unconsumed = 0;
        self.window = self.limits.stream_window as usize;
        self.queue_bytes = self.limits.queue_bytes;
        self.blocked = false;
        self.progress = now;
    }
}
