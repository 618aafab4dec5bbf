//! `mesh-proxy`: the sidecar of a meshed pod.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// What a request needs is small and soon given back, at which this one is
/// fast.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Some kernels give huge pages unasked, of which a sidecar fills little. One that
    // refuses changes nothing else.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let config: mesh_proxy::Config = mesh_runtime::configuration();
    mesh_runtime::run("mesh-proxy", mesh_proxy::run(config))
}
