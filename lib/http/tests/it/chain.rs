//! Client, two proxies and origin: what goes in at one end comes out at the other,
//! whichever versions they speak and however slowly anybody reads.

use std::collections::HashMap;

use mesh_http::{
    event::{Event, Role, StreamId},
    fault::Misuse,
    head::Head,
    limits::Limits,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::side::{Seen, Side, body, text, token};

const RUNS: u64 = 150;
const REQUESTS: usize = 12;
/// Rounds after which everything must be through.
const ROUNDS: usize = 200_000;

/// A message of either kind, apart from its first line.
#[derive(Clone, Debug, Default)]
struct Message {
    head: Head,
    body: Vec<u8>,
    trailers: Option<Head>,
}

impl Message {
    fn random(mut head: Head, random: &mut StdRng) -> Self {
        let body = body(random, 200_000);
        let length = body.len().to_string();
        let declared = random.random_bool(0.5);
        if declared {
            head.push(b"content-length", length.as_bytes()).unwrap();
        }
        for name in ["set-cookie", "x-a", "set-cookie"] {
            head.push(name.as_bytes(), token(random, 40).as_bytes())
                .unwrap();
        }
        let trailers = (!declared && random.random_bool(0.3)).then(|| {
            let mut trailers = Head::new();
            trailers
                .push(b"x-sum", token(random, 9).as_bytes())
                .unwrap();
            trailers
        });
        Self {
            head,
            body,
            trailers,
        }
    }

    fn ends_with_its_head(&self) -> bool {
        self.body.is_empty() && self.trailers.is_none()
    }
}

/// A message on its way out.
struct Outgoing {
    message: Message,
    at: usize,
}

impl Outgoing {
    /// Sends some more; says whether it is through.
    fn push(&mut self, side: &mut Side, stream: StreamId, random: &mut StdRng) -> bool {
        let rest = &self.message.body[self.at..];
        let piece = &rest[..random.random_range(0..=30_000).min(rest.len())];
        let all = piece.len() == rest.len();
        let end = all && self.message.trailers.is_none();
        let sent = side.core.send_data(side.now, stream, piece, end);
        let taken = sent.map_or(0, |taken| taken.bytes);
        self.at += taken;
        if !all || taken < piece.len() {
            return false;
        }
        if let Some(trailers) = &self.message.trailers {
            side.core.send_trailers(side.now, stream, trailers).unwrap();
        }
        true
    }
}

/// What has come in, put together again.
#[derive(Debug, Default)]
struct Incoming {
    head: String,
    body: Vec<u8>,
    trailers: Option<String>,
    /// Read and not consumed.
    held: usize,
    done: bool,
}

/// Client or origin.
struct End {
    side: Side,
    outgoing: HashMap<StreamId, Outgoing>,
    incoming: HashMap<StreamId, Incoming>,
}

impl End {
    fn new(http2: bool, role: Role) -> Self {
        Self {
            side: Side::new(http2, role, Limits::default()),
            outgoing: HashMap::new(),
            incoming: HashMap::new(),
        }
    }

    /// Sends and reads a little, now and then.
    fn live(&mut self, random: &mut StdRng) {
        let side = &mut self.side;
        self.outgoing
            .retain(|stream, outgoing| !outgoing.push(side, *stream, random));
        for (stream, incoming) in &mut self.incoming {
            if incoming.held > 0 && random.random_bool(0.3) {
                let n = random.random_range(1..=incoming.held);
                self.side.core.consume(self.side.now, *stream, n);
                incoming.held -= n;
            }
        }
    }

    /// Reads what has come; tells which messages are whole.
    fn read(&mut self) -> Vec<StreamId> {
        let mut whole = Vec::new();
        while let Some(seen) = self.side.next() {
            match seen {
                Seen::Head(stream, head, done) => {
                    let incoming = Incoming {
                        head,
                        done,
                        ..Incoming::default()
                    };
                    self.incoming.insert(stream, incoming);
                    whole.extend(done.then_some(stream));
                }
                Seen::Data(stream, bytes, done) => {
                    let incoming = self.incoming.get_mut(&stream).unwrap();
                    incoming.held += bytes.len();
                    incoming.body.extend(bytes);
                    incoming.done = done;
                    whole.extend(done.then_some(stream));
                }
                Seen::Trailers(stream, trailers) => {
                    let incoming = self.incoming.get_mut(&stream).unwrap();
                    incoming.trailers = Some(trailers);
                    incoming.done = true;
                    whole.push(stream);
                }
                Seen::Sent(..) => {}
                other => panic!("{other:?}"),
            }
        }
        whole
    }
}

/// What a driver does, in short.
struct Proxy {
    down: Side,
    up: Side,
    to_up: HashMap<StreamId, StreamId>,
    to_down: HashMap<StreamId, StreamId>,
}

impl Proxy {
    fn new(down: bool, up: bool) -> Self {
        Self {
            down: Side::server(down),
            up: Side::new(up, Role::Client, Limits::default()),
            to_up: HashMap::new(),
            to_down: HashMap::new(),
        }
    }

    fn work(&mut self) {
        pump(
            &mut self.down,
            &mut self.up,
            &mut self.to_up,
            &mut self.to_down,
        );
        pump(
            &mut self.up,
            &mut self.down,
            &mut self.to_down,
            &mut self.to_up,
        );
    }
}

/// Passes everything that has come from one side on to the other.
fn pump(
    from: &mut Side,
    to: &mut Side,
    streams: &mut HashMap<StreamId, StreamId>,
    back: &mut HashMap<StreamId, StreamId>,
) {
    let rest = std::mem::take(&mut from.rest);
    let mut input = &rest[..];
    let now = from.now;
    while let Some(event) = from.core.poll_event(now, &mut input, &mut from.head) {
        match event {
            Event::Head { stream, end } if from.head.status().is_none() => {
                let new = to.core.open(now, &from.head, end).unwrap();
                streams.insert(stream, new);
                back.insert(new, stream);
                if number_of(&from.head).is_multiple_of(3) {
                    widen((from, stream), (to, new));
                }
            }
            Event::Head { stream, end } => {
                to.core
                    .send_head(now, streams[&stream], &from.head, end)
                    .unwrap();
            }
            Event::Informational { stream } => {
                to.core
                    .send_head(now, streams[&stream], &from.head, false)
                    .unwrap();
            }
            Event::Data { stream, bytes, end } => {
                let credit = match to.core.send_data(now, streams[&stream], bytes, end) {
                    Ok(taken) => {
                        assert_eq!(
                            taken.bytes,
                            bytes.len(),
                            "the queue is as large as the window"
                        );
                        taken.bytes - taken.queued
                    }
                    Err(Misuse::NoStream) => bytes.len(),
                    Err(misuse) => panic!("{misuse:?}"),
                };
                from.core.consume(now, stream, credit);
            }
            Event::Trailers { stream } => {
                to.core
                    .send_trailers(now, streams[&stream], &from.head)
                    .unwrap();
            }
            Event::Sent { stream, bytes } => to.core.consume(now, streams[&stream], bytes),
            other => panic!("{other:?}"),
        }
    }
    from.rest = input.to_vec();
}

/// Lets more be under way in both directions, each queue before its window.
fn widen((from, stream): (&mut Side, StreamId), (to, new): (&mut Side, StreamId)) {
    const WINDOW: u32 = 150_000;
    to.core.grow_queue(new, WINDOW as usize);
    from.core.grow_window(stream, WINDOW);
    from.core.grow_queue(stream, WINDOW as usize);
    to.core.grow_window(new, WINDOW);
}

/// The number with which the path begins.
fn number_of(head: &Head) -> usize {
    let path = std::str::from_utf8(head.path()).unwrap();
    path.split('/').nth(1).unwrap().parse().unwrap()
}

/// Carries some bytes, as a socket might.
fn carry(from: &mut Side, to: &mut Side, random: &mut StdRng) {
    if from.core.wants_write() && to.core.wants_read() {
        let bytes = from.take(random.random_range(1..40_000));
        to.rest.extend(bytes);
    }
}

/// Requests through two proxies, over links of these versions.
fn chain(seed: u64, [first, middle, last]: [bool; 3]) {
    let mut random = StdRng::seed_from_u64(seed);
    let random = &mut random;
    let mut client = End::new(first, Role::Client);
    let mut origin = End::new(last, Role::Server);
    let (mut near, mut far) = (Proxy::new(first, middle), Proxy::new(middle, last));
    // Behind HTTP/1 a pool would have more connections; here requests wait.
    let concurrent = if first && middle && last { 6 } else { 1 };
    let (mut asked, mut answered, mut served) = (HashMap::new(), 0, HashMap::new());
    for _ in 0..ROUNDS {
        if asked.len() < REQUESTS && client.side.core.streams() < concurrent {
            let (stream, request) = ask(&mut client, asked.len(), random);
            asked.insert(stream, request);
        }
        client.live(random);
        origin.live(random);
        carry(&mut client.side, &mut near.down, random);
        near.work();
        carry(&mut near.up, &mut far.down, random);
        far.work();
        carry(&mut far.up, &mut origin.side, random);
        for stream in origin.read() {
            let answer = answer(&mut origin, stream, random);
            served.insert(origin.incoming[&stream].head.clone(), answer);
        }
        carry(&mut origin.side, &mut far.up, random);
        far.work();
        carry(&mut far.down, &mut near.up, random);
        near.work();
        carry(&mut near.down, &mut client.side, random);
        answered += client.read().len();
        if answered == REQUESTS {
            break;
        }
    }
    assert_eq!(answered, REQUESTS, "seed {seed}");
    for (stream, request) in &asked {
        let seen = origin
            .incoming
            .values()
            .find(|seen| seen.head.starts_with(&first_line(request)));
        same(seen.unwrap(), request);
        let seen = client.incoming.get(stream).unwrap();
        same(seen, &served[&origin_head(&origin, request)]);
    }
    let proxies = [&near.down, &near.up, &far.down, &far.up];
    for side in proxies.into_iter().chain([&client.side, &origin.side]) {
        assert_eq!(side.core.streams(), 0, "seed {seed}");
    }
}

/// Requests are told apart by their paths.
fn first_line(message: &Message) -> String {
    let text = text(&message.head);
    text.lines().next().unwrap_or_default().to_owned() + "\n"
}

fn origin_head(origin: &End, request: &Message) -> String {
    let heads = origin.incoming.values().map(|seen| &seen.head);
    heads
        .into_iter()
        .find(|head| head.starts_with(&first_line(request)))
        .unwrap()
        .clone()
}

fn ask(client: &mut End, number: usize, random: &mut StdRng) -> (StreamId, Message) {
    let path = format!("/{number}/{}", token(random, 20));
    let head = Head::request("POST", "web.shop:80", &path).unwrap();
    let message = Message::random(head, random);
    let end = message.ends_with_its_head();
    let side = &mut client.side;
    let stream = side.core.open(side.now, &message.head, end).unwrap();
    if !end {
        let message = message.clone();
        client.outgoing.insert(stream, Outgoing { message, at: 0 });
    }
    (stream, message)
}

fn answer(origin: &mut End, stream: StreamId, random: &mut StdRng) -> Message {
    let message = Message::random(Head::response(200).unwrap(), random);
    let end = message.ends_with_its_head();
    let side = &mut origin.side;
    side.core
        .send_head(side.now, stream, &message.head, end)
        .unwrap();
    if !end {
        let message = message.clone();
        origin.outgoing.insert(stream, Outgoing { message, at: 0 });
    }
    message
}

fn same(seen: &Incoming, sent: &Message) {
    assert!(seen.done);
    assert_eq!(seen.body, sent.body);
    assert_eq!(seen.trailers, sent.trailers.as_ref().map(text));
    // A length that an HTTP/1 hop had to say may have been added.
    let added = format!("\ncontent-length: {}", sent.body.len());
    let head = text(&sent.head);
    assert!(
        seen.head == head || seen.head == head.clone() + &added,
        "{}\n{head}",
        seen.head
    );
}

#[test]
fn what_goes_in_comes_out_over_both_versions() {
    for seed in 0..RUNS {
        chain(seed, [seed % 2 == 0, seed % 4 < 2, seed % 8 < 4]);
    }
}
