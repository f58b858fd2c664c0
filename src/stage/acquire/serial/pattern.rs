//! Which port a path or a pattern means: `/dev/ttyUSB0`, `/dev/serial/by-id/usb-FTDI_*`.
//!
//! `*` stands for any characters and `?` for one, in the last part of the path only: that is where the
//! names of adapters are.

use std::path::{Path, PathBuf};

/// Not exactly one port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotOne {
    None,
    Several(Vec<PathBuf>),
}

/// The port that `port` means. A path without a wildcard is taken as it is, whether it is there or not.
pub(super) fn find(port: &str) -> Result<PathBuf, NotOne> {
    let path = Path::new(port);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.contains(['*', '?']) {
        return Ok(path.to_owned());
    }
    let mut found = below(path.parent().unwrap_or(Path::new("/")), |file| matches(name, file));
    match found.len() {
        0 => Err(NotOne::None),
        1 => Ok(found.remove(0)),
        _ => Err(NotOne::Several(found)),
    }
}

/// Ports of adapters that are plugged in, for a message.
pub(super) fn known_ports() -> Vec<PathBuf> {
    let by_id = below(Path::new("/dev/serial/by-id"), |_| true);
    if !by_id.is_empty() {
        return by_id;
    }
    below(Path::new("/dev"), |name| {
        ["ttyUSB", "ttyACM", "ttyAMA", "ttymxc", "ttySC"].iter().any(|prefix| name.starts_with(prefix))
    })
}

/// At most some of them, joined.
pub(super) fn list(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 4;
    let mut words: Vec<String> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    if paths.len() > SHOWN {
        words.push(format!("{} more", paths.len() - SHOWN));
    }
    words.join(", ")
}

fn below(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.file_name().to_str().is_some_and(&wanted));
    let mut paths: Vec<PathBuf> = names.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Whether `name` fits `pattern`, with `*` and `?` as a shell has them.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where to go on when what follows the last star does not fit: one character later.
    let mut retry = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, from)) = retry else { return false };
                retry = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("usb-FTDI_*", "usb-FTDI_FT232R_A50285BI-if00-port0", true),
            ("*-if00*", "usb-FTDI_FT232R_A50285BI-if00-port0", true),
            ("*if0?-port1", "usb-FTDI_FT232R_A50285BI-if00-port0", false),
            ("ttyUSB?", "ttyUSB0", true),
            ("ttyUSB?", "ttyUSB10", false),
            ("*", "", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_means_one_port_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let port = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(find(&port("usb-*")), Err(NotOne::None));
        std::fs::write(port("usb-a"), "").unwrap();
        assert_eq!(find(&port("usb-*")), Ok(port("usb-a").into()));
        std::fs::write(port("usb-b"), "").unwrap();
        assert_eq!(
            find(&port("usb-*")),
            Err(NotOne::Several(vec![port("usb-a").into(), port("usb-b").into()]))
        );
        assert_eq!(find(&port("plain")), Ok(port("plain").into()));
    }
}
