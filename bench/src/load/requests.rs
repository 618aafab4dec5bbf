//! Requests as browsers and gRPC clients send them, and what must be answered.

use mesh_http::head::{Head, Invalid};

/// What is asked for, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A page of so many bytes.
    Get(usize),
    /// A body of so many bytes, answered by one of the same size.
    Post(usize),
    /// A unary call with a message of so many bytes, answered by one of the
    /// same size and a status in trailers.
    Grpc(usize),
}

/// In front of a gRPC message: not compressed, and its length.
pub(crate) const GRPC_PREFIX: usize = 5;
/// Bytes of a gRPC message: all are of this size.
pub(crate) const GRPC_MESSAGE: usize = 100;
/// What gRPC calls; the back end knows it by its path.
pub(crate) const GRPC_PATH: &str = "/bench.Echo/Unary";
/// The field by which an answer names its request.
pub(crate) const ID: &[u8] = b"x-request-id";
/// As many digits as [`ID`] has.
const DIGITS: usize = 16;

impl Kind {
    /// How many bytes are sent behind the head, framing of gRPC included.
    pub(crate) const fn sent(self) -> usize {
        match self {
            Self::Get(_) => 0,
            Self::Post(size) => size,
            Self::Grpc(size) => size + GRPC_PREFIX,
        }
    }

    /// How many come back.
    pub(crate) const fn received(self) -> usize {
        match self {
            Self::Get(size) | Self::Post(size) => size,
            Self::Grpc(size) => size + GRPC_PREFIX,
        }
    }

    /// Whether a status comes behind the answer.
    pub(crate) const fn has_trailers(self) -> bool {
        matches!(self, Self::Grpc(_))
    }

    /// The head of a request, but for its id.
    pub(crate) fn head(self, authority: &str) -> Result<Head, Invalid> {
        match self {
            Self::Get(size) => browser("GET", authority, size),
            Self::Post(size) => {
                let mut head = browser("POST", authority, size)?;
                head.push(b"content-type", b"application/octet-stream")?;
                head.push(b"content-length", size.to_string().as_bytes())?;
                Ok(head)
            }
            Self::Grpc(_) => grpc(authority),
        }
    }
}

/// An id as it is written.
pub(crate) fn digits(id: u64) -> [u8; DIGITS] {
    let mut digits = [0; DIGITS];
    for (at, digit) in digits.iter_mut().enumerate() {
        let nibble = (id >> (60 - 4 * at)) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    digits
}

/// The bytes before a gRPC message of that size.
pub(crate) fn grpc_prefix(size: usize) -> [u8; GRPC_PREFIX] {
    let [a, b, c, d] = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

fn browser(method: &str, authority: &str, size: usize) -> Result<Head, Invalid> {
    let path = format!("/bytes/{size}?category=books&page=2&sort=price");
    let mut head = Head::request(method, authority, &path)?;
    push_all(&mut head, BROWSER)?;
    Ok(head)
}

fn grpc(authority: &str) -> Result<Head, Invalid> {
    let mut head = Head::request("POST", authority, GRPC_PATH)?;
    push_all(&mut head, GRPC)?;
    Ok(head)
}

/// The head of an answer to a page.
pub(crate) fn page(size: usize) -> Result<Head, Invalid> {
    let mut head = Head::response(200)?;
    push_all(&mut head, PAGE)?;
    head.push(b"content-length", size.to_string().as_bytes())?;
    Ok(head)
}

/// The head of an answer to a call.
pub(crate) fn grpc_answer() -> Result<Head, Invalid> {
    let mut head = Head::response(200)?;
    push_all(
        &mut head,
        &[
            ("content-type", "application/grpc"),
            ("grpc-encoding", "identity"),
        ],
    )?;
    Ok(head)
}

/// What comes behind a gRPC message.
pub(crate) fn grpc_trailers() -> Result<Head, Invalid> {
    let mut head = Head::new();
    push_all(&mut head, &[("grpc-status", "0"), ("grpc-message", "")])?;
    Ok(head)
}

fn push_all(head: &mut Head, fields: &[(&str, &str)]) -> Result<(), Invalid> {
    fields
        .iter()
        .try_for_each(|(name, value)| head.push(name.as_bytes(), value.as_bytes()))
}

const BROWSER: &[(&str, &str)] = &[
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    ),
    ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    (
        "referer",
        "https://shop.example.org/catalogue?category=books&page=1",
    ),
    (
        "cookie",
        "session=c2Vzc2lvbiBvZiBhIGN1c3RvbWVy; theme=dark; consent=necessary; cart=8f14e45f",
    ),
    ("dnt", "1"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-user", "?1"),
    ("priority", "u=0, i"),
    ("cache-control", "no-cache"),
];

const GRPC: &[(&str, &str)] = &[
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.66.0"),
    ("grpc-accept-encoding", "gzip, identity"),
    ("grpc-timeout", "4999m"),
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    ("tracestate", "vendor=00f067aa0ba902b7,other=t61rcWkgMzE"),
    (
        "baggage",
        "tenant=4711,region=eu-central,experiment=checkout-b",
    ),
    (
        "authorization",
        "Bearer eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzaG9wLWZyb250LWVuZCIsImF1ZCI6ImVja\
         G8iLCJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUub3JnIiwiZXhwIjoxNzk5OTk5OTk5fQ.c2lnbmF0dXJlIG9mIGEgd\
         G9rZW4gdGhhdCBub2JvZHkgY2hlY2tz",
    ),
];

const PAGE: &[(&str, &str)] = &[
    ("server", "bench"),
    ("date", "Tue, 06 Jan 2026 10:00:00 GMT"),
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "private, max-age=0"),
    ("vary", "accept-encoding, cookie"),
    ("x-content-type-options", "nosniff"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a head as HTTP/1 writes it, and its lines; the id included.
    fn written(kind: Kind) -> (usize, usize) {
        let mut head = kind.head("web.shop.svc.cluster.local:8080").unwrap();
        head.push(ID, &digits(1)).unwrap();
        let fields = head.fields();
        let fields: Vec<usize> = fields
            .map(|(name, value)| name.len() + value.len() + 4)
            .collect();
        let lines = 1 + fields.len();
        let first = head.method().len() + head.path().len() + " HTTP/1.1\r\n".len() + 1;
        let host = "host: \r\n".len() + head.authority().unwrap().len();
        (fields.iter().sum::<usize>() + first + host, lines)
    }

    #[test]
    fn heads_are_as_large_as_those_of_browsers_and_grpc_clients() {
        for kind in [Kind::Get(1024), Kind::Post(1024), Kind::Grpc(100)] {
            let (bytes, lines) = written(kind);
            assert!((600..=900).contains(&bytes), "{kind:?}: {bytes} bytes");
            assert!((10..=20).contains(&lines), "{kind:?}: {lines} lines");
        }
    }

    #[test]
    fn an_id_is_written_in_sixteen_digits() {
        assert_eq!(&digits(0), b"0000000000000000");
        assert_eq!(&digits(0x00c0_ffee_0000_0012), b"00c0ffee00000012");
    }

    #[test]
    fn a_grpc_message_says_how_long_it_is() {
        assert_eq!(grpc_prefix(100), [0, 0, 0, 0, 100]);
        assert_eq!(Kind::Grpc(100).sent(), 105);
    }
}
