//! What a server has answered, read off its bytes.

use std::collections::BTreeMap;

/// The status of every answer of HTTP/1, in their order. (Nobody's error pages
/// have a status line in them.)
pub(crate) fn statuses(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let lines = text.split("HTTP/1.").skip(1);
    lines
        .filter_map(|line| line.split(' ').nth(1))
        .map(|status| status.chars().take(3).collect())
        .collect()
}

/// What has become of an HTTP/2 connection and its streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Status, or how the stream was reset.
    pub(crate) streams: BTreeMap<u32, String>,
    pub(crate) go_away: Option<String>,
    /// Answers to pings.
    pub(crate) pongs: usize,
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

impl Outcome {
    /// Of all that a server has sent; a frame that is not whole is left out.
    pub(crate) fn of(output: &[u8]) -> Self {
        let mut outcome = Self::default();
        let mut rest = output;
        while let Some(([a, b, c, kind, flags, id @ ..], more)) = rest.split_first_chunk::<9>() {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some((payload, more)) = more.split_at_checked(len) else {
                break;
            };
            rest = more;
            outcome.frame(*kind, *flags, u32::from_be_bytes(*id), payload);
        }
        outcome
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        match kind {
            HEADERS => {
                self.streams
                    .entry(stream)
                    .or_insert_with(|| status(payload));
            }
            // Behind an answer it says that the rest of the request is not needed.
            RST_STREAM if code(payload) == "NO_ERROR" && self.streams.contains_key(&stream) => {}
            RST_STREAM => {
                let reset = format!("RST {}", code(payload));
                self.streams.insert(stream, reset);
            }
            PING if flags & ACK != 0 => self.pongs += 1,
            GOAWAY => {
                let last = code(payload.get(4..).unwrap_or_default());
                // Who only says that it will close has not found a fault.
                if last != "NO_ERROR" {
                    self.go_away = Some(last);
                }
            }
            _ => {}
        }
    }
}

fn code(payload: &[u8]) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let code = payload.first_chunk().map(|code| u32::from_be_bytes(*code));
    let name = code.and_then(|code| NAMES.get(code as usize));
    name.map_or("?", |name| name).to_owned()
}

/// The status, which is a block's first field. The blocks have no dynamic table:
/// our settings have forbidden it.
fn status(block: &[u8]) -> String {
    const STATIC: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    // A table of no size is announced first.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20);
    let block = start.map_or(&[][..], |start| &block[start..]);
    match block {
        [indexed @ 0x88..=0x8e, ..] => STATIC[usize::from(indexed - 0x88)].to_owned(),
        // A literal with a name of the static table.
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, len, value @ ..] => {
            let bytes = &value[..usize::from(len & 0x7f).min(value.len())];
            match len & 0x80 {
                0 => String::from_utf8_lossy(bytes).into_owned(),
                _ => huffman_digits(bytes),
            }
        }
        _ => "?".to_owned(),
    }
}

/// Digits as RFC 7541's appendix B codes them: `0` to `2` in five bits, others
/// in six.
fn huffman_digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let value = |bits: &[u8]| bits.iter().fold(0, |value, bit| value << 1 | bit);
    let (mut rest, mut digits) = (&bits[..], String::new());
    while digits.len() < 3 && rest.len() >= 5 {
        let (digit, len) = match value(&rest[..5]) {
            short @ 0..=2 => (short, 5),
            _ if rest.len() >= 6 => (value(&rest[..6]).wrapping_sub(0b01_1001) + 3, 6),
            _ => break,
        };
        if digit > 9 {
            break;
        }
        digits.push(char::from(b'0' + digit));
        rest = &rest[len..];
    }
    digits
}

#[test]
fn statuses_are_read() {
    let output = b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.0 400 Bad request\r\n\r\n<html>";
    assert_eq!(statuses(output), ["204", "400"]);
    assert_eq!(status(&[0x20, 0x89]), "204");
    assert_eq!(status(&[0x48, 3, b'5', b'0', b'2']), "502");
    // RFC 7541, C.6.1: 302.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), "302");
}

#[test]
fn outcomes_are_read() {
    let output = [
        &[0, 0, 0, 4, 0, 0, 0, 0, 0][..],
        &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x89],
        &[0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 1],
        &[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 11],
    ];
    let outcome = Outcome::of(&output.concat());
    let streams = [(1, "204".to_owned()), (3, "RST PROTOCOL_ERROR".to_owned())];
    assert_eq!(outcome.streams, streams.into());
    assert_eq!(outcome.go_away.as_deref(), Some("ENHANCE_YOUR_CALM"));
    assert_eq!(outcome.pongs, 1);
}
