//! When requests are due.

use std::time::Duration;

/// A fixed rate for a fixed time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    rate: f64,
    requests: u64,
}

impl Schedule {
    /// `rate` in requests per second, above 0.
    pub(super) fn new(rate: f64, duration: Duration) -> Self {
        let requests = (rate * duration.as_secs_f64()).round() as u64;
        Self { rate, requests }
    }

    /// The time from the start to each request, in order. Computed from the
    /// request's number, so that no error adds up.
    pub(super) fn offsets(self) -> impl Iterator<Item = Duration> {
        (0..self.requests).map(move |n| Duration::from_secs_f64(n as f64 / self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spread_evenly_from_the_start() {
        let offsets: Vec<_> = Schedule::new(4.0, Duration::from_secs(1))
            .offsets()
            .collect();
        let want = [0, 250, 500, 750].map(Duration::from_millis);
        assert_eq!(offsets, want);
    }

    #[test]
    fn the_number_of_requests_is_rate_times_duration() {
        for (rate, millis, want) in [(100.0, 10_000, 1000), (0.5, 4_000, 2), (3.0, 100, 0)] {
            let schedule = Schedule::new(rate, Duration::from_millis(millis));
            assert_eq!(schedule.offsets().count(), want, "{rate} for {millis}ms");
        }
    }
}
