//! What ours has to reach, what we would like it to, and whether it does.

use std::fmt::Write as _;

use self::{
    Against::{Itself, Over, Share},
    Limit::{AtLeast, AtMost},
};
use crate::{
    report::{Results, shown},
    subject::Subject::{self, Direct, Envoy, Haproxy},
};

/// What ours is compared with.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// Nothing: the number itself counts.
    Itself,
    /// Another's: the ratio counts.
    Share(Subject),
    /// Another's: the difference counts.
    Over(Subject),
}

/// On which side of a number it is good to be.
#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// A measure of ours and a limit.
#[derive(Clone, Copy, Debug)]
struct Bar {
    measure: &'static str,
    against: Against,
    limit: Limit,
}

const fn bar(measure: &'static str, against: Against, limit: Limit) -> Bar {
    Bar {
        measure,
        against,
        limit,
    }
}

const BARS: &[Bar] = &[
    bar("http1_cpu", Share(Haproxy), AtMost(0.85)),
    bar("http1_cpu", Share(Envoy), AtMost(0.25)),
    bar("http2_cpu", Share(Haproxy), AtMost(0.55)),
    bar("grpc_cpu", Share(Haproxy), AtMost(0.5)),
    bar("http1_rate", Share(Haproxy), AtLeast(1.2)),
    bar("http2_rate", Share(Haproxy), AtLeast(1.8)),
    bar("latency_2000_p50", Share(Haproxy), AtMost(1.0)),
    bar("latency_2000_p99", Share(Haproxy), AtMost(1.0)),
    bar("latency_8000_p50", Share(Haproxy), AtMost(1.0)),
    bar("latency_8000_p99", Share(Haproxy), AtMost(1.0)),
    bar("bulk_down_rate", Share(Envoy), AtLeast(1.0)),
    bar("bulk_up_rate", Share(Envoy), AtLeast(1.0)),
    bar("bulk_down_cpu", Share(Envoy), AtMost(0.85)),
    bar("bulk_up_cpu", Share(Envoy), AtMost(0.85)),
    bar("connections_http1_rate", Share(Envoy), AtLeast(2.0)),
    bar("connections_tcp_rate", Share(Envoy), AtLeast(2.0)),
    bar("handshakes_cpu", Share(Envoy), AtMost(0.7)),
    bar("memory_fresh", Itself, AtMost(12.0)),
    bar("memory_loaded", Itself, AtMost(20.0)),
    bar("memory_http1_connection", Itself, AtMost(3.0)),
    bar("memory_tcp_connection", Itself, AtMost(9.0)),
    bar("workers_growth", Itself, AtLeast(1.7)),
];

const AIMS: &[Bar] = &[
    bar("http1_cpu", Share(Haproxy), AtMost(0.65)),
    bar("http2_cpu", Share(Haproxy), AtMost(0.35)),
    bar("grpc_cpu", Share(Haproxy), AtMost(0.25)),
    bar("http1_rate", Share(Haproxy), AtLeast(1.6)),
    bar("http2_rate", Share(Haproxy), AtLeast(2.3)),
    bar("latency_2000_p50", Over(Direct), AtMost(120.0)),
    bar("latency_8000_p50", Over(Direct), AtMost(120.0)),
    bar("bulk_down_rate", Itself, AtLeast(7.0)),
    bar("bulk_up_rate", Itself, AtLeast(7.0)),
    bar("bulk_down_cpu", Itself, AtMost(1.1)),
    bar("bulk_up_cpu", Itself, AtMost(1.1)),
    bar("connections_http1_rate", Share(Haproxy), AtLeast(1.0)),
    bar("handshakes_cpu", Itself, AtMost(0.30)),
    bar("memory_fresh", Itself, AtMost(8.0)),
    bar("memory_loaded", Itself, AtMost(14.0)),
    bar("memory_http1_connection", Itself, AtMost(2.0)),
    bar("memory_tcp_connection", Itself, AtMost(6.0)),
];

/// A line for each bar, and for each aim, whose values were measured.
pub(crate) fn table(results: &Results) -> String {
    let mut table = String::new();
    for (title, bars) in [("bar", BARS), ("aim", AIMS)] {
        let lines: Vec<String> = bars.iter().filter_map(|bar| bar.line(results)).collect();
        if !lines.is_empty() {
            // Writing to a String does not fail.
            let _ = writeln!(table, "{title:28}{:16}{:>10}", "", "ours");
            table.extend(lines);
        }
    }
    table
}

impl Bar {
    /// None if something was not measured.
    fn line(&self, results: &Results) -> Option<String> {
        let median = |subject| results.median(self.measure, subject);
        let ours = median(Subject::Mesh)?;
        let (value, against) = match self.against {
            Itself => (ours, String::new()),
            Share(other) => (ours / median(other)?, format!("x {other}'s")),
            Over(other) => (ours - median(other)?, format!("over {other}'s")),
        };
        let (is_met, limit) = match self.limit {
            AtMost(most) => (value <= most, format!("<= {most}")),
            AtLeast(least) => (value >= least, format!(">= {least}")),
        };
        let verdict = if is_met { "met" } else { "NOT MET" };
        let (measure, value) = (self.measure, shown(value));
        Some(format!(
            "{measure:28}{against:16}{value:>10}  {limit:8} {verdict}\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Figure, Group};

    fn results(values: &[(Subject, &str, f64)]) -> Results {
        let mut results = Results::default();
        for (subject, measure, value) in values {
            let figure = Figure {
                measure: (*measure).to_owned(),
                unit: "",
                value: *value,
            };
            results.add(Group::Http1, *subject, figure);
        }
        results
    }

    /// The verdicts on ours, of bars and then of aims.
    fn verdicts(measure: &str, ours: f64, other: Subject, theirs: f64) -> Vec<bool> {
        let table = table(&results(&[
            (Subject::Mesh, measure, ours),
            (other, measure, theirs),
        ]));
        let lines = table.lines().filter(|line| !line.ends_with("ours"));
        lines.map(|line| line.ends_with(" met")).collect()
    }

    #[test]
    fn a_bar_is_met_on_the_right_side_of_its_limit_only() {
        assert_eq!(verdicts("http1_rate", 160.0, Haproxy, 100.0), [true, true]);
        assert_eq!(verdicts("http1_rate", 120.0, Haproxy, 100.0), [true, false]);
        assert_eq!(
            verdicts("http1_rate", 119.0, Haproxy, 100.0),
            [false, false]
        );
        assert_eq!(verdicts("http2_cpu", 0.5, Haproxy, 1.0), [true, false]);
    }

    #[test]
    fn an_aim_may_be_a_difference_or_a_number() {
        assert_eq!(verdicts("latency_2000_p50", 165.0, Direct, 50.0), [true]);
        assert_eq!(verdicts("latency_2000_p50", 175.0, Direct, 50.0), [false]);
        assert_eq!(verdicts("memory_fresh", 7.5, Envoy, 70.0), [true, true]);
        assert_eq!(verdicts("memory_fresh", 12.5, Envoy, 70.0), [false, false]);
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        assert_eq!(table(&results(&[(Subject::Mesh, "http1_rate", 5.0)])), "");
        assert_eq!(table(&results(&[(Haproxy, "memory_fresh", 5.0)])), "");
    }
}
