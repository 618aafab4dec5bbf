//! Two HTTP/2 connections that do everything at random, and a third party that
//! reads the frames between them: no window is ever exceeded, and no stream is
//! left over.

use std::collections::HashMap;

use mesh_http::{
    event::{Role, StreamId},
    fault::Code,
    head::Head,
    limits::Limits,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::side::{Seen, Side};

const RUNS: u64 = 200;
const STEPS: usize = 400;
const FIRST_WINDOW: i64 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

/// What one side may send, by what has been delivered to it.
struct Allowance {
    connection: i64,
    /// What SETTINGS have changed, and each stream's updates and data.
    initial: i64,
    streams: HashMap<u32, i64>,
}

impl Allowance {
    fn new() -> Self {
        Self {
            connection: FIRST_WINDOW,
            initial: FIRST_WINDOW,
            streams: HashMap::new(),
        }
    }

    fn delivered(&mut self, kind: u8, stream: u32, payload: &[u8]) {
        match kind {
            WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes(payload.try_into().unwrap()));
                assert!(more > 0);
                match stream {
                    0 => self.connection += more,
                    _ => *self.streams.entry(stream).or_default() += more,
                }
            }
            SETTINGS => {
                for setting in payload.chunks(6).filter(|setting| setting[..2] == [0, 4]) {
                    let value = u32::from_be_bytes(setting[2..].try_into().unwrap());
                    self.initial = i64::from(value);
                }
            }
            _ => {}
        }
    }

    fn sent(&mut self, kind: u8, stream: u32, payload: &[u8]) {
        if kind == DATA {
            let len = i64::try_from(payload.len()).unwrap();
            self.connection -= len;
            let own = self.streams.entry(stream).or_default();
            *own -= len;
            assert!(self.connection >= 0, "the connection's window");
            assert!(self.initial + *own >= 0, "the window of {stream}");
        }
    }
}

/// One direction: bytes on their way, and the frames that they were.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    sent: Vec<u8>,
    delivered: Vec<u8>,
}

/// Takes the whole frames off `bytes`.
fn frames(bytes: &mut Vec<u8>) -> Vec<(u8, u8, u32, Vec<u8>)> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if bytes.starts_with(PREFACE) {
        bytes.drain(..PREFACE.len());
    }
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let len = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        if bytes.len() < 9 + len || bytes.starts_with(b"PRI") {
            break;
        }
        let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
        frames.push((bytes[3], bytes[4], stream, bytes[9..9 + len].to_vec()));
        bytes.drain(..9 + len);
    }
    frames
}

struct Pair {
    client: Side,
    server: Side,
    up: Wire,
    down: Wire,
    client_may: Allowance,
    server_may: Allowance,
    /// Bytes that were read and not consumed, by side and stream.
    held: HashMap<(End, StreamId), usize>,
    open: Vec<StreamId>,
    answered: Vec<StreamId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    Client,
    Server,
}

impl Pair {
    fn new(random: &mut StdRng) -> Self {
        let mut limits = || Limits {
            stream_window: random.random_range(1..200_000),
            connection_window: random.random_range(65_535..2_000_000),
            ..Limits::default()
        };
        Self {
            client: Side::new(true, Role::Client, limits()),
            server: Side::new(true, Role::Server, limits()),
            up: Wire::default(),
            down: Wire::default(),
            client_may: Allowance::new(),
            server_may: Allowance::new(),
            held: HashMap::new(),
            open: Vec::new(),
            answered: Vec::new(),
        }
    }

    fn step(&mut self, random: &mut StdRng) {
        let now = self.client.now;
        let pick = |streams: &[StreamId], random: &mut StdRng| {
            (!streams.is_empty()).then(|| streams[random.random_range(0..streams.len())])
        };
        let some = vec![b'x'; random.random_range(0..60_000)];
        let end = random.random_bool(0.1);
        let (open, answered) = (pick(&self.open, random), pick(&self.answered, random));
        // Streams may have ended in the meantime, and commands then do nothing.
        match (random.random_range(0..12), open, answered) {
            (0 | 1, ..) => {
                let head = Head::request("POST", "web", "/").unwrap();
                self.open.extend(self.client.core.open(now, &head, end));
            }
            (2..=4, Some(stream), _) => {
                let _ = self.client.core.send_data(now, stream, &some, end);
            }
            (5..=7, _, Some(stream)) => {
                let _ = self.server.core.send_data(now, stream, &some, end);
            }
            (8, _, Some(stream)) => {
                let _ = self.server.core.send_trailers(now, stream, &Head::new());
            }
            (9, Some(stream), _) if end => self.client.core.reset(now, stream, Code::Cancel),
            (9, _, Some(stream)) if end => self.server.core.reset(now, stream, Code::Cancel),
            (10, Some(stream), Some(answered)) if end => {
                self.server
                    .core
                    .grow_window(stream, random.random_range(0..1 << 20));
                self.client
                    .core
                    .grow_window(answered, random.random_range(0..1 << 20));
                self.client
                    .core
                    .grow_connection_window(random.random_range(0..1 << 22));
            }
            _ => self.consume(random.random_range(1..30_000)),
        }
    }

    fn consume(&mut self, most: usize) {
        for ((role, stream), held) in &mut self.held {
            let n = most.min(*held);
            *held -= n;
            let side = match role {
                End::Client => &mut self.client,
                End::Server => &mut self.server,
            };
            side.core.consume(side.now, *stream, n);
        }
    }

    fn carry(&mut self, most: usize) {
        let up = self.client.take(most);
        let down = self.server.take(most);
        tap(&mut self.up, &up, &mut self.client_may);
        tap(&mut self.down, &down, &mut self.server_may);
        for (kind, _, stream, payload) in arrived(&mut self.up, most) {
            self.server_may.delivered(kind, stream, &payload);
        }
        for (kind, _, stream, payload) in arrived(&mut self.down, most) {
            self.client_may.delivered(kind, stream, &payload);
        }
        let n = most.min(self.up.bytes.len());
        let up: Vec<u8> = self.up.bytes.drain(..n).collect();
        let n = most.min(self.down.bytes.len());
        let down: Vec<u8> = self.down.bytes.drain(..n).collect();
        let (to_server, to_client) = (self.server.feed(&up), self.client.feed(&down));
        self.happened(End::Server, to_server);
        self.happened(End::Client, to_client);
    }

    fn happened(&mut self, role: End, events: Vec<Seen>) {
        for seen in events {
            match seen {
                Seen::Head(stream, ..) if role == End::Server => {
                    let answer = Head::response(200).unwrap();
                    let now = self.server.now;
                    self.server
                        .core
                        .send_head(now, stream, &answer, false)
                        .unwrap();
                    self.answered.push(stream);
                }
                Seen::Data(stream, bytes, _) => {
                    *self.held.entry((role, stream)).or_default() += bytes.len();
                }
                Seen::Closed(fault) => panic!("{fault:?}"),
                _ => {}
            }
        }
    }

    /// Ends everything and waits until it is through.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            for stream in self.open.clone() {
                let _ = self
                    .client
                    .core
                    .send_data(self.client.now, stream, &[], true);
            }
            for stream in self.answered.clone() {
                let _ = self
                    .server
                    .core
                    .send_data(self.server.now, stream, &[], true);
            }
            self.consume(usize::MAX);
            self.carry(1 << 20);
            let left = self.client.core.streams() + self.server.core.streams();
            if left == 0 && self.up.bytes.is_empty() && self.down.bytes.is_empty() {
                break;
            }
        }
        assert_eq!(
            (self.client.core.streams(), self.server.core.streams()),
            (0, 0)
        );
    }
}

/// Reads along what a side sends.
fn tap(wire: &mut Wire, bytes: &[u8], may: &mut Allowance) {
    wire.bytes.extend_from_slice(bytes);
    wire.delivered.extend_from_slice(bytes);
    wire.sent.extend_from_slice(bytes);
    for (kind, _, stream, payload) in frames(&mut wire.sent) {
        assert!(payload.len() <= 16_384);
        assert!(stream != 0 || !matches!(kind, DATA | HEADERS | RST_STREAM));
        may.sent(kind, stream, &payload);
    }
}

/// The frames that will have arrived in full once `most` more bytes have.
fn arrived(wire: &mut Wire, most: usize) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let waiting = wire.bytes.len().saturating_sub(most);
    let now = wire.delivered.len().saturating_sub(waiting);
    let mut part = wire.delivered[..now].to_vec();
    let frames = frames(&mut part);
    wire.delivered.drain(..now - part.len());
    frames
}

#[test]
fn windows_are_never_exceeded_and_no_stream_is_left_over() {
    for seed in 0..RUNS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut pair = Pair::new(&mut random);
        for _ in 0..STEPS {
            pair.step(&mut random);
            pair.carry(random.random_range(1..50_000));
        }
        pair.finish();
    }
}
