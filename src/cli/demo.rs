//! `lineside demo`.

use super::{Exit, Failure};

/// The whole product on this machine.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new(Exit::Software, "not built yet"))
}
