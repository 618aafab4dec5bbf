//! Whatever comes: no panic, bounded memory, and the same however it is cut.

use std::time::Duration;

use mesh_http::{
    event::Role,
    fault::{Code, Fault},
    head::Head,
    limits::Limits,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    side::{Seen, Side},
    splits::{cut, requests, seen},
};

/// How often; each run takes a valid stream and damages it.
const RUNS: u64 = 100_000;
/// A connection may hold this much for input of less than 100 KB.
const MEMORY: u64 = 2 << 20;

pub(crate) fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    const TELLING: &[u8] = b"\r\n\0 :;,\t\x7f\x80\xff0f/*@[]";
    for _ in 0..random.random_range(1..6) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes[at] = TELLING[random.random_range(0..TELLING.len())],
            3 => bytes.insert(at, TELLING[random.random_range(0..TELLING.len())]),
            4 => {
                let end = (at + random.random_range(1..20)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + random.random_range(1..40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}

/// An answer that is valid, for a client to read.
fn answers(http2: bool, random: &mut StdRng) -> Vec<u8> {
    let mut server = Side::server(http2);
    let seen = server.feed(&request(http2, random).take_all());
    for seen in seen {
        let Seen::Head(stream, ..) = seen else {
            continue;
        };
        let mut head = Head::response(random.random_range(200..300)).unwrap();
        head.push(b"x-field", b"value").unwrap();
        if server
            .core
            .send_head(server.now, stream, &head, false)
            .is_ok()
        {
            let _ = server
                .core
                .send_data(server.now, stream, b"some data", random.random());
            let _ = server.core.send_trailers(server.now, stream, &Head::new());
        }
    }
    server.take_all()
}

fn request(http2: bool, random: &mut StdRng) -> Side {
    let mut client = Side::new(http2, Role::Client, Limits::default());
    let methods = ["GET", "HEAD", "POST", "CONNECT"];
    for _ in 0..random.random_range(1..4) {
        let method = methods[random.random_range(0..4)];
        let head = Head::request(method, "web:80", "/").unwrap();
        let _ = client.core.open(client.now, &head, method != "CONNECT");
    }
    client
}

/// Everything a driver might do with what comes.
fn drive(side: &mut Side, bytes: &[u8], random: &mut StdRng) {
    let answer = Head::response(200).unwrap();
    for piece in cut(bytes, random) {
        for seen in side.feed(piece) {
            match seen {
                Seen::Head(stream, ..) => {
                    let _ = side
                        .core
                        .send_head(side.now, stream, &answer, random.random());
                    let _ = side
                        .core
                        .send_data(side.now, stream, &[b'x'; 999], random.random());
                }
                Seen::Data(stream, bytes, _) => {
                    side.core.consume(side.now, stream, bytes.len());
                    if random.random_bool(0.02) {
                        side.core.reset(side.now, stream, Code::Cancel);
                    }
                }
                _ => {}
            }
        }
        side.take(random.random_range(0..5000));
        side.now += Duration::from_millis(random.random_range(0..2000));
        if side
            .core
            .next_deadline()
            .is_some_and(|deadline| deadline <= side.now)
        {
            side.core.on_deadline(side.now);
        }
    }
    side.core.receive_eof(side.now);
    side.feed(b"");
    side.take_all();
}

#[test]
fn h20_no_input_causes_a_panic_or_takes_much_memory() {
    let mut pool: Vec<(bool, bool, Vec<u8>)> = Vec::new();
    let mut random = StdRng::seed_from_u64(20);
    for index in 0..200 {
        let (http2, to_server) = (index % 2 == 0, index % 3 != 0);
        let bytes = if to_server {
            requests(http2, &mut random)
        } else {
            answers(http2, &mut random)
        };
        if bytes.len() < 20_000 {
            pool.push((http2, to_server, bytes));
        }
    }
    let mut most = 0;
    for seed in 0..RUNS {
        let mut random = StdRng::seed_from_u64(seed);
        let (http2, to_server, valid) = &pool[random.random_range(0..pool.len())];
        let mut bytes = valid.clone();
        mutate(&mut bytes, &mut random);
        let used = allocation_counter::measure(|| {
            let mut side = if *to_server {
                Side::server(*http2)
            } else {
                request(*http2, &mut random)
            };
            drive(&mut side, &bytes, &mut random);
        });
        most = most.max(used.bytes_max);
        assert!(
            used.bytes_max < MEMORY,
            "seed {seed}: {} bytes",
            used.bytes_max
        );
        assert_eq!(used.bytes_current, 0, "seed {seed}: some memory is kept");
    }
    println!("most memory of one connection: {most} bytes");
}

#[test]
fn damaged_input_says_the_same_however_it_is_cut() {
    for seed in 0..3000 {
        let mut random = StdRng::seed_from_u64(seed);
        let http2 = random.random();
        let mut bytes = requests(http2, &mut random);
        mutate(&mut bytes, &mut random);
        let whole = seen(http2, &[&bytes]);
        let pieces = seen(http2, &cut(&bytes, &mut random));
        assert_eq!(
            without_the_last(pieces),
            without_the_last(whole),
            "seed {seed}"
        );
    }
}

/// Input that ends in a fault says as much of the message before it as has
/// come: pieces may say a little more, and another of two faults may come first.
fn without_the_last(mut all: Vec<Seen>) -> Vec<Seen> {
    if let Some(Seen::Closed(fault)) = all.last() {
        assert!(!matches!(fault, Fault::PeerClosed | Fault::Idle));
        all.pop();
        while matches!(all.last(), Some(Seen::Data(_, _, false))) {
            all.pop();
        }
        all.push(Seen::GoAway);
    }
    all
}
