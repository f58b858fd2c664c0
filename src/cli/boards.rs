//! `lineside boards`: what it can run on, and which of them this is.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Exit, Failure};
use crate::base::words::mib;
use crate::config::Board;
use crate::config::board::detect::{DEVICE_TREE, detect};
use crate::config::board::{Cluster, THREADS_PER_INFERENCE};

/// Boards that are known: all, one in detail, or the one that this is
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One board in detail
    #[arg(value_name = "BOARD", conflicts_with = "detect")]
    name: Option<String>,
    /// Find out which board this is, by its device tree
    #[arg(long)]
    detect: bool,
    /// Where the device tree is
    #[arg(long, value_name = "DIR", default_value = DEVICE_TREE, requires = "detect")]
    device_tree: PathBuf,
    /// JSON for a machine
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let known = |name: &str| Board::named(name).map_err(|why| Failure::new(Exit::Usage, why));
    let said = if args.detect {
        is_tree(&args.device_tree)?;
        let found = detect(&args.device_tree, std::env::consts::ARCH).map_err(|error| {
            Failure::new(Exit::IoErr, format!("cannot read {}: {error}", args.device_tree.display()))
        })?;
        if args.json {
            format!("{}\n", json!({"board": found.board, "model": found.model, "known_by": found.by}))
        } else {
            // The name alone on stdout, for `board = …`; why on stderr.
            match (&found.by, &found.model) {
                (Some(by), model) => {
                    eprintln!("{} is known by {by:?}", model.as_deref().unwrap_or("the board"));
                }
                (None, Some(model)) if found.elsewhere.is_empty() => {
                    eprintln!("{model} is not among the boards; its processor is");
                }
                (None, Some(model)) => eprintln!(
                    "{model} is {} under a system of another architecture than {}; the processor of this one is",
                    found.elsewhere.join(" or "),
                    std::env::consts::ARCH
                ),
                (None, None) => eprintln!("there is no device tree here; going by the processor"),
            }
            format!("{}\n", found.board)
        }
    } else if let Some(name) = &args.name {
        let board = known(name)?;
        if args.json { format!("{:#}\n", as_json(&board)) } else { page(&board) }
    } else {
        let boards = Board::names().into_iter().map(known).collect::<Result<Vec<_>, _>>()?;
        if args.json {
            format!("{:#}\n", Value::from(boards.iter().map(as_json).collect::<Vec<_>>()))
        } else {
            table(&boards)
        }
    };
    // Whoever closes the pipe early has read enough.
    let _ = std::io::stdout().write_all(said.as_bytes());
    Ok(())
}

/// Whether a folder that somebody named is a device tree; this machine's own may be missing.
fn is_tree(root: &Path) -> Result<(), Failure> {
    if root == Path::new(DEVICE_TREE) || root.join("compatible").exists() {
        return Ok(());
    }
    let root_words = root.display();
    let why = if root.is_dir() {
        format!("{root_words} has no file `compatible`; give a device tree's root, such as {DEVICE_TREE}")
    } else {
        format!("there is no folder {root_words}; give a device tree's root, such as {DEVICE_TREE}")
    };
    Err(Failure::new(Exit::IoErr, why))
}

fn table(boards: &[Board]) -> String {
    let mut text = format!("{:<29} {:<12} {:>5} {:>10}  {}\n", "board", "core", "cores", "budget", "target");
    for board in boards {
        text += &format!(
            "{:<29} {:<12} {:>5} {:>10}  {}\n",
            board.name,
            board.cpu.as_deref().unwrap_or("any"),
            board.cores.map_or("any".into(), |cores| cores.to_string()),
            board.memory_budget_bytes.map_or("–".into(), mib),
            board.target.as_deref().unwrap_or("any")
        );
    }
    text
}

fn page(board: &Board) -> String {
    let mut lines: Vec<(&str, String)> = vec![("board", board.name.clone()), ("what", board.note.clone())];
    let mut say = |key, value: Option<String>| lines.extend(value.map(|value| (key, value)));
    say("target", board.target.clone());
    say("core", board.cpu.clone());
    say("features", (!board.cpu_features.is_empty()).then(|| board.cpu_features.join(" ")));
    let asked = board.kernels.map(|kernels| kernels.as_str().into());
    say("kernels", asked.or_else(|| board.kernels_found.clone()));
    say("cores", board.cores.map(|cores| cores_in_words(cores, &board.clusters)));
    let workers = board.workers.map_or("one a core".into(), |workers| workers.to_string());
    say("workers", Some(format!("{workers}; {THREADS_PER_INFERENCE} thread an inference")));
    say("memory", board.memory_bytes.map(|bytes| format!("{} in its smallest variant", mib(bytes))));
    say("budget", board.memory_budget_bytes.map(mib));
    say("storage", board.storage.map(|storage| storage.as_str().into()));
    say(
        "watchdog",
        board.watchdog.as_ref().map(|dog| {
            let most = dog.max_secs.map_or(String::new(), |secs| format!(", waits at most {secs} s"));
            format!("{}{most}", dog.device.display())
        }),
    );
    lines.extend(board.serial.iter().map(|port| ("port", format!("{}: {}", port.device, port.name))));
    lines.extend(board.quirks.iter().map(|quirk| ("mind", quirk.clone())));
    lines.extend(board.sources.iter().map(|source| ("source", source.clone())));
    lines.iter().map(|(key, value)| format!("{key:<9} {value}\n")).collect()
}

/// `8: 4 × cortex-a55, 2 × cortex-a76, 2 × cortex-a76`; one cluster is its cores.
fn cores_in_words(cores: NonZeroUsize, clusters: &[Cluster]) -> String {
    let each = |cluster: &Cluster| format!("{} × {}", cluster.cores, cluster.cpu);
    match clusters {
        [] | [_] => cores.to_string(),
        several => format!("{cores}: {}", several.iter().map(each).collect::<Vec<_>>().join(", ")),
    }
}

fn as_json(board: &Board) -> Value {
    let clusters: Vec<Value> =
        board.clusters.iter().map(|cluster| json!({"cpu": cluster.cpu, "cores": cluster.cores})).collect();
    let ports: Vec<Value> =
        board.serial.iter().map(|port| json!({"name": port.name, "device": port.device})).collect();
    json!({
        "board": board.name,
        "note": board.note,
        "target": board.target,
        "cpu": board.cpu,
        "cpu_features": board.cpu_features,
        "kernels_found": board.kernels_found,
        "kernels": board.kernels.map(|kernels| kernels.as_str()),
        "cores": board.cores,
        "clusters": clusters,
        "workers": board.workers,
        "threads_per_inference": THREADS_PER_INFERENCE,
        "memory_bytes": board.memory_bytes,
        "memory_budget_bytes": board.memory_budget_bytes,
        "storage": board.storage.map(|storage| storage.as_str()),
        "watchdog": board.watchdog.as_ref().map(|dog| json!({"device": dog.device, "max_secs": dog.max_secs})),
        "device_tree": board.device_tree,
        "serial": ports,
        "quirks": board.quirks,
        "sources": board.sources,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_a_fitter_needs() {
        let text = page(&Board::named("raspberry-pi-3").unwrap());
        for part in [
            "port      /dev/ttyS0: mini UART",
            "waits at most 15 s",
            "budget    256 MiB",
            "mind      Bluetooth",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_device_tree_that_was_named_and_is_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let why = |path: &Path| is_tree(path).unwrap_err().error.to_string();
        assert!(why(folder.path()).contains("has no file `compatible`"));
        assert!(why(&folder.path().join("none")).starts_with("there is no folder"));
        std::fs::write(folder.path().join("compatible"), "acme,one\0").unwrap();
        assert!(is_tree(folder.path()).is_ok() && is_tree(Path::new(DEVICE_TREE)).is_ok());
    }

    #[test]
    fn every_board_has_a_line_and_an_object() {
        let boards: Vec<Board> = Board::names().into_iter().map(|name| Board::named(name).unwrap()).collect();
        assert_eq!(table(&boards).lines().count(), boards.len() + 1);
        assert!(boards.iter().all(|board| as_json(board)["serial"].is_array()));
    }
}
