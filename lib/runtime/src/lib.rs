//! What every program of the mesh needs around its own work: the runtime, more
//! threads for those that want them, the log, the admin port with health and
//! metrics, orderly ends, and the pause before the next attempt.
//!
//! It knows nothing of Kubernetes, TLS or traffic, reads no environment but
//! through [`Config`], which a program flattens into its own, and holds no
//! global state but the log.
//!
//! Main items: [`Config`], [`configuration`], [`Shutdown`], [`Readiness`] with [`Admin`],
//! [`Workers`], [`Backoff`].

mod admin;
mod backoff;
mod config;
mod configuration;
mod log;
mod process;
mod readiness;
mod run;
mod shutdown;
mod workers;

pub use admin::{Admin, PageResult, Query, serve_admin};
pub use backoff::Backoff;
pub use config::Config;
pub use configuration::configuration;
pub use log::{LogFormat, init_tracing};
pub use process::registry;
pub use readiness::Readiness;
pub use run::run;
pub use shutdown::{Shutdown, drain};
pub use workers::{InvalidWorkerCount, WorkerCount, WorkerEnded, Workers};
