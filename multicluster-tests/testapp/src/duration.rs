//! Durations as people write them: `50ms`, `2s`, `1.5m`, `1h`.

use std::time::Duration;

/// Reads a number with a unit: `us`, `ms`, `s`, `m` or `h`. A bare number has
/// no meaning and is refused.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unit_start = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(|| format!("`{text}` has no unit: write for example 50ms or 2s"))?;
    let (number, unit) = text.split_at(unit_start);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is not one of us, ms, s, m, h")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{number}` is not a number"))?;
    Duration::try_from_secs_f64(number * seconds_per_unit)
        .map_err(|_| format!("`{text}` is not a possible duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("50ms", 50),
            ("2s", 2_000),
            ("1.5m", 90_000),
            ("1h", 3_600_000),
            (" 3s ", 3_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("10us"), Ok(Duration::from_micros(10)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "5", "s", "5 parsecs", "-1s", "1e400h", "ms5", "1s2"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
