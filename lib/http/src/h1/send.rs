//! What goes out.

use std::time::Instant;

use super::{
    Connection, Ending, Exchange, Receiving, Sending,
    encode::{self, Framing, Persistence},
};
use crate::{
    event::{Role, StreamId, Taken},
    fault::{Fault, Misuse},
    head::{Head, syntax::has_port},
};

/// What a chunk has beside its bytes, at most: its size, the ends of its lines, and the
/// last chunk.
const CHUNK: usize = 16 + 4 + 5;

impl Connection {
    /// Whether a request can be sent.
    pub(crate) fn can_open(&self) -> bool {
        self.role == Role::Client
            && self.sending == Sending::Idle
            && matches!(self.receiving, Receiving::Head { .. })
            && self.ending == Ending::No
            && !self.peer_closed
            && !self.no_more
    }

    pub(crate) fn open(
        &mut self,
        now: Instant,
        head: &Head,
        end: bool,
    ) -> Result<StreamId, Misuse> {
        if !self.can_open() {
            return Err(Misuse::Full);
        }
        let connect = head.is_connect();
        let complete = if connect {
            head.authority().is_some_and(has_port) && head.protocol().is_none() && !end
        } else {
            !head.path().is_empty()
        };
        if head.method().is_empty() || !complete {
            return Err(Misuse::Head);
        }
        let framing = request_framing(head, end)?;
        self.exchange = Exchange {
            head_only: head.method() == b"HEAD",
            connect,
            upgrade: head.upgrade().is_some(),
            early: false,
            http11: true,
            keep_alive: true,
            expects: head.expects_continue(),
            informational: 0,
        };
        encode::request(head, framing, self.output.bytes());
        self.sending = match framing {
            _ if connect => Sending::Asked,
            _ if end => Sending::Done,
            framing => Sending::Body(framing),
        };
        self.progress = now;
        Ok(self.stream)
    }

    /// Sends an answer's head, informational or final.
    pub(crate) fn send_head(
        &mut self,
        now: Instant,
        stream: StreamId,
        head: &Head,
        end: bool,
    ) -> Result<(), Misuse> {
        self.current(stream)?;
        let Some(status) = head.status() else {
            return Err(Misuse::Head);
        };
        if self.sending != Sending::Head {
            return Err(Misuse::Order);
        }
        if head.is_informational() {
            self.send_informational(status, head, now);
            return Ok(());
        }
        if status == 101 || (self.exchange.connect && (200..300).contains(&status)) {
            return self.send_switch(status, head);
        }
        self.send_answer(now, status, head, end)
    }

    fn send_informational(&mut self, status: u16, head: &Head, now: Instant) {
        if status == 100 {
            self.exchange.expects = false;
            // From now on the body is due.
            self.progress = now;
        }
        // HTTP/1.0 knows none (RFC 9110 §15.2).
        if self.exchange.http11 {
            encode::response(
                head,
                Framing::None,
                Persistence::Default,
                self.output.bytes(),
            );
        }
    }

    fn send_switch(&mut self, status: u16, head: &Head) -> Result<(), Misuse> {
        let asked = status != 101 || (self.exchange.upgrade && head.upgrade().is_some());
        if !asked {
            return Err(Misuse::Head);
        }
        if !matches!(self.receiving, Receiving::Done) {
            return Err(Misuse::Order);
        }
        encode::response(
            head,
            Framing::UntilClose,
            Persistence::Default,
            self.output.bytes(),
        );
        self.become_tunnel();
        Ok(())
    }

    fn send_answer(
        &mut self,
        now: Instant,
        status: u16,
        head: &Head,
        end: bool,
    ) -> Result<(), Misuse> {
        let bodiless = self.exchange.head_only || matches!(status, 204 | 304);
        let framing = match head.content_length() {
            _ if bodiless => Framing::None,
            Some(length) if end && length > 0 => return Err(Misuse::Length),
            Some(length) => Framing::Length(length),
            None if end => Framing::Length(0),
            None if self.exchange.http11 => Framing::Chunked,
            None => Framing::UntilClose,
        };
        let unread = !matches!(self.receiving, Receiving::Done);
        let done = end || bodiless;
        // A client that still waits for a 100 may send the body or not: what it
        // sends next could not be told apart (RFC 9110 §10.1.1).
        let desync = unread && (self.exchange.expects || done);
        if desync || self.is_behind_refusal() || self.no_more || framing == Framing::UntilClose {
            self.exchange.keep_alive = false;
        }
        let persistence = match (self.exchange.keep_alive, self.exchange.http11) {
            (false, _) => Persistence::Close,
            (true, true) => Persistence::Default,
            (true, false) => Persistence::KeepAlive,
        };
        encode::response(head, framing, persistence, self.output.bytes());
        self.sending = if done {
            Sending::Done
        } else {
            Sending::Body(framing)
        };
        self.settle(now);
        Ok(())
    }

    /// How many bytes [`send_data`](Self::send_data) would take.
    pub(crate) fn capacity(&self, stream: StreamId) -> usize {
        let sends = matches!(self.sending, Sending::Body(_) | Sending::Tunnel);
        if stream != self.stream || !sends {
            return 0;
        }
        let direct = self.output.free(&self.limits);
        direct.saturating_add(self.queue_bytes.saturating_sub(self.queued))
    }

    pub(crate) fn send_data(
        &mut self,
        now: Instant,
        stream: StreamId,
        bytes: &[u8],
        end: bool,
    ) -> Result<Taken, Misuse> {
        self.current(stream)?;
        let framing = match self.sending {
            Sending::Body(framing) => framing,
            Sending::Tunnel => Framing::UntilClose,
            Sending::Asked => return Ok(Taken::default()),
            // It may become a tunnel yet.
            Sending::Done if self.awaits_upgrade() => return Ok(Taken::default()),
            Sending::Idle | Sending::Head | Sending::Done => return Err(Misuse::Order),
        };
        let taken = bytes.len().min(self.capacity(stream));
        let (end, bytes) = (end && taken == bytes.len(), &bytes[..taken]);
        if let Framing::Length(left) = framing {
            self.spend(left, taken, end, now)?;
        }
        let before = self.over_full();
        self.output.make_room(taken + CHUNK);
        write_body(framing, bytes, end, self.output.bytes());
        let queued = taken.min(self.over_full() - before);
        self.queued += queued;
        if end {
            self.end_message(now);
        }
        Ok(Taken {
            bytes: taken,
            queued,
        })
    }

    pub(crate) fn send_trailers(
        &mut self,
        now: Instant,
        stream: StreamId,
        trailers: &Head,
    ) -> Result<(), Misuse> {
        self.current(stream)?;
        match self.sending {
            Sending::Body(Framing::Chunked) => {
                encode::last_chunk(Some(trailers), self.output.bytes());
            }
            // There is no place for trailers; they may be dropped
            // (RFC 9110 §6.5.1).
            Sending::Body(Framing::Length(left)) => self.spend(left, 0, true, now)?,
            Sending::Body(Framing::None | Framing::UntilClose) | Sending::Tunnel => {}
            Sending::Idle | Sending::Head | Sending::Asked | Sending::Done => {
                return Err(Misuse::Order);
            }
        }
        self.end_message(now);
        Ok(())
    }

    /// Gives the exchange up, and with it the connection.
    pub(crate) fn reset(&mut self, now: Instant, stream: StreamId) {
        let under_way =
            self.sending != Sending::Idle && !matches!(self.receiving, Receiving::Closed);
        if stream == self.stream && under_way {
            self.fail(Fault::Aborted, now);
        }
    }

    pub(crate) fn consume(&mut self, now: Instant, stream: StreamId, n: usize) {
        if stream == self.stream {
            if self.window_left() == 0 && n > 0 {
                // The peer's time begins again.
                self.progress = now;
            }
            self.unconsumed = self.unconsumed.saturating_sub(n);
            self.blocked = false;
        }
    }

    pub(crate) fn grow_window(&mut self, stream: StreamId, window: usize) {
        if stream == self.stream {
            self.window = self.window.max(window);
            self.blocked = false;
        }
    }

    pub(crate) fn grow_queue(&mut self, stream: StreamId, bytes: usize) {
        if stream == self.stream {
            self.queue_bytes = self.queue_bytes.max(bytes);
        }
    }

    /// Ends the connection after the exchange under way.
    pub(crate) fn shutdown(&mut self, now: Instant) {
        self.no_more = true;
        let nothing_came = matches!(self.receiving, Receiving::Head { .. }) && self.scan.is_new();
        if self.sending == Sending::Idle && nothing_came {
            self.fail(Fault::Finished, now);
        }
    }

    fn current(&self, stream: StreamId) -> Result<(), Misuse> {
        if stream != self.stream
            || matches!(
                self.ending,
                Ending::Abort | Ending::Now | Ending::Linger { .. }
            )
        {
            return Err(Misuse::NoStream);
        }
        Ok(())
    }

    /// Counts data against the declared length.
    fn spend(&mut self, left: u64, n: usize, end: bool, now: Instant) -> Result<(), Misuse> {
        let left = left.checked_sub(n as u64).filter(|left| !end || *left == 0);
        let Some(left) = left else {
            self.fail(Fault::Aborted, now);
            return Err(Misuse::Length);
        };
        self.sending = Sending::Body(Framing::Length(left));
        Ok(())
    }

    /// What came behind a request for a tunnel that there will not be is of another
    /// protocol, or might be: it is not taken for a request. Behind a CONNECT that
    /// also goes for what is still on its way.
    const fn is_behind_refusal(&self) -> bool {
        self.exchange.connect || (self.exchange.upgrade && self.exchange.early)
    }

    /// A client's request to upgrade is out and not answered.
    const fn awaits_upgrade(&self) -> bool {
        let unanswered = matches!(self.receiving, Receiving::Head { .. });
        matches!(self.role, Role::Client) && self.exchange.upgrade && unanswered
    }

    fn over_full(&self) -> usize {
        self.output.over_full(&self.limits)
    }

    fn end_message(&mut self, now: Instant) {
        if self.sending == Sending::Tunnel && self.ending == Ending::No {
            self.ending = Ending::Half;
        }
        self.sending = Sending::Done;
        self.settle(now);
    }
}

/// The answer to what is no request.
pub(super) fn refusal(status: u16, out: &mut Vec<u8>) {
    if let Ok(head) = Head::response(status) {
        encode::response(&head, Framing::Length(0), Persistence::Close, out);
    }
}

fn request_framing(head: &Head, end: bool) -> Result<Framing, Misuse> {
    match head.content_length() {
        _ if head.is_connect() => Ok(Framing::UntilClose),
        Some(length) if end && length > 0 => Err(Misuse::Length),
        Some(length) => Ok(Framing::Length(length)),
        // Where a body is expected its absence is said (RFC 9110 §8.6).
        None if end && matches!(head.method(), b"POST" | b"PUT" | b"PATCH") => {
            Ok(Framing::Length(0))
        }
        None if end => Ok(Framing::None),
        None => Ok(Framing::Chunked),
    }
}

fn write_body(framing: Framing, bytes: &[u8], end: bool, out: &mut Vec<u8>) {
    if framing != Framing::Chunked {
        out.extend_from_slice(bytes);
        return;
    }
    if !bytes.is_empty() {
        encode::chunk_size(bytes.len(), out);
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }
    if end {
        encode::last_chunk(None, out);
    }
}
