//! A proxy's two connections: what comes out of one is what went into the other,
//! whole or not at all. Never more messages, never a shorter or a longer body.

use std::collections::BTreeMap;

use mesh_http::{
    event::{Event, Role, StreamId},
    fault::Code,
    head::Head,
};

use crate::{
    choices::{Choices, bit, first},
    rules::same,
    side::{Seen, Side},
};

/// Requests of one input that are passed on.
const MOST: usize = 64;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A client that sends anything, or an origin that answers anything.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    let (options, input) = first(input);
    let (down, up) = (bit(options, 0), bit(options, 1));
    if bit(options, 2) {
        answers(down, up, bit(options, 3), input);
    } else {
        requests(down, up, input);
    }
}

/// A message as one connection told it.
#[derive(Clone, Debug, Default)]
struct Message {
    head: Option<String>,
    body: Vec<u8>,
    trailers: Option<String>,
    whole: bool,
    /// A byte stream without an end of its own.
    tunnel: bool,
    /// An answer that has no body in HTTP/1, whatever follows.
    bodiless: bool,
}

impl Message {
    fn note(&mut self, seen: &Seen) {
        match seen {
            Seen::Head(_, head, end) => {
                assert!(self.head.is_none(), "two heads");
                self.head = Some(head.clone());
                self.whole = *end;
            }
            Seen::Data(_, bytes, end) => {
                assert!(!self.whole, "data behind the end");
                self.body.extend_from_slice(bytes);
                self.whole = *end;
            }
            Seen::Trailers(_, trailers) => {
                assert!(!self.whole, "trailers behind the end");
                self.trailers = Some(trailers.clone());
                self.whole = true;
            }
            _ => {}
        }
    }

    /// What has come out is what went in, as far as it got.
    fn came_out(&self, out: &Self) {
        let (Some(sent), Some(head)) = (&self.head, &out.head) else {
            assert!(out.head.is_none(), "a message that nobody sent: {out:?}");
            return;
        };
        same(sent, head);
        assert!(
            self.body.starts_with(&out.body),
            "{self:?}\nbecame\n{out:?}"
        );
        if out.whole && !self.tunnel {
            // What is as long as it said is whole in HTTP/1, though in HTTP/2 its
            // end may still be missing, and more be sent that is refused.
            let length = if self.bodiless { Some(0) } else { length(sent) };
            let whole = self.whole || length == Some(out.body.len());
            assert!(whole, "what is not whole came out as if: {out:?}");
            assert!(self.body == out.body || !self.whole, "{sent}");
            let (trailers, there) = (self.trailers.as_ref(), out.trailers.as_ref());
            // They are dropped where there is no place for them.
            if let (Some(trailers), Some(there)) = (trailers, there) {
                same(trailers, there);
            }
            assert!(
                trailers.is_some() || there.is_none(),
                "trailers from nowhere"
            );
        }
    }
}

/// The length that a head declares.
fn length(head: &str) -> Option<usize> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
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
            Side::new(http2, Role::Server),
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

/// Requests from anybody, each to an origin of its own.
fn requests(down: bool, up: bool, input: &[u8]) {
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

/// A client that asks for something plain, and an origin that says anything.
fn answers(down: bool, up: bool, head_only: bool, input: &[u8]) {
    let method = if head_only { "HEAD" } else { "GET" };
    let Ok(request) = Head::request(method, "web", "/") else {
        return;
    };
    let (mut client, mut server) = (Side::new(down, Role::Client), Side::new(down, Role::Server));
    let mut origin = Side::new(up, Role::Client);
    let Ok(asked) = client.core.open(client.now, &request, true) else {
        return;
    };
    server.rest.extend(client.take_all());
    let Some(Seen::Head(stream, ..)) = server.next() else {
        panic!("a plain request is refused");
    };
    let Ok(_) = origin.core.open(origin.now, &request, true) else {
        return;
    };
    origin.take_all();
    if up {
        origin.rest.extend_from_slice(SETTINGS);
    }
    let went_in = Message {
        bodiless: head_only,
        ..Message::default()
    };
    let mut answer = Answer {
        client,
        server,
        stream,
        went_in,
        came_out: Message::default(),
    };
    for piece in Choices::of(input).cut(input) {
        origin.rest.extend_from_slice(piece);
        answer.pass(&mut origin);
    }
    origin.core.receive_eof(origin.now);
    answer.pass(&mut origin);
    if !answer.went_in.whole {
        answer.give_up();
    }
    answer.went_in.came_out(&answer.came_out);
    let lost = answer.went_in.whole && answer.went_in.head.is_some() && !answer.came_out.whole;
    assert!(!lost, "{:?} is lost, of stream {asked:?}", answer.went_in);
}

/// An answer on its way to the client.
struct Answer {
    client: Side,
    server: Side,
    stream: StreamId,
    went_in: Message,
    came_out: Message,
}

impl Answer {
    fn pass(&mut self, origin: &mut Side) {
        let rest = std::mem::take(&mut origin.rest);
        let (mut input, now) = (&rest[..], origin.now);
        while let Some(event) = origin.core.poll_event(now, &mut input, &mut origin.head) {
            let core = &mut self.server.core;
            match event {
                Event::Head { end, stream } => {
                    let head = crate::side::text(&origin.head);
                    self.went_in.note(&Seen::Head(stream, head, end));
                    let status = origin.head.status();
                    self.went_in.bodiless |= matches!(status, Some(204 | 304));
                    if core.send_head(now, self.stream, &origin.head, end).is_err() {
                        self.give_up();
                    }
                }
                Event::Informational { .. } => {
                    let _ = core.send_head(now, self.stream, &origin.head, false);
                }
                Event::Data { stream, bytes, end } => {
                    self.went_in.note(&Seen::Data(stream, bytes.to_vec(), end));
                    let sent = core.send_data(now, self.stream, bytes, end);
                    origin.core.consume(now, stream, bytes.len());
                    if sent.is_err() {
                        self.give_up();
                    }
                }
                Event::Trailers { stream } => {
                    let trailers = crate::side::text(&origin.head);
                    self.went_in.note(&Seen::Trailers(stream, trailers));
                    if core.send_trailers(now, self.stream, &origin.head).is_err() {
                        self.give_up();
                    }
                }
                Event::Reset { .. } | Event::Closed(_) if !self.went_in.whole => self.give_up(),
                _ => {}
            }
            self.carry();
        }
        origin.rest = input.to_vec();
        origin.take_all();
    }

    fn carry(&mut self) {
        for _ in 0..100 {
            let bytes = self.server.take_all();
            if bytes.is_empty() {
                return;
            }
            self.client.rest.extend(bytes);
            self.read();
            self.server.rest.extend(self.client.take_all());
            while self.server.next().is_some() {}
        }
    }

    fn read(&mut self) {
        while let Some(seen) = self.client.next() {
            if let Seen::Data(stream, bytes, _) = &seen {
                self.client
                    .core
                    .consume(self.client.now, *stream, bytes.len());
            }
            self.came_out.note(&seen);
        }
    }

    /// The answer is not whole and never will be: its connection is cut off.
    fn give_up(&mut self) {
        self.went_in.whole = false;
        self.server
            .core
            .reset(self.server.now, self.stream, Code::Internal);
        if !self.server.core.is_aborted() {
            self.carry();
        }
    }
}
