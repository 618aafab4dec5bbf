//! `mesh-control`: the control plane of a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    let config: mesh_control::Config = mesh_runtime::configuration();
    mesh_runtime::run("mesh-control", mesh_control::run(config))
}
