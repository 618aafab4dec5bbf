//! Header blocks as we write them: what the static table has by its number,
//! everything else as it is. Nothing is put into the peer's dynamic table, so
//! that blocks can be written in any order, and nothing is kept for it.

use super::table::STATIC;
use crate::head::{Head, name::NameId};

/// Says that we use no dynamic table (RFC 7541 §6.3). To be written before the
/// first block: it holds whatever bound the peer sets later (§4.2).
pub(crate) const NO_TABLE: u8 = 0x20;

/// Appends `head` as a header block.
pub(crate) fn head(head: &Head, out: &mut Vec<u8>) {
    if let Some(status) = head.status() {
        let digits = [
            b'0' + (status / 100 % 10) as u8,
            b'0' + (status / 10 % 10) as u8,
            b'0' + (status % 10) as u8,
        ];
        pseudo(NameId::STATUS, &digits, out);
    } else if !head.method().is_empty() {
        request(head, out);
    }
    for field in head.field_refs() {
        literal(field.id, field.name, field.value, field.never_indexed, out);
    }
}

fn request(head: &Head, out: &mut Vec<u8>) {
    pseudo(NameId::METHOD, head.method(), out);
    let plain_connect = head.is_connect() && head.protocol().is_none();
    if !plain_connect {
        pseudo(NameId::SCHEME, head.scheme().unwrap_or(b"http"), out);
        pseudo(NameId::PATH, head.path(), out);
    }
    if let Some(authority) = head.authority() {
        pseudo(NameId::AUTHORITY, authority, out);
    }
    if let Some(protocol) = head.protocol() {
        literal(NameId::PROTOCOL, b":protocol", protocol, false, out);
    }
}

/// A pseudo-header: by number if the static table has it with this value.
fn pseudo(name: NameId, value: &[u8], out: &mut Vec<u8>) {
    let first = usize::from(name.0);
    let same_name = (first..).zip(&STATIC[first - 1..14]);
    let whole = same_name
        .filter(|(_, (of, _))| *of == STATIC[first - 1].0)
        .find(|(_, (_, known))| known.as_bytes() == value && !value.is_empty());
    match whole {
        Some((index, _)) => integer(index, 7, 0x80, out),
        None => literal(name, &[], value, false, out),
    }
}

/// Bytes that the lengths of a field take, at most.
const INTEGERS: usize = 16;

/// A field that no table keeps (RFC 7541 §6.2.2), or may not keep (§6.2.3).
fn literal(id: NameId, name: &[u8], value: &[u8], never_indexed: bool, out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + INTEGERS);
    let kind = if never_indexed { 0x10 } else { 0 };
    match id.static_index() {
        Some(index) => integer(usize::from(index), 4, kind, out),
        None => {
            out.push(kind);
            string(name, out);
        }
    }
    string(value, out);
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    integer(bytes.len(), 7, 0, out);
    out.extend_from_slice(bytes);
}

/// RFC 7541 §5.1.
#[inline]
fn integer(value: usize, prefix: u32, first: u8, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(first | value as u8);
    } else {
        out.push(first | most as u8);
        more(value - most, out);
    }
}

/// What does not fit an integer's prefix.
fn more(mut rest: usize, out: &mut Vec<u8>) {
    while rest >= 128 {
        out.push(0x80 | (rest % 128) as u8);
        rest /= 128;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7541_c1_integers() {
        for (value, prefix, expected) in [
            (10, 5, &[10][..]),
            (1337, 5, &[31, 154, 10]),
            (42, 8, &[42]),
        ] {
            let mut out = Vec::new();
            integer(value, prefix, 0, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn rfc_7541_c3_the_first_request_without_indexing() {
        let request = Head::request("GET", "www.example.com", "/").unwrap();
        let mut out = Vec::new();
        head(&request, &mut out);
        assert_eq!(out, b"\x82\x86\x84\x01\x0fwww.example.com");
    }

    #[test]
    fn statuses() {
        for (status, expected) in [(200, &b"\x88"[..]), (500, b"\x8e"), (503, b"\x08\x03503")] {
            let mut out = Vec::new();
            head(&Head::response(status).unwrap(), &mut out);
            assert_eq!(out, expected);
        }
    }
}
