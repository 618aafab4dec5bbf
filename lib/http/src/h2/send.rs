//! What goes out.

use std::time::Instant;

use super::{
    Connection, Ending, LEAVING_PING, Leaving,
    frame::{self, HEADER, Kind, MAX_PAYLOAD, MAX_WINDOW},
    hpack::encode,
    stream::{Receiving, Sending, Stream},
};
use crate::{
    event::{Role, StreamId, Taken},
    fault::{Code, Misuse},
    head::Head,
};

impl Connection {
    /// Whether a request can be sent.
    pub(crate) fn can_open(&self) -> bool {
        self.role == Role::Client
            && self.ending == Ending::No
            && self.leaving == Leaving::No
            && self.peer_leaving.is_none()
            && !self.peer_closed
            && self.streams.len() < self.peer.streams as usize
            && i64::from(self.next_stream) <= MAX_WINDOW
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
        if !self.is_request(head, end) {
            return Err(Misuse::Head);
        }
        let id = self.next_stream;
        self.next_stream += 2;
        self.write_head(id, head, end);
        let window = self.limits.stream_window;
        let mut stream = self.new_stream(id, window, now);
        stream.receiving = Receiving::Head;
        stream.head_only = head.method() == b"HEAD";
        stream.tunnel = head.is_connect();
        if end {
            stream.sending = Sending::Done;
        }
        self.insert(stream, now);
        Ok(StreamId(id))
    }

    fn is_request(&self, head: &Head, end: bool) -> bool {
        let (authority, path) = (head.authority().is_some(), !head.path().is_empty());
        match (head.is_connect(), head.protocol().is_some()) {
            (true, false) => authority && !end,
            (true, true) => authority && path && !end && self.takes_protocols() == Some(true),
            (false, false) => !head.method().is_empty() && path && head.upgrade().is_none(),
            (false, true) => false,
        }
    }

    /// Whether the peer takes extended CONNECTs; none until it has said anything.
    pub(crate) const fn takes_protocols(&self) -> Option<bool> {
        self.peer.connect_protocol
    }

    /// Sends an answer's head, informational or final.
    pub(crate) fn send_head(
        &mut self,
        now: Instant,
        stream: StreamId,
        head: &Head,
        end: bool,
    ) -> Result<(), Misuse> {
        let id = stream.0;
        let status = head
            .status()
            .filter(|status| *status != 101)
            .ok_or(Misuse::Head)?;
        let Some(stream) = self.streams.get_mut(id) else {
            return Err(Misuse::NoStream);
        };
        if self.role != Role::Server || stream.sending != Sending::Head {
            return Err(Misuse::Order);
        }
        let final_answer = !head.is_informational();
        // A CONNECT that is refused is an answer like any other.
        stream.tunnel &= !final_answer || (200..300).contains(&status);
        let bodiless = stream.head_only || (matches!(status, 204 | 304) && !stream.tunnel);
        let end = final_answer && (end || bodiless);
        if status == 100 && std::mem::take(&mut stream.expects) {
            // From now on the body is due.
            stream.progress = now;
        }
        if final_answer {
            stream.sending = Sending::Body;
            stream.progress = now;
            self.floods.answered(&self.limits);
        }
        self.write_head(id, head, end);
        if end {
            self.sent_all(id, now);
        }
        Ok(())
    }

    /// How many bytes [`send_data`](Self::send_data) would take.
    pub(crate) fn capacity(&self, stream: StreamId) -> usize {
        let Some(stream) = self.streams.get(stream.0) else {
            return 0;
        };
        if stream.sending != Sending::Body {
            return 0;
        }
        let most = stream.queue_bytes;
        let direct = if stream.queue.is_empty() {
            self.direct(stream)
        } else {
            0
        };
        direct.saturating_add(most.saturating_sub(stream.queue.len()))
    }

    /// What may go into the output at once.
    fn direct(&self, stream: &Stream) -> usize {
        let windows = stream.send_window.min(self.send_window).max(0);
        let room = self.output.free(&self.limits);
        usize::try_from(windows).unwrap_or(usize::MAX).min(room)
    }

    pub(crate) fn send_data(
        &mut self,
        now: Instant,
        stream: StreamId,
        bytes: &[u8],
        end: bool,
    ) -> Result<Taken, Misuse> {
        let id = stream.0;
        let stream = self.streams.get(id).ok_or(Misuse::NoStream)?;
        if stream.sending != Sending::Body {
            return Err(Misuse::Order);
        }
        let direct = if stream.queue.is_empty() {
            self.direct(stream).min(bytes.len())
        } else {
            0
        };
        let waits = !stream.queue.is_empty() || direct < bytes.len();
        self.write_data(id, &bytes[..direct], end && !waits);
        let queued = self.enqueue(id, &bytes[direct..], end && waits, now);
        if end && !waits {
            self.sent_all(id, now);
        }
        Ok(Taken {
            bytes: direct + queued,
            queued,
        })
    }

    /// Writes frames of as many bytes, for which there are windows.
    fn write_data(&mut self, id: u32, mut bytes: &[u8], end: bool) {
        while !bytes.is_empty() || end {
            let (now, later) = bytes.split_at(bytes.len().min(MAX_PAYLOAD));
            let last = end && later.is_empty();
            let flags = if last { frame::END_STREAM } else { 0 };
            frame::header(now.len(), Kind::Data, flags, id, self.output.bytes());
            self.output.bytes().extend_from_slice(now);
            self.floods.sent_data(&self.limits);
            self.send_window -= now.len() as i64;
            if let Some(stream) = self.streams.get_mut(id) {
                stream.send_window -= now.len() as i64;
            }
            bytes = later;
            if last {
                break;
            }
        }
    }

    /// Puts bytes into the stream's queue, as many as fit.
    fn enqueue(&mut self, id: u32, bytes: &[u8], end: bool, now: Instant) -> usize {
        let Some(stream) = self.streams.get_mut(id) else {
            return 0;
        };
        let n = bytes
            .len()
            .min(stream.queue_bytes.saturating_sub(stream.queue.len()));
        if n > 0 && stream.queue.is_empty() {
            // The peer's time to read begins.
            stream.progress = now;
        }
        stream.queue.push(&bytes[..n]);
        if end && n == bytes.len() {
            stream.sending = Sending::Ending;
        }
        if stream.has_turn() && !stream.in_turn {
            stream.in_turn = true;
            self.turns.push_back(id);
        }
        n
    }

    pub(crate) fn send_trailers(
        &mut self,
        now: Instant,
        stream: StreamId,
        trailers: &Head,
    ) -> Result<(), Misuse> {
        let id = stream.0;
        let Some(stream) = self.streams.get_mut(id) else {
            return Err(Misuse::NoStream);
        };
        if stream.sending != Sending::Body {
            return Err(Misuse::Order);
        }
        if trailers.status().is_some() || !trailers.method().is_empty() {
            return Err(Misuse::Head);
        }
        if !stream.queue.is_empty() {
            let mut block = Vec::new();
            encode::head(trailers, &mut block);
            stream.trailers = Some(block);
            stream.sending = Sending::Ending;
            return Ok(());
        }
        self.write_head(id, trailers, true);
        self.sent_all(id, now);
        Ok(())
    }

    /// Fills the output from the queues, one frame of each stream in turn.
    pub(super) fn fill(&mut self, now: Instant) {
        while self.send_window > 0 && self.output.free(&self.limits) > 0 {
            let Some(id) = self.turns.pop_front() else {
                return;
            };
            self.take_turn(id, now);
        }
    }

    fn take_turn(&mut self, id: u32, now: Instant) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        stream.in_turn = false;
        let window = stream.send_window.min(self.send_window).max(0);
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        let n = stream.queue.len().min(MAX_PAYLOAD).min(window);
        if n == 0 {
            return;
        }
        let last = n == stream.queue.len() && stream.sending == Sending::Ending;
        let end = last && stream.trailers.is_none();
        let flags = if end { frame::END_STREAM } else { 0 };
        let out = self.output.bytes();
        frame::header(n, Kind::Data, flags, id, out);
        out.extend_from_slice(stream.queue.front(n));
        stream.queue.pop(n);
        stream.send_window -= n as i64;
        self.send_window -= n as i64;
        self.floods.sent_data(&self.limits);
        stream.progress = now;
        stream.sent += n;
        if !stream.reported {
            stream.reported = true;
            self.reports.push_back(id);
        }
        if stream.has_turn() {
            stream.in_turn = true;
            self.turns.push_back(id);
        }
        if let Some(block) = stream.trailers.take_if(|_| last) {
            self.write_block(id, frame::END_STREAM, |out| out.extend_from_slice(&block));
        }
        if last {
            self.sent_all(id, now);
        }
    }

    /// Our message is over. On a server that is the stream's end: what the
    /// client still sends is of no use (RFC 9113 §8.1).
    fn sent_all(&mut self, id: u32, now: Instant) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        stream.sending = Sending::Done;
        if stream.is_over() {
            self.remove(id, now);
        } else if self.role == Role::Server && !stream.tunnel {
            self.reset_stream(id, Code::NoError, now);
        }
    }

    /// Gives a stream up.
    pub(crate) fn reset(&mut self, now: Instant, stream: StreamId, code: Code) {
        if self.streams.get(stream.0).is_some() {
            self.reset_stream(stream.0, code, now);
        }
    }

    /// Asks the peer for a sign of life.
    pub(crate) fn ping(&mut self, payload: u64) {
        frame::ping(payload, 0, &mut self.control);
    }

    /// Ends the connection when the streams under way have ended. A client may
    /// open streams until it knows (RFC 9113 §6.8).
    pub(crate) fn shutdown(&mut self, now: Instant) {
        if self.leaving != Leaving::No || self.ending != Ending::No {
            return;
        }
        match self.role {
            Role::Server => {
                self.leaving = Leaving::Announced(now);
                frame::go_away(MAX_WINDOW as u32, Code::NoError, self.output.bytes());
                frame::ping(LEAVING_PING, 0, self.output.bytes());
            }
            Role::Client => {
                self.leaving = Leaving::Final(0);
                self.finish_if_last(now);
            }
        }
    }

    /// Says which stream is the last.
    pub(super) fn leave(&mut self) {
        if matches!(self.leaving, Leaving::Announced(_)) {
            let last = self.last_peer_stream;
            self.leaving = Leaving::Final(last);
            frame::go_away(last, Code::NoError, self.output.bytes());
        }
    }

    /// Writes a head or trailers.
    pub(super) fn write_head(&mut self, id: u32, head: &Head, end: bool) {
        let flags = if end { frame::END_STREAM } else { 0 };
        self.write_block(id, flags, |out| encode::head(head, out));
    }

    /// Writes a header block, in as many frames as it needs.
    fn write_block(&mut self, id: u32, flags: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let out = self.output.bytes();
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        if !self.wrote_block {
            self.wrote_block = true;
            out.push(encode::NO_TABLE);
        }
        write(out);
        let len = out.len() - start - HEADER;
        let first = len.min(MAX_PAYLOAD);
        let end = if len > first { 0 } else { frame::END_HEADERS };
        let header = frame::header_bytes(first, Kind::Headers, flags | end, id);
        if let Some(place) = out.get_mut(start..start + HEADER) {
            place.copy_from_slice(&header);
        }
        continue_block(out, start + HEADER + first, id);
    }
}

/// Puts the headers of CONTINUATION frames between what is too long for one.
fn continue_block(out: &mut Vec<u8>, mut at: usize, id: u32) {
    while at < out.len() {
        let len = (out.len() - at).min(MAX_PAYLOAD);
        let last = at + len == out.len();
        let flags = if last { frame::END_HEADERS } else { 0 };
        let header = frame::header_bytes(len, Kind::Continuation, flags, id);
        out.splice(at..at, header);
        at += HEADER + len;
    }
}
