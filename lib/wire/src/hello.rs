//! Whether a connection begins with a TLS ClientHello, and which server it asks for
//! (RFC 8446 §4.1.2, RFC 6066 §3).
//!
//! Nothing else of it is looked at: whether the handshake is any good is for the
//! server to say, to which the bytes go on as they are.

/// What can be said of the bytes so far. Anything but [`Self::NeedMore`] is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// It may still become a ClientHello, or more of the one that it is.
    NeedMore,
    /// A ClientHello that asks for this server, in lower case. None if it names no
    /// server, or none that can be read.
    Tls(Option<Box<str>>),
    /// Something else.
    Other,
}

/// The most of a connection that is looked at. A ClientHello with a post-quantum key
/// share has about 1,800 bytes.
pub const MAX_HELLO: usize = 16 * 1024;

/// What a client is told before its connection is closed whose server name nobody has
/// here: a record with the fatal alert `unrecognized_name` (RFC 6066 §3).
pub const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// Says whether `bytes`, which are the first of a connection, are a ClientHello, into
/// whatever records and segments it is cut.
#[must_use]
pub fn client_hello(bytes: &[u8]) -> Hello {
    let peeked = &bytes[..bytes.len().min(MAX_HELLO)];
    if !is_record_of_handshake(peeked) {
        return Hello::Other;
    }
    let (handshake, is_over) = handshake(peeked);
    match handshake.first() {
        Some(kind) if *kind != CLIENT_HELLO => Hello::Other,
        _ => match body(&handshake) {
            Some(body) => Hello::Tls(server_name(body)),
            None if is_over || peeked.len() == MAX_HELLO => Hello::Tls(None),
            None => Hello::NeedMore,
        },
    }
}

/// Values of RFC 8446 §4 and §5.1, RFC 6066 §1.1 and §3.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// A record's type, its version, of which only the first byte is the same in all, and
/// its length.
const HEADER: usize = 5;
const MAJOR_VERSION: u8 = 3;

/// Whether that is a record of a handshake, or the beginning of one.
fn is_record_of_handshake(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|kind| *kind == HANDSHAKE)
        && bytes.get(1).is_none_or(|major| *major == MAJOR_VERSION)
}

/// What the records hold of a handshake, and whether something else is behind it.
fn handshake(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut handshake = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if !is_record_of_handshake(header) || length == 0 {
            return (handshake, true);
        }
        let (fragment, behind) = rest.split_at(length.min(rest.len()));
        handshake.extend_from_slice(fragment);
        bytes = behind;
    }
    (handshake, !is_record_of_handshake(bytes))
}

/// The first message of a handshake without its type and length, if all of it is there.
fn body(handshake: &[u8]) -> Option<&[u8]> {
    let (header, rest) = handshake.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]);
    rest.get(..usize::try_from(length).ok()?)
}

/// The host name that a ClientHello asks for.
fn server_name(hello: &[u8]) -> Option<Box<str>> {
    let mut rest = hello;
    let _version_and_random = take(&mut rest, 2 + 32)?;
    let _session_id = vector::<1>(&mut rest)?;
    let _cipher_suites = vector::<2>(&mut rest)?;
    let _compression_methods = vector::<1>(&mut rest)?;
    let mut extensions = vector::<2>(&mut rest)?;
    loop {
        let kind = number::<2>(&mut extensions)?;
        let mut data = vector::<2>(&mut extensions)?;
        if kind != usize::from(SERVER_NAME) {
            continue;
        }
        let mut names = vector::<2>(&mut data)?;
        let kind = number::<1>(&mut names)?;
        let name = vector::<2>(&mut names)?;
        let is_name = kind == usize::from(HOST_NAME) && !name.is_empty();
        let name = str::from_utf8(name).ok().filter(|_| is_name)?;
        let is_visible = name.bytes().all(|byte| byte.is_ascii_graphic());
        return is_visible.then(|| name.to_ascii_lowercase().into());
    }
}

/// The next `count` bytes.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// The next number, of so many bytes.
fn number<const BYTES: usize>(bytes: &mut &[u8]) -> Option<usize> {
    let number = take(bytes, BYTES)?;
    Some(
        number
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
    )
}

/// The next vector, whose length is a number of so many bytes (RFC 8446 §3.4).
fn vector<'a, const BYTES: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number::<BYTES>(bytes)?;
    take(bytes, length)
}

#[cfg(test)]
mod tests;
