//! The setting of a program's clock.

use mesh_tls::Clock;
use tracing::warn;

/// How far a program's clock is off. Programs flatten it into their own
/// configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClockConfig {
    /// How many seconds the program's clock is ahead of the machine's; behind
    /// it, if negative. For tests of clocks that are off; never in production
    #[arg(
        long,
        env = "MESH_CLOCK_OFFSET",
        value_name = "SECONDS",
        default_value = "0",
        allow_negative_numbers = true
    )]
    pub clock_offset: i32,
}

impl ClockConfig {
    /// The clock. That it is off is logged: only tests want that.
    #[must_use]
    pub fn clock(&self) -> Clock {
        if self.clock_offset != 0 {
            let seconds = self.clock_offset;
            warn!(seconds, "this program's clock is off, as it was told to be");
        }
        Clock::off_by(self.clock_offset)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        clock: ClockConfig,
    }

    #[test]
    fn a_clock_is_right_unless_it_is_told_to_be_ahead_or_behind() {
        for (words, offset) in [
            (&["program"][..], 0),
            (&["program", "--clock-offset", "90000"], 90_000),
            (&["program", "--clock-offset", "-3600"], -3600),
            (&["program", "--clock-offset=-3600"], -3600),
        ] {
            let program = Program::try_parse_from(words).unwrap();
            assert_eq!(program.clock.clock().offset(), offset, "{words:?}");
        }
        for wrong in ["1.5", "1h", "2147483648", ""] {
            assert!(Program::try_parse_from(["program", "--clock-offset", wrong]).is_err());
        }
    }
}
