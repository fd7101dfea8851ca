//! Parses flags and environment variables with clap.
//!
//! Each setting is declared once, as a clap argument with a flag and `env`; the help is made from it. clap
//! could also read the variables itself, but cannot follow three of our rules, so this module does it:
//! - An empty variable counts as absent. To clap it is a value.
//! - Line ends after a value are no part of it: editors and `echo` leave them in Secrets and files.
//! - An error names the variable and never shows a secret. clap's names the flag and shows the value.
//!
//! Each variable becomes `--flag=value`, in front of the flags of the command line, which win. clap itself
//! reads no variable, so tests can pass their own.
//!
//! Knows no setting.

use std::error::Error;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Args, Command, Parser};

use super::error::ConfigError;

/// The arguments cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// Anything else, `--help` included: clap prints it and chooses the exit status.
    #[error(transparent)]
    Usage(#[from] clap::Error),
}

/// Parses the command line of the process and its environment.
///
/// # Errors
/// The first setting that is missing or wrong, a wrong flag or command, or a request for help.
pub fn parse_process<P: Parser>() -> Result<P, ParseError> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Help comes from the arguments as they are declared: it shows the names of the variables.
    match P::command().try_get_matches_from(&arguments) {
        Err(error) if !error.use_stderr() => return Err(error.into()),
        _ => {}
    }
    let matches = parse(P::command(), arguments, &|name| std::env::var(name).ok())?;
    Ok(P::from_arg_matches(&matches)?)
}

/// Parses settings from `variables` alone.
///
/// # Errors
/// The first setting that is missing or wrong.
pub(super) fn parse_variables<A: Args>(
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<A, ParseError> {
    let command = A::augment_args(Command::new("settings"));
    let matches = parse(command, vec!["settings".into()], variables)?;
    Ok(A::from_arg_matches(&matches)?)
}

fn parse(
    command: Command,
    mut arguments: Vec<OsString>,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<ArgMatches, ParseError> {
    let chosen = arguments.get(1).and_then(|name| command.find_subcommand(name));
    let first_flag = if chosen.is_some() { 2 } else { arguments.len().min(1) };
    let declared = chosen.unwrap_or(&command).clone();
    arguments.splice(first_flag..first_flag, flags(&declared, variables));
    let without_environment = |command: Command| {
        command.args_override_self(true).mut_args(|argument| argument.env(Resettable::Reset))
    };
    let command = without_environment(command).mut_subcommands(without_environment);
    command.try_get_matches_from(arguments).map_err(|error| match setting_error(declared, &error) {
        Some(error) => error.into(),
        None => error.into(),
    })
}

/// `--flag=value` for each variable that is set.
fn flags(command: &Command, variables: &dyn Fn(&str) -> Option<String>) -> Vec<OsString> {
    let flag = |argument: &clap::Arg| {
        let (name, flag) = (argument.get_env()?.to_str()?, argument.get_long()?);
        let value = variables(name)?;
        let value = value.trim_end_matches(['\r', '\n']);
        (!value.is_empty()).then(|| format!("--{flag}={value}").into())
    };
    command.get_arguments().filter_map(flag).collect()
}

/// The error in our words, if it is about a setting.
fn setting_error(mut command: Command, error: &clap::Error) -> Option<ConfigError> {
    // clap names an argument as it prints it once the command is built.
    command.build();
    let about = match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(argument) => argument,
        ContextValue::Strings(arguments) => arguments.first()?,
        _ => return None,
    };
    let argument = command.get_arguments().find(|argument| argument.to_string() == *about)?;
    let name = argument.get_env()?.to_str()?;
    let problem = match error.kind() {
        ErrorKind::ValueValidation => error.source()?.to_string(),
        ErrorKind::MissingRequiredArgument => {
            format!("is not set; give: {}", argument.get_help()?)
        }
        _ => return None,
    };
    Some(ConfigError::new(name, problem))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Print {
            /// Number of copies.
            #[arg(long, env = "COPIES", value_parser = |text: &str| text.parse::<u8>())]
            copies: u8,
            #[arg(long, env = "PATH", default_value = "none")]
            path: String,
            #[arg(value_parser = |text: &str| text.parse::<u8>())]
            page: Option<u8>,
        },
    }

    fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Cli, ParseError> {
        let arguments = ["cli", "print"].iter().chain(arguments).map(OsString::from).collect();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Ok(Cli::from_arg_matches(&parse(Cli::command(), arguments, &variable)?)?)
    }

    fn error(arguments: &[&str], variables: &[(&str, &str)]) -> ParseError {
        read(arguments, variables).unwrap_err()
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_default() {
        let Sub::Print { copies, path, page } =
            read(&["--copies", "2", "7"], &[("COPIES", "1"), ("PATH", "-a\r\n")]).unwrap().command;
        assert_eq!((copies, path.as_str(), page), (2, "-a", Some(7)));
        let Sub::Print { copies, path, .. } =
            read(&[], &[("COPIES", "1\n"), ("PATH", "\n")]).unwrap().command;
        assert_eq!((copies, path.as_str()), (1, "none"), "not the PATH of the process");
    }

    #[test]
    fn an_error_of_a_setting_names_its_variable() {
        assert_eq!(error(&[], &[]).to_string(), "COPIES: is not set; give: Number of copies");
        for wrong in [error(&[], &[("COPIES", "x")]), error(&["--copies=x"], &[])] {
            assert_eq!(wrong.to_string(), "COPIES: invalid digit found in string");
        }
    }

    #[test]
    fn other_errors_are_clap_s() {
        for wrong in [&["--copies=1", "--other"][..], &["--copies=1", "x"], &["--help"]] {
            assert!(matches!(error(wrong, &[]), ParseError::Usage(_)), "{wrong:?}");
        }
    }
}
