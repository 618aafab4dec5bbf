//! h2load, many requests at a time.

use anyhow::{Result, ensure};

use crate::{
    http2,
    origin::Origin,
    place::{Place, detected},
    report::{Group, Report},
};

const HTTP1: u16 = 8000;
const HTTP2: u16 = 8001;
const REQUESTS: usize = 3000;

#[test]
fn h2load_gets_all_answers() {
    let mut place = Place::new(&[detected(HTTP1), detected(HTTP2)]);
    let _origins = [Origin::http1(&place, HTTP1), http2::origin(&place, HTTP2)];
    let mut report = Report::new(Group::H2load);
    for length in [0, 1000, 100_000] {
        let case = format!("HTTP/1, 16 connections, {length} bytes");
        let load = ["--h1", "-c", "16"];
        report.case(case, run(&place, HTTP1, length, &load));
        let case = format!("HTTP/2, 4 connections of 32 streams, {length} bytes");
        let load = ["-c", "4", "-m", "32"];
        report.case(case, run(&place, HTTP2, length, &load));
    }
    report.finish(&mut place);
}

fn run(place: &Place, port: u16, length: usize, load: &[&str]) -> Result<()> {
    // As many bytes as with 1,000 each, at most.
    let requests = if length > 1000 {
        REQUESTS / 10
    } else {
        REQUESTS
    };
    let count = requests.to_string();
    let url = format!("http://10.211.0.10:{port}/bytes/{length}");
    let said = place.run("h2load", &[&["-n", &count], load, &[&url]].concat())?;
    for expected in [
        format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout"),
        format!("status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx"),
        format!("({}) data", requests * length),
    ] {
        ensure!(said.contains(&expected), "no `{expected}` in {said}");
    }
    Ok(())
}
