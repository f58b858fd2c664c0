//! A board: what the daemon runs on. Data in `boards/*.toml`, inherited; no board in the code.
//!
//! The files are built into the binary, so a device needs no folder of boards. A file
//! `boards/NAME.toml` beside the configuration adds a board, or stands before the built-in one of that
//! name (which it may inherit).

pub mod detect;
mod raw;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::document::{self, Field};
use super::nearest::nearest;
use super::world::World;
use raw::{RawBoard, RawCluster};

/// One board, with everything it inherits filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// File name without `.toml`.
    pub name: String,
    /// Target triple of the Rust compiler.
    pub target: Option<String>,
    /// Processor core, as compilers and emulators call it.
    pub cpu: Option<String>,
    /// What of it an inference and its digests use, as `/proc/cpuinfo` calls it.
    pub cpu_features: Vec<String>,
    /// Kernels that the engine finds there by itself, in words.
    pub kernels_found: Option<String>,
    /// Kernels that the engine is to take; `None`: those that it finds itself.
    pub kernels: Option<Kernels>,
    /// Processor cores.
    pub cores: Option<NonZeroUsize>,
    /// Groups of like cores, in the kernel's order; empty where nothing is known of the cores.
    pub clusters: Vec<Cluster>,
    /// Inference threads; `None`: one a core.
    pub workers: Option<NonZeroUsize>,
    /// Memory of the smallest variant.
    pub memory_bytes: Option<u64>,
    /// Bytes that the daemon may take; `None`: not said.
    pub memory_budget_bytes: Option<u64>,
    /// What the system is stored on.
    pub storage: Option<Storage>,
    /// The hardware watchdog.
    pub watchdog: Option<Watchdog>,
    /// Names by which the device tree calls it.
    pub device_tree: Vec<String>,
    /// Ports that it has; from the board itself to what it inherits.
    pub serial: Vec<SerialPort>,
    /// What to know about its kernel and firmware.
    pub quirks: Vec<String>,
    /// For people.
    pub note: String,
    /// Where the figures come from; one text a file that gives some.
    pub sources: Vec<String>,
}

/// What a system is stored on: how much it minds being written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// An SD card: wears out first.
    Sd,
    /// Soldered flash.
    Emmc,
    /// A disk, or flash that is as good.
    Disk,
}

impl Storage {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sd => "sd",
            Self::Emmc => "emmc",
            Self::Disk => "disk",
        }
    }
}

/// Sets of matrix kernels that the engine has for 64-bit ARM cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// Cortex-A53.
    A53,
    /// Cortex-A55.
    A55,
    /// Cortex-A72.
    A72,
    /// Cortex-A73.
    A73,
    /// Cortex-A75.
    A75,
    /// Neoverse N1 and later.
    Neoverse,
}

impl Kernels {
    /// As in the file, and as the engine calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A53 => "a53",
            Self::A55 => "a55",
            Self::A72 => "a72",
            Self::A73 => "a73",
            Self::A75 => "a75",
            Self::Neoverse => "neoverse",
        }
    }
}

/// Threads that share an inference: each runs on the thread of the worker that took its frame ([`Board::workers`]).
pub const THREADS_PER_INFERENCE: usize = 1;

/// Cores that are alike and share a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Processor core, as compilers and emulators call it.
    pub cpu: String,
    /// How many there are.
    pub cores: NonZeroUsize,
}

/// A circuit that restarts the board when nobody tells it that all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Its device.
    pub device: PathBuf,
    /// The longest time that it can wait; `None`: not said.
    pub max_secs: Option<u32>,
}

/// A serial port of a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// What is printed on the board.
    pub name: String,
    /// The device, `*` for what follows.
    pub device: String,
}

/// Name and text of each file in `boards/`.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/boards.rs"));

impl Board {
    /// The built-in board of that name. The error says which names there are.
    pub fn named(name: &str) -> Result<Self, String> {
        Self::find(name, &|_| None)
    }

    /// The board of that name: the file beside the configuration in `folder`, else the built-in one.
    pub fn beside(folder: &Path, name: &str, world: &dyn World) -> Result<Self, String> {
        Self::find(name, &|name| {
            let file = folder.join("boards").join(format!("{name}.toml"));
            world.read(&file).ok().map(|text| (file, text))
        })
    }

    fn find(name: &str, own: &dyn Fn(&str) -> Option<(PathBuf, String)>) -> Result<Self, String> {
        let names = Self::names();
        // A name becomes part of a path: nothing but a name.
        let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let known =
            plain && !name.is_empty() && name != "base" && (names.contains(&name) || own(name).is_some());
        if !known {
            let near = nearest(name, &names).map_or(String::new(), |near| format!("did you mean {near:?}? "));
            let name = document::shorten(name);
            return Err(format!(
                "the board {name:?} is unknown; {near}there are {}, and any boards/NAME.toml beside the configuration",
                names.join(", ")
            ));
        }
        inherit(name, &|name, may_be_own| {
            let own = || if may_be_own && plain { own(name) } else { None };
            own().or_else(|| {
                let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
                Some((Path::new("boards").join(format!("{name}.toml")), (*text).to_owned()))
            })
        })
    }

    /// Names of all built-in boards that a config may name.
    pub fn names() -> Vec<&'static str> {
        FILES.iter().map(|(name, _)| *name).filter(|name| *name != "base").collect()
    }

    /// Whether a binary for `arch` (Rust's word for an architecture) is what this board runs.
    pub fn is_for(&self, arch: &str) -> bool {
        let Some(target) = &self.target else { return false };
        let of_target = target.split('-').next().unwrap_or_default();
        match arch {
            "arm" => of_target.starts_with("arm"),
            "riscv64" => of_target.starts_with("riscv64"),
            arch => of_target == arch,
        }
    }

    /// Why `port` cannot be one of this board's; `None`: it may be.
    ///
    /// Only names that the kernel gives are judged (`/dev/ttyS3`): a link made by udev, or a pty, can be
    /// anything. A board without ports of its own says nothing about them.
    pub fn lacks_port(&self, port: &str) -> Option<String> {
        let family = |device: &str| {
            let name = device.strip_prefix("/dev/tty")?;
            let name = name.trim_end_matches('*').trim_end_matches(|c: char| c.is_ascii_digit());
            (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic())).then(|| name.to_owned())
        };
        let numbered = port.ends_with(|c: char| c.is_ascii_digit());
        let has_own = self.serial.iter().any(|known| !known.device.ends_with('*') || !is_usb(&known.device));
        if !has_own || !numbered || family(port).is_none() {
            return None;
        }
        let fits = |known: &SerialPort| match known.device.strip_suffix('*') {
            Some(start) => port.starts_with(start),
            None => port == known.device,
        };
        if self.serial.iter().any(fits) {
            return None;
        }
        let devices: Vec<&str> = self.serial.iter().map(|known| known.device.as_str()).collect();
        let near = nearest(port, &devices).map_or(";".into(), |near| format!("; did you mean {near}?"));
        let ports: Vec<String> =
            self.serial.iter().map(|known| format!("{} ({})", known.device, known.name)).collect();
        Some(format!(
            "the board {} has no {port}{near} it has {}; one that is added goes into boards/{}.toml beside the \
             configuration",
            self.name,
            ports.join(", "),
            self.name
        ))
    }
}

fn is_usb(device: &str) -> bool {
    device.starts_with("/dev/ttyUSB") || device.starts_with("/dev/ttyACM")
}

/// File and text of a board; the flag: whether one beside the configuration counts.
type TextOf<'f> = dyn Fn(&str, bool) -> Option<(PathBuf, String)> + 'f;

/// A board's values with those it inherits, out of files that `text_of` knows.
fn inherit(name: &str, text_of: &TextOf<'_>) -> Result<Board, String> {
    let mut line: Vec<(String, PathBuf)> = Vec::new();
    let mut board = Board { name: name.to_owned(), ..Board::default() };
    let (mut workers, mut cores, mut memory, mut budget) = (None, None, None, None);
    let (mut watchdog, mut watchdog_max) = (None, None);
    let mut next = Some(name.to_owned());
    while let Some(name) = next.take() {
        // A file beside the configuration may inherit the built-in board that it stands before.
        let may_be_own = line.last().is_none_or(|(heir, _)| *heir != name);
        let Some((file, text)) = text_of(&name, may_be_own) else {
            let heir = line.last().map_or("", |(heir, _)| heir.as_str());
            let near = nearest(&name, &Board::names())
                .map_or(String::new(), |near| format!("; did you mean {near:?}?"));
            return Err(format!("board {heir:?} inherits {name:?}, which is no board{near}"));
        };
        if line.iter().any(|(known, from)| *known == name && *from == file) {
            let names: Vec<&str> = line.iter().map(|(name, _)| name.as_str()).collect();
            return Err(format!("boards inherit in a circle: {} → {name}", names.join(" → ")));
        }
        let raw = document::read::<RawBoard, _>(&text, &file, None, raw::rules)
            .map_err(|complaints| complaints.to_string())?;
        // What an heir says holds against what it inherits.
        let first = |ours: Option<u64>, theirs: &Field<u64>| ours.or(theirs.value().copied());
        workers = first(workers, &raw.workers);
        cores = first(cores, &raw.cores);
        memory = first(memory, &raw.memory_mib);
        budget = first(budget, &raw.memory_budget_mib);
        watchdog_max = first(watchdog_max, &raw.watchdog_max_secs);
        watchdog = watchdog.or(raw.watchdog.value().cloned());
        board.target = board.target.take().or(raw.target.value().cloned());
        board.cpu = board.cpu.take().or(raw.cpu.value().cloned());
        board.kernels_found = board.kernels_found.take().or(raw.kernels_found.value().cloned());
        board.kernels = board.kernels.or(raw.kernels.value().copied());
        board.storage = board.storage.or(raw.storage.value().copied());
        if board.cpu_features.is_empty() {
            board.cpu_features = texts(&raw.cpu_features);
        }
        if board.clusters.is_empty() {
            board.clusters = raw.cluster.value().into_iter().flatten().filter_map(cluster).collect();
        }
        if board.device_tree.is_empty() {
            board.device_tree = texts(&raw.device_tree);
        }
        for port in raw.serial.value().into_iter().flatten() {
            let text = |field: &Field<String>| field.value().cloned().unwrap_or_default();
            let port = port.get_ref();
            board.serial.push(SerialPort { name: text(&port.name), device: text(&port.device) });
        }
        board.quirks.extend(texts(&raw.quirks));
        if board.note.is_empty() {
            board.note = raw.note.value().cloned().unwrap_or_default();
        }
        board.sources.extend(raw.source.value().cloned());
        next = raw.inherits.value().cloned();
        line.push((name, file));
    }
    if let (Some(workers), Some(cores)) = (workers, cores)
        && workers > cores
    {
        return Err(format!(
            "board {name:?} has {workers} workers for {cores} cores; more only wait for each other"
        ));
    }
    if let (Some(budget), Some(memory)) = (budget, memory)
        && budget > memory
    {
        return Err(format!("board {name:?} gives the daemon {budget} MiB of its {memory} MiB"));
    }
    board.workers = count(workers);
    board.cores = count(cores);
    // Where no clusters are told, all cores are one.
    if let (true, Some(cpu), Some(cores)) = (board.clusters.is_empty(), &board.cpu, board.cores) {
        board.clusters.push(Cluster { cpu: cpu.clone(), cores });
    }
    let of_clusters: usize = board.clusters.iter().map(|cluster| cluster.cores.get()).sum();
    if let (1.., Some(cores)) = (of_clusters, board.cores)
        && cores.get() != of_clusters
    {
        return Err(format!("board {name:?} has {cores} cores, and {of_clusters} in its clusters"));
    }
    board.memory_bytes = memory.map(|mib| mib * 1_048_576);
    board.memory_budget_bytes = budget.map(|mib| mib * 1_048_576);
    board.watchdog = watchdog.map(|device| Watchdog {
        device: device.into(),
        max_secs: watchdog_max.and_then(|secs| u32::try_from(secs).ok()),
    });
    Ok(board)
}

fn count(number: Option<u64>) -> Option<NonZeroUsize> {
    NonZeroUsize::new(usize::try_from(number?).ok()?)
}

fn texts(list: &Field<Vec<Spanned<String>>>) -> Vec<String> {
    list.value().into_iter().flatten().map(|text| text.get_ref().clone()).collect()
}

fn cluster(raw: &Spanned<RawCluster>) -> Option<Cluster> {
    let RawCluster { cpu, cores } = raw.get_ref();
    Some(Cluster { cpu: cpu.value()?.clone(), cores: count(cores.value().copied())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The built-in files of a little world.
    fn among(name: &str, files: &[(&str, &str)]) -> Result<Board, String> {
        inherit(name, &|name, _| {
            let (_, text) = files.iter().find(|(known, _)| *known == name)?;
            Some((PathBuf::from(name), (*text).to_owned()))
        })
    }

    #[test]
    fn every_built_in_board_can_be_used() {
        assert!(Board::names().len() >= 20, "{:?}", Board::names());
        for name in Board::names() {
            let board = Board::named(name).unwrap();
            assert_eq!(board.name, name);
            assert!(!board.note.is_empty() && !board.serial.is_empty(), "{board:?}");
            if name.starts_with("generic") || name == "raspberry-pi" {
                continue;
            }
            let figures =
                (board.target, board.cpu, board.cores, board.memory_budget_bytes, board.memory_bytes);
            assert!(matches!(figures, (Some(_), Some(_), Some(_), Some(_), Some(_))), "{name}: {figures:?}");
            assert!(!board.device_tree.is_empty() && !board.sources.is_empty(), "{name}");
            assert!(board.kernels_found.is_some(), "{name}");
            assert!(!board.cpu_features.is_empty() && !board.clusters.is_empty(), "{name}");
        }
    }

    #[test]
    fn every_key_stands_in_the_page_about_boards() {
        use crate::config::document::Written as _;
        let page = include_str!("../../boards/README.md");
        for key in RawBoard::schema()["properties"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("| `{key}` |")), "boards/README.md lacks `{key}`");
        }
    }

    #[test]
    fn a_file_beside_the_configuration_adds_and_overrides() {
        let folder = tempfile::tempdir().unwrap();
        let boards = folder.path().join("boards");
        std::fs::create_dir(&boards).unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(boards.join(format!("{name}.toml")), text).unwrap();
        write("raspberry-pi-4", "inherits = \"raspberry-pi-4\"\nworkers = 3\nsource = \"ours\"");
        write("press", "inherits = \"raspberry-pi-4\"\nmemory_budget_mib = 64\nsource = \"ours\"");
        write("base", "workers = 1\nsource = \"never asked for\"");
        let named = |name: &str| Board::beside(folder.path(), name, &crate::config::ThisMachine);
        let press = named("press").unwrap();
        assert_eq!(press.workers, NonZeroUsize::new(3));
        assert_eq!(press.memory_budget_bytes, Some(64 << 20));
        assert_eq!(press.cpu.as_deref(), Some("cortex-a72"));
        assert_eq!(named("raspberry-pi-5").unwrap().workers, NonZeroUsize::new(4));
        for no in ["../boards/press", "base", "", "Press"] {
            assert!(named(no).unwrap_err().contains("is unknown"), "{no}");
        }
    }

    #[test]
    fn cores_that_are_alike_are_a_cluster() {
        let drawn = |name: &str| -> Vec<String> {
            let clusters = Board::named(name).unwrap().clusters;
            clusters.iter().map(|cluster| format!("{} {}", cluster.cores, cluster.cpu)).collect()
        };
        assert_eq!(drawn("rock-5b"), ["4 cortex-a55", "2 cortex-a76", "2 cortex-a76"]);
        assert_eq!(drawn("raspberry-pi-4"), ["4 cortex-a72"]);
        assert_eq!(drawn("generic"), [""; 0]);
    }

    #[test]
    fn a_port_that_the_board_lacks_is_told_with_the_nearest() {
        let pi = Board::named("raspberry-pi-4").unwrap();
        for port in [
            "/dev/serial0",
            "/dev/ttyAMA3",
            "/dev/ttyUSB0",
            "/dev/pts/4",
            "/dev/scale",
            "/dev/serial/by-id/x",
        ] {
            assert_eq!(pi.lacks_port(port), None);
        }
        let why = pi.lacks_port("/dev/ttyS1").unwrap();
        assert!(why.contains("did you mean /dev/ttyS0?"), "{why}");
        assert!(why.contains("no /dev/ttyS1") && why.contains("/dev/serial0 (header pins 8"), "{why}");
        assert_eq!(Board::named("generic").unwrap().lacks_port("/dev/ttyS1"), None);
    }

    #[test]
    fn an_heir_overrides_and_the_rest_comes_from_afar() {
        let files = [
            ("grand", "cores = 4\nworkers = 4\nmemory_budget_mib = 64\nquirks = [\"old\"]\nsource = \"s\""),
            ("middle", "inherits = \"grand\"\nworkers = 2\nstorage = \"sd\""),
            (
                "heir",
                "inherits = \"middle\"\nquirks = [\"new\"]\ntarget = \"armv7-unknown-linux-musleabihf\"",
            ),
        ];
        let board = among("heir", &files).unwrap();
        assert_eq!(board.name, "heir");
        assert_eq!(board.workers, NonZeroUsize::new(2));
        assert_eq!(board.memory_budget_bytes, Some(64 * 1_048_576));
        assert_eq!((board.storage, board.quirks), (Some(Storage::Sd), vec!["new".into(), "old".into()]));
    }

    #[test]
    fn circles_orphans_and_too_many_workers_are_refused() {
        let files = [
            ("a", "inherits = \"b\""),
            ("b", "inherits = \"a\""),
            ("orphan", "inherits = \"raspbery-pi-4\""),
            ("crowded", "cores = 2\nworkers = 3\nsource = \"s\""),
            ("greedy", "memory_mib = 64\nmemory_budget_mib = 65\nsource = \"s\""),
            ("lost", "cores = 6\nsource = \"s\"\n[[cluster]]\ncpu = \"cortex-a55\"\ncores = 4"),
            ("slip", "worker = 3"),
            (
                "rumour",
                "cores = 2\ntarget = \"arm\"\nnote = \"\"\n[[serial]]\nname = \"x\"\ndevice = \"ttyS0\"",
            ),
        ];
        assert_eq!(among("a", &files).unwrap_err(), "boards inherit in a circle: a → b → a");
        let orphan = among("orphan", &files).unwrap_err();
        assert!(
            orphan.contains("inherits \"raspbery-pi-4\"") && orphan.contains("mean \"raspberry-pi-4\""),
            "{orphan}"
        );
        assert!(among("greedy", &files).unwrap_err().contains("65 MiB of its 64 MiB"));
        assert!(among("crowded", &files).unwrap_err().contains("3 workers for 2 cores"));
        assert!(among("lost", &files).unwrap_err().contains("6 cores, and 4 in its clusters"));
        let rumour = among("rumour", &files).unwrap_err();
        for part in ["without source", "expected a triple", "note is empty", "such as /dev/ttyS0"] {
            assert!(rumour.contains(part), "{rumour}");
        }
        assert!(among("slip", &files).unwrap_err().contains("did you mean `workers`?"));
    }

    #[test]
    fn an_unknown_board_names_the_nearest_and_all() {
        let message = Board::named("raspbery-pi-4").unwrap_err();
        assert!(message.contains("did you mean \"raspberry-pi-4\"?"), "{message}");
        assert!(message.contains("generic"), "{message}");
        assert!(Board::named("base").is_err());
    }
}
