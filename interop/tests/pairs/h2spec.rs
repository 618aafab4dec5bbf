//! h2spec, a client that breaks the rules of RFC 9113 and RFC 7541 one by one:
//! redirected to A, and to B as a client that has no sidecar.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::namespace::{B, SERVICE, Side};

use crate::{
    http2,
    origin::Origin,
    place::{Place, UNMESHED, declared, open},
    quiet,
    report::{Group, Report},
};

/// How many cases the pinned version has, those for strict readers included.
const CASES: usize = 146;
const MESHED: u16 = 8000;
/// On A's loopback.
const RELAY: u16 = 7000;

#[test]
fn h2spec_against_the_outbound_side() {
    // What does not begin as HTTP/2 would else be no HTTP/2, but bytes.
    let mut place = Place::new(&[declared(MESHED, Protocol::Http2)]);
    let _origin = http2::origin(&place, MESHED);
    run(&mut place, Group::H2specOutbound, (SERVICE, MESHED).into());
}

#[test]
fn h2spec_against_the_inbound_side() {
    let mut place = Place::new(&[open(UNMESHED, Protocol::Http2)]);
    let _origin = http2::origin(&place, UNMESHED);
    run(&mut place, Group::H2specInbound, (B, UNMESHED).into());
}

fn run(place: &mut Place, group: Group, server: SocketAddr) {
    let relay = move |client| quiet::relay(client, server);
    let _relay = Origin::start_at(place, (Side::A, RELAY), relay);
    let mut report = Report::new(group);
    let port = RELAY.to_string();
    let arguments = ["--strict", "--port", &port, "--path", "/bytes/100"];
    let written = ["--junit-report", "report.xml"];
    // It fails if a case does: that is what the report is for.
    let output = place.output("h2spec", &[&arguments[..], &written].concat());
    let printed = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = std::fs::read_to_string(place.file("report.xml"));
    let results = text.context("no report").and_then(|text| results(&text));
    let complete = results.as_ref().map_or(0, Vec::len);
    for (case, outcome) in results.into_iter().flatten() {
        report.case(case, outcome);
    }
    let all = || -> Result<()> {
        ensure!(complete == CASES, "{complete} cases: {}", printed?);
        Ok(())
    };
    report.case("all cases are run", all());
    report.finish(place);
}

/// The cases of a JUnit report. (h2spec does not escape what a failure says, so that
/// this is not read as XML: what concerns a case begins on its line or follows it.)
fn results(report: &str) -> Result<Vec<(String, Result<()>)>> {
    let cases = report.split("<testcase ").skip(1);
    cases.map(|case| Ok((name(case)?, outcome(case)))).collect()
}

fn name(case: &str) -> Result<String> {
    let attribute = |name: &str| {
        let (_, rest) = case.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0)
    };
    let both = attribute("package").zip(attribute("classname"));
    let (package, class) = both.context("a case without a name")?;
    Ok(format!("{package} {class}"))
}

fn outcome(case: &str) -> Result<()> {
    for mark in ["<failure>", "<error>", "<skipped>"] {
        if let Some((_, why)) = case.split_once(mark) {
            let why = why.split("</").next().unwrap_or_default();
            let words: Vec<&str> = why.split_whitespace().collect();
            bail!("{mark} {}", words.join(" "));
        }
    }
    Ok(())
}

#[test]
fn what_h2spec_reports_is_understood() {
    let report = "<testcase package=\"a/1\" classname=\"is good\" time=\"0\"></testcase>\n\
                  <testcase package=\"a/2\" classname=\"is bad\" time=\"0\">\n\
                  <failure>Expect: <x>\n y</failure>\n</testcase>\n\
                  <testcase package=\"a/3\" classname=\"is left out\"><skipped></skipped>";
    let results = results(report).unwrap();
    let told: Vec<(&str, Option<String>)> = results
        .iter()
        .map(|(case, outcome)| (&**case, outcome.as_ref().err().map(ToString::to_string)))
        .collect();
    let expected = [
        ("a/1 is good", None),
        ("a/2 is bad", Some("<failure> Expect: <x> y".to_owned())),
        ("a/3 is left out", Some("<skipped> ".to_owned())),
    ];
    assert_eq!(told, expected);
    assert!(super::h2spec::results("<testcase time=\"0\">").is_err());
}
