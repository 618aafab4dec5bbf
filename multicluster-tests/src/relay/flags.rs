//! The path as the relay's process is told it.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::path::Path;

/// Flags of `lab relay`.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Flags {
    #[arg(long, default_value_t = 0)]
    delay_us: u64,
    #[arg(long, default_value_t = 0)]
    jitter_us: u64,
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    #[arg(long)]
    rate: Option<u64>,
}

impl Flags {
    pub(crate) fn path(&self) -> Result<Path> {
        let path = Path::default()
            .with_delay(Duration::from_micros(self.delay_us))?
            .with_jitter(Duration::from_micros(self.jitter_us))?
            .with_loss(self.loss)?;
        match self.rate {
            Some(rate) => path.with_rate(rate),
            None => Ok(path),
        }
    }
}

/// The flags that say `path`.
pub(crate) fn of(path: &Path) -> Vec<String> {
    let mut flags = vec![
        format!("--delay-us={}", path.delay().as_micros()),
        format!("--jitter-us={}", path.jitter().as_micros()),
        format!("--loss={}", path.loss()),
    ];
    flags.extend(path.rate().map(|rate| format!("--rate={rate}")));
    flags
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn a_path_is_read_as_it_is_written() {
        let bad = Path::default()
            .with_delay(Duration::from_millis(50))
            .and_then(|path| path.with_jitter(Duration::from_micros(1500)))
            .and_then(|path| path.with_loss(0.2))
            .and_then(|path| path.with_rate(1_000_000))
            .unwrap();
        for path in [Path::default(), bad] {
            let words = ["relay".to_owned()].into_iter().chain(of(&path));
            let arguments = Arguments::try_parse_from(words).unwrap();
            assert_eq!(arguments.flags.path().unwrap(), path);
        }
    }
}
