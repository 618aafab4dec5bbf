//! When a certificate is asked for again.

use std::time::{Duration, SystemTime};

use mesh_tls::Certificate;

/// After a failure: first, and at most, as long as there is no hurry.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const CALM_RETRY: Duration = Duration::from_secs(60);
/// At most without any certificate: many pods may start together.
const NEW_RETRY: Duration = Duration::from_secs(10);
/// At most when the end is near, or was.
const HASTY_RETRY: Duration = Duration::from_secs(1);
/// Of what is left of a life, so much may pass between two attempts.
const SHARE_OF_REST: u32 = 20;
/// Certificates begin so long before they are issued: clocks that differ by
/// less are as good as right.
const LEEWAY: Duration = Duration::from_secs(60);
/// When another root signs, all renew within this time, and not before the
/// first part of it is over: replicas of mesh-control need a moment to agree.
const ROTATION: Duration = Duration::from_secs(25);
const ROTATION_FIRST: Duration = Duration::from_secs(3);

/// When the certificate in force is to be replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    /// By the clock.
    at: SystemTime,
    /// And no later than this after it was issued, whatever the clock says.
    planned: Duration,
}

impl Renewal {
    /// At 65 % to 70 % of what is left of its life, so that those that started
    /// together do not renew together.
    pub(crate) fn of(certificate: &Certificate, now: SystemTime, chance: f64) -> Self {
        let left = certificate.valid_until().duration_since(now);
        let share = chance.clamp(0.0, 1.0).mul_add(0.05, 0.65);
        let planned = left.unwrap_or_default().mul_f64(share);
        let planned = planned.max(Duration::from_secs(1));
        Self {
            at: now + planned,
            planned,
        }
    }

    /// How long to wait yet, `age` after the certificate was issued.
    pub(crate) fn left(&self, now: SystemTime, age: Duration) -> Duration {
        let by_clock = self.at.duration_since(now).unwrap_or_default();
        by_clock.min(self.planned.saturating_sub(age))
    }
}

/// The pause after one more failure; `ends` is the end of the certificate that
/// we have. The nearer that is, the shorter.
pub(crate) fn retry(
    ends: Option<SystemTime>,
    now: SystemTime,
    failures: u32,
    chance: f64,
) -> Duration {
    let longest = match ends {
        None => NEW_RETRY,
        Some(ends) => {
            let left = ends.duration_since(now).unwrap_or_default();
            (left / SHARE_OF_REST).clamp(HASTY_RETRY, CALM_RETRY)
        }
    };
    let doubled = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures));
    doubled.min(longest).mul_f64(1.0 - chance / 2.0)
}

/// How early `new` is, if it is better not taken yet: by our clock it is not
/// valid, so that ours or mesh-control's is off, and peers whose clocks are as
/// ours refuse it. `ends` is the end of the certificate that we have, if peers
/// accept it at all. Once that is as near as the clocks are apart, the new one is
/// as good: it may be ours that is behind, and then the old one has ended for
/// everybody else.
pub(crate) fn premature(
    new: &Certificate,
    ends: Option<SystemTime>,
    now: SystemTime,
) -> Option<Duration> {
    let early = new.not_before().duration_since(now).ok()?;
    let left = ends?.duration_since(now).ok()?;
    (left > early + LEEWAY).then_some(early)
}

/// The pause before a certificate of a root that does not sign any more is
/// replaced.
pub(crate) fn rotated(chance: f64) -> Duration {
    ROTATION_FIRST + (ROTATION - ROTATION_FIRST).mul_f64(chance)
}

#[cfg(test)]
mod tests {
    use mesh_tls::Clock;

    use super::*;

    fn certificate() -> Certificate {
        let root = mesh_testing::ca::TestRoot::new("west");
        root.issue("spiffe://west/ns/shop/sa/web")
    }

    #[test]
    fn certificates_are_renewed_well_before_they_end() {
        let (certificate, now) = (certificate(), Clock::SYSTEM.now());
        let life = certificate.valid_until().duration_since(now).unwrap();
        for chance in [0.0, 0.5, 1.0] {
            let left = Renewal::of(&certificate, now, chance).left(now, Duration::ZERO);
            assert!(left >= life.mul_f64(0.64) && left <= life.mul_f64(0.71));
        }
        let late = certificate.valid_until() + Duration::from_secs(60);
        let left = Renewal::of(&certificate, late, 0.5).left(late, Duration::ZERO);
        assert_eq!(left, Duration::from_secs(1));
    }

    #[test]
    fn t7_a_clock_that_jumps_makes_no_renewal_late() {
        let (certificate, now) = (certificate(), Clock::SYSTEM.now());
        let renewal = Renewal::of(&certificate, now, 0.5);
        let hour = Duration::from_secs(3600);
        let planned = renewal.left(now, Duration::ZERO);
        assert_eq!(renewal.left(now + hour, hour), planned - hour);
        // It was set forward by two hours, or to the end.
        assert_eq!(renewal.left(now + 3 * hour, hour), planned - 3 * hour);
        let end = certificate.valid_until();
        assert_eq!(renewal.left(end, hour), Duration::ZERO);
        // It was set back: what has passed has passed.
        assert_eq!(renewal.left(now - 48 * hour, hour), planned - hour);
        assert_eq!(renewal.left(now - 48 * hour, planned), Duration::ZERO);
    }

    #[test]
    fn t7_a_certificate_from_the_future_waits_while_ours_is_good() {
        let new = certificate();
        let begins = new.not_before();
        let hours = |count: u64| Duration::from_secs(3600 * count);
        // By our clock, it begins in an hour.
        let now = begins - hours(1);
        let premature = |left| premature(&new, Some(now + left), now);
        assert_eq!(premature(hours(8)), Some(hours(1)));
        // If it is our clock that is an hour behind, ours ends about now.
        assert_eq!(premature(hours(1)), None);
        assert_eq!(premature(Duration::ZERO), None);
        // There is nothing to lose.
        assert_eq!(super::premature(&new, None, now), None);
        assert_eq!(super::premature(&new, Some(now - hours(1)), now), None);
        // It is valid.
        let ours = Some(begins + hours(8));
        assert_eq!(super::premature(&new, ours, begins + hours(1)), None);
    }

    #[test]
    fn t6_attempts_come_faster_as_the_end_comes_nearer() {
        let now = Clock::SYSTEM.now();
        let after = |seconds| retry(Some(now + Duration::from_secs(seconds)), now, 30, 0.0);
        let pauses: Vec<u64> = [36_000, 1_200, 600, 100, 20, 1]
            .map(|left| after(left).as_secs())
            .to_vec();
        assert_eq!(pauses, [60, 60, 30, 5, 1, 1]);
        let over = now - Duration::from_secs(9_000);
        assert_eq!(retry(Some(over), now, 30, 0.0), HASTY_RETRY);
        assert_eq!(retry(None, now, 30, 0.0), NEW_RETRY);
        assert_eq!(retry(None, now, u32::MAX, 1.0), NEW_RETRY / 2);
        assert_eq!(retry(Some(over), now, 0, 0.0), FIRST_RETRY);
    }

    #[test]
    fn t5_all_renew_within_half_a_minute_of_a_new_root() {
        assert_eq!(rotated(0.0), ROTATION_FIRST);
        assert!(rotated(1.0) <= Duration::from_secs(30));
    }
}
