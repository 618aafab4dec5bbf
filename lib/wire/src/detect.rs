//! What a connection speaks, by its first bytes.

/// What can be said of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// More bytes may still turn it into HTTP.
    NeedMore,
    /// HTTP/1: a request line has come, or what some servers would take for one.
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
///
/// HTTP/1 is also what only a generous server would take for it, with spaces or
/// empty lines too many: as bytes that nobody reads it would reach such a server with
/// all that its sender likes to say in our headers. Read as HTTP it is refused.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detection {
    if bytes.starts_with(PREFACE) {
        return Detection::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Detection::NeedMore;
    }
    let peeked = &bytes[..bytes.len().min(MAX_PEEK)];
    let line = skip_line_ends(peeked);
    if peeked.len() - line.len() > MAX_LINE_ENDS {
        return Detection::Http1;
    }
    match line.iter().position(|b| *b == b'\n') {
        Some(end) if names_http(&line[..end]) => Detection::Http1,
        Some(_) => Detection::Opaque,
        None if !begins_with_token(line) => Detection::Opaque,
        None if peeked.len() < MAX_PEEK => Detection::NeedMore,
        None if names_http(line) || is_plausible(line) => Detection::Http1,
        None => Detection::Opaque,
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Ends of lines before a request line. RFC 9112 §2.2 wants an empty line to be
/// ignored; generous servers ignore all of them.
const MAX_LINE_ENDS: usize = 7;

fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let ends = bytes.iter().take_while(|byte| is_end(byte)).count();
    &bytes[ends..]
}

/// A token, what can become one, or one with something behind it.
fn begins_with_token(line: &[u8]) -> bool {
    let end = line.iter().position(|byte| is_space(*byte));
    let (token, is_over) = (&line[..end.unwrap_or(line.len())], end.is_some());
    let token = token
        .strip_suffix(b"\r")
        .filter(|_| !is_over)
        .unwrap_or(token);
    token.iter().all(|byte| is_token_byte(*byte)) && !(is_over && token.is_empty())
}

/// A token, and behind it somewhere a word that begins with `HTTP/`.
fn names_http(line: &[u8]) -> bool {
    let begins_word = |window: &[u8]| {
        window
            .split_first()
            .is_some_and(|(space, word)| is_space(*space) && word.eq_ignore_ascii_case(b"HTTP/"))
    };
    begins_with_token(line) && line.windows(6).any(begins_word)
}

/// A request line whose end is far away (RFC 9112 §3).
fn is_plausible(line: &[u8]) -> bool {
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let target = parts.nth(1).unwrap_or_default();
    !target.is_empty() && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// RFC 9110 §5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
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
            b"OPTIONS rtsp://web/ RTSP/1.0\r\n",
            b"\r\n\r\nhello, world\r\n",
            b"<34>Oct 11 web: GET / HTTP/1.1\n",
            b"\0",
            b"0\x0c\x02\x01\x01",
            b"\n\0",
        ] {
            holds_for_every_split(bytes, Detection::Opaque);
        }
    }

    /// nginx, for one, takes most of these.
    #[test]
    fn h7_what_only_some_servers_take_for_http_is_read_as_such() {
        for request in [
            "GET  / HTTP/1.1\r\n",
            "GET / HTTP/1.1 \r\n",
            "GET / HTTP/1.1 x\r\n",
            "GET /\tHTTP/1.1\r\n",
            "GET\t/ HTTP/1.1\r\n",
            "GET \t HTTP/1.1\r\n",
            "GET /a b HTTP/1.1\n",
            "G!T / HTTP/1.1\r\n",
            "GET / http/1.1\r\n",
            "GET / HTTP/2.0\r\n",
            "GET / HTTP/1.01\r\n",
            "GET /\u{1} HTTP/1.1\r\n",
            "\nGET / HTTP/1.1\r\n",
            "\r\n\r\n\r\nGET / HTTP/1.1\r\n",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHI / HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\nSX",
            "\n\n\n\n\n\n\n\n",
        ] {
            holds_for_every_split(request.as_bytes(), Detection::Http1);
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
