//! Whether a link is good enough for traffic that could go elsewhere. What is
//! lost is left at once; what comes back has to stay before it is used again,
//! and the longer, the more often it was lost.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long a link that was away has to stay before it is used, first and at
/// most.
const SHORTEST_TRIAL: Duration = Duration::from_secs(10);
const LONGEST_TRIAL: Duration = Duration::from_secs(60);
/// A first loss that is over so soon needs no trial: one replica of the gateway
/// went, and another took over.
const BLIP: Duration = Duration::from_secs(1);
/// Losses that count.
const MEMORY: Duration = Duration::from_secs(120);
const MOST_LOSSES: usize = 8;
/// Traffic comes back no more often than this.
const SWING: Duration = Duration::from_secs(60);

/// The history of one link, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Damping {
    phase: Phase,
    losses: VecDeque<Instant>,
    returned: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    /// Nothing speaks against it; before the first connection nothing can.
    #[default]
    Used,
    Lost {
        since: Instant,
    },
    /// It is there, and used from then on.
    Trial {
        until: Instant,
    },
}

impl Damping {
    /// The last live way is gone, or none could be found.
    pub(super) fn lost(&mut self, now: Instant) {
        match self.phase {
            Phase::Lost { .. } => return,
            Phase::Trial { until } if until <= now => self.returned = Some(until),
            Phase::Used | Phase::Trial { .. } => {}
        }
        self.phase = Phase::Lost { since: now };
        if self.losses.len() == MOST_LOSSES {
            self.losses.pop_front();
        }
        self.losses.push_back(now);
    }

    /// There is a live way.
    pub(super) fn found(&mut self, now: Instant) {
        let Phase::Lost { since } = self.phase else {
            return;
        };
        let is_old = |loss: &Instant| now.saturating_duration_since(*loss) > MEMORY;
        // The last loss counts however long it took.
        while self.losses.len() > 1 && self.losses.front().is_some_and(is_old) {
            self.losses.pop_front();
        }
        let away = now.saturating_duration_since(since);
        let stayed = now + trial(self.losses.len(), away);
        let until = match self.returned {
            Some(returned) => stayed.max(returned + SWING),
            None => stayed,
        };
        self.phase = Phase::Trial { until };
    }

    /// Whether traffic should go here if it could go elsewhere.
    pub(super) fn is_available(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Used => true,
            Phase::Lost { .. } => false,
            Phase::Trial { until } => until <= now,
        }
    }
}

/// How long a link has to stay that was lost so often, the last time for
/// `away`.
fn trial(losses: usize, away: Duration) -> Duration {
    match u32::try_from(losses.saturating_sub(1)) {
        Ok(0) if away < BLIP => Duration::ZERO,
        Ok(before) => SHORTEST_TRIAL
            .saturating_mul(2_u32.saturating_pow(before))
            .min(LONGEST_TRIAL),
        Err(_) => LONGEST_TRIAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    /// The times, in seconds from the start, at which traffic goes or comes
    /// back, when the link is there as `is_up` says.
    fn swings(seconds: u32, is_up: impl Fn(f64) -> bool) -> Vec<(f64, bool)> {
        let (start, mut damping, mut swings) = (Instant::now(), Damping::default(), Vec::new());
        let (mut up, mut used) = (true, true);
        for step in 0..seconds * 10 {
            let at = f64::from(step) / 10.0;
            let now = start + STEP * step;
            if is_up(at) != up {
                up = !up;
                if up {
                    damping.found(now);
                } else {
                    damping.lost(now);
                }
            }
            if damping.is_available(now) != used {
                used = !used;
                swings.push((at, used));
            }
            assert!(up || !used, "used at {at} s, and not there");
        }
        swings
    }

    #[test]
    fn r2_a_gateway_that_flaps_every_5_seconds_makes_no_more_than_one_swing_a_minute() {
        let flapping = swings(600, |at| ((at / 5.0) as u64).is_multiple_of(2));
        assert_eq!(flapping, [(5.0, false)], "it never stays long enough");
    }

    #[test]
    fn r2_however_it_flaps_traffic_comes_back_no_more_than_once_a_minute() {
        for (up, down) in [
            (0.5, 0.5),
            (1.0, 9.0),
            (5.0, 0.3),
            (12.0, 2.0),
            (12.0, 12.0),
            (25.0, 5.0),
            (40.0, 1.0),
            (65.0, 5.0),
        ] {
            let swings = swings(1200, |at| at % (up + down) < up);
            let back: Vec<f64> = swings.iter().filter(|s| s.1).map(|s| s.0).collect();
            for pair in back.windows(2) {
                assert!(pair[1] - pair[0] >= 59.9, "{up} s/{down} s: {swings:?}");
            }
        }
    }

    #[test]
    fn r2_after_one_outage_it_is_used_again_within_30_seconds() {
        let once = swings(600, |at| !(100.0..120.0).contains(&at));
        assert_eq!(once, [(100.0, false), (130.0, true)]);
        let often = swings(3600, |at| at < 100.0 || at % 900.0 >= 20.0);
        for pair in often.chunks_exact(2) {
            assert!(pair[1].0 - pair[0].0 <= 50.0, "{often:?}");
        }
    }

    #[test]
    fn another_replica_that_takes_over_at_once_needs_no_trial() {
        let blip = swings(100, |at| !(50.0..50.5).contains(&at));
        assert_eq!(blip, [(50.0, false), (50.5, true)]);
    }

    #[test]
    fn trials_grow_up_to_a_minute() {
        let away = Duration::from_secs(5);
        let trials = [1, 2, 3, 4, usize::MAX].map(|losses| trial(losses, away).as_secs());
        assert_eq!(trials, [10, 20, 40, 60, 60]);
    }
}
