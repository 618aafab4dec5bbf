//! Limits as flags and environment variables.

use clap::{
    Arg, ArgMatches, Args, Command, Error, FromArgMatches,
    error::{ErrorKind, Result},
};
use mesh_core::limits::{InvalidLimit, Limit, Limits, Program};

/// A sidecar's. Its program flattens it into its own configuration.
#[derive(Clone, Debug)]
pub struct SidecarLimits(pub Limits);

/// A gateway's.
#[derive(Clone, Debug)]
pub struct GatewayLimits(pub Limits);

fn arguments(command: Command, program: Program) -> Command {
    let limits = Limits::of(program);
    Limit::of(program).fold(command, |command, limit| {
        let (setting, limits) = (limit.setting(), limits.clone());
        let unless = setting.unit.text(limits.get(limit));
        let argument = Arg::new(setting.flag)
            .long(setting.flag)
            .env(setting.variable)
            .value_name("LIMIT")
            .help(format!("{} [default: {unless}]", setting.help))
            .value_parser(move |text: &str| limits.value_of(limit, text));
        command.arg(argument)
    })
}

fn read(matches: &ArgMatches, program: Program) -> Result<Limits> {
    let mut limits = Limits::of(program);
    for limit in Limit::of(program) {
        if let Some(value) = matches.get_one::<u64>(limit.setting().flag) {
            limits.set(limit, *value);
        }
    }
    let wrong = |error: InvalidLimit| Error::raw(ErrorKind::ValueValidation, format!("{error}\n"));
    limits.check().map_err(wrong)?;
    Ok(limits)
}

/// What clap wants to know of something that has flags, for a program's limits.
macro_rules! flags {
    ($limits:ident, $program:expr) => {
        impl Args for $limits {
            fn augment_args(command: Command) -> Command {
                arguments(command, $program)
            }

            fn augment_args_for_update(command: Command) -> Command {
                arguments(command, $program)
            }
        }

        impl FromArgMatches for $limits {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self> {
                read(matches, $program).map(Self)
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<()> {
                self.0 = read(matches, $program)?;
                Ok(())
            }
        }
    };
}

flags!(SidecarLimits, Program::Sidecar);
flags!(GatewayLimits, Program::Gateway);

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Sidecar {
        #[command(flatten)]
        limits: SidecarLimits,
    }

    #[derive(Debug, Parser)]
    struct Gateway {
        #[command(flatten)]
        limits: GatewayLimits,
    }

    #[test]
    fn each_limit_is_a_flag_and_a_variable() {
        for (command, program) in [
            (Sidecar::command(), Program::Sidecar),
            (Gateway::command(), Program::Gateway),
        ] {
            command.clone().debug_assert();
            let found: Vec<_> = command
                .get_arguments()
                .filter_map(|argument| Some((argument.get_long()?, argument.get_env()?.to_str()?)))
                .collect();
            let expected: Vec<_> = Limit::of(program)
                .map(|limit| (limit.setting().flag, limit.setting().variable))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_not_said_is_as_it_is_by_default() {
        let limits = Sidecar::parse_from(["x", "--limit-streams", "7"]).limits.0;
        assert_eq!(limits.get(Limit::Streams), 7);
        let changed: Vec<_> = limits.changed().map(|(limit, _)| limit).collect();
        assert_eq!(changed, [Limit::Streams]);
        let limits = Gateway::parse_from(["x"]).limits.0;
        assert_eq!(limits, Limits::of(Program::Gateway));
        assert_eq!(limits.get(Limit::HeaderBytes), 4096);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        for (flags, said) in [
            (["--limit-header-bytes", "1"], "from 1Ki to 1Mi"),
            (["--limit-idle-time", "10"], "no time, such as 500ms"),
            (["--limit-stream-bytes", "33Mi"], "than connection-bytes"),
            (["--limit-tunnels", "1"], "unexpected argument"),
        ] {
            let error = Sidecar::try_parse_from([&["x"][..], &flags].concat());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
