//! gRPC's interop cases: clients and servers in Python, by grpcio, and the project's
//! own in Go.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::{
    namespace::{B, SERVICE, Side},
    wait,
};

use crate::{
    content::SIZES,
    http2,
    ours::{self, Way},
    place::{Place, UNMESHED, declared, detected, open, server},
    report::{Group, Report},
    streams,
};

pub(crate) const CASES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
];

const PYTHON: u16 = 8000;
const GO: u16 = 8001;
const PYTHON_DECLARED: u16 = 8002;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn grpc_interop_cases_pass() {
    let ports = [
        detected(PYTHON),
        detected(GO),
        declared(PYTHON_DECLARED, Protocol::Http2).at(PYTHON),
        open(UNMESHED, Protocol::Detect),
    ];
    let mut place = Place::new(&ports);
    for port in [GO, UNMESHED] {
        let mut go = server("grpc-interop-server");
        go.args(["-port", &port.to_string()]);
        place.start(Side::B, go, &[port]);
    }
    // The last to be started: its log is looked at.
    let mut python = server("grpcio");
    python.arg(source("server.py")).arg(PYTHON.to_string());
    place.start(Side::B, python, &[PYTHON]);

    let mut report = Report::new(Group::Grpc);
    python_client(&mut report, &place, "grpcio to grpcio", PYTHON);
    let case = "grpcio to grpcio: the server is told of what is cancelled";
    report.case(case, told_of_cancels(&place));
    let declared = "grpcio to declared grpcio";
    python_client(&mut report, &place, declared, PYTHON_DECLARED);
    python_client(&mut report, &place, "grpcio to Go", GO);
    for (name, server) in [
        ("Go to grpcio", (SERVICE, PYTHON)),
        ("Go to Go", (SERVICE, GO)),
        ("Go without a sidecar to Go", (B, UNMESHED)),
    ] {
        for case in CASES {
            let outcome = go_client(&place, server.into(), case);
            report.case(format!("{name}: {case}"), outcome);
        }
    }
    report.finish(&mut place);
}

/// Two clusters: the client's sidecar, the server's gateway, the server's sidecar.
#[test]
fn h19_grpc_arrives_through_two_sidecars_and_a_gateway() {
    const STREAMS: u16 = 8003;
    let ports = [PYTHON, GO, STREAMS].map(|port| open(port, Protocol::Detect));
    let mut place = Place::in_two_clusters(&ports);
    let mut go = server("grpc-interop-server");
    go.args(["-port", &GO.to_string()]);
    place.start(Side::B, go, &[GO]);
    let _origin = http2::origin(&place, STREAMS);
    let mut python = server("grpcio");
    python.arg(source("server.py")).arg(PYTHON.to_string());
    place.start(Side::B, python, &[PYTHON]);

    let mut report = Report::new(Group::Gateway);
    python_client(&mut report, &place, "grpcio to grpcio", PYTHON);
    let case = "grpcio to grpcio: the server is told of what is cancelled";
    report.case(case, told_of_cancels(&place));
    for case in CASES {
        let outcome = go_client(&place, (SERVICE, GO).into(), case);
        report.case(format!("Go to Go: {case}"), outcome);
    }
    let to = (SERVICE, STREAMS).into();
    for size in SIZES {
        let outcome = streams::both_ways(&place, to, size);
        report.case(format!("{size} bytes both ways"), outcome);
    }
    for (name, case) in streams::CASES {
        // Tunnels of applications are a matter of their own.
        if !name.contains("CONNECT") {
            report.case(*name, case(&place, to));
        }
    }
    let way = Way {
        place: &place,
        to,
        speak: ours::http2,
    };
    for (name, outcome) in way.cases() {
        report.case(name, outcome);
    }
    report.finish(&mut place);
}

/// What is not Rust, as it is in the sources that cargo runs.
fn source(name: &str) -> PathBuf {
    let crate_folder = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let crate_folder = crate_folder.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    crate_folder.join("grpc").join(name)
}

/// All cases in one process.
fn python_client(report: &mut Report, place: &Place, name: &str, port: u16) {
    let program = source("client.py").display().to_string();
    let address = format!("10.211.0.10:{port}");
    let said = place.run("grpcio", &[&program, &address]);
    for case in CASES {
        let outcome = said
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error:#}"))
            .and_then(|said| result(said, case));
        report.case(format!("{name}: {case}"), outcome);
    }
}

/// What a client's output says of a case.
fn result(said: &str, case: &str) -> Result<()> {
    let is_meant = |line: &&str| line.split([' ', ':']).nth(1) == Some(case);
    let line = said.lines().find(is_meant);
    let line = line.with_context(|| format!("nothing was said of it: {said}"))?;
    ensure!(line.starts_with("passed "), "{line}");
    Ok(())
}

/// Runs a case of the project's own client, which fails if it does.
pub(crate) fn go_client(place: &Place, server: SocketAddr, case: &str) -> Result<()> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let server = ["-server_host", &host, "-server_port", &port];
    let arguments = [&server[..], &["-test_case", case]].concat();
    place.run("grpc-interop-client", &arguments).map(drop)
}

/// Of the cases in which the client gives up, the server has to hear of the one in
/// which it is at work: others may be over before they reach it.
fn told_of_cancels(place: &Place) -> Result<()> {
    let told = || Ok(place.log().contains("cancelled StreamingOutputCall"));
    let waited = wait::until("the server hears of it", SOON, told);
    waited.map(drop).with_context(|| place.log())
}

#[test]
fn what_the_client_says_of_a_case_is_found() {
    let said = "passed empty_unary\nfailed ping_pong: AssertionError code";
    assert!(result(said, "empty_unary").is_ok());
    assert!(result(said, "ping_pong").is_err());
    assert!(result(said, "large_unary").is_err());
}
