//! Limits as people write them.

use super::{Limit, Program, Setting, Unit};

/// Why a text says no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLimit {
    /// An entry of a list has no `=`.
    #[error("{0:?} is no name=value")]
    Entry(String),
    /// There is no limit of this name.
    #[error("{0:?} is no limit")]
    Unknown(String),
    /// The program has none of this kind.
    #[error("{limit} is no limit of the {}", .program.as_str())]
    NotHere {
        /// Which limit.
        limit: Limit,
        /// Whose it is not.
        program: Program,
    },
    /// It is there already.
    #[error("{0} is set twice")]
    Twice(Limit),
    /// Its value has another form.
    #[error("{limit}: {text:?} is {expected}")]
    Value {
        /// Which limit.
        limit: Limit,
        /// The beginning of what was said.
        text: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Too little or too much.
    #[error("{limit}: {said} is not {}", range(*.limit))]
    Range {
        /// Which limit.
        limit: Limit,
        /// What was said.
        said: String,
    },
    /// Two limits do not fit.
    #[error("{larger} must not be more than {than}")]
    Contradiction {
        /// The one that is too large.
        larger: Limit,
        /// Of what.
        than: Limit,
    },
}

impl InvalidLimit {
    pub(super) fn entry(text: &str) -> Self {
        Self::Entry(beginning(text))
    }

    pub(super) fn unknown(text: &str) -> Self {
        Self::Unknown(beginning(text))
    }
}

impl Program {
    /// What it is called.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Gateway => "gateway",
        }
    }
}

/// The number that `text` says.
pub(super) fn value(limit: Limit, text: &str) -> Result<u64, InvalidLimit> {
    let setting = limit.setting();
    let unit = setting.unit;
    let value = unit.read(text).ok_or_else(|| InvalidLimit::Value {
        limit,
        text: beginning(text),
        expected: unit.expected(),
    })?;
    let (least, most) = setting.range;
    if !(least..=most).contains(&value) {
        let said = unit.text(value);
        return Err(InvalidLimit::Range { limit, said });
    }
    Ok(value)
}

fn range(limit: Limit) -> String {
    let Setting { unit, range, .. } = limit.setting();
    format!("from {} to {}", unit.text(range.0), unit.text(range.1))
}

/// As much of a wrong value as a message needs.
fn beginning(text: &str) -> String {
    text.chars().take(20).collect()
}

impl Unit {
    /// What follows a number, and what it stands for.
    const fn suffixes(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Bytes => &[("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10), ("", 1)],
            Self::Count => &[("", 1)],
            Self::Time => &[("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)],
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Bytes => "no number of bytes, such as 65536, 64Ki or 16Mi",
            Self::Count => "no whole number",
            Self::Time => "no time, such as 500ms, 10s, 5m or 1h",
        }
    }

    fn read(self, text: &str) -> Option<u64> {
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, suffix) = text.split_at(digits.unwrap_or(text.len()));
        let number: u64 = number.parse().ok()?;
        let known = self.suffixes().iter();
        let (_, scale) = known.copied().find(|(known, _)| *known == suffix)?;
        number.checked_mul(scale)
    }

    /// The shortest way to write it.
    #[must_use]
    pub fn text(self, value: u64) -> String {
        // 0 has no unit of its own: seconds are as good as any.
        if self == Self::Time && value == 0 {
            return "0s".to_owned();
        }
        let mut known = self.suffixes().iter().copied();
        let fits = |(_, scale): &(&str, u64)| value >= *scale && value.is_multiple_of(*scale);
        let (suffix, scale) = known.find(fits).unwrap_or(("", 1));
        format!("{}{suffix}", value / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        for (unit, text, value) in [
            (Unit::Bytes, "65536", Some(65536)),
            (Unit::Bytes, "64Ki", Some(65536)),
            (Unit::Bytes, "2Gi", Some(2 << 30)),
            (Unit::Bytes, "64 Ki", None),
            (Unit::Bytes, "64ki", None),
            (Unit::Bytes, "", None),
            (Unit::Bytes, "Ki", None),
            (Unit::Count, "+5", None),
            (Unit::Count, "5", Some(5)),
            (Unit::Time, "0s", Some(0)),
            (Unit::Time, "500ms", Some(500)),
            (Unit::Time, "90s", Some(90_000)),
            (Unit::Time, "5m", Some(300_000)),
            (Unit::Time, "1h", Some(3_600_000)),
            (Unit::Time, "1h5m", None),
        ] {
            assert_eq!(unit.read(text), value, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (unit, value, text) in [
            (Unit::Bytes, 65536, "64Ki"),
            (Unit::Bytes, 65537, "65537"),
            (Unit::Bytes, 0, "0"),
            (Unit::Count, 1024, "1024"),
            (Unit::Time, 90_000, "90s"),
            (Unit::Time, 300_000, "5m"),
            (Unit::Time, 1500, "1500ms"),
            (Unit::Time, 0, "0s"),
            (Unit::Time, 86_400_000, "24h"),
        ] {
            assert_eq!(unit.text(value), text);
            assert_eq!(unit.read(text), Some(value));
        }
    }
}
