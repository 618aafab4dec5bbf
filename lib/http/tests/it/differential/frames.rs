//! HTTP/2 frames made by hand, also wrong ones.

use super::CANARY;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let id = stream.to_be_bytes();
    [&len[1..], &[kind, flags], &id, payload].concat()
}

/// A client's preface; no answer may use a dynamic table.
pub(crate) fn preface() -> Vec<u8> {
    let settings = setting(1, 0);
    [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()
}

pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// Fields as literals, whatever is in them.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Of seven bits (RFC 7541 §5.1).
fn integer(mut value: usize, block: &mut Vec<u8>) {
    if value < 127 {
        return block.push(u8::try_from(value).unwrap());
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push(u8::try_from(value & 127).unwrap() | 128);
        value >>= 7;
    }
    block.push(u8::try_from(value).unwrap());
}

/// What every request begins with.
pub(crate) fn first<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    let rest = [(":scheme", "http"), (":authority", "web"), (":path", path)];
    [&[(":method", method)], &rest[..]].concat()
}

pub(crate) fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(fields))
}

/// A whole request.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, END_HEADERS | END_STREAM, &first("GET", path))
}

pub(crate) fn canary() -> Vec<u8> {
    get(CANARY, "/canary")
}

/// How the canary's request is shown.
pub(crate) fn canary_is() -> String {
    "GET web /canary".to_owned()
}
