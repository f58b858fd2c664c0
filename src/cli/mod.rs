//! The command line: one file a verb, no logic of its own.
//!
//! Exit codes are those of sysexits.h; a failure prints its whole chain of causes.

pub mod bench;
pub mod boards;
pub mod check;
#[cfg(feature = "compile")]
pub mod compile;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod infer;
pub mod inspect;
mod line_options;
pub mod listen;
mod live;
pub mod outbox;
#[cfg(feature = "compile")]
pub mod prepare;
pub mod replay;
pub mod run;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::base::Paint;

/// Inference at the edge of the production line: frames in over MQTT, decided on the spot,
/// predictions out over MQTT.
#[derive(Debug, Parser)]
#[command(name = "lineside", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

macro_rules! after_help {
    ($first:literal) => {
        concat!(
            "Start here:\n",
            $first,
            "  lineside config example > line.toml  a commented configuration\n",
            "  lineside check -c line.toml          every mistake in it, at once\n",
            "  lineside run -c line.toml            the daemon\n\n",
            "Exit codes: 0 done, 64 usage, 65 bad data, 69 unavailable, 70 internal, 74 input/output, 78 configuration"
        )
    };
}

#[cfg(feature = "demo")]
const AFTER_HELP: &str = after_help!(
    "  lineside demo                        the whole product on this machine, nothing to install\n"
);
#[cfg(not(feature = "demo"))]
const AFTER_HELP: &str = after_help!("");

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    #[cfg(not(feature = "demo"))]
    #[command(hide = true)]
    Demo(Elsewhere),
    Check(check::Args),
    Infer(infer::Args),
    Inspect(inspect::Args),
    Listen(listen::Args),
    #[cfg(feature = "compile")]
    Compile(compile::Args),
    #[cfg(not(feature = "compile"))]
    #[command(hide = true)]
    Compile(Elsewhere),
    #[cfg(feature = "compile")]
    Prepare(prepare::Args),
    #[cfg(not(feature = "compile"))]
    #[command(hide = true)]
    Prepare(Elsewhere),
    Bench(bench::Args),
    Boards(boards::Args),
    Outbox(outbox::Args),
    Replay(replay::Args),
    Config(config::Args),
}

/// A verb that a device's build leaves away; whatever follows it.
#[cfg(not(all(feature = "compile", feature = "demo")))]
#[derive(Debug, clap::Args)]
struct Elsewhere {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<String>,
}

#[cfg(not(all(feature = "compile", feature = "demo")))]
fn elsewhere(verb: &str) -> Failure {
    let why =
        format!("this build is for devices and has no `{verb}`; run it on the machine that makes the models");
    Failure::new(Exit::Usage, why)
}

/// Exit codes of sysexits.h, as far as we use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command line is wrong.
    Usage = 64,
    /// The input is wrong: a broken model, a wrong shape.
    DataErr = 65,
    /// A service is missing: no broker.
    Unavailable = 69,
    /// A mistake of ours.
    Software = 70,
    /// Reading or writing failed.
    IoErr = 74,
    /// The configuration is wrong; starting again will not help.
    Config = 78,
}

/// Why a verb did not do its work.
#[derive(Debug)]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// What is printed, causes below it.
    pub error: Box<dyn Error>,
}

impl Failure {
    /// Pairs an error with its exit code.
    pub fn new(exit: Exit, error: impl Into<Box<dyn Error>>) -> Self {
        Self { exit, error: error.into() }
    }
}

/// Parses the command line, runs the verb, prints the chain of errors.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Printing can only fail when the terminal is gone; then nobody reads the exit code either.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.verb {
        Verb::Run(args) => run::run(args),
        #[cfg(feature = "demo")]
        Verb::Demo(args) => demo::run(args),
        #[cfg(not(feature = "demo"))]
        Verb::Demo(_) => Err(elsewhere("demo")),
        Verb::Check(args) => check::run(args),
        Verb::Infer(args) => infer::run(args),
        Verb::Inspect(args) => inspect::run(args),
        Verb::Listen(args) => listen::run(args),
        #[cfg(feature = "compile")]
        Verb::Compile(args) => compile::run(args),
        #[cfg(not(feature = "compile"))]
        Verb::Compile(_) => Err(elsewhere("compile")),
        #[cfg(feature = "compile")]
        Verb::Prepare(args) => prepare::run(args),
        #[cfg(not(feature = "compile"))]
        Verb::Prepare(_) => Err(elsewhere("prepare")),
        Verb::Bench(args) => bench::run(args),
        Verb::Boards(args) => boards::run(args),
        Verb::Outbox(args) => outbox::run(args),
        Verb::Replay(args) => replay::run(args),
        Verb::Config(args) => config::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("lineside: {}", failure.error);
            let mut cause = failure.error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Colour where a person looks at a terminal that has it (<https://no-color.org>).
fn paint(is_terminal: bool) -> Paint {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_terminal && !unwanted { Paint::Colour } else { Paint::Plain }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_starts_with_verbs_that_this_build_has() {
        let cli = Cli::command();
        let verbs: Vec<&str> = AFTER_HELP
            .lines()
            .filter_map(|line| line.strip_prefix("  lineside ")?.split_whitespace().next())
            .collect();
        assert!(verbs.contains(&"run"), "{verbs:?}");
        for verb in verbs {
            assert!(cli.find_subcommand(verb).is_some_and(|known| !known.is_hide_set()), "{verb}");
        }
    }
}
