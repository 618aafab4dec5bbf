//! What comes in: frames, and DATA in particular.

use std::time::Instant;

use super::{
    Connection, DataFrame, Ending, Opening, Partial,
    flood::TINY,
    frame::{self, Header, Kind},
    stream::{Receiving, Sending},
};
use crate::{
    event::{Event, Role, StreamId},
    fault::{Code, Fault, Flood, ResetReason},
    head::Head,
};

/// What a frame was good for.
pub(super) enum Outcome<'a> {
    Event(Event<'a>),
    /// Nothing to tell; the next frame may say more.
    Nothing,
    /// It is not all there.
    NeedMore,
}

impl Connection {
    pub(super) fn receive<'a>(
        &mut self,
        now: Instant,
        input: &mut &'a [u8],
        head: &mut Head,
    ) -> Result<Option<Event<'a>>, Fault> {
        loop {
            if self.ending != Ending::No {
                *input = &[];
                return Ok(None);
            }
            match self.next(now, input, head)? {
                Outcome::Event(event) => return Ok(Some(event)),
                Outcome::Nothing if self.has_event() => return Ok(None),
                Outcome::Nothing => {}
                Outcome::NeedMore => return self.at_the_end(input),
            }
        }
    }

    /// All input is used up, or what is left is not enough.
    fn at_the_end<'a>(&self, input: &[u8]) -> Result<Option<Event<'a>>, Fault> {
        if !self.peer_closed || self.is_output_held() {
            return Ok(None);
        }
        let clean = input.is_empty() && self.streams.is_empty() && self.partial == Partial::None;
        Err(if clean && self.block.is_none() {
            Fault::PeerClosed
        } else {
            Fault::Truncated
        })
    }

    fn next<'a>(
        &mut self,
        now: Instant,
        input: &mut &'a [u8],
        head: &mut Head,
    ) -> Result<Outcome<'a>, Fault> {
        if self.opening == Opening::Preface {
            return self.preface(input);
        }
        match self.partial {
            Partial::None => {}
            Partial::Data(frame) => return Ok(self.data(now, frame, input)),
            Partial::Skip { left } => return Ok(self.skip(left, input)),
        }
        if self.is_output_held() {
            return Ok(Outcome::NeedMore);
        }
        let Some(header) = Header::read(input) else {
            return Ok(Outcome::NeedMore);
        };
        self.check_order(header)?;
        if header.kind == Kind::Data {
            return self.data_begins(header, now, input);
        }
        let Some(frame) = input.get(..frame::HEADER + header.len) else {
            return Ok(Outcome::NeedMore);
        };
        *input = &input[frame.len()..];
        let payload = &frame[frame::HEADER..];
        match header.kind {
            Kind::Headers => self.headers(header, payload, now, head),
            Kind::Continuation => self.continuation(header, payload, now, head),
            _ => self.control_frame(header, payload, now),
        }
    }

    fn preface<'a>(&mut self, input: &mut &'a [u8]) -> Result<Outcome<'a>, Fault> {
        let len = input.len().min(frame::PREFACE.len());
        if input[..len] != frame::PREFACE[..len] {
            return Err(Fault::Preface);
        }
        if len < frame::PREFACE.len() {
            return Ok(Outcome::NeedMore);
        }
        *input = &input[len..];
        self.opening = Opening::Settings;
        Ok(Outcome::Nothing)
    }

    /// What holds for all frames.
    fn check_order(&mut self, header: Header) -> Result<(), Fault> {
        if self.opening == Opening::Settings {
            if header.kind != Kind::Settings || header.has(frame::ACK) {
                return Err(Fault::Preface);
            }
            self.opening = Opening::Done;
        }
        if header.len > frame::MAX_PAYLOAD {
            return Err(Fault::FrameSize);
        }
        let continues = header.kind == Kind::Continuation;
        match &self.block {
            Some(block) if !continues || block.stream != header.stream => Err(Fault::Continuation),
            None if continues => Err(Fault::Continuation),
            _ => Ok(()),
        }
    }

    /// A DATA frame's beginning: everything is decided before its payload.
    fn data_begins<'a>(
        &mut self,
        header: Header,
        now: Instant,
        input: &mut &'a [u8],
    ) -> Result<Outcome<'a>, Fault> {
        let padded = header.has(frame::PADDED);
        let pad_len = match (padded, input.get(frame::HEADER)) {
            (false, _) => 0,
            (true, _) if header.len == 0 => return Err(Fault::FrameSize),
            (true, None) => return Ok(Outcome::NeedMore),
            (true, Some(pad_len)) => usize::from(*pad_len) + 1,
        };
        let Some(len) = header.len.checked_sub(pad_len) else {
            return Err(Fault::Padding);
        };
        *input = &input[frame::HEADER + usize::from(padded)..];
        self.count_data(header.len, now)?;
        let left = header.len - usize::from(padded);
        if header.stream == 0 || self.is_idle(header.stream) {
            return Err(Fault::FrameStream);
        }
        let end = header.has(frame::END_STREAM);
        if !end && len == 0 {
            self.spend(Flood::Idle, now)?;
        } else if !end && len < TINY {
            self.spend(Flood::TinyData, now)?;
        }
        if let Err(reason) = self.admit_data(header, len, now) {
            self.partial = Partial::Skip { left };
            return self.refuse_data(header.stream, reason, now);
        }
        let frame = DataFrame {
            stream: header.stream,
            left: len,
            padding: left - len,
            end,
        };
        Ok(self.data(now, frame, input))
    }

    /// Counts a whole frame against the connection's window.
    fn count_data(&mut self, len: usize, now: Instant) -> Result<(), Fault> {
        let len = u32::try_from(len).map_err(|_| Fault::FrameSize)?;
        self.receive_window -= i64::from(len);
        if self.receive_window < 0 {
            return Err(Fault::Window);
        }
        // Streams that are not read do not stop the others: the connection's
        // window is opened again at once, within a bound.
        self.credit = self.credit.saturating_add(len);
        self.announce_connection_credit(now);
        Ok(())
    }

    /// Whether a stream may have these bytes. None: it is one that we have
    /// reset, so that the peer is not at fault.
    fn admit_data(
        &mut self,
        header: Header,
        len: usize,
        now: Instant,
    ) -> Result<(), Option<ResetReason>> {
        let forgotten = self.is_forgotten(header.stream);
        let Some(stream) = self.streams.get_mut(header.stream) else {
            return Err((!forgotten).then_some(ResetReason::StreamClosed));
        };
        match stream.receiving {
            Receiving::Body => {}
            Receiving::Head => return Err(Some(ResetReason::Malformed)),
            Receiving::Done => return Err(Some(ResetReason::StreamClosed)),
        }
        stream.progress = now;
        stream.expects = false;
        stream.receive_window -= header.len as i64;
        if stream.receive_window < 0 {
            return Err(Some(ResetReason::FlowControl));
        }
        if let Some(remaining) = &mut stream.remaining {
            let left = remaining.checked_sub(len as u64);
            let ends_early = header.has(frame::END_STREAM) && left != Some(0);
            match left {
                Some(left) if !ends_early => *remaining = left,
                _ => return Err(Some(ResetReason::ContentLength)),
            }
        }
        // Padding is nobody's to consume.
        let padding = u32::try_from(header.len - len).unwrap_or(0);
        stream.credit = stream.credit.saturating_add(padding);
        Ok(())
    }

    fn refuse_data<'a>(
        &mut self,
        id: u32,
        reason: Option<ResetReason>,
        now: Instant,
    ) -> Result<Outcome<'a>, Fault> {
        match reason {
            None => Ok(Outcome::Nothing),
            Some(reason) => self.refuse_stream(id, reason, now),
        }
    }

    /// Resets a stream for the peer's mistake, which counts as if the peer had
    /// done it (CVE-2025-8671).
    pub(super) fn refuse_stream<'a>(
        &mut self,
        id: u32,
        reason: ResetReason,
        now: Instant,
    ) -> Result<Outcome<'a>, Fault> {
        if let Some(bound) = reason.bound() {
            self.limits.struck.count(bound);
        }
        self.spend(Flood::Resets, now)?;
        let known = self.streams.get(id).is_some();
        self.reset_stream(id, reason.code(), now);
        let stream = StreamId(id);
        Ok(if known {
            Outcome::Event(Event::Reset { stream, reason })
        } else {
            Outcome::Nothing
        })
    }

    fn skip<'a>(&mut self, left: usize, input: &mut &'a [u8]) -> Outcome<'a> {
        let n = left.min(input.len());
        *input = &input[n..];
        self.partial = match left - n {
            0 => Partial::None,
            left => Partial::Skip { left },
        };
        if self.partial == Partial::None {
            Outcome::Nothing
        } else {
            Outcome::NeedMore
        }
    }

    /// As much of a DATA frame's payload as there is.
    fn data<'a>(&mut self, now: Instant, frame: DataFrame, input: &mut &'a [u8]) -> Outcome<'a> {
        let n = frame.left.min(input.len());
        let left = frame.left - n;
        self.partial = match (left, frame.padding) {
            (0, 0) => Partial::None,
            (0, padding) => Partial::Skip { left: padding },
            _ => Partial::Data(DataFrame { left, ..frame }),
        };
        if n == 0 && left > 0 {
            return Outcome::NeedMore;
        }
        let (bytes, rest) = input.split_at(n);
        *input = rest;
        let (id, end) = (frame.stream, frame.end && left == 0);
        // It may have been reset in the middle of the frame.
        let Some(stream) = self.streams.get_mut(id) else {
            return Outcome::Nothing;
        };
        stream.unconsumed += n;
        stream.progress = now;
        self.unconsumed += n;
        if end {
            self.received_all(id, now);
        } else if n == 0 {
            self.announce_stream_credit(id);
            return Outcome::Nothing;
        }
        let stream = StreamId(id);
        Outcome::Event(Event::Data { stream, bytes, end })
    }

    /// The peer's message is over.
    pub(super) fn received_all(&mut self, id: u32, now: Instant) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        stream.receiving = Receiving::Done;
        if stream.is_over() {
            self.remove(id, now);
        }
    }

    /// The peer has reset a stream.
    pub(super) fn stream_was_reset<'a>(
        &mut self,
        id: u32,
        code: Code,
        now: Instant,
    ) -> Result<Outcome<'a>, Fault> {
        if id == 0 || self.is_idle(id) {
            return Err(Fault::FrameStream);
        }
        let Some(stream) = self.streams.get(id) else {
            self.spend(Flood::Idle, now)?;
            return Ok(Outcome::Nothing);
        };
        if self.role == Role::Server && stream.sending == Sending::Head {
            self.spend(Flood::Resets, now)?;
        }
        self.remove(id, now);
        let reason = match code {
            Code::RefusedStream => ResetReason::Refused,
            code => ResetReason::Peer(code),
        };
        let stream = StreamId(id);
        Ok(Outcome::Event(Event::Reset { stream, reason }))
    }
}
