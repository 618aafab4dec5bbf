//! HAProxy at both ends.

use std::path::PathBuf;

use crate::{
    place::server,
    report::{Group, Report},
    software::{self, Software},
};

/// As a server behind B.
pub(crate) const BEHIND: &str = include_str!("../../config/haproxy-server.cfg");

pub(crate) fn haproxy(configuration: PathBuf) -> std::process::Command {
    let mut command = server("haproxy");
    command.args(["-db", "-f"]).arg(configuration);
    command
}

#[test]
fn haproxy_works_at_both_ends() {
    let mut software = Software::new();
    let place = &software.place;
    let behind = place.configure("server.cfg", BEHIND);
    let before = place.configure(
        "client.cfg",
        include_str!("../../config/haproxy-client.cfg"),
    );
    software.server(haproxy(behind));
    software.client(haproxy(before), &[7001, 7002, 7003]);
    let place = &mut software.place;
    let mut report = Report::new(Group::Haproxy);
    software::as_server(&mut report, place);
    software::as_client(&mut report, place);
    software::as_http2_client(&mut report, place);
    software::as_grpc_client(&mut report, place);
    report.finish(place);
}
