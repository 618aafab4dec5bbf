//! HEADERS and CONTINUATION (RFC 9113 §6.2, §6.10), and what they begin.

use std::time::Instant;

use super::{
    Block, Connection, Leaving,
    frame::{self, Header, u31},
    message::{Builder, Kind},
    receive::Outcome,
    stream::{Receiving, Sending, Stream, Windows},
};
use crate::{
    event::{Event, Role, StreamId},
    fault::{Fault, Flood, ResetReason},
    head::Head,
    limits::Bound,
};

/// A block that is so many times as long as a head may be ends the connection; up to
/// there its message is told that it is too large.
const TOLD: usize = 2;

impl Connection {
    pub(super) fn headers<'a>(
        &mut self,
        header: Header,
        payload: &[u8],
        now: Instant,
        head: &mut Head,
    ) -> Result<Outcome<'a>, Fault> {
        if header.stream == 0 {
            return Err(Fault::FrameStream);
        }
        let fragment = without_padding(header, payload)?;
        let fragment = without_priority(header, fragment)?;
        let end_stream = header.has(frame::END_STREAM);
        if header.has(frame::END_HEADERS) {
            return self.message(header.stream, end_stream, fragment, now, head);
        }
        self.block = Some(Block {
            stream: header.stream,
            end_stream,
            frames: 1,
            bytes: fragment.to_vec(),
        });
        Ok(Outcome::Nothing)
    }

    pub(super) fn continuation<'a>(
        &mut self,
        header: Header,
        payload: &[u8],
        now: Instant,
        head: &mut Head,
    ) -> Result<Outcome<'a>, Fault> {
        let limits = &self.limits;
        let most_frames = limits.header_block_frames;
        let most_bytes = limits.head_bytes.saturating_mul(TOLD);
        let Some(block) = &mut self.block else {
            return Err(Fault::Continuation);
        };
        block.frames += 1;
        let too_long = block.bytes.len() + payload.len() > most_bytes;
        if block.frames > most_frames || too_long {
            return Err(Fault::Flood(Flood::HeaderBlock));
        }
        block.bytes.extend_from_slice(payload);
        if !header.has(frame::END_HEADERS) {
            return Ok(Outcome::Nothing);
        }
        let Some(block) = self.block.take() else {
            return Err(Fault::Continuation);
        };
        self.message(block.stream, block.end_stream, &block.bytes, now, head)
    }

    /// A whole header block.
    fn message<'a>(
        &mut self,
        id: u32,
        end: bool,
        block: &[u8],
        now: Instant,
        head: &mut Head,
    ) -> Result<Outcome<'a>, Fault> {
        if let Some(stream) = self.streams.get(id) {
            return match stream.receiving {
                Receiving::Head => self.answer(id, end, block, now, head),
                Receiving::Body => self.trailers(id, end, block, now, head),
                Receiving::Done => {
                    let _ = self.decode(block, Kind::Trailers, now, head)?;
                    self.refuse_stream(id, ResetReason::StreamClosed, now)
                }
            };
        }
        if !self.is_idle(id) {
            // On a stream that is over; the block counts all the same.
            let _ = self.decode(block, Kind::Trailers, now, head)?;
            return if self.is_forgotten(id) {
                self.spend(Flood::Idle, now)?;
                Ok(Outcome::Nothing)
            } else {
                Err(Fault::StreamClosed)
            };
        }
        if self.role == Role::Client || id.is_multiple_of(2) {
            return Err(Fault::StreamId);
        }
        self.request(id, end, block, now, head)
    }

    fn decode(
        &mut self,
        block: &[u8],
        kind: Kind,
        now: Instant,
        head: &mut Head,
    ) -> Result<Result<(), ResetReason>, Fault> {
        let mut builder = Builder::new(head, kind, block.len(), &self.limits);
        self.decoder.decode(block, &mut builder)?;
        let weight = builder.weight();
        self.floods
            .expanded(block.len(), weight, &self.limits, now)?;
        Ok(builder.finish())
    }

    fn request<'a>(
        &mut self,
        id: u32,
        end: bool,
        block: &[u8],
        now: Instant,
        head: &mut Head,
    ) -> Result<Outcome<'a>, Fault> {
        self.last_peer_stream = id;
        let message = self.decode(block, Kind::Request, now, head)?;
        if matches!(self.leaving, Leaving::Final(last) if id > last) {
            // It was told that this stream is not served (RFC 9113 §6.8).
            self.forget(id);
            return Ok(Outcome::Nothing);
        }
        if self.streams.len() >= self.limits.streams as usize {
            self.limits.struck.count(Bound::Streams);
            return self.refuse_stream(id, ResetReason::Refused, now);
        }
        if let Err(reason) = message.and_then(|()| check_length(head, end)) {
            return self.refuse_request(id, end, reason, now);
        }
        let window = self
            .limits
            .stream_window
            .max(if self.settings_acknowledged {
                0
            } else {
                frame::FIRST_WINDOW
            });
        let mut stream = self.new_stream(id, window, now);
        stream.window = self.limits.stream_window;
        stream.sending = Sending::Head;
        stream.head_only = head.method() == b"HEAD";
        stream.tunnel = head.is_connect();
        stream.expects = head.expects_continue();
        stream.remaining = head.content_length().filter(|_| !stream.tunnel);
        if end {
            stream.receiving = Receiving::Done;
        }
        self.insert(stream, now);
        let stream = StreamId(id);
        Ok(Outcome::Event(Event::Head { stream, end }))
    }

    pub(super) fn new_stream(&self, id: u32, receive: u32, now: Instant) -> Stream {
        let windows = Windows {
            receive,
            send: self.peer.initial_window,
            queue: self.limits.queue_bytes,
        };
        Stream::new(id, windows, now)
    }

    pub(super) fn insert(&mut self, stream: Stream, now: Instant) {
        if self.streams.is_empty() {
            let pause = self.limits.write_time.min(self.limits.body_time) / 4;
            self.inspection = now.checked_add(pause).unwrap_or(now);
        }
        self.streams.insert(stream);
    }

    /// A request that is too large is told so; one that is malformed is reset.
    fn refuse_request<'a>(
        &mut self,
        id: u32,
        end: bool,
        reason: ResetReason,
        now: Instant,
    ) -> Result<Outcome<'a>, Fault> {
        let Some(status) = reason.status() else {
            return self.refuse_stream(id, reason, now);
        };
        if let Some(bound) = reason.bound() {
            self.limits.struck.count(bound);
        }
        self.spend(Flood::Resets, now)?;
        if let Ok(answer) = Head::response(status) {
            self.write_head(id, &answer, true);
        }
        if !end {
            frame::rst_stream(id, crate::fault::Code::NoError, self.output.bytes());
        }
        self.forget(id);
        Ok(Outcome::Nothing)
    }

    fn answer<'a>(
        &mut self,
        id: u32,
        end: bool,
        block: &[u8],
        now: Instant,
        head: &mut Head,
    ) -> Result<Outcome<'a>, Fault> {
        if let Err(reason) = self.decode(block, Kind::Response, now, head)? {
            return self.refuse_stream(id, reason, now);
        }
        let most = self.limits.informational;
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(Outcome::Nothing);
        };
        stream.progress = now;
        if head.is_informational() {
            stream.informational = stream.informational.saturating_add(1);
            let endless = stream.informational > most;
            return match (end, endless) {
                (true, _) => self.refuse_stream(id, ResetReason::Malformed, now),
                (_, true) => self.refuse_stream(id, ResetReason::Informational, now),
                _ => {
                    let stream = StreamId(id);
                    Ok(Outcome::Event(Event::Informational { stream }))
                }
            };
        }
        stream.receiving = Receiving::Body;
        let status = head.status().unwrap_or_default();
        // A CONNECT that is refused is an answer like any other.
        stream.tunnel &= (200..300).contains(&status);
        let bodiless = stream.head_only || (matches!(status, 204 | 304) && !stream.tunnel);
        stream.remaining = match head.content_length() {
            _ if bodiless => Some(0),
            _ if stream.tunnel => None,
            length => length,
        };
        if end && !bodiless && check_length(head, end).is_err() {
            return self.refuse_stream(id, ResetReason::ContentLength, now);
        }
        if end {
            self.received_all(id, now);
        }
        let stream = StreamId(id);
        Ok(Outcome::Event(Event::Head { stream, end }))
    }

    fn trailers<'a>(
        &mut self,
        id: u32,
        end: bool,
        block: &[u8],
        now: Instant,
        head: &mut Head,
    ) -> Result<Outcome<'a>, Fault> {
        let message = self.decode(block, Kind::Trailers, now, head)?;
        let remaining = self.streams.get(id).and_then(|stream| stream.remaining);
        let fault = match (message, end, remaining) {
            (Err(reason), _, _) => Some(reason),
            (Ok(()), false, _) => Some(ResetReason::Malformed),
            (Ok(()), true, Some(1..)) => Some(ResetReason::ContentLength),
            (Ok(()), true, _) => None,
        };
        if let Some(reason) = fault {
            return self.refuse_stream(id, reason, now);
        }
        self.received_all(id, now);
        let stream = StreamId(id);
        Ok(Outcome::Event(Event::Trailers { stream }))
    }
}

/// A message without a body must not declare one (RFC 9113 §8.1.1).
fn check_length(head: &Head, end: bool) -> Result<(), ResetReason> {
    if end && head.content_length().is_some_and(|length| length > 0) {
        return Err(ResetReason::ContentLength);
    }
    Ok(())
}

fn without_padding(header: Header, payload: &[u8]) -> Result<&[u8], Fault> {
    if !header.has(frame::PADDED) {
        return Ok(payload);
    }
    let (pad_len, rest) = payload.split_first().ok_or(Fault::FrameSize)?;
    let len = rest
        .len()
        .checked_sub(usize::from(*pad_len))
        .ok_or(Fault::Padding)?;
    Ok(&rest[..len])
}

/// Priorities are ignored, but one that makes a stream depend on itself is a
/// mistake (RFC 7540 §5.3.1).
fn without_priority(header: Header, payload: &[u8]) -> Result<&[u8], Fault> {
    if !header.has(frame::PRIORITY) {
        return Ok(payload);
    }
    let (priority, rest) = payload.split_first_chunk::<5>().ok_or(Fault::FrameSize)?;
    let [a, b, c, d, _] = *priority;
    if u31([a, b, c, d]) == header.stream {
        return Err(Fault::FrameStream);
    }
    Ok(rest)
}
