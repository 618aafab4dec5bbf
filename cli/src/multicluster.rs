//! The commands that join clusters.

mod apply;
pub(crate) mod dns;
pub(crate) mod facts;
pub(crate) mod install;
pub(crate) mod link;
mod plan;
mod prefix;
mod render;
pub(crate) mod unlink;

/// The field manager under which the command line owns what it writes.
const FIELD_MANAGER: &str = "mesh-cli";
