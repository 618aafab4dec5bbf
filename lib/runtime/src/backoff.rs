//! How long to wait before the next attempt.

use std::time::Duration;

/// Pauses that double from `min` to `max`, each shortened at random by up to a
/// half, so that many who failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The first pause is at most `min`, none is longer than `max`.
    #[must_use]
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            failures: 0,
        }
    }

    /// The pause after one more failure.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's end has no meaning here"
    )]
    pub fn next(&mut self) -> Duration {
        let pause = pause(self.min, self.max, self.failures, rand::random());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Starts again from the shortest pause, after a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The pause after `failures` earlier ones; `chance` is in 0..1.
fn pause(min: Duration, max: Duration, failures: u32, chance: f64) -> Duration {
    let doubled = min.saturating_mul(2_u32.saturating_pow(failures)).min(max);
    doubled.mul_f64(1.0 - chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u128> = (0..9)
            .map(|n| pause(MIN, MAX, n, 0.0).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
    }

    #[test]
    fn chance_takes_away_at_most_a_half() {
        assert_eq!(pause(MIN, MAX, 0, 1.0), MIN / 2);
        assert_eq!(pause(MIN, MAX, u32::MAX, 0.5), MAX * 3 / 4);
    }

    #[test]
    fn a_success_starts_again() {
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..50 {
            assert!(backoff.next() <= MAX);
        }
        backoff.reset();
        assert!(backoff.next() <= MIN);
    }
}
