//! The settings that every program has.

use std::net::SocketAddr;

use crate::LogFormat;

/// Log and admin port. Programs flatten it into their own configuration.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// What is logged, as `tracing` filters say it.
    #[arg(long = "log", env = "MESH_LOG", default_value = "info")]
    pub log: String,
    /// How the log is written.
    #[arg(long, env = "MESH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Where `/live`, `/ready` and `/metrics` are served.
    #[arg(long, env = "MESH_ADMIN_ADDR", default_value = "0.0.0.0:4191")]
    pub admin_addr: SocketAddr,
}
