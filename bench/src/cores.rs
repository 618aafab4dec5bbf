//! Who is where: all proxies on one core, all else on the other.

/// The core of both proxies.
pub(crate) const PROXY_CORE: usize = 0;
/// That of load, back end and control plane.
pub(crate) const LOAD_CORE: usize = 1;
