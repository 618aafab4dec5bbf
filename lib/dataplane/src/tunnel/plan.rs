//! Which address of a gateway to dial, and when.

use std::time::{Duration, Instant};

/// Addresses that are kept connected.
pub(super) const WARM: usize = 3;
/// How long the next address waits for the one before, while there is none
/// that is connected (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);
/// How long an address is left alone that could not be reached, first and at
/// most.
const SHORTEST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing that speaks against it.
    Idle,
    Dialling,
    Live,
    /// It is left alone until then.
    Resting(Instant),
}

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Dial the address at this place.
    Dial(usize),
    /// Look again then.
    Wait(Instant),
    /// Nothing, until something happens.
    Nothing,
}

/// What is to be done with addresses in these phases, of which the last was
/// dialled at `dialled`.
pub(super) fn next_step(phases: &[Phase], dialled: Option<Instant>, now: Instant) -> Step {
    let count = |phase| phases.iter().filter(|other| **other == phase).count();
    let (live, dialling) = (count(Phase::Live), count(Phase::Dialling));
    let Some((next, from)) = next_address(phases, now) else {
        return Step::Nothing;
    };
    let from = if live == 0 {
        let staggered = dialled.filter(|_| dialling > 0).map(|last| last + STAGGER);
        staggered.map_or(from, |after| from.max(after))
    } else if live + dialling < WARM {
        from
    } else {
        return Step::Nothing;
    };
    if from <= now {
        Step::Dial(next)
    } else {
        Step::Wait(from)
    }
}

/// The address that may be dialled first, and when.
fn next_address(phases: &[Phase], now: Instant) -> Option<(usize, Instant)> {
    let may_be_dialled = |(at, phase): (usize, &Phase)| match phase {
        Phase::Idle => Some((at, now)),
        Phase::Resting(until) => Some((at, (*until).max(now))),
        Phase::Dialling | Phase::Live => None,
    };
    let candidates = phases.iter().enumerate().filter_map(may_be_dialled);
    // Of those that are equal the first: one at rest comes after all others.
    candidates.min_by_key(|(at, from)| (*from, phases.get(*at) != Some(&Phase::Idle)))
}

/// How long an address is left alone after it has failed so often before;
/// `chance` spreads those that failed together.
pub(super) fn rest(failures: u32, chance: f64) -> Duration {
    SHORTEST_REST
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(LONGEST_REST)
        .mul_f64(chance.clamp(0.0, 1.0).mul_add(0.2, 0.8))
}

#[cfg(test)]
mod tests {
    use super::{Phase::*, *};

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn r1_an_address_that_fails_is_left_alone_longer_each_time() {
        let rests: Vec<u128> = (0..6).map(|n| rest(n, 1.0).as_millis()).collect();
        assert_eq!(rests, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(rest(u32::MAX, 1.0), LONGEST_REST);
        assert_eq!(rest(0, 0.0), milliseconds(400));
    }

    #[test]
    fn r1_the_next_address_waits_a_moment_for_the_one_before_and_no_longer() {
        let now = Instant::now();
        let soon = now + STAGGER;
        let dialled = Some(now);
        for (phases, at, step) in [
            (&[][..], now, Step::Nothing),
            (&[Idle, Idle], now, Step::Dial(0)),
            (&[Dialling, Idle], now, Step::Wait(soon)),
            (&[Dialling, Idle], soon, Step::Dial(1)),
            (&[Dialling, Dialling], soon, Step::Nothing),
            (&[Resting(now + STAGGER * 9), Idle], now, Step::Dial(1)),
            (&[Resting(soon)], now, Step::Wait(soon)),
            (&[Resting(soon)], soon, Step::Dial(0)),
            (&[Resting(now), Idle], soon, Step::Dial(1)),
        ] {
            assert_eq!(next_step(phases, dialled, at), step, "{phases:?}");
        }
    }

    #[test]
    fn a_few_addresses_are_kept_connected_and_not_all() {
        let now = Instant::now();
        for (phases, step) in [
            (&[Live, Idle][..], Step::Dial(1)),
            (&[Live, Dialling, Idle, Idle], Step::Dial(2)),
            (&[Live, Dialling, Dialling, Idle], Step::Nothing),
            (&[Live, Live, Live, Idle], Step::Nothing),
            (&[Live, Resting(now + STAGGER)], Step::Wait(now + STAGGER)),
        ] {
            assert_eq!(next_step(phases, Some(now), now), step, "{phases:?}");
        }
    }
}
