//! `lab demo`: two clusters, one link, one request through everything, shown
//! with the real commands and their real output.
//!
//! Each step checks what it shows; the first that does not hold ends the demo
//! with an error. The clusters stay up.

mod show;
mod steps;

use std::time::Instant;

use anyhow::{Context as _, Result};

use self::show::Stage;
use crate::{binaries, images, paths::Paths, preflight, third_party};

/// Runs every step in order.
///
/// # Errors
/// Names the step that did not hold, and why.
pub fn run() -> Result<()> {
    // What is made once, and takes minutes then, comes before the clock starts.
    let paths = Paths::from_env();
    let say = |text: &str| println!("{text}");
    preflight::check(&paths, &say)?;
    binaries::ensure(&paths, &say)?;
    images::make_all(&paths)?;
    for name in ["redis", "tools"] {
        third_party::make(&paths, third_party::find(name)?)?;
    }
    let start = Instant::now();
    let stage = Stage::prepare()?;
    for (title, step) in steps::ALL {
        stage.title(title);
        step(&stage).with_context(|| format!("the step {title:?} does not hold"))?;
    }
    stage.title(&format!(
        "Everything above held, in {:.0} s. The clusters are up; try:",
        start.elapsed().as_secs_f64()
    ));
    println!("{}", steps::things_to_try(&stage));
    Ok(())
}
