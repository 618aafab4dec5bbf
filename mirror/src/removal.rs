//! When the peer's silence about a Service is believed.
//!
//! A feed that suddenly says much less may be right, or may come from a
//! control plane that has lost its view. Few removals are believed at once.
//! Many wait until two complete snapshots of one cluster, a minute apart, say
//! the same. A cluster of another uid under the old name is not believed at
//! all before it has said so for as long.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::mirror::ServiceName;

/// What is remembered between snapshots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doubt {
    /// Since which snapshot a mirror's Service has been missing.
    missing: BTreeMap<ServiceName, Instant>,
    /// A cluster that is not the one we know, and since when it answers.
    stranger: Option<(String, Instant)>,
}

/// Whether the cluster that answers is the one that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    /// It is, or it has become so.
    Known,
    /// Another one, too new to be believed.
    Stranger,
}

/// When a peer said something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    /// When all of it.
    pub(crate) at: Instant,
    /// When something of it was new: a difference may come long after all else.
    pub(crate) changed: Instant,
}

/// What becomes of the mirrors that a snapshot does not want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removals {
    /// Believed: they go.
    pub(crate) now: BTreeSet<ServiceName>,
    /// Not believed yet: they stay.
    pub(crate) held: BTreeSet<ServiceName>,
}

impl Removals {
    /// No removal is believed.
    pub(crate) const fn none(missing: BTreeSet<ServiceName>) -> Self {
        Self {
            now: BTreeSet::new(),
            held: missing,
        }
    }
}

impl Doubt {
    /// Whether the cluster `answering` in the snapshot received at `received`
    /// is believed, when `known` was the one before.
    pub(crate) fn answerer(
        &mut self,
        known: Option<&str>,
        answering: &str,
        received: Instant,
    ) -> Answerer {
        if known.is_none_or(|known| known == answering) {
            self.stranger = None;
            return Answerer::Known;
        }
        let since = match &self.stranger {
            Some((stranger, since)) if stranger == answering => *since,
            _ => received,
        };
        self.stranger = Some((answering.into(), since));
        self.missing.clear();
        if received.duration_since(since) >= CONFIRMATION {
            self.stranger = None;
            Answerer::Known
        } else {
            Answerer::Stranger
        }
    }

    /// Divides `missing`, the mirrors that what was `said` does not want, of the
    /// `total` that exist.
    pub(crate) fn removals(
        &mut self,
        missing: BTreeSet<ServiceName>,
        total: usize,
        said: Said,
    ) -> Removals {
        self.missing.retain(|name, _| missing.contains(name));
        for name in &missing {
            self.missing.entry(name.clone()).or_insert(said.changed);
        }
        if is_believed_at_once(missing.len(), total) {
            return Removals {
                now: missing,
                held: BTreeSet::new(),
            };
        }
        let confirmed = |name: &ServiceName| {
            let since = self.missing.get(name);
            since.is_some_and(|since| said.at.duration_since(*since) >= CONFIRMATION)
        };
        let (now, held) = missing.into_iter().partition(confirmed);
        Removals { now, held }
    }
}

/// Whether so many removals of `total` need no second word.
pub(crate) const fn is_believed_at_once(missing: usize, total: usize) -> bool {
    missing <= FEW || missing * 100 <= total * PERCENT
}

/// How far apart two snapshots must be to confirm each other.
pub(crate) const CONFIRMATION: Duration = Duration::from_secs(60);
/// So many removals are believed at once, whatever their share.
const FEW: usize = 5;
/// So large a share of a link's mirrors is believed at once.
const PERCENT: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> BTreeSet<ServiceName> {
        let name = |n| ServiceName::new("shop", &format!("s{n}-east"));
        (0..count).map(name).collect()
    }

    /// A complete snapshot of this moment.
    const fn complete(at: Instant) -> Said {
        Said { at, changed: at }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn m6_few_removals_are_believed_at_once_and_many_are_not() {
        for (missing, total, believed) in [
            (1, 1, true),
            (5, 5, true),
            (6, 6, false),
            (6, 29, false),
            (6, 30, true),
            (20, 100, true),
            (21, 100, false),
        ] {
            let now = Instant::now();
            let removals = Doubt::default().removals(names(missing), total, complete(now));
            assert_eq!(removals.held.is_empty(), believed, "{missing} of {total}");
            assert_eq!(removals.now.is_empty(), !believed, "{missing} of {total}");
        }
    }

    #[test]
    fn m6_an_empty_feed_is_believed_when_it_is_still_empty_a_minute_later() {
        let mut doubt = Doubt::default();
        let start = Instant::now();
        assert_eq!(
            doubt.removals(names(10), 10, complete(start)).held.len(),
            10
        );
        assert_eq!(
            doubt
                .removals(names(10), 10, complete(after(start, 59)))
                .held
                .len(),
            10
        );
        assert_eq!(
            doubt
                .removals(names(10), 10, complete(after(start, 60)))
                .now
                .len(),
            10
        );
    }

    #[test]
    fn m6_looking_twice_at_one_snapshot_confirms_nothing() {
        let mut doubt = Doubt::default();
        let received = Instant::now();
        for _ in 0..100 {
            assert_eq!(
                doubt.removals(names(10), 10, complete(received)).now.len(),
                0
            );
        }
    }

    #[test]
    fn m6_a_difference_counts_from_when_it_came_and_not_from_the_last_snapshot() {
        let mut doubt = Doubt::default();
        let start = Instant::now();
        let changed = after(start, 3600);
        let mut removals = |at| {
            let said = Said { at, changed };
            doubt.removals(names(10), 10, said).held.len()
        };
        assert_eq!(removals(start), 10);
        assert_eq!(removals(after(changed, 1)), 10, "confirmed too soon");
        assert_eq!(removals(after(changed, 60)), 0);
    }

    #[test]
    fn m6_a_service_that_came_back_starts_again() {
        let mut doubt = Doubt::default();
        let start = Instant::now();
        doubt.removals(names(10), 10, complete(start));
        doubt.removals(BTreeSet::new(), 10, complete(after(start, 30)));
        let removals = doubt.removals(names(10), 10, complete(after(start, 60)));
        assert_eq!(removals.held.len(), 10);
    }

    #[test]
    fn m6_another_cluster_under_the_old_name_is_not_believed() {
        let mut doubt = Doubt::default();
        let start = Instant::now();
        let mut answer = |uid, seconds| doubt.answerer(Some("old"), uid, after(start, seconds));
        assert_eq!(answer("old", 0), Answerer::Known);
        assert_eq!(answer("new", 10), Answerer::Stranger);
        assert_eq!(answer("other", 50), Answerer::Stranger);
        assert_eq!(answer("new", 100), Answerer::Stranger);
        assert_eq!(answer("new", 159), Answerer::Stranger);
        assert_eq!(answer("new", 160), Answerer::Known);
    }

    #[test]
    fn the_first_cluster_to_answer_is_known() {
        let answerer = Doubt::default().answerer(None, "east-uid", Instant::now());
        assert_eq!(answerer, Answerer::Known);
    }
}
