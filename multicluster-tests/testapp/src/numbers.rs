//! Sets of request numbers, written as ranges: `0-41,43`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Numbers in one text, at most: more than a server remembers.
pub(crate) const MAX_NUMBERS: u64 = 10_000_000;

/// A set of numbers of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Numbers(pub(crate) BTreeSet<u64>);

impl Numbers {
    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl FromIterator<u64> for Numbers {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if(|&next| next == last + 1) {
                last = next;
            }
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = BTreeSet::new();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{error}"));
            let (first, last) = (number(first)?, number(last)?);
            let room = MAX_NUMBERS - numbers.len() as u64;
            if last < first || last - first >= room {
                return Err(format!("`{range}` is not a range, or one too long"));
            }
            numbers.extend(first..=last);
        }
        Ok(Self(numbers))
    }
}

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_and_read_as_ranges() {
        for (numbers, text) in [
            (&[][..], ""),
            (&[7], "7"),
            (&[0, 1, 2, 5, 7, 8], "0-2,5,7-8"),
            (&[u64::MAX], "18446744073709551615"),
        ] {
            let set: Numbers = numbers.iter().copied().collect();
            assert_eq!(set.to_string(), text);
            assert_eq!(text.parse(), Ok(set));
        }
    }

    #[test]
    fn bad_ranges_are_refused() {
        for text in ["a", "3-1", "1-2-3", "-1", "0-18446744073709551615"] {
            assert!(text.parse::<Numbers>().is_err(), "{text}");
        }
    }
}
