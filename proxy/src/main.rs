//! `mesh-proxy`: the sidecar of a meshed pod.

use std::process::ExitCode;

fn main() -> ExitCode {
    let config: mesh_proxy::Config = mesh_runtime::configuration();
    mesh_runtime::run("mesh-proxy", mesh_proxy::run(config))
}
