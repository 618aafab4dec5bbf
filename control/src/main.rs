//! `mesh-control`: the control plane of a cluster.

use std::process::ExitCode;

use clap::Parser as _;
use mesh_control::Config;

fn main() -> ExitCode {
    let config = Config::parse();
    mesh_runtime::run("mesh-control", mesh_control::run(config))
}
