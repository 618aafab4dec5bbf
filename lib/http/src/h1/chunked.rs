//! The chunked coding (RFC 9112 §7.1), as it is read.

use memchr::memchr;

use super::scan::Scan;
use crate::{fault::Fault, limits::Limits};

/// Where in a chunked body the reader is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunked {
    at: At,
    /// Bytes of extensions so far.
    extensions: usize,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Size,
    Data(u64),
    DataEnd,
    Trailers(Scan),
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More input is needed.
    NeedMore,
    /// Data may be taken, so many bytes at most.
    Data(u64),
    /// The body is over; it had no trailers.
    End,
    /// The body is over; the next so many bytes are its trailers, to be taken.
    Trailers(usize),
}

/// What commonly stands between the last byte of data and the next message.
const LAST: &[u8] = b"\r\n0\r\n\r\n";
/// The digits of 2^63.
const MAX_DIGITS: usize = 16;

impl Chunked {
    pub(crate) const fn new() -> Self {
        Self {
            at: At::Size,
            extensions: 0,
        }
    }

    /// Reads up to the next piece of data or the end, and takes what it has
    /// read off `input`.
    pub(crate) fn step(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Step, Fault> {
        loop {
            match &mut self.at {
                At::Data(left) => return Ok(Step::Data(*left)),
                At::DataEnd => match input {
                    [b'\r', b'\n', rest @ ..] => {
                        *input = rest;
                        self.at = At::Size;
                    }
                    [] | [b'\r'] => return Ok(Step::NeedMore),
                    _ => return Err(Fault::Chunk),
                },
                At::Size => {
                    let Some(size) = self.size(input, limits)? else {
                        return Ok(Step::NeedMore);
                    };
                    self.at = match size {
                        0 => At::Trailers(Scan::fields_only()),
                        size => At::Data(size),
                    };
                }
                At::Trailers(scan) => return trailers(scan, input, limits),
            }
        }
    }

    /// Says that `n` bytes of data were taken off `input`, and whether that was
    /// the last of the body; the end is then taken off too.
    pub(crate) fn took(&mut self, n: u64, input: &mut &[u8]) -> bool {
        if let At::Data(left) = &mut self.at {
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.at = At::DataEnd;
                if let Some(rest) = input.strip_prefix(LAST) {
                    *input = rest;
                    return true;
                }
            }
        }
        false
    }

    /// A line with a chunk's size and its extensions, which are dropped.
    fn size(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Option<u64>, Fault> {
        let room = limits.chunk_extension_bytes.saturating_sub(self.extensions);
        let longest = room.saturating_add(MAX_DIGITS + 2);
        let window = &input[..input.len().min(longest)];
        let Some(end) = memchr(b'\n', window) else {
            // Digits are looked at early: a wrong byte need not wait for a line.
            digits(window)?;
            return if input.len() >= longest {
                Err(Fault::Chunk)
            } else {
                Ok(None)
            };
        };
        let Some(line) = window[..end].strip_suffix(b"\r") else {
            return Err(Fault::Chunk);
        };
        let (size, extension) = digits(line)?;
        check_extension(extension)?;
        self.extensions = self.extensions.saturating_add(extension.len());
        if self.extensions > limits.chunk_extension_bytes {
            return Err(Fault::Chunk);
        }
        *input = &input[end + 1..];
        size.map(Some).ok_or(Fault::Chunk)
    }
}

/// The size, if there are digits, and what follows them: nothing, an extension,
/// or the beginning of a line's end.
fn digits(line: &[u8]) -> Result<(Option<u64>, &[u8]), Fault> {
    let hex = |byte: &u8| byte.is_ascii_hexdigit();
    let len = line
        .iter()
        .position(|byte| !hex(byte))
        .unwrap_or(line.len());
    let (digits, rest) = line.split_at(len);
    if len > MAX_DIGITS || (len == 0 && !line.is_empty()) {
        return Err(Fault::Chunk);
    }
    let size = digits.iter().try_fold(0_u64, |size, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        size.checked_mul(16)?.checked_add(u64::from(digit))
    });
    Ok((size.filter(|_| len > 0), rest))
}

/// `;` and visible characters. White space before it is tolerated by nobody
/// who wants the same answer everywhere.
fn check_extension(extension: &[u8]) -> Result<(), Fault> {
    let inner = |byte: &u8| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t';
    match extension {
        [] => Ok(()),
        [b';', rest @ ..] if rest.iter().all(inner) => Ok(()),
        _ => Err(Fault::Chunk),
    }
}

fn trailers(scan: &mut Scan, input: &mut &[u8], limits: &Limits) -> Result<Step, Fault> {
    match input {
        [b'\r', b'\n', rest @ ..] => {
            *input = rest;
            return Ok(Step::End);
        }
        [] | [b'\r'] => return Ok(Step::NeedMore),
        _ => {}
    }
    match scan.find(input, limits)? {
        Some(len) if len <= limits.trailer_bytes => Ok(Step::Trailers(len)),
        None if input.len() <= limits.trailer_bytes => Ok(Step::NeedMore),
        _ => Err(Fault::FieldsTooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body's data, or the fault, of input that comes as one.
    fn read(mut input: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let (mut chunked, mut data) = (Chunked::new(), Vec::new());
        loop {
            match chunked.step(&mut input, &Limits::default())? {
                Step::NeedMore => return Ok(None),
                Step::End | Step::Trailers(_) => return Ok(Some(data)),
                Step::Data(left) => {
                    let n = input.len().min(usize::try_from(left).unwrap());
                    if n == 0 {
                        return Ok(None);
                    }
                    data.extend_from_slice(&input[..n]);
                    input = &input[n..];
                    if chunked.took(n as u64, &mut input) {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_are_put_together() {
        let body = b"5\r\nhello\r\n6;a=b;c=\"d\"\r\n world\r\n0\r\n\r\n";
        assert_eq!(read(body), Ok(Some(b"hello world".to_vec())));
        assert_eq!(
            read(b"00A\r\n0123456789\r\n000\r\n\r\n"),
            Ok(Some(b"0123456789".to_vec()))
        );
        assert_eq!(read(b"0\r\na: b\r\n\r\n"), Ok(Some(Vec::new())));
    }

    #[test]
    fn h2_bad_chunks() {
        let long = "11111111111111111\r\n";
        let bad = [
            "\r\n",
            "+5\r\nhello",
            "0x5\r\nhello",
            "5 \r\nhello",
            " 5\r\nhello",
            "-1\r\n",
            "g\r\n",
            "5\nhello",
            "5\r\r\nhello",
            "5;a\0b\r\n",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "5\r\nhello\rX",
            "5 ;a=b\r\nhello",
            long,
            "ffffffffffffffff1\r\n",
            "0\r\nX\n\r\n",
            "\u{b2}\r\n",
        ];
        for bad in bad {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn h9_extensions_are_bounded() {
        let endless = [b"5;", &[b'a'; 9000][..]].concat();
        assert_eq!(read(&endless), Err(Fault::Chunk));
        let many = b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(300);
        assert_eq!(read(&many), Err(Fault::Chunk));
    }
}
