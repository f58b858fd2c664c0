//! `lineside config`: a commented example, and JSON Schema for editors.

use std::io::Write;

use super::{Exit, Failure};
use crate::config::{EXAMPLE, schema};

/// Print a commented configuration, or JSON Schema for an editor
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A configuration with every key explained: lineside config example > lineside.toml
    Example,
    /// JSON Schema of the configuration, for editors that complete while you type
    Schema {
        /// The schema of a model's card (model.toml) instead
        #[arg(long)]
        card: bool,
    },
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { what } = args;
    let text = match what {
        What::Example => EXAMPLE.to_owned(),
        What::Schema { card } => {
            let schema = if card { schema::card() } else { schema::config() };
            format!("{schema:#}\n")
        }
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::new(Exit::IoErr, error))
}
