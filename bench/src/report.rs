//! Results: as JSON, and as a table.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    measure::{Figure, Group},
    stats::median,
    subject::Subject,
};

/// All rounds of one measure of one subject.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) group: Group,
    pub(crate) measure: String,
    pub(crate) subject: Subject,
    pub(crate) unit: &'static str,
    pub(crate) rounds: Vec<f64>,
}

/// What was measured, in the order of its first round.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) series: Vec<Series>,
}

impl Results {
    /// Adds a round.
    pub(crate) fn add(&mut self, group: Group, subject: Subject, figure: Figure) {
        let found = self
            .series
            .iter_mut()
            .find(|series| series.subject == subject && series.measure == figure.measure);
        match found {
            Some(series) => series.rounds.push(figure.value),
            None => self.series.push(Series {
                group,
                measure: figure.measure,
                subject,
                unit: figure.unit,
                rounds: vec![figure.value],
            }),
        }
    }

    /// Takes out what was measured of a subject that then failed.
    pub(crate) fn forget(&mut self, group: Group, subject: Subject) {
        self.series
            .retain(|series| series.group != group || series.subject != subject);
    }

    /// The median of a measure, if it was measured.
    pub(crate) fn median(&self, measure: &str, subject: Subject) -> Option<f64> {
        let found = self
            .series
            .iter()
            .find(|series| series.subject == subject && series.measure == measure);
        found.map(|series| median(&series.rounds))
    }

    /// As `wire.json` has it.
    pub(crate) fn json(&self) -> Value {
        let one = |series: &Series| {
            json!({
                "measure": series.measure,
                "subject": series.subject.as_str(),
                "value": rounded(median(&series.rounds)),
                "unit": series.unit,
                "rounds": series.rounds.iter().copied().map(rounded).collect::<Vec<_>>(),
            })
        };
        self.series.iter().map(one).collect()
    }

    /// A row for each measure, a column for each subject: medians.
    pub(crate) fn table(&self, subjects: &[Subject]) -> String {
        let mut table = format!("{:28}{:11}", "measure", "unit");
        for subject in subjects {
            // Writing to a String does not fail.
            let _ = write!(table, "{subject:>12}");
        }
        table.push('\n');
        let mut seen = Vec::new();
        for series in &self.series {
            if seen.contains(&&series.measure) {
                continue;
            }
            seen.push(&series.measure);
            let _ = write!(table, "{:28}{:11}", series.measure, series.unit);
            for subject in subjects {
                let value = self.median(&series.measure, *subject);
                let _ = write!(table, "{:>12}", value.map_or_else(|| "-".to_owned(), shown));
            }
            table.push('\n');
        }
        table
    }
}

/// Five digits that mean something.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// A number for people.
pub(crate) fn shown(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results::default();
        for (subject, value) in [
            (Subject::Mesh, 2.0),
            (Subject::Haproxy, 4.0),
            (Subject::Mesh, 1.0),
            (Subject::Mesh, 9.123_456_7),
        ] {
            results.add(
                Group::Http1,
                subject,
                Figure {
                    measure: "http1_cpu".to_owned(),
                    unit: "s/100k",
                    value,
                },
            );
        }
        results
    }

    #[test]
    fn rounds_are_kept_and_the_median_counts() {
        let expected = json!([
            {"measure": "http1_cpu", "subject": "mesh", "value": 2.0, "unit": "s/100k",
                "rounds": [2.0, 1.0, 9.1235]},
            {"measure": "http1_cpu", "subject": "haproxy", "value": 4.0, "unit": "s/100k",
                "rounds": [4.0]},
        ]);
        assert_eq!(results().json(), expected);
    }

    #[test]
    fn a_table_has_a_row_for_each_measure_and_says_what_is_missing() {
        let table = results().table(&[Subject::Mesh, Subject::Envoy]);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|row| row.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0], ["measure", "unit", "mesh", "envoy"]);
        assert_eq!(rows[1], ["http1_cpu", "s/100k", "2.000", "-"]);
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn who_fails_has_no_figure() {
        let mut results = results();
        results.forget(Group::Http2, Subject::Mesh);
        assert!(results.median("http1_cpu", Subject::Mesh).is_some());
        results.forget(Group::Http1, Subject::Mesh);
        assert_eq!(results.median("http1_cpu", Subject::Mesh), None);
        assert_eq!(results.median("http1_cpu", Subject::Haproxy), Some(4.0));
    }

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        let all = [37450.4, 455.25, 2.66, 0.0491].map(shown);
        assert_eq!(all, ["37450", "455.2", "2.660", "0.049"]);
    }
}
