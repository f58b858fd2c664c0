//! `lineside config`.

use super::{Exit, Failure};

/// Example and schema.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new(Exit::Software, "not built yet"))
}
