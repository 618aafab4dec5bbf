//! `mesh-proxy`: the sidecar of a meshed pod.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// What a request needs is small and soon given back, at which this one is
/// fast.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let config: mesh_proxy::Config = mesh_runtime::configuration();
    mesh_runtime::run("mesh-proxy", mesh_proxy::run(config))
}
