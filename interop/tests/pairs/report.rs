//! Cases and their results.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;

use crate::place::Place;

const KNOWN: &str = include_str!("known-failures.txt");
/// How the reason of a failure begins that is a matter of who comes first.
const SOMETIMES: &str = "sometimes: ";

/// All results of this run.
static RESULTS: Mutex<BTreeMap<Group, Vec<Row>>> = Mutex::new(BTreeMap::new());

/// Cases that one test reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Answers,
    Apache,
    Attacks,
    Bytes,
    Crossing,
    Curl,
    Envoy,
    Gateway,
    Grpc,
    H2load,
    H2specInbound,
    H2specOutbound,
    Haproxy,
    Hostile,
    Http1,
    Http2,
    Idle,
    Nginx,
    Postgres,
    Redis,
    Slow,
    Tls,
    ZeroWindows,
}

impl Group {
    const ALL: [Self; 23] = [
        Self::Answers,
        Self::Apache,
        Self::Attacks,
        Self::Bytes,
        Self::Crossing,
        Self::Curl,
        Self::Envoy,
        Self::Gateway,
        Self::Grpc,
        Self::H2load,
        Self::H2specInbound,
        Self::H2specOutbound,
        Self::Haproxy,
        Self::Hostile,
        Self::Http1,
        Self::Http2,
        Self::Idle,
        Self::Nginx,
        Self::Postgres,
        Self::Redis,
        Self::Slow,
        Self::Tls,
        Self::ZeroWindows,
    ];

    /// Its name in lists.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Answers => "hostile answers",
            Self::Apache => "Apache",
            Self::Attacks => "attacks",
            Self::Bytes => "bytes",
            Self::Crossing => "crossing",
            Self::Curl => "curl",
            Self::Envoy => "Envoy",
            Self::Gateway => "through a gateway",
            Self::Grpc => "gRPC",
            Self::H2load => "h2load",
            Self::H2specInbound => "h2spec inbound",
            Self::H2specOutbound => "h2spec outbound",
            Self::Haproxy => "HAProxy",
            Self::Hostile => "hostile input",
            Self::Http1 => "HTTP/1",
            Self::Http2 => "HTTP/2",
            Self::Idle => "idle peers",
            Self::Nginx => "nginx",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "redis",
            Self::Slow => "slow clients",
            Self::Tls => "TLS",
            Self::ZeroWindows => "zero windows",
        }
    }
}

/// The results of one group.
pub(crate) struct Report {
    group: Group,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    case: String,
    /// Why it failed.
    failure: Option<String>,
}

impl Report {
    pub(crate) const fn new(group: Group) -> Self {
        Self {
            group,
            rows: Vec::new(),
        }
    }

    /// Notes how a case went.
    pub(crate) fn case(&mut self, case: impl Into<String>, outcome: Result<()>) {
        self.rows.push(Row {
            case: case.into(),
            failure: outcome
                .err()
                .map(|error| on_one_line(&format!("{error:#}"))),
        });
    }

    /// Writes the table, and fails the test if a case is not as it is known to be.
    pub(crate) fn finish(mut self, place: &mut Place) {
        self.case("programs run to the end", place.check());
        let wrong = wrong(&self.rows, &known(KNOWN, self.group));
        write_results(self.group, self.rows);
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), place.said());
    }
}

/// What programs write has line breaks.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Of a group: cases that are known to fail, and why.
fn known(list: &str, group: Group) -> BTreeMap<&str, &str> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let entries = lines.filter(|line| !line.is_empty()).map(|line| {
        let mut parts = line.splitn(3, " | ");
        let (Some(group), Some(case), Some(reason)) = (parts.next(), parts.next(), parts.next())
        else {
            panic!("not `group | case | reason`: {line}");
        };
        assert!(
            Group::ALL.iter().any(|known| known.as_str() == group),
            "no such group: {line}"
        );
        assert!(!reason.trim().is_empty(), "no reason: {line}");
        (group, case, reason)
    });
    entries
        .filter(|(of, ..)| *of == group.as_str())
        .map(|(_, case, reason)| (case, reason))
        .collect()
}

/// Cases that fail and are not listed, those that are listed and do not fail, and
/// those that are there twice.
fn wrong(rows: &[Row], known: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let case = &row.case;
        match (&row.failure, known.get(case.as_str())) {
            (Some(why), None) => wrong.push(format!("fails: {case}: {why}")),
            (None, Some(why)) if !why.starts_with(SOMETIMES) => {
                wrong.push(format!("listed, but does not fail: {case}"));
            }
            (None, None | Some(_)) | (Some(_), Some(_)) => {}
        }
        if rows[..at].iter().any(|before| before.case == *case) {
            wrong.push(format!("there twice: {case}"));
        }
    }
    let is_there = |case: &str| rows.iter().any(|row| row.case == case);
    let gone = known.keys().filter(|case| !is_there(case));
    wrong.extend(gone.map(|case| format!("listed, but there is no such case: {case}")));
    wrong
}

fn write_results(group: Group, rows: Vec<Row>) {
    let mut results = RESULTS.lock().unwrap_or_else(PoisonError::into_inner);
    results.insert(group, rows);
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("results.txt"), table(&results)).unwrap();
}

/// Beside the folder of the profile, as cargo calls that.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| {
        let profile = mesh_pair::pair::profile_folder().unwrap();
        profile.parent().unwrap().to_owned()
    });
    target.join("interop")
}

/// A line for each group, and one for each case.
fn table(results: &BTreeMap<Group, Vec<Row>>) -> String {
    let mut text = String::from("Cases through a pair of sidecars\n\n");
    for (group, rows) in results {
        let failed = rows.iter().filter(|row| row.failure.is_some()).count();
        let (name, passed) = (group.as_str(), rows.len() - failed);
        let _ = writeln!(text, "{name:16} {passed:4} passed {failed:4} failed");
    }
    for (group, rows) in results {
        let known = known(KNOWN, *group);
        let _ = writeln!(text, "\n{}", group.as_str());
        for row in rows {
            let _ = match (&row.failure, known.get(row.case.as_str())) {
                (None, _) => writeln!(text, "  passed  {}", row.case),
                (Some(_), Some(why)) => writeln!(text, "  known   {}: {why}", row.case),
                (Some(why), None) => writeln!(text, "  FAILED  {}: {why}", row.case),
            };
        }
    }
    text
}

mod tests {
    use super::*;

    fn row(case: &str, failure: Option<&str>) -> Row {
        Row {
            case: case.to_owned(),
            failure: failure.map(str::to_owned),
        }
    }

    #[test]
    fn only_what_is_known_may_fail_and_it_has_to() {
        let list = "# why\nredis | b | it is so\nredis | c | the same\ncurl | a | not of redis\n\
                    redis | d | sometimes: a race\n";
        let known = known(list, Group::Redis);
        let good = |d| {
            [
                row("a", None),
                row("b", Some("x")),
                row("c", Some("y")),
                row("d", d),
            ]
        };
        assert_eq!(wrong(&good(None), &known), Vec::<String>::new());
        assert_eq!(wrong(&good(Some("z")), &known), Vec::<String>::new());
        let bad = [row("a", Some("x")), row("b", None), row("a", Some("y"))];
        let expected = [
            "fails: a: x",
            "listed, but does not fail: b",
            "fails: a: y",
            "there twice: a",
            "listed, but there is no such case: c",
            "listed, but there is no such case: d",
        ];
        assert_eq!(wrong(&bad, &known), expected);
    }

    #[test]
    #[should_panic(expected = "no such group")]
    fn a_group_that_does_not_exist_is_refused() {
        known("radis | a | a typo\n", Group::Redis);
    }

    #[test]
    fn the_table_has_a_line_for_each_case() {
        let rows = vec![row("a", None), row("b", Some("x"))];
        let text = table(&BTreeMap::from([(Group::Redis, rows)]));
        assert!(
            text.contains("redis               1 passed    1 failed\n"),
            "{text}"
        );
        assert!(text.contains("\n  passed  a\n  FAILED  b: x\n"), "{text}");
    }
}
