mod limits;

use std::time::Duration;

use super::{
    frame::{self, Header, Kind},
    hpack::encode,
    *,
};

use crate::fault::Misuse;

/// What a test looks at of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Head(u32, bool),
    Info(u32),
    Data(u32, usize, bool),
    Trailers(u32),
    Reset(u32, ResetReason),
    Sent(u32, usize),
    Pong(u64),
    GoAway(Code),
    Closed(Fault),
}

/// A connection, and frames made by hand.
struct Peer {
    core: Connection,
    head: Head,
    now: Instant,
    rest: Vec<u8>,
}

impl Peer {
    fn new(role: Role, limits: Limits) -> Self {
        let now = Instant::now();
        let mut peer = Self {
            core: Connection::new(role, Arc::new(limits), now),
            head: Head::new(),
            now,
            rest: Vec::new(),
        };
        if role == Role::Server {
            peer.rest.extend_from_slice(frame::PREFACE);
        }
        assert_eq!(peer.feed(settings(&[])), []);
        assert_eq!(peer.feed(frame(Kind::Settings, frame::ACK, 0, &[])), []);
        peer.written();
        peer
    }

    fn server() -> Self {
        Self::new(Role::Server, Limits::default())
    }

    /// A client with so many requests under way.
    fn client(requests: usize) -> Self {
        let mut peer = Self::new(Role::Client, Limits::default());
        let head = Head::request("GET", "web", "/").unwrap();
        for _ in 0..requests {
            peer.core.open(peer.now, &head, true).unwrap();
        }
        peer.written();
        peer
    }

    fn feed(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Seen> {
        self.rest.extend_from_slice(bytes.as_ref());
        let rest = std::mem::take(&mut self.rest);
        let mut input = &rest[..];
        let mut seen = Vec::new();
        while let Some(event) = self.core.poll_event(self.now, &mut input, &mut self.head) {
            seen.push(match event {
                Event::Head { stream, end } => Seen::Head(stream.0, end),
                Event::Informational { stream } => Seen::Info(stream.0),
                Event::Data { stream, bytes, end } => Seen::Data(stream.0, bytes.len(), end),
                Event::Trailers { stream } => Seen::Trailers(stream.0),
                Event::Reset { stream, reason } => Seen::Reset(stream.0, reason),
                Event::Sent { stream, bytes } => Seen::Sent(stream.0, bytes),
                Event::Pong { payload } => Seen::Pong(payload),
                Event::GoAway { code } => Seen::GoAway(code),
                Event::Closed(fault) => Seen::Closed(fault),
            });
        }
        self.rest = input.to_vec();
        seen
    }

    /// The frames that were written: type, flags, stream, payload.
    fn written(&mut self) -> Vec<(Kind, u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while self.core.wants_write() {
            let bytes = self.core.output(self.now).to_vec();
            self.core.wrote(bytes.len(), self.now);
            let mut rest = bytes.strip_prefix(frame::PREFACE).unwrap_or(&bytes);
            while let Some(header) = Header::read(rest) {
                let payload = rest[9..9 + header.len].to_vec();
                frames.push((header.kind, header.flags, header.stream, payload));
                rest = &rest[9 + header.len..];
            }
        }
        frames
    }

    fn answer(&mut self, stream: u32, end: bool) -> Result<(), Misuse> {
        let head = Head::response(200).unwrap();
        self.core.send_head(self.now, StreamId(stream), &head, end)
    }

    fn send(&mut self, stream: u32, bytes: usize, end: bool) -> crate::event::Taken {
        let data = vec![b'x'; bytes];
        self.core
            .send_data(self.now, StreamId(stream), &data, end)
            .unwrap()
    }
}

fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::header(payload.len(), kind, flags, stream, &mut out);
    [&out[..], payload].concat()
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::settings(settings, &mut out);
    out
}

fn window(stream: u32, increment: u32) -> Vec<u8> {
    let mut out = Vec::new();
    frame::window_update(stream, increment, &mut out);
    out
}

fn rst(stream: u32) -> Vec<u8> {
    let mut out = Vec::new();
    frame::rst_stream(stream, Code::Cancel, &mut out);
    out
}

fn block(head: &Head) -> Vec<u8> {
    let mut out = Vec::new();
    encode::head(head, &mut out);
    out
}

const END: u8 = frame::END_STREAM;
const WHOLE: u8 = frame::END_HEADERS;

fn get(stream: u32, flags: u8) -> Vec<u8> {
    let head = Head::request("GET", "web", "/").unwrap();
    frame(Kind::Headers, flags | WHOLE, stream, &block(&head))
}

fn post(stream: u32, length: &str) -> Vec<u8> {
    let mut head = Head::request("POST", "web", "/").unwrap();
    head.push(b"content-length", length.as_bytes()).unwrap();
    frame(Kind::Headers, WHOLE, stream, &block(&head))
}

fn ok(stream: u32, flags: u8) -> Vec<u8> {
    frame(
        Kind::Headers,
        flags | WHOLE,
        stream,
        &block(&Head::response(200).unwrap()),
    )
}

fn data(stream: u32, flags: u8, len: usize) -> Vec<u8> {
    frame(Kind::Data, flags, stream, &vec![b'x'; len])
}

fn reset(stream: u32, code: Code) -> (Kind, u8, u32, Vec<u8>) {
    (
        Kind::RstStream,
        0,
        stream,
        code.to_wire().to_be_bytes().to_vec(),
    )
}

#[test]
fn a_request_and_its_answer() {
    let mut server = Peer::server();
    assert_eq!(server.feed(get(1, END)), [Seen::Head(1, true)]);
    assert_eq!(server.head.authority(), Some(&b"web"[..]));
    server.answer(1, false).unwrap();
    server.send(1, 5, true);
    let frames = server.written();
    let kinds: Vec<_> = frames
        .iter()
        .map(|(kind, flags, ..)| (*kind, *flags))
        .collect();
    assert_eq!(kinds, [(Kind::Headers, WHOLE), (Kind::Data, END)]);
    assert_eq!(server.core.streams(), 0);
}

#[test]
fn a_connection_begins_with_its_preface() {
    let limits = Arc::new(Limits::default());
    let mut client = Connection::new(Role::Client, limits.clone(), Instant::now());
    let head = Head::request("GET", "web", "/").unwrap();
    client.open(Instant::now(), &head, true).unwrap();
    let bytes = client.output(Instant::now()).to_vec();
    assert!(bytes.starts_with(frame::PREFACE));
    assert_eq!(Header::read(&bytes[24..]).unwrap().kind, Kind::Settings);
    for bad in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\nX"] {
        let (mut server, mut input) = (
            Connection::new(Role::Server, limits.clone(), Instant::now()),
            bad,
        );
        let event = server.poll_event(Instant::now(), &mut input, &mut Head::new());
        assert_eq!(event, Some(Event::Closed(Fault::Preface)));
    }
}

#[test]
fn trailers_and_1xx() {
    let mut client = Peer::client(1);
    let hints = block(&Head::response(103).unwrap());
    assert_eq!(
        client.feed(frame(Kind::Headers, WHOLE, 1, &hints)),
        [Seen::Info(1)]
    );
    assert_eq!(client.feed(ok(1, 0)), [Seen::Head(1, false)]);
    assert_eq!(client.feed(data(1, 0, 20)), [Seen::Data(1, 20, false)]);
    let mut trailers = Head::new();
    trailers.push(b"grpc-status", b"0").unwrap();
    let trailers = frame(Kind::Headers, WHOLE | END, 1, &block(&trailers));
    assert_eq!(client.feed(trailers), [Seen::Trailers(1)]);
    assert_eq!(client.head.get(b"grpc-status"), Some(&b"0"[..]));
    assert_eq!(client.core.streams(), 0);
}

#[test]
fn padding_is_taken_off_and_given_back() {
    let mut server = Peer::server();
    server.feed(get(1, 0));
    let mut padded = vec![9];
    padded.extend_from_slice(&[b'x'; 20]);
    padded.extend_from_slice(&[0; 9]);
    let seen = server.feed(frame(Kind::Data, frame::PADDED | END, 1, &padded));
    assert_eq!(seen, [Seen::Data(1, 20, true)]);
    let bad = frame(Kind::Data, frame::PADDED, 1, &[9, 0]);
    assert_eq!(server.feed(bad), [Seen::Closed(Fault::Padding)]);
}

/// What ends the connection, and with which code.
#[test]
fn faults_of_the_connection() {
    let long = vec![0; 16_385];
    let cases: Vec<(Vec<u8>, Fault, Code)> = vec![
        (
            frame(Kind::Data, 0, 0, b"x"),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (
            frame(Kind::Data, 0, 5, b"x"),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (
            frame(Kind::Headers, WHOLE, 0, &[]),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (get(2, END), Fault::StreamId, Code::Protocol),
        (
            frame(Kind::RstStream, 0, 0, &[0; 4]),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (
            frame(Kind::RstStream, 0, 7, &[0; 4]),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (
            frame(Kind::RstStream, 0, 1, &[0; 3]),
            Fault::FrameSize,
            Code::FrameSize,
        ),
        (
            frame(Kind::Settings, 0, 1, &[]),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (
            frame(Kind::Settings, 0, 0, &[0; 5]),
            Fault::FrameSize,
            Code::FrameSize,
        ),
        (
            frame(Kind::Settings, frame::ACK, 0, &[0; 6]),
            Fault::FrameSize,
            Code::FrameSize,
        ),
        (settings(&[(2, 2)]), Fault::Setting, Code::Protocol),
        (settings(&[(4, 1 << 31)]), Fault::Window, Code::FlowControl),
        (settings(&[(5, 16_383)]), Fault::Setting, Code::Protocol),
        (settings(&[(5, 1 << 24)]), Fault::Setting, Code::Protocol),
        (settings(&[(8, 2)]), Fault::Setting, Code::Protocol),
        (
            frame(Kind::Ping, 0, 1, &[0; 8]),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (
            frame(Kind::Ping, 0, 0, &[0; 7]),
            Fault::FrameSize,
            Code::FrameSize,
        ),
        (
            frame(Kind::GoAway, 0, 1, &[0; 8]),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (
            frame(Kind::GoAway, 0, 0, &[0; 7]),
            Fault::FrameSize,
            Code::FrameSize,
        ),
        (
            frame(Kind::PushPromise, WHOLE, 1, &[0; 8]),
            Fault::Push,
            Code::Protocol,
        ),
        (
            frame(Kind::Priority, 0, 0, &[0; 5]),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (
            frame(Kind::Priority, 0, 9, &[0; 4]),
            Fault::FrameSize,
            Code::FrameSize,
        ),
        (
            frame(Kind::Priority, 0, 9, &[0, 0, 0, 9, 0]),
            Fault::FrameStream,
            Code::Protocol,
        ),
        (window(0, 0), Fault::Increment, Code::Protocol),
        (window(9, 1), Fault::FrameStream, Code::Protocol),
        (window(0, (1 << 31) - 1), Fault::Window, Code::FlowControl),
        (
            frame(Kind::Data, 0, 1, &long),
            Fault::FrameSize,
            Code::FrameSize,
        ),
        (
            frame(Kind::Continuation, WHOLE, 1, &[]),
            Fault::Continuation,
            Code::Protocol,
        ),
        (
            frame(Kind::Headers, WHOLE, 3, &[0x80]),
            Fault::Compression,
            Code::Compression,
        ),
        (
            [frame(Kind::Headers, 0, 3, &[]), data(1, 0, 1)].concat(),
            Fault::Continuation,
            Code::Protocol,
        ),
        (
            [
                frame(Kind::Headers, 0, 3, &[]),
                frame(Kind::Continuation, 0, 5, &[]),
            ]
            .concat(),
            Fault::Continuation,
            Code::Protocol,
        ),
    ];
    for (bytes, fault, code) in cases {
        let mut server = Peer::server();
        server.feed(get(1, 0));
        assert_eq!(server.feed(&bytes), [Seen::Closed(fault)], "{bytes:?}");
        let (kind, _, _, payload) = server.written().pop().unwrap();
        assert_eq!(
            (kind, &payload[4..]),
            (Kind::GoAway, &code.to_wire().to_be_bytes()[..])
        );
        assert!(server.core.wants_shutdown());
        assert_eq!(server.feed(get(3, END)), []);
    }
}

#[test]
fn h16_mistakes_of_a_stream_end_the_stream_alone() {
    let empty = |stream, flags| frame(Kind::Headers, flags | WHOLE, stream, &[]);
    let cases: Vec<(Vec<u8>, ResetReason, Code)> = vec![
        (window(1, 0), ResetReason::Malformed, Code::Protocol),
        (
            window(1, (1 << 31) - 1),
            ResetReason::FlowControl,
            Code::FlowControl,
        ),
        (data(1, END, 4), ResetReason::ContentLength, Code::Protocol),
        (data(1, 0, 6), ResetReason::ContentLength, Code::Protocol),
        (empty(1, END), ResetReason::ContentLength, Code::Protocol),
        (empty(1, 0), ResetReason::Malformed, Code::Protocol),
        (get(1, END), ResetReason::Malformed, Code::Protocol),
    ];
    for (bytes, reason, code) in cases {
        let mut server = Peer::server();
        server.feed(post(1, "5"));
        assert_eq!(server.feed(&bytes), [Seen::Reset(1, reason)], "{bytes:?}");
        assert_eq!(server.written().last(), Some(&reset(1, code)));
        assert_eq!(server.feed(get(3, END)), [Seen::Head(3, true)]);
        assert_eq!(server.core.streams(), 1);
    }
}

#[test]
fn h16_requests_that_are_none_are_never_seen() {
    let mut server = Peer::server();
    for (stream, length, flags) in [(1, "5", END), (3, "x", 0)] {
        let mut fields = block(&Head::request("POST", "web", "/").unwrap());
        fields.extend_from_slice(b"\x0f\x0d\x01");
        fields.extend_from_slice(length.as_bytes());
        assert_eq!(
            server.feed(frame(Kind::Headers, WHOLE | flags, stream, &fields)),
            []
        );
        assert_eq!(server.written(), [reset(stream, Code::Protocol)]);
    }
    // What follows on them was under way.
    assert_eq!(server.feed(data(3, END, 1)), []);
}

#[test]
fn frames_on_a_stream_that_is_over() {
    let mut server = Peer::server();
    server.feed(get(1, END));
    assert_eq!(
        server.feed(data(1, 0, 20)),
        [Seen::Reset(1, ResetReason::StreamClosed)]
    );
    server.feed(get(3, END));
    server.answer(3, true).unwrap();
    server.written();
    assert_eq!(server.feed([rst(3), window(3, 1)].concat()), []);
    assert_eq!(server.feed(data(3, 0, 20)), []);
    assert_eq!(server.written(), [reset(3, Code::StreamClosed)]);
    server.feed(get(5, END));
    server.answer(5, true).unwrap();
    assert_eq!(
        server.feed(get(5, END)),
        [Seen::Closed(Fault::StreamClosed)]
    );
}

#[test]
fn h10_an_early_answer_ends_the_request() {
    let mut server = Peer::server();
    server.feed(post(1, "50"));
    server.answer(1, true).unwrap();
    assert_eq!(server.written().last(), Some(&reset(1, Code::NoError)));
    let late = [
        data(1, 0, 40),
        window(1, 9),
        data(1, END, 10),
        rst(1),
        get(3, END),
    ]
    .concat();
    assert_eq!(server.feed(late), [Seen::Head(3, true)]);
}

#[test]
fn h9_a_head_that_is_too_large_is_431() {
    let mut head = Head::request("GET", "web", "/").unwrap();
    for _ in 0..101 {
        head.push(b"x", b"y").unwrap();
    }
    let mut server = Peer::server();
    assert_eq!(
        server.feed(frame(Kind::Headers, WHOLE | END, 1, &block(&head))),
        []
    );
    let answer = server.written();
    assert_eq!(answer.len(), 1);
    assert!(answer[0].3.ends_with(b"431"), "{answer:?}");
    assert_eq!(server.feed(get(3, END)), [Seen::Head(3, true)]);
}

#[test]
fn a_large_head_goes_in_several_frames_and_comes_back_as_one() {
    let mut head = Head::request("GET", "web", "/").unwrap();
    head.push(b"x", &[b'y'; 50_000]).unwrap();
    let mut client = Peer::new(Role::Client, Limits::default());
    client.core.open(client.now, &head, true).unwrap();
    let bytes = client.core.output(client.now).to_vec();
    let mut server = Peer::server();
    assert_eq!(server.feed(&bytes), [Seen::Head(1, true)]);
    assert_eq!(server.head.get(b"x").unwrap().len(), 50_000);
}

#[test]
fn h13_rapid_reset() {
    let mut server = Peer::server();
    let mut refused = None;
    for round in 0..2000 {
        let stream = 2 * round + 1;
        let seen = server.feed([get(stream, END), rst(stream)].concat());
        assert!(server.core.streams() <= 1);
        if let Some(Seen::Closed(fault)) = seen.last() {
            refused = Some((round, *fault));
            break;
        }
    }
    assert_eq!(refused, Some((1000, Fault::Flood(Flood::Resets))));
    let (kind, _, _, payload) = server.written().pop().unwrap();
    assert_eq!((kind, payload[7]), (Kind::GoAway, 11));
}

/// A stream, and what makes the server reset it.
type Primitive = fn(u32) -> Vec<u8>;

#[test]
fn h13_made_you_reset() {
    let primitives: [Primitive; 6] = [
        |stream| [get(stream, 0), window(stream, 0)].concat(),
        |stream| [get(stream, 0), window(stream, (1 << 31) - 1)].concat(),
        |stream| [get(stream, END), data(stream, 0, 20)].concat(),
        |stream| {
            [
                get(stream, END),
                frame(Kind::Headers, WHOLE | END, stream, &[]),
            ]
            .concat()
        },
        |stream| [post(stream, "5"), data(stream, END, 20)].concat(),
        |stream| frame(Kind::Headers, WHOLE | END, stream, &[0x82]),
    ];
    for (index, primitive) in primitives.into_iter().enumerate() {
        let mut server = Peer::server();
        let closed = (0..2000).find(|round| {
            let seen = server.feed(primitive(2 * round + 1));
            assert!(server.core.streams() <= 1);
            seen.contains(&Seen::Closed(Fault::Flood(Flood::Resets)))
        });
        assert_eq!(closed, Some(1000), "primitive {index}");
    }
}

#[test]
fn h13_a_client_that_leaves_with_its_streams_ends_nothing() {
    let mut server = Peer::server();
    for wave in 0..20 {
        for stream in 0..256 {
            server.feed(get(wave * 512 + 2 * stream + 1, END));
        }
        for stream in 0..256 {
            let seen = server.feed(rst(wave * 512 + 2 * stream + 1));
            assert!(matches!(seen[..], [Seen::Reset(..)]), "{seen:?}");
        }
        server.now += Duration::from_secs(3);
    }
}

#[test]
fn h13_more_streams_than_allowed_are_refused() {
    let mut server = Peer::server();
    for stream in 0..256 {
        assert_eq!(server.feed(get(2 * stream + 1, END)).len(), 1);
    }
    server.written();
    assert_eq!(server.feed(get(513, END)), []);
    assert_eq!(server.written(), [reset(513, Code::RefusedStream)]);
}

#[test]
fn h14_floods_of_small_frames() {
    let unknown = frame(Kind::Unknown, 0, 0, &[]);
    let floods: [(Vec<u8>, Flood, usize); 8] = [
        (settings(&[]), Flood::Control, 1000),
        (frame(Kind::Ping, 0, 0, &[0; 8]), Flood::Control, 1000),
        (
            frame(Kind::Ping, frame::ACK, 0, &[0; 8]),
            Flood::Control,
            1000,
        ),
        (
            frame(Kind::Priority, 0, 1, &[0, 0, 0, 3, 0]),
            Flood::Idle,
            10_000,
        ),
        (window(0, 1), Flood::Idle, 10_000),
        (data(1, 0, 0), Flood::Idle, 10_000),
        (unknown, Flood::Idle, 10_000),
        (data(1, 0, 1), Flood::TinyData, 100_000),
    ];
    for (frame, flood, burst) in floods {
        let mut server = Peer::server();
        server.feed(get(1, 0));
        let (mut closed, mut written) = (None, 0);
        for count in 0..200_000 {
            let seen = server.feed(&frame);
            server.core.consume(server.now, StreamId(1), 1);
            written += server
                .written()
                .iter()
                .map(|f| 9 + f.3.len())
                .sum::<usize>();
            if let Some(Seen::Closed(fault)) = seen.last() {
                closed = Some((count, *fault));
                break;
            }
        }
        let (count, fault) = closed.unwrap();
        assert_eq!(fault, Fault::Flood(flood), "{frame:?}");
        assert!(count <= burst, "{count}");
        assert!(written <= 2 * count * frame.len() + 100, "{written}");
    }
}

#[test]
fn h14_continuation_flood() {
    for piece in [0, 1, 16_000] {
        let mut server = Peer::server();
        server.feed(frame(Kind::Headers, 0, 1, &[]));
        let more = frame(Kind::Continuation, 0, 1, &vec![0x82; piece]);
        let closed = (0..100).find(|_| {
            let seen = server.feed(&more);
            let bytes = server
                .core
                .block
                .as_ref()
                .map_or(0, |block| block.bytes.len());
            assert!(bytes <= 2 * Limits::default().head_bytes);
            seen == [Seen::Closed(Fault::Flood(Flood::HeaderBlock))]
        });
        assert!(closed.unwrap() <= 32);
    }
}

#[test]
fn h14_small_blocks_that_become_large_have_a_rate() {
    let mut server = Peer::server();
    let field = |index: u8| {
        let mut block = block(&Head::request("GET", "web", "/").unwrap());
        block.extend([index; 15]);
        block
    };
    // An entry of 4,000 bytes, then requests that name it 15 times.
    let mut first = block(&Head::request("GET", "web", "/").unwrap());
    first.extend_from_slice(b"\x40\x01k\x7f\xa1\x1e");
    first.extend_from_slice(&[b'x'; 4000]);
    assert_eq!(
        server.feed(frame(Kind::Headers, WHOLE | END, 1, &first)),
        [Seen::Head(1, true)]
    );
    server.answer(1, true).unwrap();
    let mut closed = None;
    for round in 1..2000 {
        let stream = 2 * round + 1;
        let seen = server.feed(frame(Kind::Headers, WHOLE | END, stream, &field(0xbe)));
        if seen == [Seen::Closed(Fault::Flood(Flood::Expansion))] {
            closed = Some(round);
            break;
        }
        server.answer(stream, true).unwrap();
        server.written();
    }
    assert!(closed.unwrap() < 600, "{closed:?}");
}

#[test]
fn h14_a_client_that_reads_no_answers_gets_no_more() {
    let mut server = Peer::server();
    let mut stream = 1;
    while server.core.wants_read() {
        for seen in server.feed(get(stream, END)) {
            assert_eq!(seen, Seen::Head(stream, true));
            server.answer(stream, true).unwrap();
        }
        stream += 2;
        assert!(server.core.output.len() < 300 * 1024);
    }
    server.written();
    assert!(server.core.wants_read());
    assert_eq!(server.feed("").len(), 1);
}

#[test]
fn h15_who_takes_much_at_once_may_be_sent_more() {
    let mut server = Peer::server();
    server.feed(settings(&[(4, 1 << 20)]));
    server.feed(window(0, 1 << 20));
    server.feed(get(1, END));
    server.answer(1, false).unwrap();
    server.written();
    for (waits, direct) in [(false, 64), (true, 256), (false, 64)] {
        server.core.reclaim();
        server.core.lend(|| Vec::with_capacity(1));
        let taken = server.send(1, 400 * 1024, false);
        assert_eq!(taken.queued, 64 * 1024, "as before");
        assert_eq!(taken.bytes, (direct + 64) * 1024);
        if waits {
            server.core.waits();
        }
        server.written();
    }
    // What waits in the stream is gathered in pieces as large.
    server.core.grow_queue(StreamId(1), 1 << 20);
    server.feed(window(0, 1 << 20));
    server.feed(window(1, 1 << 20));
    server.core.reclaim();
    server.core.lend(|| Vec::with_capacity(1));
    server.send(1, 700 * 1024, false);
    for _ in 0..2 {
        let output = server.core.output(server.now).len();
        assert!((256 << 10..273 << 10).contains(&output), "{output}");
        server.core.wrote(output, server.now);
    }
}

#[test]
fn h15_windows_hold_data_back_and_updates_let_it_go() {
    let mut server = Peer::server();
    server.feed(settings(&[(4, 100)]));
    server.feed(get(1, END));
    server.answer(1, false).unwrap();
    server.written();
    let taken = server.send(1, 1000, true);
    assert_eq!((taken.bytes, taken.queued), (1000, 900));
    assert_eq!(server.core.capacity(StreamId(1)), 0, "all was taken");
    let sizes = |frames: Vec<(Kind, u8, u32, Vec<u8>)>| -> Vec<_> {
        frames
            .into_iter()
            .map(|(_, flags, _, payload)| (payload.len(), flags))
            .collect()
    };
    assert_eq!(sizes(server.written()), [(100, 0)]);
    server.feed(window(1, 500));
    assert_eq!(sizes(server.written()), [(500, 0)]);
    assert_eq!(server.feed(""), [Seen::Sent(1, 500)]);
    // A setting may make a window smaller than nothing (RFC 9113 §6.9.2).
    server.feed(settings(&[(4, 0)]));
    server.feed(window(1, 50));
    server.written();
    server.feed(settings(&[(4, 100_000)]));
    assert_eq!(sizes(server.written()), [(0, frame::ACK), (400, END)]);
    assert_eq!(server.core.streams(), 0);
}

#[test]
fn h15_a_stalled_reader_holds_one_queue_and_is_left_in_the_end() {
    let mut server = Peer::server();
    server.feed(settings(&[(4, 0)]));
    for stream in [1, 3] {
        server.feed(get(stream, END));
        server.answer(stream, false).unwrap();
        assert_eq!(server.send(stream, 100_000, false).bytes, 64 * 1024);
        assert_eq!(server.core.capacity(StreamId(stream)), 0);
    }
    server.written();
    server.now += Duration::from_secs(50);
    server.feed(window(3, 10));
    server.written();
    for _ in 0..2 {
        server.now += Duration::from_secs(15);
        server.core.on_deadline(server.now);
    }
    let timeout = Seen::Reset(1, ResetReason::Timeout);
    assert!(server.feed("").contains(&timeout));
    assert_eq!(server.core.streams(), 1);
    assert!(server.core.next_deadline().is_some());
}

#[test]
fn a_tunnel_may_be_silent() {
    let mut server = Peer::server();
    server.feed(settings(&[(4, 0)]));
    let head = Head::request("CONNECT", "web:80", "").unwrap();
    assert_eq!(
        server
            .feed(frame(Kind::Headers, WHOLE, 1, &block(&head)))
            .len(),
        1
    );
    server.answer(1, false).unwrap();
    server.send(1, 1000, false);
    server.written();
    for _ in 0..100 {
        server.now += Duration::from_secs(15);
        server.core.on_deadline(server.now);
    }
    assert_eq!(server.feed(data(1, 0, 20)), [Seen::Data(1, 20, false)]);
}

#[test]
fn h15_what_is_not_consumed_is_not_sent() {
    let mut server = Peer::server();
    server.feed(get(1, 0));
    let mut sent = 0;
    while sent + 16_000 <= 65_535 {
        assert_eq!(server.feed(data(1, 0, 16_000)).len(), 1);
        sent += 16_000;
    }
    assert_eq!(server.written(), []);
    server.core.consume(server.now, StreamId(1), 40_000);
    let frames = server.written();
    let updates: Vec<_> = frames
        .iter()
        .map(|(kind, _, stream, _)| (*kind, *stream))
        .collect();
    assert_eq!(updates, [(Kind::WindowUpdate, 1)]);
    for _ in 0..2 {
        assert_eq!(server.feed(data(1, 0, 16_000)).len(), 1);
    }
    let over = server.feed([data(1, 0, 16_000), data(1, 0, 16_000)].concat());
    assert_eq!(over.last(), Some(&Seen::Reset(1, ResetReason::FlowControl)));
}

#[test]
fn h15_streams_that_are_not_read_do_not_stop_the_others() {
    let mut server = Peer::server();
    for stream in 0..100 {
        server.feed(get(2 * stream + 1, 0));
        for _ in 0..4 {
            assert_eq!(
                server.feed(data(2 * stream + 1, 0, 16_000)).len(),
                1,
                "{stream}"
            );
        }
    }
    assert_eq!(server.core.unconsumed, 6_400_000);
    assert!(server.core.receive_window >= 524_288);
}

#[test]
fn windows_grow_when_told() {
    let mut server = Peer::server();
    server.feed(get(1, 0));
    server.core.grow_window(StreamId(1), 1 << 20);
    server.core.grow_connection_window(4 << 20);
    let frames = server.written();
    let increments: Vec<_> = frames
        .iter()
        .map(|(_, _, id, value)| (*id, value.clone()))
        .collect();
    let bytes = |value: u32| value.to_be_bytes().to_vec();
    assert_eq!(
        increments,
        [(0, bytes(3 << 20)), (1, bytes((1 << 20) - 65_535))]
    );
    for _ in 0..60 {
        assert_eq!(server.feed(data(1, 0, 16_384)).len(), 1);
    }
}

#[test]
fn a_queue_grows_when_told() {
    let mut server = Peer::server();
    server.feed(get(1, END));
    server.answer(1, false).unwrap();
    server.core.grow_queue(StreamId(1), 1 << 20);
    assert_eq!(server.send(1, 1 << 20, true).bytes, 1 << 20);
}

#[test]
fn trailers_wait_for_the_data_before_them() {
    let mut server = Peer::server();
    server.feed(settings(&[(4, 10)]));
    server.feed(get(1, END));
    server.answer(1, false).unwrap();
    server.send(1, 30, false);
    let mut trailers = Head::new();
    trailers.push(b"grpc-status", b"0").unwrap();
    server
        .core
        .send_trailers(server.now, StreamId(1), &trailers)
        .unwrap();
    let kinds = |frames: Vec<(Kind, u8, u32, Vec<u8>)>| -> Vec<_> {
        frames
            .into_iter()
            .map(|(kind, flags, ..)| (kind, flags))
            .collect()
    };
    server.written();
    assert_eq!(server.core.streams(), 1);
    server.feed(window(1, 20));
    assert_eq!(
        kinds(server.written()),
        [(Kind::Data, 0), (Kind::Headers, END | WHOLE)]
    );
    assert_eq!(server.core.streams(), 0);
}

#[test]
fn streams_take_turns() {
    let mut server = Peer::server();
    server.feed(settings(&[(4, 1 << 20)]));
    server.feed(window(0, 1 << 20));
    for stream in [1, 3, 5] {
        server.feed(get(stream, END));
        server.answer(stream, false).unwrap();
    }
    for stream in [1, 3, 5] {
        server.send(stream, 120_000, false);
    }
    let order: Vec<_> = server
        .written()
        .iter()
        .filter(|f| f.0 == Kind::Data)
        .map(|f| f.2)
        .collect();
    // The first fills the output; then the queues empty evenly.
    assert_eq!(order[..4], [1; 4]);
    assert_eq!(order[4..10], [1, 3, 5, 1, 3, 5]);
}

#[test]
fn control_frames_go_first() {
    let mut server = Peer::server();
    server.feed(get(1, END));
    server.answer(1, false).unwrap();
    server.send(1, 60_000, false);
    server.feed(frame(Kind::Ping, 0, 0, &[7; 8]));
    let frames = server.written();
    assert_eq!((frames[0].0, frames[0].1), (Kind::Ping, frame::ACK));
    server.core.ping(9);
    assert_eq!(server.written()[0].0, Kind::Ping);
    let pong = frame(Kind::Ping, frame::ACK, 0, &9_u64.to_be_bytes());
    assert_eq!(server.feed(pong), [Seen::Pong(9)]);
}

#[test]
fn a_server_leaves_in_two_steps() {
    let mut server = Peer::server();
    server.feed(get(1, END));
    server.core.shutdown(server.now);
    let frames = server.written();
    assert_eq!(
        (frames[0].0, &frames[0].3[..4]),
        (Kind::GoAway, &[0x7f, 0xff, 0xff, 0xff][..])
    );
    let ping = frames[1].3.clone();
    // What was under way is still served.
    assert_eq!(server.feed(get(3, END)), [Seen::Head(3, true)]);
    assert_eq!(server.feed(frame(Kind::Ping, frame::ACK, 0, &ping)), []);
    assert_eq!(server.written()[0].3[..4], [0, 0, 0, 3]);
    assert_eq!(server.feed(get(5, END)), []);
    server.answer(1, true).unwrap();
    server.answer(3, true).unwrap();
    assert_eq!(server.feed(""), [Seen::Closed(Fault::Finished)]);
}

#[test]
fn a_client_is_told_what_was_not_looked_at() {
    let mut client = Peer::client(3);
    let mut go_away = Vec::new();
    frame::go_away(3, Code::NoError, &mut go_away);
    let seen = client.feed(go_away);
    assert!(seen.contains(&Seen::GoAway(Code::NoError)));
    assert!(seen.contains(&Seen::Reset(5, ResetReason::Refused)));
    assert_eq!(client.core.streams(), 2);
    assert!(!client.core.can_open());
    assert_eq!(client.feed(ok(1, END)), [Seen::Head(1, true)]);
    assert_eq!(
        client.feed(ok(3, END)),
        [Seen::Head(3, true), Seen::Closed(Fault::Finished)]
    );
}

#[test]
fn a_client_keeps_to_the_servers_bounds() {
    let mut client = Peer::client(0);
    client.feed(settings(&[(3, 1)]));
    let head = Head::request("GET", "web", "/").unwrap();
    client.core.open(client.now, &head, true).unwrap();
    assert_eq!(client.core.open(client.now, &head, true), Err(Misuse::Full));
    assert_eq!(client.feed(ok(1, END)), [Seen::Head(1, true)]);
    assert!(client.core.can_open());
}

#[test]
fn h12_extended_connect_needs_the_servers_word() {
    let mut client = Peer::client(0);
    let mut head = Head::request("CONNECT", "web", "").unwrap();
    head.set_scheme(b"http").unwrap();
    head.set_path(b"/chat").unwrap();
    head.set_protocol(Some(b"websocket")).unwrap();
    assert_eq!(
        client.core.open(client.now, &head, false),
        Err(Misuse::Head)
    );
    client.feed(settings(&[(8, 1)]));
    assert_eq!(client.core.takes_protocols(), Some(true));
    client.core.open(client.now, &head, false).unwrap();
    let bytes = client.core.output(client.now).to_vec();
    let mut server = Peer::server();
    assert_eq!(server.feed(&bytes), [Seen::Head(1, false)]);
    assert_eq!(server.head.protocol(), Some(&b"websocket"[..]));
    // Each direction of a tunnel ends by itself.
    server.answer(1, false).unwrap();
    server.send(1, 3, true);
    assert_eq!(server.feed(data(1, 0, 20)), [Seen::Data(1, 20, false)]);
    assert_eq!(server.feed(data(1, END, 20)), [Seen::Data(1, 20, true)]);
    assert_eq!(server.core.streams(), 0);
}

#[test]
fn h12_a_server_that_does_not_mention_extended_connect_takes_none() {
    let limits = Arc::new(Limits::default());
    let silent = Connection::new(Role::Client, limits, Instant::now());
    assert_eq!(silent.takes_protocols(), None);
    assert_eq!(Peer::client(0).core.takes_protocols(), Some(false));
}

#[test]
fn h12_a_tunnel_is_one_whatever_success_is_called() {
    let (mut client, mut server) = (Peer::client(0), Peer::server());
    let head = Head::request("CONNECT", "web:80", "").unwrap();
    client.core.open(client.now, &head, false).unwrap();
    let bytes = client.core.output(client.now).to_vec();
    assert_eq!(server.feed(bytes), [Seen::Head(1, false)]);
    let agreed = Head::response(204).unwrap();
    let sent = server
        .core
        .send_head(server.now, StreamId(1), &agreed, false);
    assert_eq!(sent, Ok(()));
    server.send(1, 3, false);
    let bytes = server.core.output(server.now).to_vec();
    let seen = client.feed(bytes);
    assert_eq!(seen, [Seen::Head(1, false), Seen::Data(1, 3, false)]);
}

#[test]
fn h11_answers_that_cannot_be_trusted() {
    let no_content = frame(
        Kind::Headers,
        WHOLE,
        1,
        &block(&Head::response(204).unwrap()),
    );
    let hints = frame(
        Kind::Headers,
        WHOLE,
        1,
        &block(&Head::response(103).unwrap()),
    );
    let cases = [
        (
            [no_content, data(1, END, 2)].concat(),
            ResetReason::ContentLength,
        ),
        (data(1, END, 2), ResetReason::Malformed),
        (hints.repeat(33), ResetReason::Informational),
        (
            frame(Kind::Headers, WHOLE, 1, &[0x82]),
            ResetReason::Malformed,
        ),
    ];
    for (bytes, reason) in cases {
        let mut client = Peer::client(2);
        assert_eq!(client.feed(bytes).last(), Some(&Seen::Reset(1, reason)));
        assert_eq!(client.feed(ok(3, END)), [Seen::Head(3, true)]);
    }
}

#[test]
fn h17_deadlines() {
    let limits = Limits::default();
    let now = Instant::now();
    let mut silent = Connection::new(Role::Server, Arc::new(limits.clone()), now);
    assert_eq!(silent.next_deadline(), Some(now + limits.head_time));
    silent.on_deadline(now + limits.head_time);
    assert_eq!(silent.reported(), Some(Event::Closed(Fault::HeadTimeout)));

    let mut server = Peer::server();
    server.feed(frame(Kind::Headers, 0, 1, &[0x82]));
    server.now += limits.head_time / 2;
    server.feed(&get(1, END)[..4]);
    server.now += limits.head_time / 2;
    server.core.on_deadline(server.now);
    assert_eq!(server.feed(""), [Seen::Closed(Fault::HeadTimeout)]);

    let mut server = Peer::server();
    server.now += Duration::from_secs(300);
    server.core.on_deadline(server.now);
    assert_eq!(server.feed(get(1, END)), [Seen::Head(1, true)]);
    server.answer(1, true).unwrap();
    server.written();
    server.now += limits.idle_time;
    server.core.on_deadline(server.now);
    assert_eq!(server.feed(""), [Seen::Closed(Fault::Idle)]);
}

#[test]
fn h17_a_body_that_stands_still_is_reset() {
    let mut server = Peer::server();
    server.feed([post(1, "50"), get(3, 0)].concat());
    for _ in 0..5 {
        server.now += Duration::from_secs(15);
        server.core.on_deadline(server.now);
    }
    // The other has declared nothing: it may be a stream of events.
    assert_eq!(server.feed(""), [Seen::Reset(1, ResetReason::Timeout)]);
}

#[test]
fn h17_a_body_is_due_once_its_client_was_told_to_send_it() {
    let mut server = Peer::server();
    let mut head = Head::request("POST", "web", "/").unwrap();
    head.push(b"content-length", b"50").unwrap();
    head.push(b"expect", b"100-continue").unwrap();
    let request = |stream| frame(Kind::Headers, WHOLE, stream, &block(&head));
    server.feed([request(1), request(3), request(5)].concat());
    let pass = |server: &mut Peer| {
        for _ in 0..5 {
            server.now += Duration::from_secs(15);
            server.core.on_deadline(server.now);
        }
        server.feed("")
    };
    assert_eq!(pass(&mut server), []);
    let go_on = Head::response(100).unwrap();
    let stream = StreamId(1);
    server
        .core
        .send_head(server.now, stream, &go_on, false)
        .unwrap();
    assert_eq!(server.feed(data(3, 0, 20)), [Seen::Data(3, 20, false)]);
    // The third was told nothing, and has sent nothing.
    let late = [1, 3].map(|stream| Seen::Reset(stream, ResetReason::Timeout));
    assert_eq!(pass(&mut server), late);
}

#[test]
fn a_connection_that_is_cut_off() {
    let mut server = Peer::server();
    server.core.receive_eof(server.now);
    assert_eq!(server.feed(""), [Seen::Closed(Fault::PeerClosed)]);
    let mut client = Peer::client(1);
    client.core.receive_eof(client.now);
    assert_eq!(client.feed(""), [Seen::Closed(Fault::Truncated)]);
}
