//! Numbers out of rounds.

use hdrhistogram::Histogram;

/// The middle one, or the mean of the two in the middle.
///
/// # Panics
/// Without a number there is no median.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    assert!(!numbers.is_empty(), "a measure has rounds");
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// Latencies of up to a minute, in nanoseconds.
pub(crate) fn latencies() -> Histogram<u64> {
    const LONGEST: u64 = 60_000_000_000;
    const DIGITS: u8 = 3;
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("the bounds are valid")
}

/// A quantile (0 to 1), in microseconds.
pub(crate) fn microseconds_at(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn one_slow_round_does_not_move_it() {
        assert_eq!(median(&[1.0, 1.1, 0.9, 90.0, 1.0]), 1.0);
    }

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut all = latencies();
        for microsecond in 1..=100_u64 {
            all.record(microsecond * 1000).unwrap();
        }
        assert!((microseconds_at(&all, 0.5) - 50.0).abs() < 0.1);
        assert!((microseconds_at(&all, 0.99) - 99.0).abs() < 0.1);
    }
}
