//! nginx at both ends.

use std::path::PathBuf;

use crate::{
    place::server,
    report::{Group, Report},
    software::{self, Software},
};

/// As a server behind B.
pub(crate) const BEHIND: &str = include_str!("../../config/nginx-server.conf");

pub(crate) fn nginx(configuration: PathBuf) -> std::process::Command {
    let mut command = server("nginx");
    command.args(["-e", "stderr", "-c"]).arg(configuration);
    command
}

#[test]
fn nginx_works_at_both_ends() {
    let mut software = Software::new();
    let place = &software.place;
    let behind = place.configure("server.conf", BEHIND);
    let before = place.configure(
        "client.conf",
        include_str!("../../config/nginx-client.conf"),
    );
    software.server(nginx(behind));
    software.client(nginx(before), &[7001, 7003]);
    let place = &mut software.place;
    let mut report = Report::new(Group::Nginx);
    software::as_server(&mut report, place);
    software::files(&mut report, place);
    software::as_client(&mut report, place);
    software::as_grpc_client(&mut report, place);
    report.finish(place);
}
