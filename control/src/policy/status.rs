//! What Servers, AuthorizationPolicies and authentications are told: the
//! conditions of their status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::conditions::{Verdict, Verdicts};

/// The object does what it says.
const ACCEPTED: &str = "Accepted";
/// Why it does not: it is not understood.
pub(crate) const INVALID: &str = "Invalid";
/// A part of it does not.
const PARTIALLY_INVALID: &str = "PartiallyInvalid";
/// The types of the conditions that are ours.
pub(crate) const TYPES: [&str; 2] = [ACCEPTED, PARTIALLY_INVALID];

/// An object, as far as its status is concerned.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) version: Option<String>,
    pub(crate) generation: Option<i64>,
    /// The conditions that it has.
    pub(crate) standing: Vec<Condition>,
    pub(crate) problems: Vec<Problem>,
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    effect: Effect,
    reason: &'static str,
    /// For a person.
    pub(crate) message: String,
}

/// What comes of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The object admits nobody.
    Refused,
    /// A part of it is left out.
    Partial,
}

impl Problem {
    pub(crate) const fn new(effect: Effect, reason: &'static str, message: String) -> Self {
        Self {
            effect,
            reason,
            message,
        }
    }
}

impl Told {
    /// The conditions that the object should have.
    pub(crate) fn verdicts(&self) -> Verdicts {
        let refused = self.with(Effect::Refused);
        let partial = self.with(Effect::Partial);
        let accepted = match refused.first() {
            None => Verdict::new(ACCEPTED, true, ACCEPTED, "it is in force".to_owned()),
            Some(first) => Verdict::new(ACCEPTED, false, first.reason, listed(&refused)),
        };
        let partially = partial
            .first()
            .map(|first| Verdict::new(PARTIALLY_INVALID, true, first.reason, listed(&partial)));
        Verdicts {
            generation: self.generation,
            verdicts: [Some(accepted), partially].into_iter().flatten().collect(),
        }
    }

    fn with(&self, effect: Effect) -> Vec<&Problem> {
        let problems = self.problems.iter();
        problems
            .filter(|problem| problem.effect == effect)
            .collect()
    }
}

fn listed(problems: &[&Problem]) -> String {
    let messages: Vec<_> = problems.iter().map(|one| one.message.as_str()).collect();
    messages.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an object with these problems is told.
    fn said(problems: Vec<Problem>) -> Vec<String> {
        let told = Told {
            version: None,
            generation: Some(2),
            standing: Vec::new(),
            problems,
        };
        let Verdicts {
            generation,
            verdicts,
        } = told.verdicts();
        assert_eq!(generation, Some(2));
        let line =
            |one: Verdict| format!("{}={} {}: {}", one.kind, one.holds, one.reason, one.message);
        verdicts.into_iter().map(line).collect()
    }

    #[test]
    fn what_is_wrong_is_said_by_its_effect() {
        let problem = |effect, reason, text: &str| Problem::new(effect, reason, text.to_owned());
        let missing = problem(Effect::Refused, "TargetNotFound", "there is no Server web");
        let also = problem(Effect::Refused, "AuthenticationNotFound", "there is no x");
        let partial = problem(Effect::Partial, INVALID, "\"west\" is none: left out");
        let in_force = "Accepted=true Accepted: it is in force".to_owned();
        let part = "PartiallyInvalid=true Invalid: \"west\" is none: left out".to_owned();
        let refused =
            "Accepted=false TargetNotFound: there is no Server web; there is no x".to_owned();
        for (problems, expected) in [
            (vec![], vec![in_force.clone()]),
            (vec![partial.clone()], vec![in_force, part]),
            (vec![missing, also], vec![refused]),
        ] {
            assert_eq!(said(problems), expected);
        }
    }
}
