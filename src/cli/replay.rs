//! `lineside replay`.

use super::{Exit, Failure};

/// Sends recorded frames.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new(Exit::Software, "not built yet"))
}
