//! An origin that answers anything.

use mesh_http::{
    event::{Event, Role, StreamId},
    fault::Code,
    head::Head,
};

use super::Message;
use crate::{
    choices::Choices,
    side::{Seen, Side, text},
};

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A client that asks for something plain, and an origin that says anything.
pub(super) fn try_input(down: bool, up: bool, head_only: bool, input: &[u8]) {
    let method = if head_only { "HEAD" } else { "GET" };
    let Ok(request) = Head::request(method, "web", "/") else {
        return;
    };
    let (mut client, mut server) = (Side::far(down, Role::Client), Side::new(down, Role::Server));
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
                    let head = text(&origin.head);
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
                    let trailers = text(&origin.head);
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
