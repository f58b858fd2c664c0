//! Who may open a port, and what to do for somebody who may not.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Who may open a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Name of the user that it belongs to, or the number.
    pub owner: String,
    /// Name of the group, or the number.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
}

impl Rights {
    /// `None`: a folder above it lets nobody look.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        let name = |list: &str, id: u32| name_in(list, id).unwrap_or_else(|| id.to_string());
        Some(Self {
            owner: name("/etc/passwd", file.uid()),
            group: name("/etc/group", file.gid()),
            mode: file.mode() & 0o777,
        })
    }

    /// The group that one may join to read and write. Nobody joins root's for a port.
    fn group_that_may(&self) -> Option<&str> {
        (self.mode & 0o060 == 0o060 && self.group != "root").then_some(&*self.group)
    }
}

/// The name of a number in `/etc/passwd` or `/etc/group`.
fn name_in(list: &str, id: u32) -> Option<String> {
    let list = std::fs::read_to_string(list).ok()?;
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

/// What to do about a port that one may not open.
pub(super) fn remedy(path: &Path, rights: Option<&Rights>) -> String {
    let Some(rights) = rights else {
        return "nor to look at it: a folder above it is closed to this user".into();
    };
    if let Some(group) = rights.group_that_may() {
        return format!(
            "it belongs to group {group}: `sudo usermod -aG {group} USER`, then log in again or restart the service"
        );
    }
    let Rights { owner, group, mode } = rights;
    // Rules go by the kernel's name, not by a link to it.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    format!(
        "it belongs to {owner}:{group} with mode {mode:04o}, so there is no group to join: `sudo chgrp dialout {0} && \
         sudo chmod g+rw {0}` until it is plugged in again; for good, a line in /etc/udev/rules.d/99-lineside.rules: \
         `KERNEL==\"{1}\", GROUP=\"dialout\", MODE=\"0660\"`; and join dialout",
        path.display(),
        path.file_name().unwrap_or_default().display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_only_if_joining_it_would_help() {
        let said = |group: &str, mode: u32| {
            let rights = Rights { owner: "root".into(), group: group.into(), mode };
            remedy(Path::new("/dev/ttyUSB0"), Some(&rights))
        };
        assert!(said("dialout", 0o660).contains("`sudo usermod -aG dialout USER`"));
        for (group, mode, seen) in [
            ("root", 0o600, "root:root with mode 0600"),
            ("root", 0o660, "root:root with mode 0660"),
            ("dialout", 0o640, "root:dialout with mode 0640"),
        ] {
            let words = said(group, mode);
            assert!(!words.contains("usermod") && words.contains(seen), "{words}");
            assert!(words.contains("`KERNEL==\"ttyUSB0\", GROUP=\"dialout\", MODE=\"0660\"`"), "{words}");
        }
        assert!(remedy(Path::new("/dev/ttyUSB0"), None).contains("a folder above it is closed"));
        let file = Rights::of(Path::new("/etc/passwd")).unwrap();
        assert_eq!((file.owner.as_str(), file.group.as_str()), ("root", "root"));
    }
}
