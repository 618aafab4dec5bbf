//! The commands that join clusters.

mod apply;
pub(crate) mod dns;
pub(crate) mod dns_command;
pub(crate) mod exports;
pub(crate) mod facts;
pub(crate) mod gateways;
pub(crate) mod install;
pub(crate) mod link;
mod link_file;
mod plan;
mod prefix;
mod render;
pub(crate) mod services;
pub(crate) mod unlink;

/// The field manager under which the command line owns what it writes.
const FIELD_MANAGER: &str = "mesh-cli";

#[cfg(test)]
pub(crate) mod tests {
    use mesh_api::link::{Direction, Link};

    use super::plan::{plan, tests::facts};

    /// The Link to `peer` that a cluster called `here` would get.
    pub(crate) fn link_to(peer: &str, direction: Direction) -> Link {
        plan(&facts("here"), &facts(peer), direction)
            .unwrap()
            .local
            .link
    }
}
