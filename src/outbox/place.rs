//! The folder of the outbox: made, looked over, and locked against a second process.
//!
//! Promise: who cannot use the folder is told which folder, why, and what would help. The lock is the
//! kernel's (`flock` on the file `lock`): it ends with its process, however that ends; the process id in
//! the file only serves to name its holder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why the folder of the outbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Something else has that name.
    #[error("outbox: {} is a file; [outbox] path names a folder", .0.display())]
    NotAFolder(PathBuf),
    /// A link whose target is missing.
    #[error("outbox: {} is a link to what is not there; make its target, or set [outbox] path", .0.display())]
    Dangling(PathBuf),
    /// Rights.
    #[error(
        "outbox: {} belongs to user {owner}, and we run as user {we}, who may not write there; \
         `{}` it, or set [outbox] path", path.display(),
        if owner == we { "chmod u+rwx".into() } else { format!("chown {we}") }
    )]
    Denied {
        /// The folder, or the nearest one above it that is there.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
        /// Ours.
        we: u32,
    },
    /// Somebody else's.
    #[error("outbox: {} is in use by {holder}; give each daemon a folder of its own", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Process and name.
        holder: String,
    },
    /// The disk says no: full, read-only, broken.
    #[error("outbox: {} cannot be used", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The folder, held by this process until it is dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    _lock: File,
}

impl Place {
    /// Makes the folder where it is missing, and locks it.
    pub fn take(path: &Path) -> Result<Self, PlaceError> {
        let failed = |error| why(path, error);
        no_file_in_the_way(path)?;
        fs::create_dir_all(path).map_err(failed)?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(PlaceError::InUse { path: path.into(), holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The name of the holder is a courtesy: a full disk does not make the lock less of one.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(lock, "{}", std::process::id()));
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Whether another process holds the folder at this moment, and who.
    pub fn holder(path: &Path) -> Option<String> {
        let mut lock = File::open(path.join("lock")).ok()?;
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(holder(&mut lock)),
            _ => None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a person should know of this folder, although it can be used.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if let Some(kind) = file_system(&mounts, &path).filter(|kind| ["tmpfs", "ramfs"].contains(kind)) {
            doubts.push(format!(
                "outbox: {} lies in memory ({kind}): what waits there is lost with the power; set [outbox] path to a disk",
                self.path.display()
            ));
        }
        if let (Ok(metadata), Some(we)) = (fs::metadata(&self.path), our_user())
            && metadata.uid() != we
        {
            doubts.push(format!(
                "outbox: {} belongs to user {}, and we run as user {we}: what we leave there may be beyond its owner",
                self.path.display(),
                metadata.uid()
            ));
        }
        doubts
    }
}

/// `check`'s question: could the folder be used? Changes nothing.
pub fn usable(path: &Path) -> Result<(), PlaceError> {
    no_file_in_the_way(path)?;
    let there = nearest(path);
    // Only trying tells what rights, access lists and mounts together come to.
    let probe = there.join(format!(".lineside-probe-{}", std::process::id()));
    let tried = OpenOptions::new().write(true).create_new(true).open(&probe);
    tried.and_then(|_| fs::remove_file(&probe)).map_err(|error| why(path, error))
}

fn no_file_in_the_way(path: &Path) -> Result<(), PlaceError> {
    match path.ancestors().find(|path| path.symlink_metadata().is_ok()) {
        Some(there) if !there.exists() => Err(PlaceError::Dangling(there.into())),
        Some(there) if !there.is_dir() => Err(PlaceError::NotAFolder(there.into())),
        _ if path.join("lock").is_dir() => Err(PlaceError::Unusable {
            path: path.join("lock"),
            source: io::Error::new(ErrorKind::IsADirectory, "a folder stands where the lock file belongs"),
        }),
        _ => Ok(()),
    }
}

/// The folder itself, or the nearest one above it that is there.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."))
}

fn why(path: &Path, error: io::Error) -> PlaceError {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            let there = nearest(path);
            let owner = fs::metadata(there).map_or(0, |metadata| metadata.uid());
            PlaceError::Denied { path: there.into(), owner, we: our_user().unwrap_or_default() }
        }
        _ => PlaceError::Unusable { path: path.into(), source: error },
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    // Sixteen bytes hold every process id.
    let _ = Read::by_ref(lock).take(16).read_to_string(&mut text);
    let Ok(process) = text.trim().parse::<u32>() else { return "another process".into() };
    match fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("process {process} ({})", name.trim()),
        Err(_) => format!("process {process}"),
    }
}

/// The kernel makes `/proc/self` belong to whom the process acts as.
fn our_user() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}

/// The kind of file system that holds `path`, from the text of `mountinfo`: the longest mount point
/// above it, and of equal ones the last.
fn file_system<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let mounted = mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&point).then_some((point.len(), right.split(' ').next()?))
    });
    mounted.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/outbox");
        let first = Place::take(&path).unwrap();
        let refused = Place::take(&path).unwrap_err().to_string();
        let me = format!("is in use by process {}", std::process::id());
        assert!(refused.contains(&me), "{refused}");
        assert!(Place::holder(&path).unwrap().contains(&std::process::id().to_string()));
        drop(first);
        assert_eq!(Place::holder(&path), None);
        Place::take(&path).unwrap();
    }

    #[test]
    fn a_file_where_the_folder_should_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outbox");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            for error in [Place::take(&path).unwrap_err(), usable(&path).unwrap_err()] {
                assert!(error.to_string().contains("outbox is a file"), "{error}");
            }
        }
        assert!(usable(&folder.path().join("not/there/yet")).is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "asking leaves nothing behind");
    }

    #[test]
    fn a_link_to_nothing_and_a_folder_in_place_of_the_lock_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("gone"), &link).unwrap();
        let path = folder.path().join("outbox");
        fs::create_dir_all(path.join("lock")).unwrap();
        for (path, words) in [(&link, "link is a link to what is not there"), (&path, "lock cannot be used")]
        {
            for error in [Place::take(path).unwrap_err(), usable(path).unwrap_err()] {
                assert!(error.to_string().contains(words), "{error}");
            }
        }
        let ours = PlaceError::Denied { path, owner: 7, we: 7 }.to_string();
        assert!(ours.contains("`chmod u+rwx` it"), "{ours}");
    }

    #[test]
    fn the_mount_that_holds_a_folder_is_the_deepest_and_the_last() {
        let mounts = "22 1 0:20 / / rw - ext4 /dev/root rw\n\
                      30 22 0:25 / /tmp rw,nosuid - tmpfs tmpfs rw\n\
                      31 22 0:26 / /var/a\\040b rw shared:1 - ext4 /dev/x rw\n\
                      32 22 0:27 / /var/a\\040b rw - ramfs none rw\n";
        let kind = |path: &str| file_system(mounts, Path::new(path));
        assert_eq!(kind("/tmp/outbox"), Some("tmpfs"));
        assert_eq!(kind("/tmpx/outbox"), Some("ext4"));
        assert_eq!(kind("/var/a b/outbox"), Some("ramfs"));
    }
}
