//! A client that sends anything.

use std::collections::BTreeMap;

use mesh_http::{
    event::{Role, StreamId},
    fault::Code,
    head::Head,
};

use super::Message;
use crate::{
    choices::Choices,
    side::{Seen, Side},
};

/// Requests of one input that are passed on.
const MOST: usize = 64;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Requests from anybody, each to an origin of its own.
pub(super) fn try_input(down: bool, up: bool, input: &[u8]) {
    let mut server = Side::new(down, Role::Server);
    let mut passed: BTreeMap<StreamId, Passed> = BTreeMap::new();
    let mut whole = Vec::new();
    if down {
        server.rest.extend_from_slice(PREFACE);
    }
    let mut pieces = Choices::of(input).cut(input).into_iter();
    let mut open = true;
    while open {
        match pieces.next() {
            Some(piece) => server.rest.extend_from_slice(piece),
            None => {
                server.core.receive_eof(server.now);
                open = false;
            }
        }
        while let Some(seen) = server.next() {
            pass(&mut server, up, &seen, &mut passed);
            let over = over(&seen).filter(|stream| passed.contains_key(stream));
            if let Some(stream) = over {
                answer(&mut server, stream);
                whole.extend(passed.remove(&stream));
            }
            if passed.len() + whole.len() > MOST {
                return;
            }
        }
        server.take_all();
    }
    // The client is gone, and what it has begun with it.
    passed.values_mut().for_each(Passed::give_up);
    for passed in whole.iter().chain(passed.values()) {
        passed.went_in.came_out(&passed.came_out);
        if passed.went_in.whole && !passed.ended && !passed.went_in.tunnel {
            assert!(passed.came_out.whole, "{:?} is lost", passed.went_in);
        }
    }
}

fn over(seen: &Seen) -> Option<StreamId> {
    match seen {
        Seen::Head(stream, _, true) | Seen::Data(stream, _, true) | Seen::Trailers(stream, _) => {
            Some(*stream)
        }
        _ => None,
    }
}

fn answer(server: &mut Side, stream: StreamId) {
    if let Ok(answer) = Head::response(204) {
        let _ = server.core.send_head(server.now, stream, &answer, true);
        server.take_all();
    }
}

fn pass(server: &mut Side, up: bool, seen: &Seen, all: &mut BTreeMap<StreamId, Passed>) {
    match seen {
        Seen::Head(stream, _, end) => match Passed::open(up, server, seen, *end) {
            Some(passed) => {
                all.insert(*stream, passed);
            }
            None => server.core.reset(server.now, *stream, Code::Internal),
        },
        Seen::Data(stream, bytes, end) => {
            server.core.consume(server.now, *stream, bytes.len());
            if let Some(passed) = all.get_mut(stream) {
                passed.went_in.note(seen);
                passed.data(bytes, *end);
            }
        }
        Seen::Trailers(stream, _) => {
            if let Some(passed) = all.get_mut(stream) {
                passed.went_in.note(seen);
                let (now, stream) = (passed.up.now, passed.stream);
                let _ = passed.up.core.send_trailers(now, stream, &server.head);
                passed.carry();
            }
        }
        Seen::Reset(stream, _) => {
            if let Some(passed) = all.get_mut(stream) {
                passed.give_up();
            }
        }
        Seen::Closed(_) => all.values_mut().for_each(Passed::give_up),
        _ => {}
    }
}

/// One request on its way: our connection to an origin, and the origin's.
struct Passed {
    up: Side,
    stream: StreamId,
    origin: Side,
    went_in: Message,
    came_out: Message,
    /// Given up: what was sent must not look whole.
    ended: bool,
}

impl Passed {
    /// Opens what `from` has told, if it can be passed on.
    fn open(http2: bool, from: &Side, seen: &Seen, end: bool) -> Option<Self> {
        let (mut up, mut origin) = (
            Side::new(http2, Role::Client),
            Side::far(http2, Role::Server),
        );
        // What an extended CONNECT needs is in the origin's settings.
        up.rest.extend(origin.take_all());
        while up.next().is_some() {}
        let stream = up.core.open(up.now, &from.head, end).ok()?;
        let mut went_in = Message::default();
        went_in.note(seen);
        went_in.tunnel = from.head.is_connect() || from.head.upgrade().is_some();
        let came_out = Message::default();
        let mut passed = Self {
            up,
            stream,
            origin,
            went_in,
            came_out,
            ended: false,
        };
        passed.carry();
        Some(passed)
    }

    fn data(&mut self, bytes: &[u8], end: bool) {
        let (now, stream) = (self.up.now, self.stream);
        let mut rest = bytes;
        loop {
            let Ok(taken) = self.up.core.send_data(now, stream, rest, end) else {
                return;
            };
            rest = &rest[taken.bytes..];
            self.carry();
            if rest.is_empty() || taken.bytes == 0 {
                return;
            }
        }
    }

    /// Brings what was sent to the origin, and notes what it sees there.
    fn carry(&mut self) {
        loop {
            let bytes = self.up.take_all();
            let nothing = bytes.is_empty();
            self.origin.rest.extend(bytes);
            while let Some(seen) = self.origin.next() {
                if let Seen::Data(stream, bytes, _) = &seen {
                    self.origin
                        .core
                        .consume(self.origin.now, *stream, bytes.len());
                }
                assert!(
                    !matches!(seen, Seen::Closed(fault) if !fault.is_clean()),
                    "{seen:?}"
                );
                self.came_out.note(&seen);
            }
            self.up.rest.extend(self.origin.take_all());
            while self.up.next().is_some() {}
            if nothing && !self.up.core.wants_write() {
                return;
            }
        }
    }

    /// The message is not whole and never will be.
    fn give_up(&mut self) {
        self.ended = true;
        self.up.core.reset(self.up.now, self.stream, Code::Cancel);
        if !self.up.core.is_aborted() {
            self.carry();
        }
    }
}
