//! Counting the outcomes of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;

use super::report::{Counts, Latencies, Report, Slice};
use crate::client::Answer;
use crate::failure::Failure;

/// How one request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered {
        status: u16,
        from: From,
    },
    Failed(Failure),
    /// Not started: too many were in flight.
    Shed,
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
    /// Reads the answer's body as the echo server's JSON; any other body is
    /// from nobody.
    pub(super) fn of_answer(answer: &Answer) -> Self {
        Self::Answered {
            status: answer.status.as_u16(),
            from: serde_json::from_slice(&answer.body).unwrap_or_default(),
        }
    }

    /// None for a success: any status below 400.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Answered { status, .. } if *status < 400 => None,
            Self::Answered { status, .. } => Some(format!("status {status}")),
            Self::Failed(failure) => Some(failure.to_string()),
            Self::Shed => Some("shed".to_owned()),
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
            second: Slice::default(),
        }
    }
}

impl Tally {
    /// `latency` counts for successes only.
    pub(super) fn record(&mut self, outcome: &Outcome, latency: Duration) {
        if let Outcome::Answered { from, .. } = outcome {
            count(&mut self.clusters, &from.cluster);
            count(&mut self.pods, &from.pod);
            count(&mut self.second.clusters, &from.cluster);
        }
        match outcome.cause() {
            Some(cause) => {
                count(&mut self.failures, &cause);
                self.second.failed += 1;
            }
            None => {
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.latencies.saturating_record(micros);
                self.second.ok += 1;
            }
        }
    }

    /// The counts since the last call, named second `t`.
    pub(super) fn end_second(&mut self, t: u64) -> Slice {
        Slice {
            t,
            ..std::mem::take(&mut self.second)
        }
    }

    /// `ran` is the time in which requests were started.
    pub(super) fn report(&self, ran: Duration) -> Report {
        let ok = self.latencies.len();
        let failed = self.failures.values().sum::<u64>();
        Report {
            total: ok + failed,
            ok,
            failed,
            failures: self.failures.clone(),
            clusters: self.clusters.clone(),
            pods: self.pods.clone(),
            latency_ms: (ok > 0).then(|| self.latencies()),
            seconds: ran.as_secs_f64(),
        }
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

    fn answered(status: u16, cluster: &str) -> Outcome {
        let from = From {
            cluster: cluster.into(),
            pod: format!("{cluster}-1"),
        };
        Outcome::Answered { status, from }
    }

    #[test]
    fn outcomes_are_counted_by_cause_and_by_cluster() {
        let mut tally = Tally::default();
        for outcome in [
            answered(200, "west"),
            answered(200, "east"),
            answered(302, "east"),
            answered(503, "east"),
            Outcome::Failed(Failure::Refused),
            Outcome::Failed(Failure::Timeout),
            Outcome::Shed,
            Outcome::Shed,
        ] {
            tally.record(&outcome, Duration::from_millis(10));
        }
        let report = tally.report(Duration::from_secs(2));
        assert_eq!((report.total, report.ok, report.failed), (8, 3, 5));
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
            tally.record(&answered(200, ""), Duration::from_millis(millis));
        }
        tally.record(&answered(500, ""), Duration::from_secs(60));
        let got = tally.report(Duration::from_secs(1)).latency_ms.unwrap();
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
        tally.record(&Outcome::Shed, Duration::ZERO);
        assert_eq!(tally.report(Duration::ZERO).latency_ms, None);
    }

    #[test]
    fn a_second_starts_empty() {
        let mut tally = Tally::default();
        tally.record(&answered(200, "west"), Duration::ZERO);
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
