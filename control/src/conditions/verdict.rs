//! What a condition should say, and whether it does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The content of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Its type.
    pub(crate) kind: &'static str,
    /// Its status: `True` or `False`.
    pub(crate) holds: bool,
    pub(crate) reason: &'static str,
    /// For a person.
    pub(crate) message: String,
}

/// All conditions of ours on one object, for one generation of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdicts {
    pub(crate) generation: Option<i64>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// As much as a message holds, in bytes; the API server takes 32 KiB.
const LONGEST_MESSAGE: usize = 2048;

impl Verdict {
    /// With a message that is cut if it is too long.
    pub(crate) fn new(
        kind: &'static str,
        holds: bool,
        reason: &'static str,
        mut message: String,
    ) -> Self {
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
            message.push('…');
        }
        Self {
            kind,
            holds,
            reason,
            message,
        }
    }

    const fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }
}

impl Verdicts {
    /// Whether `standing` say this and nothing else, in whichever order.
    pub(crate) fn are(&self, standing: &[Condition]) -> bool {
        let says = |verdict: &Verdict| {
            let same = standing.iter().find(|old| old.type_ == verdict.kind);
            same.is_some_and(|old| {
                old.status == verdict.status()
                    && old.reason == verdict.reason
                    && old.message == verdict.message
                    && old.observed_generation == self.generation
            })
        };
        standing.len() == self.verdicts.len() && self.verdicts.iter().all(says)
    }

    /// The conditions. The time of the last transition is that of `standing`
    /// while the status is.
    pub(crate) fn conditions(&self, standing: &[Condition], now: &Time) -> Vec<Condition> {
        let condition = |verdict: &Verdict| {
            let same =
                |old: &&Condition| old.type_ == verdict.kind && old.status == verdict.status();
            let since = standing
                .iter()
                .find(same)
                .map(|old| &old.last_transition_time);
            Condition {
                type_: verdict.kind.to_owned(),
                status: verdict.status().to_owned(),
                reason: verdict.reason.to_owned(),
                message: verdict.message.clone(),
                observed_generation: self.generation,
                last_transition_time: since.unwrap_or(now).clone(),
            }
        };
        self.verdicts.iter().map(condition).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(holds: bool) -> Verdicts {
        Verdicts {
            generation: Some(2),
            verdicts: vec![Verdict::new("Accepted", holds, "Because", String::new())],
        }
    }

    fn time(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    #[test]
    fn a_condition_is_right_if_all_but_its_time_is() {
        let now = time("2026-11-20T10:00:00Z");
        let right = verdicts(true).conditions(&[], &now);
        assert!(verdicts(true).are(&right));
        let wrong: [fn(&mut Condition); 4] = [
            |condition| condition.status = "False".to_owned(),
            |condition| condition.reason = "Other".to_owned(),
            |condition| condition.message = "other".to_owned(),
            |condition| condition.observed_generation = Some(1),
        ];
        for change in wrong {
            let mut changed = right.clone();
            change(&mut changed[0]);
            assert!(!verdicts(true).are(&changed), "{changed:?}");
        }
        assert!(!verdicts(true).are(&[]));
        let more = [right.clone(), right].concat();
        assert!(!verdicts(true).are(&more));
    }

    #[test]
    fn the_time_of_the_last_transition_is_kept_while_the_status_is() {
        let before = time("2026-11-20T10:00:00Z");
        let now = time("2026-11-21T10:00:00Z");
        let standing = verdicts(true).conditions(&[], &before);
        for (holds, since) in [(true, before), (false, now.clone())] {
            let conditions = verdicts(holds).conditions(&standing, &now);
            assert_eq!(conditions[0].last_transition_time, since);
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        // One byte, and then twice two thousand: the limit is inside a character.
        let message = format!("x{}", "ä".repeat(2000));
        assert!(!message.is_char_boundary(LONGEST_MESSAGE));
        let verdict = Verdict::new("Accepted", true, "Because", message);
        let kept = verdict.message.strip_suffix('…').unwrap();
        assert_eq!(kept.len(), LONGEST_MESSAGE - 1);
        assert!(kept.ends_with('ä'));
    }
}
