//! Which bytes may stand where (RFC 9110 §5, RFC 9112 §3, RFC 3986 §3).

use memchr::memchr;

const fn table(set: &[u8], alphanumeric: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = alphanumeric && (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < set.len() {
        table[set[index] as usize] = true;
        index += 1;
    }
    table
}

/// RFC 9110 §5.6.2.
static TOKEN: [bool; 256] = TOKEN_BYTES;
const TOKEN_BYTES: [bool; 256] = table(b"!#$%&'*+-.^_`|~", true);
static LOWER_TOKEN: [bool; 256] = without_upper(TOKEN_BYTES);
/// RFC 3986 §3.2.2 without `sub-delims`: nobody's host name has them, and a
/// comma there is how two values were made one.
static HOST: [bool; 256] = table(b"-._~%", true);

const fn without_upper(mut table: [bool; 256]) -> [bool; 256] {
    let mut byte = b'A';
    while byte <= b'Z' {
        table[byte as usize] = false;
        byte += 1;
    }
    table
}

fn all(bytes: &[u8], table: &[bool; 256]) -> bool {
    // Without a branch for each byte, so that one does not wait for the other.
    let good = |good: bool, byte: &u8| good & table[usize::from(*byte)];
    bytes.iter().fold(true, good)
}

/// A method or a field's name in any case.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, &TOKEN)
}

/// A field's name as HTTP/2 has it: no upper case (RFC 9113 §8.2.1).
pub(crate) fn is_lower_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, &LOWER_TOKEN)
}

/// A field's value without white space around it: no control character but the
/// tab (RFC 9110 §5.5).
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    let edge = |byte: Option<&u8>| !matches!(byte, Some(b' ' | b'\t'));
    edge(bytes.first()) && edge(bytes.last()) && (!may_have_control(bytes) || is_text(bytes))
}

fn is_text(bytes: &[u8]) -> bool {
    let is_good = |byte: &u8| (*byte >= b' ' || *byte == b'\t') && *byte != 0x7f;
    bytes.iter().all(is_good)
}

/// Whether there may be a control character, looking at eight bytes at a time: values
/// are short, and too short for the vectors that a compiler makes. A tab is one.
fn may_have_control(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return true;
    };
    let (words, _) = bytes.as_chunks();
    // The last word may look again at bytes of the one before it.
    let found = |found: u64, word: &[u8; 8]| found | controls(u64::from_le_bytes(*word));
    words
        .iter()
        .fold(controls(u64::from_le_bytes(*last)), found)
        != 0
}

/// Not zero if one of the eight bytes is below a space or is DEL. (Bytes above the lowest
/// such one may be taken for one, too: a borrow goes on.)
const fn controls(word: u64) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH * 0x80;
    let below_space = word.wrapping_sub(EACH * 0x20) & !word;
    let changed = word ^ (EACH * 0x7f);
    let is_delete = changed.wrapping_sub(EACH) & !changed;
    (below_space | is_delete) & HIGH
}

/// Writes `from` in lower case to `to`, which is as long, eight bytes at a time for the
/// same reason. (What was just written is better not read again: words that lie across
/// those that were written have to wait for them.)
pub(crate) fn lower(from: &[u8], to: &mut [u8]) {
    for (word, lowered) in from.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
        *lowered = lower_word(*word);
    }
    // The last word may begin with some of the one before it.
    match (from.last_chunk(), to.last_chunk_mut()) {
        (Some(word), Some(lowered)) => *lowered = lower_word(*word),
        _ => {
            for (byte, lowered) in from.iter().zip(to) {
                *lowered = byte.to_ascii_lowercase();
            }
        }
    }
}

const fn lower_word(word: [u8; 8]) -> [u8; 8] {
    lowered(u64::from_ne_bytes(word)).to_ne_bytes()
}

/// No sum carries over into the next byte.
const fn lowered(word: u64) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH * 0x80;
    let low = word & !HIGH;
    let from_a = low + EACH * (0x80 - b'A' as u64);
    let beyond_z = low + EACH * (0x7f - b'Z' as u64);
    let is_upper = from_a & !beyond_z & !word & HIGH;
    word | (is_upper >> 2)
}

/// `host` or `host:port`, without user information (RFC 9110 §4.2.4).
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    let (host, rest) = if bytes.first() == Some(&b'[') {
        let Some(end) = memchr(b']', bytes) else {
            return false;
        };
        let (literal, rest) = bytes.split_at(end + 1);
        if !is_ip_literal(literal) {
            return false;
        }
        (literal, rest)
    } else {
        let end = memchr(b':', bytes).unwrap_or(bytes.len());
        let (host, rest) = bytes.split_at(end);
        if !all(host, &HOST) {
            return false;
        }
        (host, rest)
    };
    !host.is_empty() && is_port(rest)
}

fn is_ip_literal(bracketed: &[u8]) -> bool {
    let inner = bracketed.get(1..bracketed.len() - 1).unwrap_or_default();
    let allowed = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    !inner.is_empty() && inner.iter().all(allowed)
}

/// Nothing, or `:` and a number that fits a port (an empty one is the default
/// port, RFC 3986 §3.2.3).
fn is_port(bytes: &[u8]) -> bool {
    match bytes {
        [] | [b':'] => true,
        [b':', digits @ ..] => digits.len() <= 5 && number(digits).is_some_and(|n| n <= 65_535),
        _ => false,
    }
}

/// `host:port`, as CONNECT has it (RFC 9112 §3.2.3): the port is not optional.
pub(crate) fn has_port(authority: &[u8]) -> bool {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    colon.is_some_and(|at| number(&authority[at + 1..]).is_some())
}

/// An absolute path with its query; no fragment, no space, no control
/// character. Characters outside ASCII do not belong there, yet clients send
/// them, and they cannot be mistaken for anything; bytes that are no characters
/// are refused by `httparse`, and so cannot be passed on to everybody.
pub(crate) fn is_path(bytes: &[u8]) -> bool {
    let bad = |bad: bool, byte: &u8| bad | (*byte <= b' ') | (*byte == 0x7f) | (*byte == b'#');
    bytes.first() == Some(&b'/')
        && !bytes.iter().fold(false, bad)
        && (bytes.is_ascii() || std::str::from_utf8(bytes).is_ok())
}

/// RFC 3986 §3.1.
pub(crate) fn is_scheme(bytes: &[u8]) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.iter().all(inner)
}

/// `1*DIGIT`, nothing else (RFC 9110 §8.6): no sign, list, space or prefix.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let digit = |value: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    };
    digits.iter().try_fold(0, digit)
}

/// The elements of a comma-separated list, without the empty ones
/// (RFC 9110 §5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let elements = value.split(|byte| *byte == b',').map(trim);
    elements.filter(|element| !element.is_empty())
}

/// `value` without spaces and tabs around it, which is all the white space that
/// fields know.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let white = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = value.iter().position(white).unwrap_or(value.len());
    let end = value.iter().rposition(white).map_or(start, |last| last + 1);
    &value[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_made_lower_case_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for length in 0..=17 {
                for at in 0..length {
                    for around in [b'Z', 0xff] {
                        let mut bytes = vec![around; length];
                        bytes[at] = byte;
                        let mut lowered = vec![0; length];
                        lower(&bytes, &mut lowered);
                        assert_eq!(lowered, bytes.to_ascii_lowercase());
                    }
                }
            }
        }
    }

    #[test]
    fn h4_authorities() {
        for good in [
            "a",
            "web.shop:80",
            "a_b",
            "1.2.3.4:0",
            "[::1]",
            "[fd00::1]:443",
            "a:",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a,b", "u@a", "a:b", "a:1:2", "a:65536", "a:123456", "a/b", "a?b",
            "a#b", "[::1", "[]", "[::1]x", "[g::]", "a\0", "a\\b", "a:+1", "http://a",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
        assert!(has_port(b"a:1") && has_port(b"[::1]:1"));
        assert!(!has_port(b"a") && !has_port(b"[::1]") && !has_port(b"a:"));
    }

    #[test]
    fn h3_every_byte_of_a_value_is_looked_at_wherever_it_stands() {
        for length in 1..=25 {
            for (at, byte) in (0..length).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
                let is_inside = at > 0 && at + 1 < length;
                let is_good = match byte {
                    b' ' | b'\t' => is_inside,
                    0..b' ' | 0x7f => false,
                    _ => true,
                };
                for around in [b'a', b'~', b'!', 0x80, 0xff] {
                    let mut value = vec![around; length];
                    value[at] = byte;
                    assert_eq!(is_value(&value), is_good, "{value:?}");
                }
            }
        }
        assert!(is_value(b""));
    }

    #[test]
    fn h4_paths() {
        for good in ["/", "/a?b", "/%2e%2e//", "/caf\u{e9}", "/\"<>[]{}|^`\\"] {
            assert!(is_path(good.as_bytes()), "{good}");
        }
        for bad in [
            &b""[..],
            b"a",
            b"/a b",
            b"/a#b",
            b"/\x7f",
            b"/\0",
            b"/caf\xe9",
        ] {
            assert!(!is_path(bad), "{bad:?}");
        }
    }

    #[test]
    fn h2_numbers() {
        let bad = [
            "",
            "+5",
            "-5",
            "5,5",
            " 5",
            "0x5",
            "5a",
            "18446744073709551616",
        ];
        for bad in bad {
            assert_eq!(number(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"007"), Some(7));
    }

    #[test]
    fn h3_values_and_names() {
        for bad in ["a\0", "a\rb", "a\nb", "\u{7f}", " a", "a ", "\ta"] {
            assert!(!is_value(bad.as_bytes()), "{bad:?}");
        }
        for good in ["", "a", "a\tb", "caf\u{e9}"] {
            assert!(is_value(good.as_bytes()), "{good:?}");
        }
        assert!(!is_token(b"") && !is_token(b"a b") && !is_token(b"a:") && is_token(b"A-1"));
        assert!(!is_lower_token(b"A") && is_lower_token(b"a-1"));
    }

    #[test]
    fn lists_lose_empty_elements() {
        let elements: Vec<_> = list(b" a,,\tb ,").collect();
        assert_eq!(elements, [b"a", b"b"]);
        assert_eq!(trim(b" \t "), b"");
    }
}
