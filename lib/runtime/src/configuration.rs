//! Flags and environment, read once; everything that is wrong is told at once.

use std::ffi::OsString;

use clap::{
    Arg, Command, Error, Id, Parser,
    builder::OsStringValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Reads the command line and the environment, or ends the program: with 0
/// after `--help` and `--version`, with 2 after it has printed every value that
/// is wrong or missing.
#[must_use]
pub fn configuration<C: Parser>() -> C {
    match read(std::env::args_os().collect()) {
        Ok(config) => config,
        Err(Wrong::One(error)) => error.exit(),
        Err(Wrong::Many(problems)) => {
            eprintln!(
                "{}\n\nFor more information, try '--help'.",
                problems.join("\n")
            );
            std::process::exit(2)
        }
    }
}

#[derive(Debug)]
enum Wrong {
    /// Nothing more can be said than this; or it is no error (`--help`).
    One(Error),
    /// All values that are wrong.
    Many(Vec<String>),
}

/// Parses; takes what is wrong out of the question, and parses again.
fn read<C: Parser>(arguments: Vec<OsString>) -> Result<C, Wrong> {
    let mut command = C::command();
    let mut problems = Vec::new();
    let mut known: Vec<Id> = Vec::new();
    loop {
        let error = match command.clone().try_get_matches_from(&arguments) {
            Ok(_) if !problems.is_empty() => return Err(Wrong::Many(problems)),
            Ok(matches) => return C::from_arg_matches(&matches).map_err(Wrong::One),
            Err(error) => error,
        };
        let wrong = named(&error, &command);
        let is_news = wrong.iter().any(|id| !known.contains(id));
        if problems.is_empty() && !is_news {
            return Err(Wrong::One(error));
        }
        problems.push(first_paragraph(&error, &command, &wrong));
        if !is_news {
            return Err(Wrong::Many(problems));
        }
        command = command.mut_args(|argument| lenient(argument, &wrong));
        known.extend(wrong);
    }
}

/// The arguments that a wrong or missing value belongs to.
fn named(error: &Error, command: &Command) -> Vec<Id> {
    let names = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (
            ErrorKind::ValueValidation | ErrorKind::InvalidValue,
            Some(ContextValue::String(name)),
        ) => std::slice::from_ref(name),
        (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(names))) => names,
        _ => &[],
    };
    // Only arguments of a built command have the names that errors show.
    let mut built = command.clone();
    built.build();
    let arguments = built.get_arguments();
    let wrong = arguments.filter(|argument| names.contains(&argument.to_string()));
    wrong.map(|argument| argument.get_id().clone()).collect()
}

/// Accepts anything for an argument that is known to be wrong.
fn lenient(argument: Arg, wrong: &[Id]) -> Arg {
    if wrong.contains(argument.get_id()) {
        argument
            .required(false)
            .value_parser(OsStringValueParser::new())
    } else {
        argument
    }
}

/// What clap says, with the variable by which pods are configured.
fn first_paragraph(error: &Error, command: &Command, wrong: &[Id]) -> String {
    let text = error.render().to_string();
    let text = text.split("\n\n").next().unwrap_or_default().trim_end();
    let variables: Vec<_> = command
        .get_arguments()
        .filter(|argument| wrong.contains(argument.get_id()))
        .filter_map(|argument| argument.get_env()?.to_str())
        .collect();
    if variables.is_empty() {
        text.to_owned()
    } else {
        format!("{text} (environment: {})", variables.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[derive(Debug, Parser)]
    struct Example {
        #[arg(long, env = "EXAMPLE_ADDR", default_value = "127.0.0.1:1")]
        addr: SocketAddr,
        #[arg(long)]
        seconds: u64,
        #[arg(long, value_delimiter = ',')]
        ports: Vec<u16>,
        #[arg(long)]
        name: String,
    }

    fn problems(words: &[&str]) -> Vec<String> {
        let words = ["example"].iter().chain(words).map(OsString::from);
        match read::<Example>(words.collect()) {
            Ok(config) => panic!("{config:?}"),
            Err(Wrong::Many(problems)) => problems,
            Err(Wrong::One(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let said = problems(&["--addr", "x", "--seconds=-1", "--ports", "1,65536"]);
        assert_eq!(said.len(), 4, "{said:#?}");
        for (at, name) in ["--addr", "--seconds", "--ports", "--name"]
            .iter()
            .enumerate()
        {
            assert!(said[at].contains(name), "{said:#?}");
        }
        assert!(said[0].contains("EXAMPLE_ADDR"), "{said:#?}");
    }

    #[test]
    fn what_is_right_is_read() {
        let words = ["example", "--seconds", "3", "--name", "a"].map(OsString::from);
        let config: Example = read(words.to_vec()).unwrap();
        assert_eq!((config.seconds, config.name.as_str()), (3, "a"));
        assert!(config.ports.is_empty());
        assert_eq!(config.addr.port(), 1);
    }

    #[test]
    fn an_unknown_flag_and_help_are_answered_as_ever() {
        for (words, kind) in [
            (["example", "--nonsense"], ErrorKind::UnknownArgument),
            (["example", "--help"], ErrorKind::DisplayHelp),
        ] {
            match read::<Example>(words.map(OsString::from).to_vec()) {
                Err(Wrong::One(error)) => assert_eq!(error.kind(), kind),
                other => panic!("{other:?}"),
            }
        }
    }
}
