//! Whether a connection carries so much that a second one helps.
//!
//! Over a long path one TCP connection is held back by its congestion window, which a
//! single lost packet halves, and what is asked on it waits behind what the kernel has
//! taken already. Within a cluster neither counts: there one connection is as fast as
//! the processor.

use std::time::{Duration, Instant};

use mesh_drive::conduit::Traffic;

/// How often it is looked at, at most.
const LOOK: Duration = Duration::from_millis(500);
/// A path is long from such a round trip on.
const LONG: Duration = Duration::from_millis(5);
/// Much, in bytes of both directions per second.
const MUCH: u64 = 2 << 20;

/// The pace of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    bytes: u64,
    /// Bytes per second when it was last looked at, if the path is long; as many as can
    /// be while slow readers hold it up.
    rate: u64,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            rate: 0,
        }
    }

    /// Whether it is time to look again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= LOOK
    }

    /// Takes note of what it has carried by now.
    pub(super) fn look(&mut self, traffic: Traffic, now: Instant) {
        let took = now.saturating_duration_since(self.since).as_millis().max(1);
        let bytes = u128::from(traffic.bytes.saturating_sub(self.bytes));
        let is_long = traffic.round_trip.is_some_and(|time| time >= LONG);
        let rate = match (traffic.is_held_up, is_long) {
            (true, _) => u128::MAX,
            (false, true) => bytes * 1000 / took,
            (false, false) => 0,
        };
        self.rate = u64::try_from(rate).unwrap_or(u64::MAX);
        (self.since, self.bytes) = (now, traffic.bytes);
    }

    /// What it carried when it was last looked at, if that was much; to be compared
    /// with others.
    pub(super) fn much(&self) -> Option<u64> {
        Some(self.rate).filter(|rate| *rate >= MUCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_over_a_long_path_is_much_for_as_long_as_it_lasts() {
        let start = Instant::now();
        let (near, far) = (Duration::from_millis(1), Duration::from_millis(100));
        // What came by then, and when that was, in seconds.
        for (round_trip, carried, expected) in [
            (Some(far), &[(1, 4 << 20)][..], true),
            (Some(far), &[(4, 4 << 20)], false),
            (Some(near), &[(1, 400 << 20)], false),
            (None, &[(1, 4 << 20)], false),
            (Some(far), &[(1, 4 << 20), (2, 5 << 20)], false),
            (Some(far), &[(1, 0), (2, 4 << 20)], true),
        ] {
            let mut pace = Pace::new(start);
            for (seconds, bytes) in carried {
                let now = start + Duration::from_secs(*seconds);
                assert!(pace.is_due(now));
                let traffic = Traffic {
                    bytes: *bytes,
                    round_trip,
                    is_held_up: false,
                };
                pace.look(traffic, now);
                assert!(!pace.is_due(now));
            }
            let found = pace.much().is_some();
            assert_eq!(found, expected, "{round_trip:?} {carried:?}");
        }
    }

    #[test]
    fn who_waits_for_slow_readers_is_passed_by() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for is_held_up in [true, false] {
            let traffic = Traffic {
                is_held_up,
                ..Traffic::default()
            };
            pace.look(traffic, start + LOOK);
            assert_eq!(pace.much().is_some(), is_held_up);
        }
    }
}
