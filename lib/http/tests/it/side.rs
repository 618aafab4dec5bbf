//! A connection as a driver has it: with the input that is left over.

use std::{sync::Arc, time::Instant};

use mesh_http::{
    connection::Connection,
    event::{Event, Role, StreamId},
    fault::{Fault, ResetReason},
    head::Head,
    limits::Limits,
};
use rand::{RngExt as _, rngs::StdRng};

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
    pub(crate) fn new(http2: bool, role: Role, limits: Limits) -> Self {
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

    pub(crate) fn server(http2: bool) -> Self {
        Self::new(http2, Role::Server, Limits::default())
    }

    /// Passes bytes in, and tells what comes of them.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Seen> {
        let mut all = Vec::new();
        self.rest.extend_from_slice(bytes);
        while let Some(seen) = self.next() {
            all.push(seen);
        }
        all
    }

    /// The next event of what was passed in.
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
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let first = match head.status() {
        Some(status) => status.to_string(),
        None => format!(
            "{} {} {} {} {}",
            lossy(head.method()),
            lossy(head.scheme().unwrap_or_default()),
            lossy(head.authority().unwrap_or_default()),
            lossy(head.path()),
            lossy(
                head.protocol()
                    .or_else(|| head.upgrade())
                    .unwrap_or_default()
            ),
        ),
    };
    let fields = head
        .fields()
        .map(|(name, value)| format!("\n{}: {}", lossy(name), lossy(value)));
    first + &fields.collect::<String>()
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

pub(crate) fn token(random: &mut StdRng, most: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-_";
    let len = random.random_range(1..=most);
    let letter = |_| char::from(LETTERS[random.random_range(0..LETTERS.len())]);
    (0..len).map(letter).collect()
}

pub(crate) fn body(random: &mut StdRng, most: usize) -> Vec<u8> {
    let len = match random.random_range(0..4) {
        0 => 0,
        1 => random.random_range(0..40),
        2 => random.random_range(0..5000.min(most)),
        _ => random.random_range(0..most),
    };
    (0..len).map(|_| random.random()).collect()
}
