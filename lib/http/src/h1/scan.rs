//! Finds the end of a head, whatever pieces it comes in, looking at each byte
//! once.

use memchr::memchr;

use crate::{fault::Fault, limits::Limits};

/// How far the search for an empty line has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    /// Bytes that have been searched for a line's end.
    searched: usize,
    /// Where the line begins that is not over.
    line: usize,
    /// Lines that are over, the first one included.
    lines: usize,
    /// Where the fields begin.
    fields: usize,
}

/// A request line without its target.
const AROUND_TARGET: usize = 64;

impl Scan {
    /// A section of fields alone: trailers.
    pub(crate) fn fields_only() -> Self {
        Self {
            lines: 1,
            ..Self::default()
        }
    }

    /// Whether nothing has been looked at.
    pub(crate) const fn is_new(&self) -> bool {
        self.searched == 0
    }

    /// The length of the head with which `input` begins, if it is all there.
    /// `input` is the same as last time, or longer.
    pub(crate) fn find(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, Fault> {
        while let Some(found) = memchr(b'\n', input.get(self.searched..).unwrap_or_default()) {
            let end = self.searched + found;
            if end == self.line || input.get(end.wrapping_sub(1)) != Some(&b'\r') {
                return Err(Fault::LineEnd);
            }
            let empty = end == self.line + 1;
            self.searched = end + 1;
            self.line = end + 1;
            self.count(empty);
            self.check(end + 1, limits)?;
            if empty && self.lines > 0 {
                return Ok(Some(end + 1));
            }
        }
        self.searched = input.len();
        self.check(input.len(), limits)?;
        Ok(None)
    }

    fn count(&mut self, empty: bool) {
        if !empty {
            self.lines += 1;
        }
        if self.lines == 1 && self.fields == 0 {
            self.fields = self.line;
        }
    }

    /// Whether what has come so far is within the bounds.
    fn check(&self, len: usize, limits: &Limits) -> Result<(), Fault> {
        let first_line = if self.lines == 0 { len } else { self.fields };
        if first_line > limits.target_bytes.saturating_add(AROUND_TARGET) {
            return Err(Fault::TargetTooLong);
        }
        // The first line is one more.
        let too_many = self.lines > limits.head_lines.min(MAX_LINES) + 1;
        let too_long = self.lines > 0 && len - self.fields > limits.head_bytes;
        if too_many {
            return Err(Fault::TooManyFields);
        }
        if too_long {
            return Err(Fault::FieldsTooLarge);
        }
        Ok(())
    }
}

/// How many fields can be parsed at all.
pub(crate) const MAX_LINES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn find(input: &[u8]) -> Result<Option<usize>, Fault> {
        Scan::default().find(input, &Limits::default())
    }

    #[test]
    fn the_end_is_found_in_any_pieces() {
        let head = b"GET / HTTP/1.1\r\na: b\r\nc: d\r\n\r\n";
        let limits = Limits::default();
        let mut scan = Scan::default();
        for end in 0..head.len() {
            assert_eq!(scan.find(&head[..end], &limits), Ok(None), "{end}");
        }
        assert_eq!(scan.find(head, &limits), Ok(Some(head.len())));
        assert_eq!(find(&[&head[..], b"more"].concat()), Ok(Some(head.len())));
    }

    #[test]
    fn h2_a_line_ends_in_cr_lf() {
        for bad in [
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/1.1\r\na: b\n\r\n",
            "\n",
            "a\r\n\n",
        ] {
            assert_eq!(find(bad.as_bytes()), Err(Fault::LineEnd), "{bad:?}");
        }
    }

    #[test]
    fn h9_bounds_strike_before_the_end_has_come() {
        let long = vec![b'a'; 65 * 1024];
        assert_eq!(find(&long), Err(Fault::TargetTooLong));
        let long = [b"GET / HTTP/1.1\r\na: ", &long[..]].concat();
        assert_eq!(find(&long), Err(Fault::FieldsTooLarge));
        let lines = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n));
        assert!(find(lines(100).as_bytes()).unwrap().is_some());
        assert_eq!(find(lines(101).as_bytes()), Err(Fault::TooManyFields));
    }
}
