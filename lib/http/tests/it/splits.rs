//! However the input is cut, it says the same.

use mesh_http::{event::Role, head::Head, limits::Limits};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::side::{Seen, Side, body, joined, token};

const RUNS: u64 = 300;

/// A client's bytes: valid requests, with bodies of all kinds.
pub(crate) fn requests(http2: bool, random: &mut StdRng) -> Vec<u8> {
    let limits = Limits {
        queue_bytes: 1 << 20,
        output_bytes: 1 << 20,
        ..Limits::default()
    };
    let mut bytes = Vec::new();
    let mut client = Side::new(http2, Role::Client, limits);
    for _ in 0..random.random_range(1..5) {
        if !http2 {
            // The answers are not needed.
            client = Side::new(http2, Role::Client, Limits::default());
        }
        request(&mut client, random);
        bytes.extend(client.take_all());
    }
    bytes
}

fn request(client: &mut Side, random: &mut StdRng) {
    let data = body(random, 20_000);
    let (head, trailers) = (head(random, &data), random.random_bool(0.3));
    let end = data.is_empty() && !trailers;
    let stream = client.core.open(client.now, &head, end).unwrap();
    if end {
        return;
    }
    let cut = random.random_range(0..=data.len());
    for (piece, last) in [(&data[..cut], false), (&data[cut..], true)] {
        let last = last && !trailers;
        let taken = client
            .core
            .send_data(client.now, stream, piece, last)
            .unwrap();
        assert_eq!(taken.bytes, piece.len());
    }
    if trailers {
        let mut trailers = Head::new();
        trailers
            .push(b"x-checksum", token(random, 9).as_bytes())
            .unwrap();
        client
            .core
            .send_trailers(client.now, stream, &trailers)
            .unwrap();
    }
}

pub(crate) fn head(random: &mut StdRng, data: &[u8]) -> Head {
    let path = format!("/{}?{}", token(random, 30), token(random, 9));
    let mut head = Head::request("POST", "web.shop:80", &path).unwrap();
    for _ in 0..random.random_range(0..12) {
        let name = format!("x-{}", token(random, 12));
        head.push(name.as_bytes(), token(random, 60).as_bytes())
            .unwrap();
    }
    if random.random_bool(0.5) && !data.is_empty() {
        let length = data.len().to_string();
        head.push(b"content-length", length.as_bytes()).unwrap();
    }
    head
}

/// What a server sees, whose application answers at once when a request is over
/// and consumes everything.
pub(crate) fn seen(http2: bool, pieces: &[&[u8]]) -> Vec<Seen> {
    let mut server = Side::server(http2);
    let mut all = Vec::new();
    for piece in pieces {
        server.rest.extend_from_slice(piece);
        while let Some(seen) = server.next() {
            answer(&mut server, &seen);
            all.push(seen);
        }
    }
    joined(all)
}

fn answer(server: &mut Side, seen: &Seen) {
    let over = match seen {
        Seen::Head(stream, _, true) | Seen::Trailers(stream, _) => Some(*stream),
        Seen::Data(stream, bytes, end) => {
            server.core.consume(server.now, *stream, bytes.len());
            end.then_some(*stream)
        }
        _ => None,
    };
    if let Some(stream) = over {
        let answer = Head::response(204).unwrap();
        // The stream may have been reset by what came with it.
        let _ = server.core.send_head(server.now, stream, &answer, true);
        server.take_all();
    }
}

pub(crate) fn cut<'a>(bytes: &'a [u8], random: &mut StdRng) -> Vec<&'a [u8]> {
    let most = [1, 3, 20, 300, 5000][random.random_range(0..5)];
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(random.random_range(1..=most).min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    pieces
}

#[test]
fn any_split_gives_the_same_events() {
    for seed in 0..RUNS {
        let mut random = StdRng::seed_from_u64(seed);
        let http2 = random.random();
        let bytes = requests(http2, &mut random);
        let whole = seen(http2, &[&bytes]);
        assert!(
            !whole.iter().any(|seen| matches!(seen, Seen::Closed(_))),
            "seed {seed} {whole:?}"
        );
        let pieces = cut(&bytes, &mut random);
        assert_eq!(seen(http2, &pieces), whole, "seed {seed}");
    }
}
