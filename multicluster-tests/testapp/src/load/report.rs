//! What a load prints: a report at the end, and a line per second if asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::numbers::Numbers;

/// Numbers by name, in the order of names.
pub(super) type Counts = BTreeMap<String, u64>;

/// The outcome of a whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Name of the run.
    pub(crate) run: String,
    /// Requests that were due: `ok` and `failed`.
    pub(crate) total: u64,
    /// Requests that were started, with the numbers from 0 up to this one.
    pub(crate) sent: u64,
    /// Right answers, with a status below 400.
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    /// By cause: `status 503`, `connection refused`, `timeout`, `shed` …
    pub(crate) failures: Counts,
    /// Failures without any answer.
    pub(crate) lost: u64,
    /// Failures with a wrong answer: `wrong id`, `wrong body`, `answer cut
    /// short`.
    pub(crate) wrong: u64,
    /// Answers of any status by the cluster that gave them.
    pub(crate) clusters: Counts,
    pub(crate) pods: Counts,
    /// From the moment a request was due to the end of its answer; successes
    /// only, none without one.
    pub(crate) latency_ms: Option<Latencies>,
    /// Time in which requests were started.
    pub(crate) seconds: f64,
    /// The lost ones.
    pub(crate) unanswered: Numbers,
    /// Requests by the pod that answered, with an error or without, if asked
    /// for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answered: Option<BTreeMap<String, Numbers>>,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latencies {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Report {
    /// One line.
    pub(crate) fn json(&self) -> String {
        line(self)
    }

    /// For people; without a line feed at the end.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} requests in {:.1}s: {} ok, {} failed, {} lost, {} wrong (run {})",
            self.total, self.seconds, self.ok, self.failed, self.lost, self.wrong, self.run
        );
        for (title, counts) in [
            ("failures", &self.failures),
            ("clusters", &self.clusters),
            ("pods", &self.pods),
        ] {
            if !counts.is_empty() {
                append(&mut text, format_args!("\n{title}: {}", list(counts)));
            }
        }
        if let Some(Latencies {
            p50,
            p90,
            p99,
            p999,
            max,
        }) = self.latency_ms
        {
            append(
                &mut text,
                format_args!(
                    "\nlatency ms: p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}"
                ),
            );
        }
        text
    }
}

/// Requests that ended within one second of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Slice {
    /// Seconds from the start of the run to the start of this one.
    pub(crate) t: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) clusters: Counts,
}

impl Slice {
    pub(super) fn is_empty(&self) -> bool {
        self.ok == 0 && self.failed == 0
    }

    pub(super) fn json(&self) -> String {
        line(self)
    }

    pub(super) fn text(&self) -> String {
        let Self {
            t,
            ok,
            failed,
            clusters,
        } = self;
        format!(
            "{t:>4}s  ok {ok:>6}  failed {failed:>6}  {}",
            list(clusters)
        )
        .trim_end()
        .to_owned()
    }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers under string keys are always JSON")
}

fn list(counts: &Counts) -> String {
    let parts: Vec<_> = counts
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    parts.join(", ")
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            run: "r1".into(),
            total: 10,
            sent: 10,
            ok: 8,
            failed: 2,
            lost: 1,
            wrong: 0,
            failures: Counts::from([("status 503".into(), 1), ("timeout".into(), 1)]),
            clusters: Counts::from([("east".into(), 3), ("west".into(), 6)]),
            pods: Counts::new(),
            latency_ms: Some(Latencies {
                p50: 1.0,
                p90: 2.0,
                p99: 3.04,
                p999: 4.0,
                max: 5.5,
            }),
            seconds: 2.0,
            unanswered: Numbers::from_iter([4]),
            answered: None,
        }
    }

    #[test]
    fn a_report_reads_as_text() {
        let want = "\
10 requests in 2.0s: 8 ok, 2 failed, 1 lost, 0 wrong (run r1)
failures: status 503 1, timeout 1
clusters: east 3, west 6
latency ms: p50 1.0, p90 2.0, p99 3.0, p99.9 4.0, max 5.5";
        assert_eq!(report().text(), want);
    }

    #[test]
    fn a_report_is_one_line_of_json() {
        let want = concat!(
            r#"{"run":"r1","total":10,"sent":10,"ok":8,"failed":2,"#,
            r#""failures":{"status 503":1,"timeout":1},"lost":1,"wrong":0,"#,
            r#""clusters":{"east":3,"west":6},"pods":{},"#,
            r#""latency_ms":{"p50":1.0,"p90":2.0,"p99":3.04,"p999":4.0,"max":5.5},"seconds":2.0,"#,
            r#""unanswered":"4"}"#,
        );
        assert_eq!(report().json(), want);
    }

    #[test]
    fn a_second_is_one_line() {
        let slice = Slice {
            t: 7,
            ok: 100,
            failed: 0,
            clusters: Counts::from([("west".into(), 100)]),
        };
        assert_eq!(slice.text(), "   7s  ok    100  failed      0  west 100");
        assert_eq!(
            slice.json(),
            r#"{"t":7,"ok":100,"failed":0,"clusters":{"west":100}}"#
        );
        assert_eq!(Slice::default().text(), "   0s  ok      0  failed      0");
    }
}
