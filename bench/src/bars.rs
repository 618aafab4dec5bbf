//! What ours has to reach, and whether it does.

use std::fmt::Write as _;

use crate::{
    report::{Results, shown},
    subject::Subject,
};

/// One bar: ours against a number, or a share of another's.
#[derive(Clone, Copy, Debug)]
struct Bar {
    measure: &'static str,
    /// Whose value the limit is a share of; none if it is a number itself.
    of: Option<Subject>,
    limit: Limit,
    /// What we would like.
    aim: &'static str,
}

/// On which side of the limit it is good to be.
#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    fn admits(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
        }
    }
}

use Limit::{AtLeast, AtMost};
use Subject::{Envoy, Haproxy};

const fn bar(measure: &'static str, of: Option<Subject>, limit: Limit, aim: &'static str) -> Bar {
    Bar {
        measure,
        of,
        limit,
        aim,
    }
}

const BARS: &[Bar] = &[
    bar("http1_cpu", Some(Haproxy), AtMost(0.85), "0.65"),
    bar("http1_cpu", Some(Envoy), AtMost(0.25), ""),
    bar("http2_cpu", Some(Haproxy), AtMost(0.55), "0.35"),
    bar("grpc_cpu", Some(Haproxy), AtMost(0.5), "0.25"),
    bar("http1_rate", Some(Haproxy), AtLeast(1.2), "1.6"),
    bar("http2_rate", Some(Haproxy), AtLeast(1.8), "2.3"),
    bar(
        "latency_2000_p50",
        Some(Haproxy),
        AtMost(1.0),
        "direct + 120 us",
    ),
    bar("latency_2000_p99", Some(Haproxy), AtMost(1.0), ""),
    bar(
        "latency_8000_p50",
        Some(Haproxy),
        AtMost(1.0),
        "direct + 120 us",
    ),
    bar("latency_8000_p99", Some(Haproxy), AtMost(1.0), ""),
    bar("bulk_down_rate", Some(Envoy), AtLeast(1.0), "7 Gbit/s"),
    bar("bulk_up_rate", Some(Envoy), AtLeast(1.0), "7 Gbit/s"),
    bar("bulk_down_cpu", Some(Envoy), AtMost(0.85), "1.1 s/GiB"),
    bar("bulk_up_cpu", Some(Envoy), AtMost(0.85), "1.1 s/GiB"),
    bar(
        "connections_http1_rate",
        Some(Envoy),
        AtLeast(2.0),
        "HAProxy's",
    ),
    bar("handshakes_cpu", Some(Envoy), AtMost(0.7), "0.30 ms"),
    bar("memory_fresh", None, AtMost(12.0), "8"),
    bar("memory_loaded", None, AtMost(20.0), "14"),
    bar("memory_http1_connection", None, AtMost(3.0), "2"),
    bar("memory_tcp_connection", None, AtMost(9.0), "6"),
    bar("workers_growth", None, AtLeast(1.7), ""),
];

/// A line for each bar whose values were measured.
pub(crate) fn table(results: &Results) -> String {
    let mut table = String::new();
    for bar in BARS {
        let Some(ours) = results.median(bar.measure, Subject::Mesh) else {
            continue;
        };
        let (value, against) = match bar.of {
            None => (ours, "itself"),
            Some(other) => match results.median(bar.measure, other) {
                Some(theirs) => (ours / theirs, other.as_str()),
                None => continue,
            },
        };
        let verdict = if bar.limit.admits(value) {
            "met"
        } else {
            "NOT MET"
        };
        // Writing to a String does not fail.
        let _ = writeln!(
            table,
            "{:28}{against:10}{:>10}  {:9}{verdict:10}{}",
            bar.measure,
            shown(value),
            bar.limit.shown(),
            bar.aim
        );
    }
    if !table.is_empty() {
        let head = format!(
            "{:28}{:10}{:>10}  {:9}{:10}{}\n",
            "measure", "against", "ours", "bar", "", "aim"
        );
        table.insert_str(0, &head);
    }
    table
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

    #[test]
    fn a_bar_is_met_on_the_right_side_of_its_limit_only() {
        let lines = |ours| {
            table(&results(&[
                (Subject::Mesh, "http1_rate", ours),
                (Haproxy, "http1_rate", 100.0),
            ]))
        };
        assert!(lines(120.0).contains(" met "), "{}", lines(120.0));
        assert!(lines(119.0).contains("NOT MET"), "{}", lines(119.0));
        let cost = table(&results(&[(Subject::Mesh, "memory_fresh", 12.5)]));
        assert!(cost.contains("NOT MET"), "{cost}");
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        assert_eq!(table(&results(&[(Subject::Mesh, "http1_rate", 5.0)])), "");
        assert_eq!(table(&results(&[(Haproxy, "memory_fresh", 5.0)])), "");
    }
}
