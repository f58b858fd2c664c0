//! A board: what the daemon runs on. Data in `boards/*.toml`, inherited; no board in the code.
//!
//! The files are built into the binary, so a device needs no folder of boards. A new board is one
//! file there and one line in [`FILES`].

use std::num::NonZeroUsize;
use std::path::Path;

use super::document::{self, Field, Reader, Text, Whole, keys};
use super::nearest::nearest;

/// One board, with everything it inherits filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// File name without `.toml`.
    pub name: String,
    /// Inference threads; `None`: one a core.
    pub workers: Option<NonZeroUsize>,
    /// Bytes that the daemon may take; `None`: not said.
    pub memory_budget_bytes: Option<u64>,
}

/// Name and text of each file in `boards/`.
const FILES: &[(&str, &str)] = &[
    ("base", include_str!("../../boards/base.toml")),
    ("generic", include_str!("../../boards/generic.toml")),
    ("raspberry-pi-4", include_str!("../../boards/raspberry-pi-4.toml")),
];

keys! {
    /// One file of `boards/`.
    RawBoard {
        /// Board whose values hold where this one says nothing.
        inherits: Text,
        /// Target triple of the Rust compiler.
        target: Text,
        /// Processor cores.
        cores: Whole<1, 1_024>,
        /// Inference threads; absent: one a core.
        workers: Whole<1, 256>,
        /// Memory that the daemon may take, in MiB.
        memory_budget_mib: Whole<1, 1_048_576>,
        /// For people: what it is, what to know.
        note: Text,
        /// Where the figures come from.
        source: Text,
    }
}

impl Board {
    /// The board of that name. The error says which names there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let known = |name: &str| FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
        let names = Self::names();
        if !names.contains(&name) {
            let near = nearest(name, &names).map_or(String::new(), |near| format!("did you mean {near:?}? "));
            let name = document::shorten(name);
            return Err(format!("the board {name:?} is unknown; {near}there are {}", names.join(", ")));
        }
        inherit(name, &known)
    }

    /// Names of all boards that a config may name.
    pub fn names() -> Vec<&'static str> {
        FILES.iter().map(|(name, _)| *name).filter(|name| *name != "base").collect()
    }
}

/// A board's values with those it inherits, out of files that `text_of` knows.
fn inherit<'t>(name: &str, text_of: &dyn Fn(&str) -> Option<&'t str>) -> Result<Board, String> {
    let mut line: Vec<String> = Vec::new();
    let mut board = Board { name: name.to_owned(), ..Board::default() };
    let (mut workers, mut cores, mut memory) = (None, None, None);
    let mut next = Some(name.to_owned());
    while let Some(name) = next.take() {
        if line.contains(&name) {
            return Err(format!("boards inherit in a circle: {} → {name}", line.join(" → ")));
        }
        let Some(text) = text_of(&name) else {
            let heir = line.last().map_or("", String::as_str);
            return Err(format!("board {heir:?} inherits {name:?}, which is no board"));
        };
        let file = Path::new("boards").join(format!("{name}.toml"));
        let raw = document::read::<RawBoard, _>(text, &file, None, rules)
            .map_err(|complaints| complaints.to_string())?;
        // What an heir says holds against what it inherits.
        let first = |ours: Option<u64>, theirs: &Field<u64>| ours.or(theirs.value().copied());
        workers = first(workers, &raw.workers);
        cores = first(cores, &raw.cores);
        memory = first(memory, &raw.memory_budget_mib);
        next = raw.inherits.value().cloned();
        line.push(name);
    }
    if let (Some(workers), Some(cores)) = (workers, cores)
        && workers > cores
    {
        return Err(format!(
            "board {name:?} has {workers} workers for {cores} cores; more only wait for each other"
        ));
    }
    board.workers = workers.and_then(|workers| NonZeroUsize::new(usize::try_from(workers).ok()?));
    board.memory_budget_bytes = memory.map(|mib| mib * 1_048_576);
    Ok(board)
}

/// A board's own rules: figures say where they come from, a target is a triple.
fn rules(raw: RawBoard, reader: &mut Reader<'_>) -> Option<RawBoard> {
    let figures = raw.cores.at().or(raw.memory_budget_mib.at());
    if let (Some(at), None) = (figures, raw.source.value()) {
        reader.complain(at, "figures stand without source; say where they come from");
    }
    if let Some(target) = raw.target.given()
        && !(3..=4).contains(&target.get_ref().split('-').count())
    {
        let message = format!(
            "target is {:?}; expected a triple such as aarch64-unknown-linux-musl",
            document::shorten(target.get_ref())
        );
        reader.complain(target.span().start, message);
    }
    if let Some(note) = raw.note.given()
        && note.get_ref().trim().is_empty()
    {
        reader.complain(note.span().start, "note is empty; say something, or remove it");
    }
    Some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in_and_can_be_used() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(files, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for name in Board::names() {
            assert_eq!(Board::named(name).unwrap().name, name);
        }
    }

    #[test]
    fn an_heir_overrides_and_the_rest_comes_from_afar() {
        let files = |name: &str| match name {
            "grand" => Some("cores = 4\nworkers = 4\nmemory_budget_mib = 64\nsource = \"s\""),
            "middle" => Some("inherits = \"grand\"\nworkers = 2"),
            "heir" => Some("inherits = \"middle\"\ntarget = \"armv7-unknown-linux-musleabihf\""),
            _ => None,
        };
        let board = inherit("heir", &files).unwrap();
        assert_eq!(board.name, "heir");
        assert_eq!(board.workers, NonZeroUsize::new(2));
        assert_eq!(board.memory_budget_bytes, Some(64 * 1_048_576));
    }

    #[test]
    fn circles_orphans_and_too_many_workers_are_refused() {
        let files = |name: &str| match name {
            "a" => Some("inherits = \"b\""),
            "b" => Some("inherits = \"a\""),
            "orphan" => Some("inherits = \"nobody\""),
            "crowded" => Some("cores = 2\nworkers = 3\nsource = \"s\""),
            "slip" => Some("worker = 3"),
            "rumour" => Some("cores = 2\ntarget = \"arm\"\nnote = \"\""),
            _ => None,
        };
        assert_eq!(inherit("a", &files).unwrap_err(), "boards inherit in a circle: a → b → a");
        assert!(inherit("orphan", &files).unwrap_err().contains("inherits \"nobody\""));
        assert!(inherit("crowded", &files).unwrap_err().contains("3 workers for 2 cores"));
        let rumour = inherit("rumour", &files).unwrap_err();
        for part in ["without source", "expected a triple", "note is empty"] {
            assert!(rumour.contains(part), "{rumour}");
        }
        assert!(inherit("slip", &files).unwrap_err().contains("did you mean `workers`?"));
    }

    #[test]
    fn an_unknown_board_names_the_nearest_and_all() {
        let message = Board::named("raspbery-pi-4").unwrap_err();
        assert!(message.contains("did you mean \"raspberry-pi-4\"?"), "{message}");
        assert!(message.contains("generic"), "{message}");
        assert!(Board::named("base").is_err());
    }
}
