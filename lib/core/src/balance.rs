//! Power of two choices over peak-EWMA latency and requests under way.

use std::time::{Duration, Instant};

/// How fast old answers are forgotten.
const DECAY: Duration = Duration::from_secs(10);
/// Latencies closer together than this factor count as the same: without it one
/// of two equals would be given everything for as long as it is a hair faster.
const ALIKE: f64 = 1.5;

/// The latency of an endpoint, as an average that jumps up at once with a slow
/// answer and sinks slowly (peak EWMA). While nothing is asked it sinks, too, so
/// that what was slow is tried again.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeakEwma {
    /// None before the first answer.
    last: Option<(f64, Instant)>,
}

impl PeakEwma {
    /// Takes one answer's latency into account.
    pub fn observe(&mut self, latency: Duration, now: Instant) {
        let latency = latency.as_secs_f64();
        let average = self.last.map_or(latency, |(old, at)| {
            let keep = keep(at, now);
            latency.max(old * keep + latency * (1.0 - keep))
        });
        self.last = Some((average, now));
    }

    /// What one more request has to expect when `pending` are under way.
    #[must_use]
    pub fn load(&self, pending: u32, now: Instant) -> Load {
        Load {
            latency: self.last.map(|(average, at)| average * keep(at, now)),
            pending,
        }
    }
}

/// How much of an average is left `now`.
fn keep(at: Instant, now: Instant) -> f64 {
    let elapsed = now.saturating_duration_since(at).as_secs_f64();
    (-elapsed / DECAY.as_secs_f64()).exp()
}

/// What one more request has to expect of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Seconds, if it has answered before.
    latency: Option<f64>,
    /// Requests under way.
    pending: u32,
}

impl Load {
    /// Whether a request should rather go here than to `other`. An endpoint that
    /// has never answered is taken to be as fast as the other, and tried first:
    /// a new pod has its share at once, and one that hangs no more than that.
    #[must_use]
    pub fn is_lighter_than(&self, other: &Self) -> bool {
        let (Some(latency), Some(of_other)) = (self.latency, other.latency) else {
            let rank = |load: &Self| (load.pending, load.latency.is_some());
            return rank(self) < rank(other);
        };
        if latency < of_other * ALIKE && of_other < latency * ALIKE {
            return self.pending < other.pending;
        }
        let cost = |latency: f64, load: &Self| latency * (f64::from(load.pending) + 1.0);
        cost(latency, self) < cost(of_other, other)
    }
}

/// Picks one of `len` endpoints: two different ones at random (`dice`), then
/// the first unless the second one `is_lighter` (second, first). None if there
/// is none.
#[must_use]
pub fn pick_two(
    len: usize,
    dice: (usize, usize),
    is_lighter: impl Fn(usize, usize) -> bool,
) -> Option<usize> {
    if len < 2 {
        return len.checked_sub(1);
    }
    let first = dice.0 % len;
    let second = (first + 1 + dice.1 % (len - 1)) % len;
    Some(if is_lighter(second, first) {
        second
    } else {
        first
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn load(latency_ms: Option<u32>, pending: u32) -> Load {
        Load {
            latency: latency_ms.map(|ms| f64::from(ms) / 1000.0),
            pending,
        }
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let start = Instant::now();
        let mut ewma = PeakEwma::default();
        let latency = |ewma: &PeakEwma, ms| ewma.load(0, start + MS * ms).latency.unwrap();
        assert!(ewma.load(0, start).latency.is_none());
        ewma.observe(MS, start);
        ewma.observe(1000 * MS, start);
        assert!(latency(&ewma, 0) >= 1.0);
        ewma.observe(MS, start + 10 * MS);
        assert!(latency(&ewma, 10) > 0.9);
        // At rest: e^-2 after twice the time.
        assert!((latency(&ewma, 20_010) / latency(&ewma, 10) - 0.135).abs() < 0.001);
        // At work: towards what it is.
        for second in 1..=60 {
            ewma.observe(MS, start + 1000 * MS * second);
        }
        assert!((latency(&ewma, 60_000) - 0.0035).abs() < 0.001, "{ewma:?}");
    }

    #[test]
    fn a_request_goes_to_the_lighter_one() {
        for (one, other) in [
            // Clearly faster.
            (load(Some(10), 0), load(Some(16), 0)),
            (load(Some(10), 2), load(Some(40), 0)),
            (load(Some(40), 0), load(Some(10), 4)),
            // Alike: the one with less to do.
            (load(Some(14), 0), load(Some(10), 1)),
            (load(Some(14), 7), load(Some(10), 8)),
            // Unknown: tried first, and no more than the other.
            (load(None, 0), load(Some(1), 0)),
            (load(Some(100), 0), load(None, 1)),
            (load(None, 1), load(Some(1), 2)),
            (load(None, 0), load(None, 1)),
        ] {
            assert!(one.is_lighter_than(&other), "{one:?} {other:?}");
            assert!(!other.is_lighter_than(&one), "{other:?} {one:?}");
        }
        for (one, other) in [
            (load(Some(14), 3), load(Some(10), 3)),
            (load(None, 3), load(None, 3)),
        ] {
            let either = one.is_lighter_than(&other) || other.is_lighter_than(&one);
            assert!(!either, "chance decides: {one:?} {other:?}");
        }
    }

    #[test]
    fn the_lighter_of_two_different_endpoints_wins() {
        for a in 0..5 {
            for b in 0..5 {
                let chosen = pick_two(3, (a, b), |second, first| second < first).unwrap();
                assert!(chosen < 2, "of two different ones, never the worst");
            }
        }
        let none = |_, _| false;
        assert_eq!(pick_two(2, (1, 0), none), Some(1), "equals: chance decides");
        assert_eq!(pick_two(1, (9, 9), none), Some(0));
        assert_eq!(pick_two(0, (0, 0), none), None);
    }
}
