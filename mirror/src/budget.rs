//! How much one link may write: what its peer does must not wear out our API
//! server, nor keep other links waiting.

use std::time::Duration;

use tokio::time::Instant;

use crate::{mirror::ServiceName, plan::Action};

/// Writes that a link has left.
#[derive(Debug)]
pub(crate) struct Budget {
    left: f64,
    at: Instant,
    /// The last Service that was written: the next in order has its turn.
    last: Option<ServiceName>,
}

impl Budget {
    /// Starts full.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            at: now,
            last: None,
        }
    }

    /// Takes from `actions` those that may be done now, in turns: none waits
    /// for ever because others change all the time. Says when more may be
    /// done, if some are left.
    pub(crate) fn grant(&mut self, actions: &mut Vec<Action>, now: Instant) -> Option<Instant> {
        let passed = now.saturating_duration_since(self.at);
        self.left = PER_SECOND
            .mul_add(passed.as_secs_f64(), self.left)
            .min(BURST);
        self.at = now;
        let granted = self.whole();
        let waits = actions.len() > granted;
        if waits {
            self.take_turns(actions, granted);
        }
        let taken = actions.len() as f64;
        self.left -= taken;
        waits.then(|| now + AGAIN)
    }

    const fn whole(&self) -> usize {
        self.left as usize
    }

    /// Leaves the first `granted` after those of the last turn.
    fn take_turns(&mut self, actions: &mut Vec<Action>, granted: usize) {
        actions.sort_by(|a, b| a.name().cmp(b.name()));
        if let Some(last) = &self.last {
            let first = actions.partition_point(|action| action.name() <= last);
            actions.rotate_left(first);
        }
        actions.truncate(granted);
        if let Some(last) = actions.last() {
            self.last = Some(last.name().clone());
        }
    }
}

/// So many writes at once: all mirrors that a link may have, with room.
const BURST: f64 = 6000.0;
/// So many for as long as it likes.
const PER_SECOND: f64 = 50.0;
/// When somebody who has to wait looks again.
const AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn deletions(count: usize) -> Vec<Action> {
        let delete = |n: usize| Action::Delete {
            name: ServiceName::new("shop", &format!("s{n:05}-east")),
            uid: String::new(),
            resource_version: String::new(),
        };
        (0..count).map(delete).collect()
    }

    #[test]
    fn m8_a_whole_link_fits_into_a_burst_and_a_storm_does_not() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut first = deletions(5000);
        assert_eq!(budget.grant(&mut first, start), None);
        assert_eq!(first.len(), 5000);
        let mut written = 0;
        for tenth in 1..=600_u32 {
            let mut storm = deletions(5000);
            let now = start + Duration::from_millis(100) * tenth;
            assert!(budget.grant(&mut storm, now).is_some());
            written += storm.len();
        }
        assert!((3900..=4001).contains(&written), "{written} in a minute");
    }

    #[test]
    fn m8_under_a_storm_each_service_has_its_turn() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        budget.grant(&mut deletions(6000), start);
        let mut written = std::collections::BTreeSet::new();
        for second in 1..=20 {
            let mut storm = deletions(1000);
            budget.grant(&mut storm, start + Duration::from_secs(second));
            written.extend(storm.iter().map(|action| action.name().clone()));
        }
        assert_eq!(written.len(), 1000);
    }
}
