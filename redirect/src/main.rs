//! `mesh-redirect`, the init container.

use std::process::ExitCode;

use clap::Parser;
use mesh_redirect::{
    config::{Args, Config},
    encode::encode,
    kernel, rules,
};

/// The flags or environment variables are wrong.
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let config = match Args::parse().resolve() {
        Ok(config) => config,
        Err(wrong) => {
            eprintln!("mesh-redirect: {wrong}");
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    match install(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-redirect: {error}");
            ExitCode::FAILURE
        }
    }
}

fn install(config: &Config) -> Result<(), kernel::InstallError> {
    println!("mesh-redirect: {config}");
    kernel::install(&encode(&rules::ruleset(config)))?;
    println!("mesh-redirect: the rules are in place");
    Ok(())
}
