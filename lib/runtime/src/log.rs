//! The log: one line per event, on standard error.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::{
    Layer as _, Registry, filter::Targets, fmt, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// Starts the log. A program calls it once, before anything else.
///
/// # Errors
/// If `filter` is not one (a level, and others for modules: `info,mesh_proxy=debug`),
/// or there is a log already.
pub fn init_tracing(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = targets(filter)
        .with_context(|| format!("{filter:?} is no log filter (try `info` or `debug`)"))?;
    let lines = fmt::layer::<Registry>()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .try_init();
    started.map_err(|error| anyhow::anyhow!("the log cannot start: {error}"))
}

/// What is logged of which module.
fn targets(filter: &str) -> anyhow::Result<Targets> {
    let directives = filter.split(',').map(str::trim);
    let said: Vec<&str> = directives.filter(|said| !said.is_empty()).collect();
    anyhow::ensure!(!said.is_empty(), "it is empty");
    Ok(said.join(",").parse()?)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_has_a_level_and_others_for_modules() {
        let filter = targets(" warn, mesh_proxy=debug,,access=off").unwrap();
        for (target, level, is_logged) in [
            ("hyper", Level::WARN, true),
            ("hyper", Level::INFO, false),
            ("mesh_proxy::inbound", Level::DEBUG, true),
            ("mesh_proxy", Level::TRACE, false),
            ("access", Level::ERROR, false),
        ] {
            let found = filter.would_enable(target, &level);
            assert_eq!(found, is_logged, "{target} {level}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for filter in ["", " ,", "mesh_proxy=loud", "a=b=c"] {
            assert!(targets(filter).is_err(), "{filter:?}");
        }
    }
}
