//! Apache at both ends.

use std::path::PathBuf;

use crate::{
    place::{Place, server},
    report::{Group, Report},
    software::{self, Software},
};

const COMMON: &str = include_str!("../../config/apache.conf");
/// As a server behind B, with what is the same everywhere.
pub(crate) const BEHIND: &str = include_str!("../../config/apache-server.conf");

pub(crate) fn apache(place: &Place, name: &str, own: &str) -> std::process::Command {
    let template = format!("{COMMON}{own}").replace("@MODULES@", &modules());
    let configuration = place.configure(name, &template);
    let mut command = server("apache2");
    command.arg("-DFOREGROUND").arg("-f").arg(configuration);
    command
}

/// Where its modules are: unpacked, or installed.
fn modules() -> String {
    let below = "usr/lib/apache2/modules";
    let unpacked = mesh_testing::peers::folder()
        .join("debian-pairs")
        .join(below);
    let installed = PathBuf::from("/").join(below);
    let folder = if unpacked.exists() {
        unpacked
    } else {
        installed
    };
    folder.display().to_string()
}

#[test]
fn apache_works_at_both_ends() {
    let mut software = Software::new();
    let place = &software.place;
    let behind = apache(place, "server.conf", BEHIND);
    let before = apache(
        place,
        "client.conf",
        include_str!("../../config/apache-client.conf"),
    );
    software.server(behind);
    software.client(before, &[7001, 7002]);
    let place = &mut software.place;
    let mut report = Report::new(Group::Apache);
    software::as_server(&mut report, place);
    software::files(&mut report, place);
    software::as_client(&mut report, place);
    software::as_http2_client(&mut report, place);
    report.finish(place);
}
