//! Envoy at both ends.

use std::path::PathBuf;

use crate::{
    place::server,
    report::{Group, Report},
    software::{self, Software},
};

fn envoy(configuration: PathBuf) -> std::process::Command {
    let mut command = server("envoy");
    command
        .args([
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "-l",
            "warning",
            "-c",
        ])
        .arg(configuration);
    command
}

#[test]
fn envoy_works_at_both_ends() {
    let mut software = Software::new();
    let place = &software.place;
    let behind = place.configure(
        "server.yaml",
        include_str!("../../config/envoy-server.yaml"),
    );
    let before = place.configure(
        "client.yaml",
        include_str!("../../config/envoy-client.yaml"),
    );
    software.server(envoy(behind));
    software.client(envoy(before), &[7001, 7002, 7003]);
    let place = &mut software.place;
    let mut report = Report::new(Group::Envoy);
    software::as_server(&mut report, place);
    software::as_client(&mut report, place);
    software::as_http2_client(&mut report, place);
    software::as_grpc_client(&mut report, place);
    report.finish(place);
}
