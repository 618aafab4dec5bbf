//! A connection as a driver has it: with the input that is left over.

use std::{sync::Arc, time::Instant};

use mesh_http::{
    connection::Connection,
    event::{Event, Role, StreamId},
    fault::{Fault, ResetReason},
    head::Head,
    limits::Limits,
};

/// An event that owns what it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Head(StreamId, String, bool),
    Informational(StreamId, String),
    Data(StreamId, Vec<u8>, bool),
    Trailers(StreamId, String),
    Reset(StreamId, ResetReason),
    Sent(StreamId, usize),
    Pong(u64),
    GoAway,
    Closed(Fault),
}

pub(crate) struct Side {
    pub(crate) core: Connection,
    pub(crate) rest: Vec<u8>,
    /// The head of the last event that had one.
    pub(crate) head: Head,
    pub(crate) now: Instant,
}

impl Side {
    pub(crate) fn new(http2: bool, role: Role) -> Self {
        Self::with_limits(http2, role, Limits::default())
    }

    /// Who is told what [`Side::new`] has taken, with what HTTP/1 says in fields of its
    /// own: whom it is for, and how long it is.
    pub(crate) fn far(http2: bool, role: Role) -> Self {
        let usual = Limits::default();
        let head_lines = usual.head_lines + 2;
        Self::with_limits(
            http2,
            role,
            Limits {
                head_lines,
                ..usual
            },
        )
    }

    fn with_limits(http2: bool, role: Role, limits: Limits) -> Self {
        let (now, limits) = (Instant::now(), Arc::new(limits));
        let core = if http2 {
            Connection::http2(role, limits, now)
        } else {
            Connection::http1(role, limits, now)
        };
        Self {
            core,
            rest: Vec::new(),
            head: Head::new(),
            now,
        }
    }

    /// The next event of what has come.
    pub(crate) fn next(&mut self) -> Option<Seen> {
        let mut input = &self.rest[..];
        let event = self.core.poll_event(self.now, &mut input, &mut self.head);
        let seen = event.map(|event| owned(event, &self.head));
        let used = self.rest.len() - input.len();
        self.rest.drain(..used);
        seen
    }

    /// Takes up to `most` bytes of output.
    pub(crate) fn take(&mut self, most: usize) -> Vec<u8> {
        let output = self.core.output(self.now);
        let taken = output[..output.len().min(most)].to_vec();
        self.core.wrote(taken.len(), self.now);
        taken
    }

    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while self.core.wants_write() {
            all.extend(self.take(usize::MAX));
        }
        all
    }
}

fn owned(event: Event<'_>, head: &Head) -> Seen {
    match event {
        Event::Head { stream, end } => Seen::Head(stream, text(head), end),
        Event::Informational { stream } => Seen::Informational(stream, text(head)),
        Event::Data { stream, bytes, end } => Seen::Data(stream, bytes.to_vec(), end),
        Event::Trailers { stream } => Seen::Trailers(stream, text(head)),
        Event::Reset { stream, reason } => Seen::Reset(stream, reason),
        Event::Sent { stream, bytes } => Seen::Sent(stream, bytes),
        Event::Pong { payload } => Seen::Pong(payload),
        Event::GoAway { .. } => Seen::GoAway,
        Event::Closed(fault) => Seen::Closed(fault),
    }
}

/// A head as text, all of it.
pub(crate) fn text(head: &Head) -> String {
    let mut text = match head.status() {
        Some(status) => status.to_string(),
        None => {
            let protocol = head.protocol().or_else(|| head.upgrade());
            let parts = [
                head.method(),
                head.scheme().unwrap_or_default(),
                head.authority().unwrap_or_default(),
                head.path(),
                protocol.unwrap_or_default(),
            ];
            parts.map(|part| part.escape_ascii().to_string()).join(" ")
        }
    };
    for (name, value) in head.fields() {
        let line = format!("\n{}: {}", name.escape_ascii(), value.escape_ascii());
        text.push_str(&line);
    }
    text
}

/// Joins neighbouring data, so that only what was said is compared, and not in
/// which pieces.
pub(crate) fn joined(all: Vec<Seen>) -> Vec<Seen> {
    let mut joined: Vec<Seen> = Vec::new();
    for seen in all {
        match (joined.last_mut(), seen) {
            (Some(Seen::Data(stream, bytes, end)), Seen::Data(same, more, ends))
                if *stream == same && !*end =>
            {
                bytes.extend(more);
                *end = ends;
            }
            (_, Seen::Data(_, bytes, false)) if bytes.is_empty() => {}
            (_, seen) => joined.push(seen),
        }
    }
    joined
}
