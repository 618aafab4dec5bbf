//! Heads of HTTP/1 into [`Head`]s.

use std::mem::MaybeUninit;

use httparse::Header;

use super::scan::MAX_LINES;
use crate::{
    fault::Fault,
    head::{
        Head, Invalid,
        name::NameId,
        syntax::{self, list},
    },
    limits::Limits,
};

/// What a head says of its connection, and is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// HTTP/1.1 rather than HTTP/1.0.
    pub(crate) http11: bool,
    /// Another message may follow (RFC 9112 §9.3).
    pub(crate) keep_alive: bool,
    /// The body is chunked.
    pub(crate) chunked: bool,
}

/// How many fields `Connection` may name: each is looked for among all fields.
const MAX_NAMED: usize = 32;

type Slots<'b> = [MaybeUninit<Header<'b>>; MAX_LINES];

/// Reads a request's head, all of `input`.
pub(crate) fn request(input: &[u8], limits: &Limits, head: &mut Head) -> Result<Meta, Fault> {
    let mut slots: Slots<'_> = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(input, &mut slots);
    whole(status, input, Fault::RequestLine)?;
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Fault::RequestLine);
    };
    head.clear();
    head.make_room(input.len());
    let span = head.append(method.as_bytes()).map_err(fault_of)?;
    head.set_method_span(span);
    let meta = fields(parsed.headers, minor == 1, true, head)?;
    set_target(method.as_bytes(), target.as_bytes(), limits, head)?;
    if meta.http11 && !parsed.headers.iter().any(is_host) {
        return Err(Fault::Host);
    }
    Ok(meta)
}

/// Reads an answer's head, all of `input`.
pub(crate) fn response(input: &[u8], head: &mut Head) -> Result<Meta, Fault> {
    let mut slots: Slots<'_> = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, input, &mut slots);
    whole(status, input, Fault::StatusLine)?;
    let (Some(minor), Some(code)) = (parsed.version, parsed.code) else {
        return Err(Fault::StatusLine);
    };
    head.clear();
    head.make_room(input.len());
    head.set_status(code).map_err(|_| Fault::StatusLine)?;
    fields(parsed.headers, minor == 1, false, head)
}

/// Reads trailers, up to and with the empty line; all of `input`.
pub(crate) fn trailers(input: &[u8], head: &mut Head) -> Result<(), Fault> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_LINES];
    let parsed = httparse::parse_headers(input, &mut slots).map_err(|_| Fault::Trailers)?;
    let httparse::Status::Complete((len, parsed)) = parsed else {
        return Err(Fault::Trailers);
    };
    if len != input.len() {
        return Err(Fault::Trailers);
    }
    head.clear();
    for line in parsed {
        let name = head.append_lower(line.name.as_bytes());
        let name = name.map_err(|_| Fault::Trailers)?;
        let id = NameId::of(head.bytes(name));
        if id.is_forbidden_in_trailers() {
            return Err(Fault::Trailers);
        }
        let value = head.append(line.value).map_err(|_| Fault::Trailers)?;
        let admitted = head.admit(name, value, id, false);
        admitted.map_err(|_| Fault::Trailers)?;
    }
    Ok(())
}

fn whole(status: httparse::Result<usize>, input: &[u8], first_line: Fault) -> Result<(), Fault> {
    match status {
        Ok(httparse::Status::Complete(len)) if len == input.len() => Ok(()),
        Ok(_) => Err(first_line),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => Err(Fault::FieldLine),
        Err(httparse::Error::NewLine) => Err(Fault::LineEnd),
        Err(httparse::Error::TooManyHeaders) => Err(Fault::TooManyFields),
        Err(httparse::Error::Version) => Err(Fault::Version),
        Err(httparse::Error::Status | httparse::Error::Token) => Err(first_line),
    }
}

fn is_host(line: &Header<'_>) -> bool {
    line.name.eq_ignore_ascii_case("host")
}

/// What the lines say of the connection, as it is gathered.
#[derive(Default)]
struct Gathered {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// How many fields `Connection` names, which must go.
    names: usize,
    hosts: usize,
    codings: usize,
    te: bool,
}

fn fields(
    lines: &[Header<'_>],
    http11: bool,
    is_request: bool,
    head: &mut Head,
) -> Result<Meta, Fault> {
    let mut gathered = Gathered::default();
    let mut upgrade = None;
    for line in lines {
        let name = head.append_lower(line.name.as_bytes()).map_err(fault_of)?;
        let id = NameId::of(head.bytes(name));
        match id {
            NameId::CONNECTION => gathered.connection(line.value),
            NameId::KEEP_ALIVE | NameId::PROXY_CONNECTION | NameId::HTTP2_SETTINGS => {}
            NameId::TRANSFER_ENCODING => gathered.transfer_encoding(line.value)?,
            NameId::UPGRADE => upgrade = upgrade.or(Some(line.value)),
            NameId::TE => gathered.te(line.value),
            NameId::HOST if is_request => gathered.host(line.value, head)?,
            _ => {
                let value = head.append(line.value).map_err(fault_of)?;
                head.admit(name, value, id, false).map_err(fault_of)?;
            }
        }
    }
    if gathered.te && is_request {
        head.push(b"te", b"trailers").map_err(fault_of)?;
    }
    if gathered.names > MAX_NAMED {
        return Err(Fault::FieldLine);
    }
    if gathered.names > 0 {
        remove_named(lines, head);
    }
    // A request of HTTP/1.0 asks for nothing (RFC 9110 §7.8).
    let counts = gathered.upgrade && (http11 || !is_request);
    if let Some(upgrade) = upgrade.filter(|value| counts && is_upgrade(value)) {
        head.set_upgrade(Some(upgrade)).map_err(fault_of)?;
    }
    gathered.meta(http11, head)
}

impl Gathered {
    fn connection(&mut self, value: &[u8]) {
        for token in list(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.names += 1;
            }
        }
    }

    /// `chunked`, once, is all that there may be: every other form is one that
    /// somebody else may read differently.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        self.codings += 1;
        if self.codings > 1 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::TransferEncoding);
        }
        Ok(())
    }

    fn te(&mut self, value: &[u8]) {
        self.te |= list(value).any(|token| token.eq_ignore_ascii_case(b"trailers"));
    }

    fn host(&mut self, value: &[u8], head: &mut Head) -> Result<(), Fault> {
        self.hosts += 1;
        if self.hosts > 1 {
            return Err(Fault::Host);
        }
        if value.is_empty() {
            // A target without an authority has such a Host (RFC 9112 §3.2).
            return Ok(());
        }
        head.set_authority(value).map_err(|_| Fault::Host)
    }

    fn meta(&self, http11: bool, head: &Head) -> Result<Meta, Fault> {
        let chunked = self.codings > 0;
        if chunked && head.content_length().is_some() {
            return Err(Fault::TwoLengths);
        }
        if chunked && !http11 {
            return Err(Fault::TransferEncoding);
        }
        Ok(Meta {
            http11,
            keep_alive: !self.close && (http11 || self.keep_alive),
            chunked,
        })
    }
}

/// Removes what `Connection` names, except for what frames or routes the
/// message, or is the core's already.
fn remove_named(lines: &[Header<'_>], head: &mut Head) {
    let values = lines
        .iter()
        .filter(|line| line.name.eq_ignore_ascii_case("connection"));
    for token in values.flat_map(|line| list(line.value)) {
        let named = |name: &[u8]| {
            let id = NameId::of(name);
            let kept = matches!(id, NameId::CONTENT_LENGTH | NameId::TE);
            !kept && name.eq_ignore_ascii_case(token)
        };
        head.retain(|name, _| !named(name));
    }
}

/// HTTP/2 by upgrade is not offered (RFC 9113 §3.1), so nobody else may be asked
/// for it either.
fn is_upgrade(value: &[u8]) -> bool {
    list(value).next().is_some() && !list(value).any(|token| token.eq_ignore_ascii_case(b"h2c"))
}

/// The four forms of a target (RFC 9112 §3.2).
fn set_target(method: &[u8], target: &[u8], limits: &Limits, head: &mut Head) -> Result<(), Fault> {
    if target.len() > limits.target_bytes {
        return Err(Fault::TargetTooLong);
    }
    if method == b"CONNECT" {
        if !syntax::has_port(target) {
            return Err(Fault::Target);
        }
        return head.set_authority(target).map_err(|_| Fault::Target);
    }
    head.set_scheme(b"http").map_err(|_| Fault::Target)?;
    if target.first() == Some(&b'/') || (target == b"*" && method == b"OPTIONS") {
        return head.set_path(target).map_err(|_| Fault::Target);
    }
    absolute(method, target, head)
}

/// The host of a target in absolute form stands above `Host`, which is ignored
/// (RFC 9112 §3.2.2).
fn absolute(method: &[u8], target: &[u8], head: &mut Head) -> Result<(), Fault> {
    let colon = memchr::memmem::find(target, b"://").ok_or(Fault::Target)?;
    let (scheme, rest) = (&target[..colon], &target[colon + 3..]);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Fault::Target);
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
    let scheme = head.append_lower(scheme).map_err(fault_of)?;
    head.set_scheme_span(scheme);
    head.set_authority(authority).map_err(|_| Fault::Target)?;
    match path {
        [] if method == b"OPTIONS" => head.set_path(b"*"),
        [] => head.set_path(b"/"),
        [b'?', ..] => head.set_path(&[b"/", path].concat()),
        _ => head.set_path(path),
    }
    .map_err(|_| Fault::Target)
}

fn fault_of(invalid: Invalid) -> Fault {
    match invalid {
        Invalid::ContentLength => Fault::ContentLength,
        Invalid::Size => Fault::FieldsTooLarge,
        Invalid::Authority => Fault::Host,
        Invalid::Path | Invalid::Scheme => Fault::Target,
        Invalid::Method => Fault::RequestLine,
        Invalid::Status => Fault::StatusLine,
        Invalid::Name | Invalid::Value | Invalid::ConnectionSpecific => Fault::FieldLine,
    }
}
