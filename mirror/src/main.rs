//! `mesh-mirror`.

use std::process::ExitCode;

use clap::Parser;
use mesh_mirror::config::Config;
use mesh_runtime::Shutdown;

fn main() -> ExitCode {
    let config = Config::parse();
    mesh_runtime::run("mesh-mirror", async {
        mesh_runtime::init_tracing(&config.runtime.log, config.runtime.log_format)?;
        mesh_mirror::run(config, Shutdown::on_signals()?).await
    })
}
