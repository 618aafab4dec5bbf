//! Counting the outcomes of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;

use super::report::{Counts, Latencies, Report, Slice};
use crate::failure::Failure;
use crate::id::Run;
use crate::numbers::Numbers;

/// How one request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(From),
    /// The answer is an error: `status 503`.
    Refused {
        cause: String,
        from: From,
    },
    /// The answer is not the one to this request.
    Wrong {
        wrong: Wrong,
        from: From,
    },
    /// No answer at all.
    Failed(Failure),
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("wrong id")]
    Id,
    #[error("wrong body")]
    Body,
    #[error("answer cut short")]
    Cut,
}

/// Who answered, as far as the answer says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    pub(super) cluster: String,
    #[serde(default)]
    pub(super) pod: String,
}

impl Outcome {
    /// None for a success.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Answered(_) => None,
            Self::Refused { cause, .. } => Some(cause.clone()),
            Self::Wrong { wrong, .. } => Some(wrong.to_string()),
            Self::Failed(failure) => Some(failure.to_string()),
        }
    }

    fn from(&self) -> Option<&From> {
        match self {
            Self::Answered(from) | Self::Refused { from, .. } | Self::Wrong { from, .. } => {
                Some(from)
            }
            Self::Failed(_) => None,
        }
    }
}

/// Counts of a run, and of its second that is not over.
#[derive(Debug)]
pub(super) struct Tally {
    /// Successes by latency in microseconds.
    latencies: Histogram<u64>,
    failures: Counts,
    clusters: Counts,
    pods: Counts,
    sent: u64,
    wrong: u64,
    unanswered: Vec<u64>,
    /// By pod, wrong answers left out: they may be to another request.
    answered: BTreeMap<String, Vec<u64>>,
    second: Slice,
}

/// Names counted apart, at most; answers of further ones count as `others`.
const MAX_NAMES: usize = 200;

/// Longer ones count as this one: an hour.
const MAX_LATENCY_MICROS: u64 = 3_600_000_000;

impl Default for Tally {
    fn default() -> Self {
        Self {
            latencies: Histogram::new_with_max(MAX_LATENCY_MICROS, 3)
                .expect("one hour at three digits is within the histogram's range"),
            failures: BTreeMap::new(),
            clusters: BTreeMap::new(),
            pods: BTreeMap::new(),
            sent: 0,
            wrong: 0,
            unanswered: Vec::new(),
            answered: BTreeMap::new(),
            second: Slice::default(),
        }
    }
}

impl Tally {
    /// Request `number` has ended. `latency` counts for successes only.
    pub(super) fn record(&mut self, number: u64, outcome: &Outcome, latency: Duration) {
        self.sent += 1;
        match outcome {
            Outcome::Answered(from) | Outcome::Refused { from, .. } => {
                let pod = self.answered.entry(from.pod.clone());
                pod.or_default().push(number);
            }
            Outcome::Wrong { .. } => self.wrong += 1,
            Outcome::Failed(_) => self.unanswered.push(number),
        }
        if let Some(from) = outcome.from() {
            count(&mut self.clusters, &from.cluster);
            count(&mut self.pods, &from.pod);
            count(&mut self.second.clusters, &from.cluster);
        }
        match outcome.cause() {
            Some(cause) => self.fail(&cause),
            None => {
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.latencies.saturating_record(micros);
                self.second.ok += 1;
            }
        }
    }

    /// A request was not started: too many were in flight.
    pub(super) fn shed(&mut self) {
        self.fail("shed");
    }

    fn fail(&mut self, cause: &str) {
        count(&mut self.failures, cause);
        self.second.failed += 1;
    }

    /// The counts since the last call, named second `t`.
    pub(super) fn end_second(&mut self, t: u64) -> Slice {
        Slice {
            t,
            ..std::mem::take(&mut self.second)
        }
    }

    /// `ran` is the time in which requests were started.
    pub(super) fn report(&self, run: &Run, ran: Duration) -> Report {
        let ok = self.latencies.len();
        let failed = self.failures.values().sum::<u64>();
        Report {
            run: run.to_string(),
            total: ok + failed,
            sent: self.sent,
            ok,
            failed,
            failures: self.failures.clone(),
            lost: self.unanswered.len() as u64,
            wrong: self.wrong,
            clusters: self.clusters.clone(),
            pods: self.pods.clone(),
            latency_ms: (ok > 0).then(|| self.latencies()),
            seconds: ran.as_secs_f64(),
            unanswered: self.unanswered.iter().copied().collect(),
            answered: None,
        }
    }

    /// The requests that each named pod answered.
    pub(super) fn answered(&self) -> BTreeMap<String, Numbers> {
        let named = self.answered.iter().filter(|(pod, _)| !pod.is_empty());
        named
            .map(|(pod, numbers)| (pod.clone(), numbers.iter().copied().collect()))
            .collect()
    }

    fn latencies(&self) -> Latencies {
        let quantile = |q| self.latencies.value_at_quantile(q) as f64 / 1e3;
        Latencies {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.latencies.max() as f64 / 1e3,
        }
    }
}

fn count(counts: &mut Counts, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count += 1;
    } else if !name.is_empty() {
        let name = if counts.len() < MAX_NAMES {
            name
        } else {
            "others"
        };
        *counts.entry(name.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(cluster: &str) -> From {
        From {
            cluster: cluster.into(),
            pod: format!("{cluster}-1"),
        }
    }

    fn refused(status: u16, cluster: &str) -> Outcome {
        Outcome::Refused {
            cause: format!("status {status}"),
            from: from(cluster),
        }
    }

    fn report(tally: &Tally) -> Report {
        tally.report(&"r".parse().unwrap(), Duration::from_secs(2))
    }

    #[test]
    fn outcomes_are_counted_by_cause_and_by_cluster() {
        let mut tally = Tally::default();
        let outcomes = [
            Outcome::Answered(from("west")),
            Outcome::Answered(from("east")),
            refused(503, "east"),
            Outcome::Wrong {
                wrong: Wrong::Id,
                from: from("east"),
            },
            Outcome::Failed(Failure::Refused),
            Outcome::Failed(Failure::Timeout),
        ];
        for (number, outcome) in (0..).zip(&outcomes) {
            tally.record(number, outcome, Duration::from_millis(10));
        }
        tally.shed();
        tally.shed();
        let report = report(&tally);
        assert_eq!((report.total, report.ok, report.failed), (8, 2, 6));
        assert_eq!((report.sent, report.lost, report.wrong), (6, 2, 1));
        assert_eq!(report.unanswered.to_string(), "4-5");
        assert_eq!(tally.answered()["east-1"].to_string(), "1-2");
        let failures: Vec<_> = report
            .failures
            .iter()
            .map(|(k, v)| (k.as_str(), *v))
            .collect();
        let want = [
            ("connection refused", 1),
            ("shed", 2),
            ("status 503", 1),
            ("timeout", 1),
            ("wrong id", 1),
        ];
        assert_eq!(failures, want);
        assert_eq!(
            report.clusters,
            Counts::from([("west".into(), 1), ("east".into(), 3)])
        );
        assert_eq!(
            report.pods,
            Counts::from([("west-1".into(), 1), ("east-1".into(), 3)])
        );
    }

    #[test]
    fn percentiles_are_those_of_successes() {
        let mut tally = Tally::default();
        for millis in 1..=1000 {
            tally.record(
                millis,
                &Outcome::Answered(from("")),
                Duration::from_millis(millis),
            );
        }
        tally.record(0, &refused(500, ""), Duration::from_secs(60));
        let got = report(&tally).latency_ms.unwrap();
        for (got, want) in [
            (got.p50, 500.0),
            (got.p90, 900.0),
            (got.p99, 990.0),
            (got.p999, 999.0),
            (got.max, 1000.0),
        ] {
            assert!(
                (got - want).abs() <= want * 0.001,
                "{got} is not about {want}"
            );
        }
    }

    #[test]
    fn without_a_success_there_are_no_latencies() {
        let mut tally = Tally::default();
        tally.shed();
        assert_eq!(report(&tally).latency_ms, None);
    }

    #[test]
    fn a_second_starts_empty() {
        let mut tally = Tally::default();
        tally.record(0, &Outcome::Answered(from("west")), Duration::ZERO);
        let first = tally.end_second(0);
        assert_eq!((first.t, first.ok, first.failed), (0, 1, 0));
        assert!(tally.end_second(1).is_empty());
    }

    #[test]
    fn names_are_bounded() {
        let mut counts = Counts::new();
        for n in 0..500 {
            count(&mut counts, &n.to_string());
        }
        assert_eq!(counts.len(), MAX_NAMES + 1);
        assert_eq!(counts["others"], 300);
    }
}
