//! `mesh-proxy`: the sidecar of a meshed pod.

use std::process::ExitCode;

use clap::Parser as _;
use mesh_proxy::Config;

fn main() -> ExitCode {
    let config = Config::parse();
    mesh_runtime::run("mesh-proxy", mesh_proxy::run(config))
}
