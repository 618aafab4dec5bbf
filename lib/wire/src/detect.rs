//! What a connection speaks, by its first bytes.

/// What can be said of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// More bytes may still turn it into HTTP.
    NeedMore,
    /// HTTP/1.0 or HTTP/1.1: a request line has come.
    Http1,
    /// The HTTP/2 connection preface (RFC 9113 §3.4).
    Http2,
    /// None of these.
    Opaque,
}

/// The longest request line that is looked at; a longer one is still HTTP/1,
/// and refused there.
pub const MAX_PEEK: usize = 16 * 1024;

/// Says what a connection speaks whose first bytes are `bytes`. Anything but
/// [`Detection::NeedMore`] is final: no later byte changes it.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detection {
    if bytes.starts_with(PREFACE) {
        return Detection::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Detection::NeedMore;
    }
    // RFC 9112 §2.2: empty lines before the request line are to be ignored.
    let line = skip_empty_lines(bytes);
    match line.iter().position(|b| *b == b'\n') {
        Some(end) => {
            if is_request_line(&line[..end]) {
                Detection::Http1
            } else {
                Detection::Opaque
            }
        }
        None => unfinished(line),
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longer than any registered method.
const MAX_METHOD: usize = 32;

fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    for _ in 0..2 {
        if let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
    }
    bytes
}

/// `METHOD target HTTP/1.x`, with one space each (RFC 9112 §3).
fn is_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    is_method(method) && is_target(target) && matches!(version, b"HTTP/1.1" | b"HTTP/1.0")
}

/// What the beginning of a line can still become.
fn unfinished(line: &[u8]) -> Detection {
    let mut parts = line.split(|b| *b == b' ');
    let method = parts.next().unwrap_or_default();
    let plausible = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => method_so_far(method),
        (Some(target), None, _) => is_method(method) && target_so_far(target),
        (Some(target), Some(version), None) => {
            is_method(method) && is_target(target) && version_so_far(version)
        }
        (_, _, Some(_)) => false,
    };
    match plausible {
        true if line.len() >= MAX_PEEK => Detection::Http1,
        true => Detection::NeedMore,
        false => Detection::Opaque,
    }
}

fn method_so_far(method: &[u8]) -> bool {
    // A lone CR may be the first half of an empty line.
    matches!(method, b"" | b"\r") || is_method(method)
}

fn is_method(method: &[u8]) -> bool {
    // Tokens may hold more, but every method in use is of letters, and a
    // stricter rule keeps other protocols' greetings apart.
    (1..=MAX_METHOD).contains(&method.len())
        && method
            .iter()
            .all(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_'))
}

fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && target_so_far(target)
}

fn target_so_far(target: &[u8]) -> bool {
    target.iter().all(|b| *b > b' ' && *b != 0x7f)
}

fn version_so_far(version: &[u8]) -> bool {
    let version = version.strip_suffix(b"\r").unwrap_or(version);
    b"HTTP/1.1".starts_with(version) || b"HTTP/1.0".starts_with(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every prefix says `NeedMore` or already the final answer, which the
    /// whole, followed by anything, gives too.
    fn holds_for_every_split(bytes: &[u8], answer: Detection) {
        for end in 0..=bytes.len() {
            let so_far = detect(&bytes[..end]);
            let shown = String::from_utf8_lossy(&bytes[..end]);
            assert!(
                so_far == Detection::NeedMore || so_far == answer,
                "{shown:?} is {so_far:?}"
            );
        }
        assert_eq!(detect(bytes), answer);
        for next in 0..=255_u8 {
            let longer = [bytes, &[next]].concat();
            assert_eq!(detect(&longer), answer);
        }
    }

    #[test]
    fn requests_of_http1() {
        for request in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.0\n",
            "\r\nPOST /a%20b?c HTTP/1.1\r\n",
            "M-SEARCH * HTTP/1.1\r\n",
            "PRI / HTTP/1.1\r\n",
            "P / HTTP/1.1\r\n",
            "GET http://web.shop/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "CONNECT web:80 HTTP/1.1\r\n",
        ] {
            holds_for_every_split(request.as_bytes(), Detection::Http1);
        }
    }

    #[test]
    fn the_preface_of_http2() {
        holds_for_every_split(PREFACE, Detection::Http2);
    }

    #[test]
    fn everything_else() {
        for bytes in [
            &b"\x16\x03\x01\x02\x00\x01"[..],
            b"*1\r\n$4\r\nPING\r\n",
            b"EHLO example.org\r\n",
            b"SSH-2.0-x\r\n",
            b"PING\r\n",
            b"GET /\r\n",
            b"GET / HTTP/1.1 x",
            b"GET / HTTP/2.0\r\n",
            b"GET  / HTTP/1.1\r\n",
            b"GET \t HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSX",
            b"\r\n\r\n\r\n",
            b"\0",
            b"\n",
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG",
        ] {
            holds_for_every_split(bytes, Detection::Opaque);
        }
    }

    #[test]
    fn a_very_long_request_line_is_http1_and_bounded() {
        let line = [b"GET /".as_slice(), &[b'a'; MAX_PEEK]].concat();
        assert_eq!(detect(&line), Detection::Http1);
        assert_eq!(detect(&line[..MAX_PEEK - 1]), Detection::NeedMore);
    }

    #[test]
    fn random_bytes_never_change_their_mind() {
        // A small generator of our own, so that a failure repeats itself.
        let alphabet = b"GET PRI * HTTP/1.02\r\n\r\nSM/a\0\x16";
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap()
        };
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..next() % 40)
                .map(|_| alphabet[next() % alphabet.len()])
                .collect();
            let mut last = Detection::NeedMore;
            for end in 0..=bytes.len() {
                let now = detect(&bytes[..end]);
                assert!(last == Detection::NeedMore || last == now, "{bytes:?}");
                last = now;
            }
        }
    }
}
