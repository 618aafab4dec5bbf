//! How much may be under way on a stream before its reader has taken it: little
//! at first, and more while the reader keeps up and the path is what holds it
//! back (its bandwidth-delay product), within a budget of the whole process.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// The largest window of a stream: 1 Gbit/s over 100 ms fits.
const LARGEST: u32 = 16 << 20;
/// Of the whole process.
pub(crate) static BUDGET: Budget = Budget::new(64 << 20);

/// What windows may have together beyond their first size, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    granted: AtomicUsize,
}

impl Budget {
    const fn new(most: usize) -> Self {
        Self {
            most,
            granted: AtomicUsize::new(0),
        }
    }

    /// Takes `more` from it, if that much is left.
    fn grant(&self, more: usize) -> bool {
        let take = |granted: usize| granted.checked_add(more).filter(|sum| *sum <= self.most);
        self.granted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// One stream's window.
#[derive(Debug)]
pub(crate) struct Growth {
    budget: &'static Budget,
    first: u32,
    window: u32,
    /// How much was consumed since then.
    consumed: usize,
    since: Instant,
}

impl Growth {
    pub(crate) const fn new(first: u32, now: Instant, budget: &'static Budget) -> Self {
        Self {
            budget,
            first,
            window: first,
            consumed: 0,
            since: now,
        }
    }

    /// Takes note of bytes that were consumed. If a whole window was within two
    /// round trips, it is the window that the sender waits for: the next one is
    /// twice as large.
    pub(crate) fn consumed(&mut self, bytes: usize, now: Instant, rtt: Duration) -> Option<u32> {
        self.consumed = self.consumed.saturating_add(bytes);
        if self.consumed < self.window as usize {
            return None;
        }
        let took = now.saturating_duration_since(self.since);
        self.consumed = 0;
        self.since = now;
        let next = self.window.saturating_mul(2).min(LARGEST);
        if took > rtt.saturating_mul(2) || next == self.window {
            return None;
        }
        let granted = self.budget.grant((next - self.window) as usize);
        granted.then(|| {
            self.window = next;
            next
        })
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        let more = self.window - self.first;
        let granted = &self.budget.granted;
        granted.fetch_sub(more as usize, Ordering::Relaxed);
    }
}

/// Round trips as pings show them: what is shorter counts at once, what is
/// longer may have waited behind other bytes.
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    known: Option<Duration>,
    asked: Option<(u64, Instant)>,
    /// The last ping that was answered.
    pub(crate) answered: Option<u64>,
}

impl RoundTrip {
    pub(crate) const fn known(&self) -> Option<Duration> {
        self.known
    }

    pub(crate) const fn ask(&mut self, number: u64, now: Instant) {
        self.asked = Some((number, now));
    }

    pub(crate) fn answer(&mut self, number: u64, now: Instant) {
        self.answered = Some(number);
        let Some((_, asked)) = self.asked.take_if(|(last, _)| *last == number) else {
            return;
        };
        let sample = now.saturating_duration_since(asked);
        self.known = Some(self.known.map_or(sample, |known| {
            sample.min(known + sample.saturating_sub(known) / 8)
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u32 = 65_535;
    const MS: Duration = Duration::from_millis(1);

    fn budget(most: usize) -> &'static Budget {
        Box::leak(Box::new(Budget::new(most)))
    }

    /// The window after a while at `rate` bytes per second, if nothing but the
    /// window held it back, over a path of `rtt`.
    fn settled(rate: f64, rtt: Duration) -> u32 {
        let (start, budget) = (Instant::now(), budget(64 << 20));
        let (mut growth, mut at) = (Growth::new(FIRST, start, budget), Duration::ZERO);
        while at < Duration::from_secs(20) {
            // A window's worth takes a round trip, or longer on a slow path.
            let took = rtt.max(Duration::from_secs_f64(f64::from(growth.window) / rate));
            at += took;
            growth.consumed(growth.window as usize, start + at, rtt);
        }
        let window = growth.window;
        drop(growth);
        assert_eq!(budget.granted.load(Ordering::Relaxed), 0, "given back");
        window
    }

    #[test]
    fn h15_a_window_grows_to_what_the_path_holds() {
        // 1 Gbit/s over 100 ms: 12.5 MB are under way.
        assert!(settled(125e6, 100 * MS) >= 12_500_000);
        // 1 Gbit/s over 1 ms: 125 kB.
        let near = settled(125e6, MS);
        assert!((125_000..600_000).contains(&near), "{near}");
        // A reader that takes 1 MB/s does not need more.
        assert_eq!(settled(1e6, 10 * MS), FIRST);
    }

    #[test]
    fn h15_all_windows_together_have_a_budget() {
        let (now, rtt, most) = (Instant::now(), 100 * MS, 5 << 20);
        let budget = budget(most);
        let mut all: Vec<_> = (0..100).map(|_| Growth::new(FIRST, now, budget)).collect();
        for _ in 0..20 {
            for growth in &mut all {
                growth.consumed(growth.window as usize, now, rtt);
            }
        }
        let more = |growth: &Growth| (growth.window - growth.first) as usize;
        let sum: usize = all.iter().map(more).sum();
        assert!(sum <= most && sum > most / 2, "{sum}");
    }

    #[test]
    fn a_round_trip_that_waited_behind_others_hardly_counts() {
        let (mut trips, start) = (RoundTrip::default(), Instant::now());
        for (number, took) in [(0, 20), (1, 100), (2, 10)] {
            trips.ask(number, start);
            trips.answer(number + 7, start + MS);
            trips.ask(number, start);
            trips.answer(number, start + took * MS);
            let expected = [20, 30, 10][usize::try_from(number).unwrap()];
            assert_eq!(trips.known(), Some(expected * MS));
        }
    }
}
