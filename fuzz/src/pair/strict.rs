//! HTTP/1 as a reader that takes one spelling only, and has nothing in common with
//! ours: by it is told what went in, and what came out.

/// A message, as far as it concerns its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Method, authority and path; or the status.
    pub(super) first: Vec<String>,
    /// In lower case, and in order. Cookies are one.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    /// Nothing follows it on the connection.
    pub(super) is_last: bool,
    /// It asks for a tunnel: what comes at once behind it may be the tunnel's, and
    /// need not be taken for a request.
    pub(super) asks_for_tunnel: bool,
}

/// What there is next.
#[derive(Debug)]
pub(super) enum Next {
    /// A message, and how many bytes it takes.
    Whole(Message, usize),
    /// The beginning of one, or nothing.
    More,
    /// It is none.
    Bad,
}

/// All messages in a row, how many bytes they take, and whether there is nothing
/// wrong behind them.
pub(super) struct All {
    pub(super) messages: Vec<Message>,
    pub(super) used: usize,
    pub(super) is_good: bool,
}

/// Requests up to the last one.
pub(super) fn requests(bytes: &[u8]) -> All {
    let mut all = All {
        messages: Vec::new(),
        used: 0,
        is_good: true,
    };
    while let Some(rest) = bytes.get(all.used..).filter(|rest| !rest.is_empty()) {
        match request(rest) {
            Next::Whole(message, used) => {
                all.used += used;
                all.messages.push(message);
                if all.messages.last().is_some_and(|last| last.is_last) {
                    break;
                }
            }
            Next::More => break,
            Next::Bad => {
                all.is_good = false;
                break;
            }
        }
    }
    all
}

/// The next request.
pub(super) fn request(bytes: &[u8]) -> Next {
    let start = empty_lines(bytes);
    let Some(end) = end_of_head(&bytes[start..]) else {
        return Next::More;
    };
    let Some((line, fields)) = lines(&bytes[start..start + end]) else {
        return Next::Bad;
    };
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else {
        return Next::Bad;
    };
    if !is_text(target) || target.contains('\t') {
        return Next::Bad;
    }
    let is_old = version == "HTTP/1.0";
    if !is_token(method) || !(is_old || version == "HTTP/1.1") {
        return Next::Bad;
    }
    let hosts = values(&fields, "host");
    if hosts.len() > 1 || (hosts.is_empty() && !is_old) {
        return Next::Bad;
    }
    let host = hosts.first().map_or("", |host| *host);
    let Some((authority, path)) = meant(method, target, host) else {
        return Next::Bad;
    };
    let Some(framing) = framing(&fields, is_old) else {
        return Next::Bad;
    };
    let mut message = Message {
        first: vec![method.to_owned(), authority, path],
        is_last: is_last(&fields, is_old),
        asks_for_tunnel: method == "CONNECT" || !values(&fields, "upgrade").is_empty(),
        fields: end_to_end(&fields),
        ..Message::default()
    };
    // CONNECT has no body: what follows would be the tunnel's.
    let framing = if method == "CONNECT" {
        Framing::Length(0)
    } else {
        framing
    };
    let framing = if framing == Framing::Rest {
        Framing::Length(0)
    } else {
        framing
    };
    body(bytes, start + end, framing, &mut message)
}

/// The final answer to a request of this method; `is_over` if nothing follows the
/// bytes.
pub(super) fn answer(bytes: &[u8], method: &str, is_over: bool) -> Next {
    let mut start = 0;
    loop {
        start += empty_lines(&bytes[start..]);
        let Some(end) = end_of_head(&bytes[start..]) else {
            return Next::More;
        };
        let Some((line, fields)) = lines(&bytes[start..start + end]) else {
            return Next::Bad;
        };
        let mut words = line.splitn(3, ' ');
        let (version, code) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let is_old = version == "HTTP/1.0";
        let reason = words.next().unwrap_or("");
        let is_code = code.len() == 3 && code.bytes().all(|digit| digit.is_ascii_digit());
        if !is_code || !is_text(reason) || !(is_old || version == "HTTP/1.1") || code == "101" {
            return Next::Bad;
        }
        let Some(framing) = framing(&fields, is_old) else {
            return Next::Bad;
        };
        start += end;
        if code.starts_with('1') {
            continue;
        }
        let mut message = Message {
            first: vec![code.to_owned()],
            is_last: is_last(&fields, is_old),
            fields: end_to_end(&fields),
            ..Message::default()
        };
        let has_none = method == "HEAD" || matches!(code, "204" | "304");
        let framing = if has_none {
            Framing::Length(0)
        } else {
            framing
        };
        if framing == Framing::Rest {
            if !is_over {
                return Next::More;
            }
            message.body = bytes[start..].to_vec();
            message.is_last = true;
            return Next::Whole(message, bytes.len());
        }
        return body(bytes, start, framing, &mut message);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    /// Until the end, if it is an answer.
    Rest,
}

/// Bytes of empty lines before a message: they mean nothing.
fn empty_lines(bytes: &[u8]) -> usize {
    let lines = bytes.chunks(2).take_while(|line| line == b"\r\n");
    lines.map(<[u8]>::len).sum()
}

/// Up to and with the empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    end.map(|end| end + 4)
}

type Fields = Vec<(String, String)>;

/// The first line of a head, and its fields.
fn lines(head: &[u8]) -> Option<(String, Fields)> {
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let text = text.strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let first = lines.next()?;
    let fields: Option<Fields> = lines.map(field).collect();
    Some((first.to_owned(), fields?))
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    if !is_token(name) || !is_text(value) {
        return None;
    }
    let value = value.trim_matches([' ', '\t']);
    Some((name.to_ascii_lowercase(), value.to_owned()))
}

/// What may stand in a field's value, or say what a status means (RFC 9110 §5.5, RFC 9112
/// §4).
fn is_text(text: &str) -> bool {
    text.chars().all(|c| c == '\t' || (c >= ' ' && c != '\x7f'))
}

fn is_token(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(good)
}

fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a str> {
    let named = fields.iter().filter(|(other, _)| other == name);
    named.map(|(_, value)| &**value).collect()
}

/// The authority and the path that a target means.
fn meant(method: &str, target: &str, host: &str) -> Option<(String, String)> {
    if method == "CONNECT" {
        return Some((target.to_owned(), String::new()));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Some((host.to_owned(), target.to_owned()));
    }
    let (_, rest) = target.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = match path.chars().next() {
        None if method == "OPTIONS" => "*".to_owned(),
        None => "/".to_owned(),
        Some('?') => format!("/{path}"),
        Some(_) => path.to_owned(),
    };
    Some((authority.to_owned(), path))
}

/// Where the body ends; none if that is not clear.
fn framing(fields: &Fields, is_old: bool) -> Option<Framing> {
    let codings = values(fields, "transfer-encoding");
    let lengths = values(fields, "content-length");
    match (&codings[..], &lengths[..]) {
        ([], []) => Some(Framing::Rest),
        ([coding], []) if !is_old && coding.eq_ignore_ascii_case("chunked") => {
            Some(Framing::Chunked)
        }
        ([], [length]) => {
            let is_number = !length.is_empty() && length.bytes().all(|c| c.is_ascii_digit());
            let length = length.parse().ok().filter(|_| is_number)?;
            Some(Framing::Length(length))
        }
        _ => None,
    }
}

fn is_last(fields: &Fields, is_old: bool) -> bool {
    let said = |wanted: &str| named(fields).any(|word| word == wanted);
    said("close") || (is_old && !said("keep-alive"))
}

/// What `Connection` names.
fn named(fields: &Fields) -> impl Iterator<Item = String> {
    let values = values(fields, "connection").join(",");
    let words = values
        .split(',')
        .map(|word| word.trim_matches([' ', '\t']).to_ascii_lowercase());
    words.collect::<Vec<_>>().into_iter()
}

/// What is not about one connection, nor about lengths, nor ours.
fn end_to_end(fields: &Fields) -> Fields {
    const OF_CONNECTION: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "http2-settings",
        "transfer-encoding",
        "upgrade",
        "te",
        "content-length",
        "host",
    ];
    let named: Vec<String> = named(fields).collect();
    let stays = |name: &str| {
        !OF_CONNECTION.contains(&name) && !is_ours(name) && !named.iter().any(|other| other == name)
    };
    let mut left: Fields = fields
        .iter()
        .filter(|(name, _)| stays(name))
        .cloned()
        .collect();
    let crumbs = values(&left, "cookie").join("; ");
    let had_cookies = left.iter().any(|(name, _)| name == "cookie");
    left.retain(|(name, _)| name != "cookie");
    if had_cookies {
        // An empty one at the end leaves a blank, which is not of the value.
        let cookie = crumbs.trim_matches([' ', '\t']);
        left.push(("cookie".to_owned(), cookie.to_owned()));
    }
    left
}

/// For programs of the mesh alone.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with("l5d-") || name.starts_with("mesh-")
}

fn body(bytes: &[u8], start: usize, framing: Framing, message: &mut Message) -> Next {
    let message = std::mem::take(message);
    match framing {
        Framing::Length(length) => {
            let Some(end) = start.checked_add(length).filter(|end| *end <= bytes.len()) else {
                return Next::More;
            };
            let body = bytes[start..end].to_vec();
            Next::Whole(Message { body, ..message }, end)
        }
        Framing::Chunked => chunks(bytes, start, message),
        Framing::Rest => Next::Bad,
    }
}

fn chunks(bytes: &[u8], mut at: usize, mut message: Message) -> Next {
    loop {
        let Some(length) = bytes[at..].windows(2).position(|window| window == b"\r\n") else {
            return Next::More;
        };
        let line = &bytes[at..at + length];
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let is_bad = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
        let (size, extension) = line.split_at(digits);
        let is_clear = extension.first().is_none_or(|byte| b"; \t".contains(byte));
        let size = std::str::from_utf8(size).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|_| is_clear && !extension.iter().any(is_bad)) else {
            return Next::Bad;
        };
        at += length + 2;
        if size == 0 {
            return trailers(bytes, at, message);
        }
        let Some(end) = at.checked_add(size).filter(|end| end + 2 <= bytes.len()) else {
            return Next::More;
        };
        message.body.extend_from_slice(&bytes[at..end]);
        if &bytes[end..end + 2] != b"\r\n" {
            return Next::Bad;
        }
        at = end + 2;
    }
}

fn trailers(bytes: &[u8], at: usize, mut message: Message) -> Next {
    if bytes[at..].starts_with(b"\r\n") {
        return Next::Whole(message, at + 2);
    }
    let Some(end) = end_of_head(&bytes[at..]) else {
        return Next::More;
    };
    let text = [b"trailers\r\n", &bytes[at..at + end]].concat();
    let Some((_, fields)) = lines(&text) else {
        return Next::Bad;
    };
    message.trailers = end_to_end(&fields);
    Next::Whole(message, at + end)
}
