//! Power of two choices over peak-EWMA load.

use std::time::{Duration, Instant};

/// What an endpoint is assumed to take before it has answered once.
const INITIAL_RTT: Duration = Duration::from_millis(30);
/// How fast old answers are forgotten.
const DECAY: Duration = Duration::from_secs(10);

/// The latency of an endpoint, as an average that jumps up at once with a slow
/// answer and sinks slowly (peak EWMA).
#[derive(Clone, Copy, Debug)]
pub struct PeakEwma {
    rtt_seconds: f64,
    at: Instant,
}

impl PeakEwma {
    /// An endpoint that has not answered yet.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            rtt_seconds: INITIAL_RTT.as_secs_f64(),
            at: now,
        }
    }

    /// Takes one answer's latency into account.
    pub fn observe(&mut self, rtt: Duration, now: Instant) {
        let rtt = rtt.as_secs_f64();
        let old = self.decayed(now);
        self.rtt_seconds = if rtt > old {
            rtt
        } else {
            let keep = self.keep(now);
            old * keep + rtt * (1.0 - keep)
        };
        self.at = now;
    }

    /// The cost of one more request when `pending` are under way.
    #[must_use]
    pub fn load(&self, pending: u32, now: Instant) -> f64 {
        self.decayed(now) * (f64::from(pending) + 1.0)
    }

    fn decayed(&self, now: Instant) -> f64 {
        self.rtt_seconds * self.keep(now)
    }

    fn keep(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (-elapsed / DECAY.as_secs_f64()).exp()
    }
}

/// Picks one of `len` endpoints: two different ones at random (`dice`), then
/// the one with the lower `load`. None if there is none.
#[must_use]
pub fn pick_two(len: usize, dice: (usize, usize), load: impl Fn(usize) -> f64) -> Option<usize> {
    if len < 2 {
        return len.checked_sub(1);
    }
    let first = dice.0 % len;
    let second = (first + 1 + dice.1 % (len - 1)) % len;
    Some(if load(second) < load(first) {
        second
    } else {
        first
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let start = Instant::now();
        let mut ewma = PeakEwma::new(start);
        ewma.observe(Duration::from_secs(1), start);
        assert!(ewma.load(0, start) >= 1.0);
        ewma.observe(Duration::from_millis(1), start + Duration::from_millis(10));
        assert!(ewma.load(0, start + Duration::from_millis(10)) > 0.9);
        assert!(ewma.load(0, start + Duration::from_secs(60)) < 0.01);
    }

    #[test]
    fn pending_requests_multiply_the_load() {
        let now = Instant::now();
        let ewma = PeakEwma::new(now);
        assert!((ewma.load(3, now) / ewma.load(0, now) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn the_less_loaded_of_two_different_endpoints_wins() {
        for a in 0..5 {
            for b in 0..5 {
                let chosen = pick_two(3, (a, b), |i| f64::from(u32::try_from(i).unwrap())).unwrap();
                assert!(chosen < 2, "of two different ones, never the worst");
            }
        }
        assert_eq!(pick_two(1, (9, 9), |_| 0.0), Some(0));
        assert_eq!(pick_two(0, (0, 0), |_| 0.0), None);
    }
}
