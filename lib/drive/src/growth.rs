//! How much may be under way on a stream before its reader has taken it: little
//! at first, and more while the reader keeps up and the path is what holds it
//! back (its bandwidth-delay product), within a budget of the whole process.

use std::{
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use mesh_http::limits::{Bound, Granted, Limits};

/// One stream's window.
#[derive(Debug)]
pub(crate) struct Growth {
    window: u32,
    /// It would be wider if it might.
    is_held: bool,
    /// How much was consumed since then.
    consumed: usize,
    since: Instant,
    /// None as long as it is as it was at first.
    granted: Option<Granted>,
}

impl Growth {
    pub(crate) const fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            window: limits.stream_window,
            is_held: false,
            consumed: 0,
            since: now,
            granted: None,
        }
    }

    /// Takes note of bytes that were consumed. If a whole window was within two
    /// round trips, it is the window that the sender waits for: the next one is
    /// twice as large.
    pub(crate) fn consumed(
        &mut self,
        limits: &Limits,
        bytes: usize,
        now: Instant,
        rtt: Duration,
    ) -> Option<u32> {
        self.consumed = self.consumed.saturating_add(bytes);
        if self.consumed < self.window as usize {
            return None;
        }
        let took = now.saturating_duration_since(self.since);
        self.consumed = 0;
        self.since = now;
        if took > rtt.saturating_mul(2) {
            return None;
        }
        self.wider(limits)
    }

    /// The next window, unless a bound strikes, which is counted.
    fn wider(&mut self, limits: &Limits) -> Option<u32> {
        let next = self.window.saturating_mul(2).min(limits.stream_window_most);
        if next <= self.window {
            if !std::mem::replace(&mut self.is_held, true) {
                limits.struck.count(Bound::StreamWindow);
            }
            return None;
        }
        let more = (next - self.window) as usize;
        let is_granted = match &mut self.granted {
            Some(granted) => granted.grow(more),
            None => {
                self.granted = limits.budget.lend(more);
                self.granted.is_some()
            }
        };
        if !is_granted {
            limits.struck.count(Bound::Budget);
            return None;
        }
        self.window = next;
        Some(next)
    }
}

/// Round trips as pings show them: what is shorter counts at once, what is
/// longer may have waited behind other bytes.
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    known: Option<Duration>,
    /// The shortest of all: what the path itself takes, however busy both ends are.
    shortest: Option<Duration>,
    /// The number of the next ping.
    next: u64,
    asked: Option<(u64, Instant)>,
    /// The last ping that was answered.
    answered: Option<u64>,
    /// Whoever waits for the answer.
    waker: Option<Waker>,
}

impl RoundTrip {
    pub(crate) const fn known(&self) -> Option<Duration> {
        self.known
    }

    pub(crate) const fn shortest(&self) -> Option<Duration> {
        self.shortest
    }

    /// A ping leaves; its number.
    pub(crate) const fn ask(&mut self, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.asked = Some((number, now));
        number
    }

    /// Whether this ping was answered.
    pub(crate) fn poll_answer(&mut self, number: u64, cx: &Context<'_>) -> Poll<()> {
        if self.answered.is_some_and(|answered| answered >= number) {
            return Poll::Ready(());
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn answer(&mut self, number: u64, now: Instant) {
        if number < self.next {
            self.answered = self.answered.max(Some(number));
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        let Some((_, asked)) = self.asked.take_if(|(last, _)| *last == number) else {
            return;
        };
        let sample = now.saturating_duration_since(asked);
        self.shortest = Some(
            self.shortest
                .map_or(sample, |shortest| shortest.min(sample)),
        );
        self.known = Some(self.known.map_or(sample, |known| {
            sample.min(known + sample.saturating_sub(known) / 8)
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_http::limits::Budget;

    use super::*;

    const FIRST: u32 = 65_535;
    const MS: Duration = Duration::from_millis(1);

    /// The defaults, but for a budget of their own.
    fn limits(most: usize) -> Limits {
        Limits {
            budget: Arc::new(Budget::new(most)),
            ..Limits::default()
        }
    }

    /// A sender that nothing but the window holds back, over a path of `rtt`, as it
    /// is after a while at `rate` bytes per second.
    fn grown(limits: &Limits, rate: f64, rtt: Duration) -> Growth {
        let start = Instant::now();
        let (mut growth, mut at) = (Growth::new(limits, start), Duration::ZERO);
        while at < Duration::from_secs(20) {
            // A window's worth takes a round trip, or longer on a slow path.
            let took = rtt.max(Duration::from_secs_f64(f64::from(growth.window) / rate));
            at += took;
            growth.consumed(limits, growth.window as usize, start + at, rtt);
        }
        growth
    }

    /// Its window then.
    fn settled(rate: f64, rtt: Duration) -> u32 {
        let limits = limits(64 << 20);
        let growth = grown(&limits, rate, rtt);
        let window = growth.window;
        drop(growth);
        assert_eq!(limits.budget.granted(), 0, "given back");
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
        let limits = limits(most);
        let mut all: Vec<_> = (0..100).map(|_| Growth::new(&limits, now)).collect();
        for growth in &mut all {
            growth.consumed(&limits, FIRST as usize, now, rtt);
        }
        // 100 windows of twice the size would be 6.5 MB more: 80 were there.
        assert_eq!(limits.struck.times(Bound::Budget), 20);
        for _ in 0..20 {
            for growth in &mut all {
                growth.consumed(&limits, growth.window as usize, now, rtt);
            }
        }
        let sum = limits.budget.granted();
        assert!(sum <= most && sum > most / 2, "{sum}");
    }

    #[test]
    fn h15_a_window_grows_to_what_it_may_and_no_further() {
        for most in [1 << 20, 4 << 20] {
            let limits = Limits {
                stream_window_most: most,
                ..Limits::default()
            };
            // 1 Gbit/s over 1 ms needs less, over 100 ms more.
            drop(grown(&limits, 125e6, MS));
            assert_eq!(limits.struck.times(Bound::StreamWindow), 0);
            assert_eq!(grown(&limits, 125e6, 100 * MS).window, most);
            assert_eq!(limits.struck.times(Bound::StreamWindow), 1);
        }
    }

    #[test]
    fn a_round_trip_that_waited_behind_others_hardly_counts() {
        let (mut trips, start) = (RoundTrip::default(), Instant::now());
        for (took, expected, shortest) in [(20, 20, 20), (100, 30, 20), (10, 10, 10)] {
            let late = trips.ask(start);
            let number = trips.ask(start);
            trips.answer(late, start + MS);
            trips.answer(number, start + took * MS);
            assert_eq!(trips.known(), Some(expected * MS));
            assert_eq!(trips.shortest(), Some(shortest * MS));
        }
    }

    #[test]
    fn r1_a_ping_that_was_never_sent_is_not_answered() {
        let (mut trips, start) = (RoundTrip::default(), Instant::now());
        let cx = Context::from_waker(Waker::noop());
        let (first, second) = (trips.ask(start), trips.ask(start));
        trips.answer(second + 1, start);
        assert!(trips.poll_answer(first, &cx).is_pending());
        trips.answer(first, start);
        assert!(trips.poll_answer(first, &cx).is_ready());
        assert!(trips.poll_answer(second, &cx).is_pending());
    }
}
