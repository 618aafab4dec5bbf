//! One connection, and anything that may come to it:
//!
//! - it says the same however the bytes are cut;
//! - after its end it says nothing more;
//! - what it leaves of its input is bounded, and so are its streams;
//! - whatever its driver does meanwhile, it ends once the peer has closed and its
//!   streams were given up.

use std::time::Duration;

use mesh_http::{
    event::{Role, StreamId},
    fault::{Code, Fault},
    head::Head,
    limits::Limits,
};

use crate::{
    choices::{Choices, bit, first},
    side::{Seen, Side, joined},
};

/// More than any head or frame, which is all that may have to come again.
const LEFT_OVER: usize = 256 * 1024;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

pub(crate) fn endure(http2: bool, input: &[u8]) {
    let (options, input) = first(input);
    let role = if bit(options, 0) {
        Role::Client
    } else {
        Role::Server
    };
    let mut bytes = Vec::new();
    if http2 && !bit(options, 1) {
        bytes.extend_from_slice(if bit(options, 0) { &[] } else { PREFACE });
        bytes.extend_from_slice(SETTINGS);
    }
    bytes.extend_from_slice(input);
    let mut choices = Choices::of(input);
    let new = || connection(http2, role, options);
    let whole = plainly(&mut new(), &[&bytes]);
    let pieces = plainly(&mut new(), &choices.cut(&bytes));
    // What comes behind an answer in one read is a reason not to believe it; what
    // comes later is not.
    if whole.last() != Some(&Seen::Closed(Fault::Excess)) {
        let [pieces, whole] = [pieces, whole].map(|seen| {
            let is_tunnels = !http2 && role == Role::Server;
            without_the_last(if is_tunnels {
                up_to_a_tunnel(seen)
            } else {
                seen
            })
        });
        assert_eq!(pieces, whole, "said in pieces, and as a whole");
    }
    wildly(&mut new(), &bytes, &mut choices);
}

/// A connection; as a client with requests under way.
fn connection(http2: bool, role: Role, options: u8) -> Side {
    let mut side = Side::new(http2, role);
    if role == Role::Server {
        return side;
    }
    let methods = ["GET", "HEAD", "POST", "CONNECT"];
    for n in 0..=(options >> 6) {
        let method = methods[usize::from((options >> 2).wrapping_add(n) % 4)];
        let Ok(mut head) = Head::request(method, "web:80", "/") else {
            continue;
        };
        if bit(options, 4) && method == "GET" {
            let _ = head.set_upgrade(Some(b"websocket"));
        }
        let _ = side.core.open(side.now, &head, method != "CONNECT");
    }
    side.take_all();
    side
}

/// What an application sees that answers what is whole and consumes everything.
fn plainly(side: &mut Side, pieces: &[&[u8]]) -> Vec<Seen> {
    let (mut all, mut closed) = (Vec::new(), false);
    for piece in pieces {
        side.rest.extend_from_slice(piece);
        while let Some(seen) = side.next() {
            assert!(!closed, "{seen:?} after the end");
            closed = matches!(seen, Seen::Closed(_));
            answer(side, &seen);
            all.push(seen);
        }
        check(side);
    }
    joined(all)
}

fn answer(side: &mut Side, seen: &Seen) {
    let over = match seen {
        Seen::Head(stream, _, true) | Seen::Trailers(stream, _) => Some(*stream),
        Seen::Data(stream, bytes, end) => {
            side.core.consume(side.now, *stream, bytes.len());
            end.then_some(*stream)
        }
        _ => None,
    };
    if let (Some(stream), Ok(answer)) = (over, Head::response(204)) {
        // The stream may have been reset by what came with it; a client has
        // nothing to answer.
        let _ = side.core.send_head(side.now, stream, &answer, true);
    }
    side.take_all();
}

/// Input that ends in a fault says as much of the message before it as has
/// come: pieces may say a little more, and another of two faults may come first.
fn without_the_last(mut all: Vec<Seen>) -> Vec<Seen> {
    if let Some(Seen::Closed(_)) = all.last() {
        all.pop();
        while matches!(all.last(), Some(Seen::Data(_, _, false))) {
            all.pop();
        }
        all.push(Seen::GoAway);
    }
    all
}

/// What comes behind a request for a tunnel is a reason to close the connection if
/// it is there before the answer, and a request if it comes later.
fn up_to_a_tunnel(mut all: Vec<Seen>) -> Vec<Seen> {
    let asks = |seen: &Seen| {
        let Seen::Head(_, text, _) = seen else {
            return false;
        };
        let line = text.lines().next().unwrap_or_default();
        let protocol = line.rsplit(' ').next().unwrap_or_default();
        line.starts_with("CONNECT ") || !protocol.is_empty()
    };
    if let Some(at) = all.iter().position(asks) {
        all.truncate(at + 1);
    }
    all
}

fn check(side: &Side) {
    let (core, limits) = (&side.core, Limits::default());
    assert!(core.streams() <= limits.streams as usize + 4, "streams");
    let left = side.rest.len();
    assert!(left <= LEFT_OVER || !core.wants_read(), "{left} bytes left");
}

/// Everything that a driver might do with what comes.
fn wildly(side: &mut Side, bytes: &[u8], choices: &mut Choices) {
    let (mut streams, mut closed) = (Vec::new(), false);
    for piece in choices.cut(bytes) {
        side.rest.extend_from_slice(piece);
        while let Some(seen) = side.next() {
            assert!(!closed, "{seen:?} after the end");
            closed = matches!(seen, Seen::Closed(_));
            act(side, &seen, &mut streams, choices);
        }
        check(side);
        side.take(choices.below(5000));
        side.now += Duration::from_millis(choices.below(2000) as u64);
        let due = side.core.next_deadline();
        if due.is_some_and(|due| due <= side.now) {
            side.core.on_deadline(side.now);
        }
        if choices.once_in(40) {
            side.core.shutdown(side.now);
        }
    }
    end(side, &streams);
}

fn act(side: &mut Side, seen: &Seen, streams: &mut Vec<StreamId>, choices: &mut Choices) {
    let (now, core) = (side.now, &mut side.core);
    match seen {
        Seen::Head(stream, ..) => {
            streams.push(*stream);
            let status = [200, 204, 304, 103, 101, 404][choices.below(6)];
            if let Ok(answer) = Head::response(status) {
                let _ = core.send_head(now, *stream, &answer, choices.once_in(3));
            }
            let _ = core.send_data(now, *stream, &[b'x'; 999], choices.once_in(2));
            if choices.once_in(3) {
                let _ = core.send_trailers(now, *stream, &Head::new());
            }
        }
        Seen::Data(stream, bytes, _) => {
            if !choices.once_in(4) {
                core.consume(now, *stream, bytes.len());
            }
            if choices.once_in(50) {
                core.reset(now, *stream, Code::Cancel);
            }
            if choices.once_in(10) {
                core.grow_queue(*stream, 100_000);
                core.grow_window(*stream, 100_000);
            }
        }
        Seen::Pong(_) => core.ping(choices.below(9) as u64),
        _ => {}
    }
}

/// The peer closes, and its streams are given up: nothing may be left.
fn end(side: &mut Side, streams: &[StreamId]) {
    side.core.receive_eof(side.now);
    while side.next().is_some() {}
    side.core.shutdown(side.now);
    for stream in streams {
        side.core.reset(side.now, *stream, Code::Cancel);
    }
    for _ in 0..8 {
        while side.next().is_some() {}
        side.take_all();
        if side.core.is_over() {
            assert_eq!(
                side.core.streams(),
                0,
                "streams of a connection that is over"
            );
            return;
        }
        side.now = side.core.next_deadline().unwrap_or(side.now);
        side.core.on_deadline(side.now);
    }
    panic!("the connection does not end: {:?}", side.core);
}
