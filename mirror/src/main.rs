//! `mesh-mirror`: the service mirror.

use std::process::ExitCode;

use mesh_runtime::Shutdown;

fn main() -> ExitCode {
    let config: mesh_mirror::config::Config = mesh_runtime::configuration();
    mesh_runtime::run("mesh-mirror", async {
        mesh_runtime::init_tracing(&config.runtime.log, config.runtime.log_format)?;
        mesh_mirror::run(config, Shutdown::on_signals()?).await
    })
}
