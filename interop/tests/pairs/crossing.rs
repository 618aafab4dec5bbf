//! What others see on the link between the two.

use anyhow::{Result, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::{
    capture::{self, Capture},
    namespace::B,
};

use crate::{
    http2,
    origin::Origin,
    place::{Place, UNMESHED, declared, detected, open},
    report::{Group, Report},
};

const HTTP1: u16 = 8000;
const HTTP2: u16 = 8001;
const OPAQUE: u16 = 8002;

/// What is sent, again and again.
const SIGN: &[u8] = b"whoever reads this on the wire has found a fault; ";

#[test]
fn nothing_can_be_read_on_the_link() {
    let ports = [
        detected(HTTP1),
        detected(HTTP2),
        declared(OPAQUE, Protocol::Opaque),
        open(UNMESHED, Protocol::Detect),
    ];
    let mut place = Place::new(&ports);
    let _origins = [
        Origin::http1(&place, HTTP1),
        http2::origin(&place, HTTP2),
        Origin::http1(&place, OPAQUE),
        Origin::http1(&place, UNMESHED),
    ];
    place.write("in", SIGN.repeat(2000));
    let mut report = Report::new(Group::Crossing);
    for (what, port, version) in [
        ("HTTP/1", HTTP1, "--http1.1"),
        ("HTTP/2", HTTP2, "--http2-prior-knowledge"),
        ("bytes", OPAQUE, "--http1.1"),
    ] {
        let url = format!("http://10.211.0.10:{port}/echo");
        let outcome = watched(&place, version, &url, true);
        report.case(format!("{what}: encrypted"), outcome);
    }
    // Else it is the capture that is blind.
    let url = format!("http://{B}:{UNMESHED}/echo");
    let outcome = watched(&place, "--http1.1", &url, false);
    report.case("without a sidecar: not encrypted", outcome);
    report.finish(&mut place);
}

fn watched(place: &Place, version: &str, url: &str, is_encrypted: bool) -> Result<()> {
    let capture = Capture::start(&place.pair.site().a, SIGN)?;
    let fixed = ["--silent", "--show-error", "--max-time", "20", version];
    let said = place.run(
        "curl",
        &[&fixed[..], &["--data-binary", "@in", url]].concat(),
    )?;
    ensure!(
        said.as_bytes() == SIGN.repeat(2000).trim_ascii_end(),
        "{said}"
    );
    capture::check(capture.stop()?, is_encrypted)
}
