//! `mesh-gateway`: the one door between clusters.

use std::process::ExitCode;

fn main() -> ExitCode {
    let config: mesh_gateway::Config = mesh_runtime::configuration();
    mesh_runtime::run("mesh-gateway", mesh_gateway::run(config))
}
