//! `mesh-gateway`: the one door between clusters.

use std::process::ExitCode;

use clap::Parser as _;
use mesh_gateway::Config;

fn main() -> ExitCode {
    let config = Config::parse();
    mesh_runtime::run("mesh-gateway", mesh_gateway::run(config))
}
