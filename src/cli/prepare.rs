//! `lineside prepare`: model folders that are ready sooner.

use std::path::PathBuf;

use serde_json::json;

use super::infer::failure;
use super::{Exit, Failure};
use crate::engine::{Model, folder, prepared};

/// Saves the graph of a model folder beside it as the engine needs it: ready in a fraction of the time
///
/// `compile` does it as well. A prepared graph counts for this version of lineside, this graph and these
/// shapes; where it does not, the graph itself is loaded, as without it, and `check` and the log say so. So it is
/// never wrong to have one, and after an upgrade it wants to be made anew.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folders
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// One JSON object a folder instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut without = Vec::new();
    for path in &args.models {
        if path.is_file() {
            let why = format!("{} is a file; give a model folder, one with a model.toml", path.display());
            return Err(Failure::new(Exit::Usage, why));
        }
        let card = folder::card(path).map_err(failure)?;
        let prepared = prepared::prepare(&card).map_err(failure)?;
        let ready_ms = Model::load(&card).map_err(failure)?.ready_in().as_secs_f64() * 1e3;
        if args.json {
            let without: Vec<_> =
                prepared.without.iter().map(|(file, why)| json!({"file": file, "why": why})).collect();
            println!(
                "{}",
                json!({"folder": path, "files": prepared.files, "ready_ms": ready_ms, "without": without})
            );
        } else {
            for file in &prepared.files {
                println!("{}: ready in {ready_ms:.1} ms", file.display());
            }
        }
        without.extend(
            prepared.without.into_iter().map(|(file, why)| format!("{}: {why}", path.join(file).display())),
        );
    }
    if without.is_empty() {
        return Ok(());
    }
    let why = format!("not prepared, and loaded as before:\n  {}", without.join("\n  "));
    Err(Failure::new(Exit::DataErr, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_place_of_a_folder_is_told_as_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let args = Args { models: vec![file.path().to_owned()], json: false };
        let why = run(args).unwrap_err().error.to_string();
        assert!(why.contains("is a file; give a model folder"), "{why}");
    }
}
