//! A reader of HTTP/1 that refuses nothing: it says what a proxy has sent, right
//! or wrong.

use super::{Understood, by_name};

/// A request's lines, and what follows as its framing says.
#[derive(Debug)]
pub(crate) struct Raw {
    first: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

impl Raw {
    /// The request at the beginning of `bytes`, if it is whole, and how long it
    /// is.
    pub(crate) fn of(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, mut rest) = split(bytes, b"\r\n\r\n")?;
        let (first, lines) = split(head, b"\r\n").unwrap_or((head, &[]));
        let mut raw = Self {
            first: String::from_utf8_lossy(first).into_owned(),
            fields: fields(lines),
            body: Vec::new(),
            trailers: Vec::new(),
        };
        if raw.value("transfer-encoding").is_some() {
            raw.chunks(&mut rest)?;
        } else if let Some(length) = raw.value("content-length") {
            // One that is no number was not taken for a length.
            let (body, behind) = rest.split_at_checked(length.parse().unwrap_or(0))?;
            raw.body = body.to_vec();
            rest = behind;
        }
        Some((raw, bytes.len() - rest.len()))
    }

    /// The answer that `bytes` are, all that has come, if it is whole; those of 1xx
    /// before it do not count.
    pub(crate) fn answer(bytes: &[u8], head_only: bool) -> Option<String> {
        let (head, rest) = split(bytes, b"\r\n\r\n")?;
        let (first, lines) = split(head, b"\r\n").unwrap_or((head, &[]));
        let status = String::from_utf8_lossy(first);
        let status = status.split(' ').nth(1)?.to_owned();
        if status.starts_with('1') && status != "101" {
            return Self::answer(rest, head_only);
        }
        let fields = fields(lines);
        let has = |name: &str| fields.iter().any(|(found, _)| found == name);
        let bodiless = head_only || matches!(&status[..], "101" | "204" | "304");
        let framed = has("transfer-encoding") || has("content-length");
        let (body, trailers) = match framed {
            _ if bodiless => (Vec::new(), Vec::new()),
            // It is framed as a request is.
            true => {
                let (raw, _) = Self::of(bytes)?;
                (raw.body, raw.trailers)
            }
            false => (rest.to_vec(), Vec::new()),
        };
        let first = String::new();
        let raw = Self {
            first,
            fields,
            body,
            trailers,
        };
        Some(format!("{status}{}", raw.understood().content()))
    }

    fn value(&self, name: &str) -> Option<String> {
        let (_, value) = self.fields.iter().find(|(found, _)| found == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn chunks(&mut self, rest: &mut &[u8]) -> Option<()> {
        loop {
            let (size, more) = split(rest, b"\r\n")?;
            let size = String::from_utf8_lossy(size);
            let size = size.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            if size == 0 {
                *rest = more;
                break;
            }
            self.body.extend_from_slice(more.get(..size)?);
            *rest = more.get(size + 2..)?;
        }
        if let Some(behind) = rest.strip_prefix(b"\r\n") {
            *rest = behind;
            return Some(());
        }
        let (lines, behind) = split(rest, b"\r\n\r\n")?;
        self.trailers = fields(lines);
        *rest = behind;
        Some(())
    }

    pub(crate) fn understood(self) -> Understood {
        let mut parts = self.first.splitn(3, ' ').map(str::to_owned);
        let (method, target) = (parts.next(), parts.next().unwrap_or_default());
        let host = self.value("host").unwrap_or_default();
        let (authority, path) = match target.split_once("://") {
            _ if method.as_deref() == Some("CONNECT") => (target, String::new()),
            Some((_, rest)) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let path = if end == rest.len() { "/" } else { &rest[end..] };
                (rest[..end].to_owned(), path.to_owned())
            }
            None => (host, target),
        };
        let pairs = |fields: &[(String, Vec<u8>)]| {
            by_name(fields.iter().map(|(name, value)| (&name[..], &value[..])))
        };
        Understood {
            method: method.unwrap_or_default(),
            authority,
            path,
            fields: pairs(&self.fields),
            trailers: pairs(&self.trailers),
            body: self.body,
        }
    }
}

fn split<'a>(bytes: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(by.len()).position(|window| window == by)?;
    Some((&bytes[..at], &bytes[at + by.len()..]))
}

fn fields(mut lines: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    while !lines.is_empty() {
        let (line, rest) = split(lines, b"\r\n").unwrap_or((lines, &[]));
        let (name, value) = split(line, b":").unwrap_or((line, &[]));
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push((name, value.trim_ascii().to_vec()));
        lines = rest;
    }
    fields
}

#[test]
fn whole_requests_are_read() {
    let input = b"POST http://web/x HTTP/1.1\r\nHost: other\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n\
                  5\r\nhello\r\n0\r\nx-t: 1\r\n\r\nGET";
    let (raw, len) = Raw::of(input).unwrap();
    let read = raw.understood().shown();
    assert_eq!(read, "POST web /x {x-a: b} \"hello\" {x-t: 1}");
    assert_eq!(len, input.len() - 3);
    assert!(Raw::of(&input[..len - 1]).is_none());
    let input = b"GET / HTTP/1.1\r\nhost: web\r\ncontent-length: 2\r\n\r\nabc";
    let (raw, len) = Raw::of(input).unwrap();
    let read = raw.understood().shown();
    assert_eq!(read, "GET web / {content-length: 2} \"ab\"");
    assert_eq!(len, input.len() - 1);
}
