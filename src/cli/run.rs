//! `lineside run`.

use super::{Exit, Failure};

/// The daemon: reads frames, decides, publishes.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new(Exit::Software, "not built yet"))
}
