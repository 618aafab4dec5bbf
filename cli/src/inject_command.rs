//! `mesh inject`: reads a manifest, writes it with sidecars.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, ensure};
use clap::Args;

use crate::{args::ImageArgs, inject, manifests::images::Images, output};

/// Options of `mesh inject`.
#[derive(Debug, Args)]
pub(crate) struct InjectArgs {
    /// The manifest; standard input if it is `-`
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    images: ImageArgs,
}

/// A manifest that is longer is refused.
const MAX_BYTES: u64 = 64 << 20;

/// Prints the manifest, and on standard error what was done.
///
/// # Errors
/// If the manifest cannot be read, or a part of it cannot be injected; then
/// nothing is printed.
pub(crate) fn run(args: InjectArgs) -> anyhow::Result<()> {
    let images = Images::try_from(args.images)?;
    let manifest = read(&args.file)?;
    let injected = inject::manifest(&manifest, &images).map_err(|refusals| {
        let reasons: Vec<String> = refusals.iter().map(|r| format!("  {r}")).collect();
        anyhow!(
            "{} cannot be injected, so nothing was printed:\n{}",
            args.file.display(),
            reasons.join("\n")
        )
    })?;
    for note in &injected.notes {
        output::complain(&note.to_string());
    }
    output::print(&injected.text)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let size = if file == Path::new("-") {
        io::stdin()
            .lock()
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
    };
    let size = size.with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(
        u64::try_from(size).is_ok_and(|size| size <= MAX_BYTES),
        "{} is longer than {} MiB",
        file.display(),
        MAX_BYTES >> 20
    );
    Ok(text)
}
