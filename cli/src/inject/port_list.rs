//! Ports in an annotation: `8080,9000-9100`.

use std::{fmt, str::FromStr};

/// Ports and ranges of ports, in the order they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortList(Vec<(u16, u16)>);

/// More entries are refused.
const MAX_ENTRIES: usize = 100;

impl PortList {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for PortList {
    type Err = InvalidPortList;

    fn from_str(text: &str) -> Result<Self, InvalidPortList> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        let ranges: Vec<_> = text.split(',').map(range).collect::<Result<_, _>>()?;
        if ranges.len() > MAX_ENTRIES {
            return Err(InvalidPortList::TooMany);
        }
        Ok(Self(ranges))
    }
}

fn range(text: &str) -> Result<(u16, u16), InvalidPortList> {
    let text = text.trim();
    let invalid = || InvalidPortList::Entry(text.chars().take(40).collect());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first = port(first).ok_or_else(invalid)?;
    let last = port(last).ok_or_else(invalid)?;
    if first > last {
        return Err(invalid());
    }
    Ok((first, last))
}

fn port(text: &str) -> Option<u16> {
    let digits = text.trim();
    let exact = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|port| exact && *port != 0)
}

impl fmt::Display for PortList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if first == last {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// The text is no list of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPortList {
    /// This entry is neither a port nor a range.
    #[error("{0:?} is neither a port (1-65535) nor a range of ports (9000-9100)")]
    Entry(String),
    /// There are too many.
    #[error("more than {MAX_ENTRIES} ports and ranges")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_have_one_spelling() {
        for (text, spelling) in [
            ("", ""),
            (" ", ""),
            ("80", "80"),
            (" 8080 , 9000 - 9100", "8080,9000-9100"),
            ("5-5", "5"),
        ] {
            assert_eq!(text.parse::<PortList>().unwrap().to_string(), spelling);
        }
    }

    #[test]
    fn c2_what_is_no_list_of_ports_is_refused() {
        let many = vec!["1"; 101].join(",");
        for bad in [
            "0", "65536", "a", "1,", "9-1", "-1", "+1", "1-", "1\n2", "\u{0}", &many,
        ] {
            assert!(bad.parse::<PortList>().is_err(), "{bad:?}");
        }
    }
}
