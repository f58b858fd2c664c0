//! `lineside inspect`.

use super::{Exit, Failure};

/// A model's page.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new(Exit::Software, "not built yet"))
}
