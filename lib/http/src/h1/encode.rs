//! [`Head`]s as HTTP/1 has them on the wire. Fields of the connection are
//! written here and nowhere else.

use crate::head::{FieldRef, Head, name::NameId};

/// How the bytes of a body are told from what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body, and nothing is said of its length.
    None,
    /// So many bytes are left.
    Length(u64),
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// What is said of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// What the version says by itself.
    Default,
    /// `connection: close`.
    Close,
    /// `connection: keep-alive`, for HTTP/1.0.
    KeepAlive,
}

/// Writes a request.
pub(crate) fn request(head: &Head, framing: Framing, out: &mut Vec<u8>) {
    let authority = head.authority().unwrap_or_default();
    let target = if head.is_connect() {
        authority
    } else {
        head.path()
    };
    for part in [
        head.method(),
        b" ",
        target,
        b" HTTP/1.1\r\nhost: ",
        authority,
        b"\r\n",
    ] {
        out.extend_from_slice(part);
    }
    connection(head, Persistence::Default, out);
    fields(head, framing, out);
}

/// Writes an answer.
pub(crate) fn response(head: &Head, framing: Framing, persistence: Persistence, out: &mut Vec<u8>) {
    let status = head.status().unwrap_or(500);
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    connection(head, persistence, out);
    fields(head, framing, out);
}

/// Writes the end of a chunked body.
pub(crate) fn last_chunk(trailers: Option<&Head>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    let fields = trailers.into_iter().flat_map(Head::field_refs);
    for field in fields.filter(|field| !field.id.is_forbidden_in_trailers()) {
        line(field.name, field.value, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands before a chunk's data.
pub(crate) fn chunk_size(len: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let nibble = (len >> (digit * 4)) & 0xf;
        out.push(b"0123456789abcdef"[nibble]);
    }
    out.extend_from_slice(b"\r\n");
}

fn connection(head: &Head, persistence: Persistence, out: &mut Vec<u8>) {
    let te = head.field_refs().any(|field| field.id == NameId::TE);
    let tokens: [(&[u8], bool); 4] = [
        (b"close", persistence == Persistence::Close),
        (b"keep-alive", persistence == Persistence::KeepAlive),
        (b"upgrade", head.upgrade().is_some()),
        (b"te", te),
    ];
    let mut separator: &[u8] = b"connection: ";
    for (token, _) in tokens.iter().filter(|(_, said)| *said) {
        out.extend_from_slice(separator);
        out.extend_from_slice(token);
        separator = b", ";
    }
    if separator == b", " {
        out.extend_from_slice(b"\r\n");
    }
    if let Some(upgrade) = head.upgrade() {
        line(b"upgrade", upgrade, out);
    }
}

fn fields(head: &Head, framing: Framing, out: &mut Vec<u8>) {
    let mut cookies = false;
    for field in head.field_refs() {
        match field.id {
            // A request's crumbs are one field again (RFC 9113 §8.2.3).
            NameId::COOKIE if cookies => {}
            NameId::COOKIE => {
                cookies = true;
                cookie(head, out);
            }
            // Where nothing may be said of a length, and where it is said below.
            NameId::CONTENT_LENGTH if !says_length(head, framing) => {}
            _ => line(field.name, field.value, out),
        }
    }
    match framing {
        Framing::Length(length) if head.content_length().is_none() => {
            out.extend_from_slice(b"content-length: ");
            decimal(length, out);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => line(b"transfer-encoding", b"chunked", out),
        Framing::None | Framing::Length(_) | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// An answer to HEAD and a 304 say what the length would be; 1xx and 204 may not
/// (RFC 9110 §8.6).
fn says_length(head: &Head, framing: Framing) -> bool {
    match framing {
        Framing::Length(_) => true,
        Framing::None => !matches!(head.status(), Some(100..=199 | 204)),
        Framing::Chunked | Framing::UntilClose => false,
    }
}

fn cookie(head: &Head, out: &mut Vec<u8>) {
    let mut separator: &[u8] = b"cookie: ";
    let is_cookie = |field: &FieldRef<'_>| field.id == NameId::COOKIE;
    for field in head.field_refs().filter(is_cookie) {
        out.extend_from_slice(separator);
        out.extend_from_slice(field.value);
        separator = b"; ";
    }
    out.extend_from_slice(b"\r\n");
}

fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        // A remainder of ten fits any integer.
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The registered phrase (RFC 9110 §15), or none.
const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut out = Vec::new();
        for number in [0, 7, 10, 65_535] {
            decimal(number, &mut out);
            out.push(b' ');
            chunk_size(usize::try_from(number).unwrap(), &mut out);
        }
        decimal(u64::MAX, &mut out);
        let expected = "0 0\r\n7 7\r\n10 a\r\n65535 ffff\r\n18446744073709551615";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn h14_crumbs_are_one_cookie_and_set_cookies_stay_two() {
        let mut head = Head::request("GET", "web", "/").unwrap();
        for (name, value) in [
            ("cookie", "a=1"),
            ("x", "y"),
            ("cookie", "b=2"),
            ("te", "trailers"),
        ] {
            head.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let mut out = Vec::new();
        request(&head, Framing::None, &mut out);
        let expected = "GET / HTTP/1.1\r\nhost: web\r\nconnection: te\r\ncookie: a=1; b=2\r\nx: \
                        y\r\nte: trailers\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let mut head = Head::response(200).unwrap();
        head.push(b"set-cookie", b"a=1").unwrap();
        head.push(b"set-cookie", b"b=2").unwrap();
        let mut out = Vec::new();
        response(&head, Framing::Length(0), Persistence::Close, &mut out);
        let expected = "HTTP/1.1 200 OK\r\nconnection: close\r\nset-cookie: a=1\r\nset-cookie: \
                        b=2\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
