//! h2spec, a client that breaks the rules of RFC 9113 and RFC 7541 one by one,
//! against the server of `examples/serve.rs`.

use std::{collections::BTreeMap, net::TcpListener, process::Command, thread};

use crate::peers;

#[expect(dead_code, reason = "its main is the example's")]
#[path = "../../examples/serve.rs"]
mod serve;

/// How many cases the pinned version has, those for strict readers included.
const CASES: usize = 146;
const FAILURES: &str = include_str!("h2spec-failures.txt");

#[test]
fn h2spec_finds_nothing_that_is_not_listed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve::accept(&listener, true));
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.xml");
    let output = Command::new(peers::program("h2spec"))
        .args(["--strict", "--port", &port.to_string(), "--junit-report"])
        .arg(&report)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let report = std::fs::read_to_string(report).unwrap_or_default();
    let results = results(&report);
    assert_eq!(results.len(), CASES, "{printed}");
    assert_eq!(wrong(&results, FAILURES), Vec::<String>::new(), "{printed}");
}

/// Each case of a JUnit report, and whether it passed. (h2spec does not escape
/// what a failure says, so that this is not read as XML: what concerns a case
/// begins on its line or follows it.)
fn results(report: &str) -> BTreeMap<String, bool> {
    let mut cases = BTreeMap::new();
    for case in report.split("<testcase ").skip(1) {
        let attribute = |name: &str| {
            let (_, rest) = case.split_once(&format!("{name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let name = format!("{} {}", attribute("package"), attribute("classname"));
        let bad = ["<failure>", "<error>", "<skipped>"];
        let passed = !bad.iter().any(|mark| case.contains(mark));
        let before = cases.insert(name.clone(), passed);
        assert_eq!(before, None, "{name} is there twice");
    }
    cases
}

/// Cases that fail and are not listed, and those that are listed and do not.
fn wrong(results: &BTreeMap<String, bool>, list: &str) -> Vec<String> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let listed: Vec<&str> = lines
        .map(|line| {
            let (case, why) = line.rsplit_once(": ").unwrap_or((line, ""));
            assert!(!why.trim().is_empty(), "no reason: {line}");
            case
        })
        .collect();
    let failed = results.iter().filter(|(_, passed)| !**passed);
    let unlisted = failed.filter(|(case, _)| !listed.contains(&case.as_str()));
    let stale = listed
        .iter()
        .filter(|case| results.get(**case) != Some(&false));
    unlisted
        .map(|(case, _)| format!("fails: {case}"))
        .chain(stale.map(|case| format!("listed, but does not fail: {case}")))
        .collect()
}

#[test]
fn what_h2spec_reports_is_understood() {
    let report = "<testcase package=\"a/1\" classname=\"is good\" time=\"0\"></testcase>\n\
                  <testcase package=\"a/2\" classname=\"is bad\" time=\"0\">\n\
                  <failure>Expect: <x></failure>\n</testcase>\n\
                  <testcase package=\"a/3\" classname=\"is left out\"><skipped></skipped>";
    let results = results(report);
    assert_eq!(results.len(), 3);
    let list = "# why\na/2 is bad: a reason\na/3 is left out: another\n";
    assert_eq!(wrong(&results, list), Vec::<String>::new());
    let unlisted = ["fails: a/2 is bad", "fails: a/3 is left out"];
    assert_eq!(wrong(&results, "# nothing\n"), unlisted);
    let stale = "a/1 is good: a reason\na/2 is bad: one\na/3 is left out: one\na/4 is gone: one";
    let expected = [
        "listed, but does not fail: a/1 is good",
        "listed, but does not fail: a/4 is gone",
    ];
    assert_eq!(wrong(&results, stale), expected);
}
