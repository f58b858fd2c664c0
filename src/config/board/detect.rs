//! Which board this is, by what the firmware says of itself.
//!
//! Promise: a function of the device tree's names and of what this binary was built for; a board that
//! is not known is a generic one of its processor, never a guess.

use std::io;
use std::path::Path;

use super::Board;

/// Where Linux shows the device tree's root.
pub const DEVICE_TREE: &str = "/proc/device-tree";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// A board of `boards/`.
    pub board: String,
    /// What the firmware calls it, its most exact name where it has no other; `None`: there is no device tree.
    pub model: Option<String>,
    /// The name by which it was known; `None`: by the processor alone.
    pub by: Option<String>,
    /// Boards that it is under a system of another architecture; empty where `board` is known by name.
    pub elsewhere: Vec<String>,
}

/// Looks at the device tree in `root`, for a binary of the architecture `arch` (Rust's word).
///
/// # Errors
/// The device tree is there and cannot be read.
pub fn detect(root: &Path, arch: &str) -> io::Result<Detected> {
    let Some(compatible) = read(&root.join("compatible"))? else {
        return Ok(Detected { board: generic(arch, ARMV6).into(), model: None, by: None, elsewhere: vec![] });
    };
    let names: Vec<&str> = compatible.split('\0').filter(|name| !name.is_empty()).collect();
    // A tree without a model's name is a tree all the same: its most exact name is what it is called.
    let model = read(&root.join("model"))?.map(|text| text.trim_end_matches('\0').to_owned());
    let model = model.or_else(|| names.first().map(|name| (*name).to_owned()));
    let boards: Vec<Board> = Board::names().into_iter().filter_map(|name| Board::named(name).ok()).collect();
    let mut elsewhere = vec![];
    // The first name is the most exact one.
    for name in names {
        let known = boards.iter().filter(|board| board.device_tree.iter().any(|known| known == name));
        let (here, other): (Vec<&Board>, Vec<&Board>) = known.partition(|board| board.is_for(arch));
        if let Some(board) = here.first() {
            let board = board.name.clone();
            return Ok(Detected { board, model, by: Some(name.to_owned()), elsewhere: vec![] });
        }
        elsewhere.extend(other.iter().map(|board| board.name.clone()));
    }
    Ok(Detected { board: generic(arch, ARMV6).into(), model, by: None, elsewhere })
}

/// The text of a property; `None`: there is none.
fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether this binary was built for ARMv6, which has no generic board of its own.
const ARMV6: bool = cfg!(all(checks_processor, not(needs_armv7)));

fn generic(arch: &str, armv6: bool) -> &'static str {
    match arch {
        "arm" if armv6 => "generic",
        "aarch64" => "generic-aarch64",
        "arm" => "generic-armv7",
        "x86_64" => "generic-x86-64",
        _ => "generic",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(compatible: &str, model: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("compatible"), compatible).unwrap();
        std::fs::write(folder.path().join("model"), model).unwrap();
        folder
    }

    fn board(compatible: &str, arch: &str) -> String {
        detect(tree(compatible, "some board\0").path(), arch).unwrap().board
    }

    #[test]
    fn a_board_is_known_by_its_most_exact_name() {
        let found = detect(
            tree("raspberrypi,4-model-b\0brcm,bcm2711\0", "Raspberry Pi 4 Model B Rev 1.4\0").path(),
            "aarch64",
        )
        .unwrap();
        assert_eq!(found.board, "raspberry-pi-4");
        assert_eq!(found.model.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
        assert_eq!(found.by.as_deref(), Some("raspberrypi,4-model-b"));
        let connect = "kunbus,revpi-connect4\0raspberrypi,4-compute-module\0brcm,bcm2711\0";
        assert_eq!(board(connect, "aarch64"), "revpi-connect-4");
        assert_eq!(board("starfive,visionfive-2-v1.3b\0starfive,jh7110\0", "riscv64"), "visionfive-2");
    }

    #[test]
    fn one_board_under_two_systems_is_two_boards() {
        let pi = "raspberrypi,4-model-b\0brcm,bcm2711\0";
        assert_eq!(board(pi, "aarch64"), "raspberry-pi-4");
        assert_eq!(board(pi, "arm"), "raspberry-pi-4-32bit");
        assert_eq!(board("raspberrypi,model-zero-w\0brcm,bcm2835\0", "arm"), "raspberry-pi-zero");
    }

    #[test]
    fn a_board_of_another_architecture_is_named_and_not_taken() {
        let found =
            detect(tree("starfive,visionfive-2-v1.3b\0starfive,jh7110\0", "VisionFive 2\0").path(), "arm");
        let found = found.unwrap();
        assert_eq!((found.board.as_str(), found.by), ("generic-armv7", None));
        assert_eq!(found.elsewhere, ["visionfive-2"]);
    }

    #[test]
    fn a_tree_without_a_model_is_one_all_the_same() {
        let folder = tree("acme,one\0acme,soc\0", "");
        std::fs::remove_file(folder.path().join("model")).unwrap();
        let found = detect(folder.path(), "aarch64").unwrap();
        assert_eq!((found.board.as_str(), found.model.as_deref()), ("generic-aarch64", Some("acme,one")));
    }

    #[test]
    fn a_binary_for_armv6_takes_no_board_for_another_for_armv7() {
        assert_eq!((generic("arm", true), generic("arm", false)), ("generic", "generic-armv7"));
    }

    #[test]
    fn what_is_not_known_is_a_generic_board() {
        assert_eq!(board("acme,one\0acme,soc\0", "aarch64"), "generic-aarch64");
        let none = tempfile::tempdir().unwrap();
        let found = detect(none.path(), "x86_64").unwrap();
        assert_eq!((found.board.as_str(), found.model), ("generic-x86-64", None));
    }
}
