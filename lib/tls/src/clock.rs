//! What time it is. Certificates are all that depends on it, so that it is
//! here; decisions get the moment passed in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;
use tokio_rustls::rustls::time_provider::TimeProvider;

/// The clock that a program goes by: the machine's, off by a number of seconds
/// in tests of clocks that are off. Only wall-clock time comes from here:
/// durations are measured with `Instant`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    offset: i32,
}

impl Clock {
    /// The machine's own.
    pub const SYSTEM: Self = Self::off_by(0);

    /// A clock that is `seconds` ahead of the machine's; behind it, if
    /// negative.
    #[must_use]
    pub const fn off_by(seconds: i32) -> Self {
        Self { offset: seconds }
    }

    /// How many seconds it is ahead of the machine's.
    #[must_use]
    pub const fn offset(self) -> i32 {
        self.offset
    }

    /// The time by this clock.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the machine"
    )]
    pub fn now(self) -> SystemTime {
        self.shown_at(SystemTime::now())
    }

    /// The time by this clock, in seconds since 1970.
    #[must_use]
    pub fn unix_seconds(self) -> u64 {
        since_1970(self.now()).as_secs()
    }

    /// What this clock shows when the machine's shows `system`.
    fn shown_at(self, system: SystemTime) -> SystemTime {
        let distance = Duration::from_secs(u64::from(self.offset.unsigned_abs()));
        let shown = if self.offset < 0 {
            system.checked_sub(distance)
        } else {
            system.checked_add(distance)
        };
        // 68 years at most: no time of a machine is that near the last one.
        shown.unwrap_or(system)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.now()))
    }
}

/// A moment as rustls has it; none is before 1970.
pub(crate) fn unix_time(moment: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(since_1970(moment))
}

fn since_1970(moment: SystemTime) -> Duration {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_another_time_than_the_machine_s() {
        let noon = UNIX_EPOCH + Duration::from_secs(43_200);
        for (offset, shown) in [(0, 43_200), (90_000, 133_200), (-43_200, 0)] {
            let clock = Clock::off_by(offset);
            let expected = UNIX_EPOCH + Duration::from_secs(shown);
            assert_eq!(clock.shown_at(noon), expected);
            assert_eq!(clock.offset(), offset);
        }
        assert_eq!(Clock::default(), Clock::SYSTEM);
    }

    #[test]
    fn no_clock_is_so_far_off_that_rustls_has_no_time() {
        for offset in [i32::MIN, i32::MAX] {
            assert!(Clock::off_by(offset).current_time().is_some());
        }
    }
}
