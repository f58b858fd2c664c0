//! Recent frames in a file that lies in memory: it outlives the process and not the power.
//!
//! A daemon that is killed leaves unacknowledged frames with the broker, which sends them again with
//! DUP. To give them the id that their first answer may carry, the next process must know what this one
//! named them. On a disk that would be a write for each frame; a file on tmpfs is none.
//!
//! Promise: a frame is remembered before it goes to any lane. Every slot checks itself; a file of
//! somebody else, a torn slot, a full tmpfs cost what they hold and nothing more.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::identity::REMEMBERED;

/// Key, delivery, order of writing, check.
const SLOT_BYTES: usize = 16 + 8 + 8 + 8;
/// Changes with the layout of a slot.
const LAYOUT: u64 = 1;

/// A frame and what it was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// From topic, payload and packet id.
    pub key: u128,
    /// What its id is made of.
    pub delivery: u64,
}

/// The file: a ring of slots.
pub struct Memory {
    path: PathBuf,
    file: File,
    /// Slots written, by all processes.
    written: u64,
    /// A write has failed and was told.
    failed: bool,
}

impl Memory {
    /// A file for this client id and this outbox, in the first folder of the machine that lies in
    /// memory and takes it: what systemd gave us, then the system's own.
    pub fn of(client_id: &str, outbox: &Path) -> Option<Self> {
        let outbox = outbox.canonicalize().unwrap_or_else(|_| outbox.into());
        let mut names = client_id.as_bytes().to_vec();
        names.push(0);
        names.extend_from_slice(outbox.as_os_str().as_encoded_bytes());
        let name = format!("lineside-{:016x}.recent", xxh3_64(&names));
        let given = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
        let folders = given.into_iter().chain(["/dev/shm", "/run"].map(PathBuf::from));
        folders.filter(|folder| folder.is_dir()).find_map(|folder| Self::open(&folder.join(&name)).ok())
    }

    /// The file at `path`, made where it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        // `/dev/shm` is everybody's: what lies there under our name must be a file of ours.
        if let Ok(there) = fs::symlink_metadata(path)
            && (!there.is_file() || Some(there.uid()) != fs::metadata("/proc/self").ok().map(|us| us.uid()))
        {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a file of ours"));
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write to it"));
        }
        Ok(Self { path: path.to_owned(), file, written: 0, failed: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it, oldest first.
    pub fn recall(&mut self) -> Vec<Remembered> {
        let mut bytes = vec![0; REMEMBERED * SLOT_BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) | Err(_) => break,
                Ok(read) => filled += read,
            }
        }
        let mut slots: Vec<(u64, Remembered)> =
            bytes[..filled].chunks_exact(SLOT_BYTES).filter_map(decode).collect();
        slots.sort_by_key(|(order, _)| *order);
        self.written = slots.last().map_or(0, |(order, _)| order + 1);
        slots.into_iter().map(|(_, remembered)| remembered).collect()
    }

    /// Remembers a frame; the oldest is forgotten.
    pub fn remember(&mut self, frame: Remembered) {
        let at = (self.written % REMEMBERED as u64) * SLOT_BYTES as u64;
        match self.file.write_all_at(&encode(self.written, frame), at) {
            Ok(()) => self.written += 1,
            Err(error) if !self.failed => {
                self.failed = true;
                log::warn!(
                    "recent frames cannot be remembered ({error}): a frame without an id of its own that comes \
                     again after a restart gets a new id"
                );
            }
            Err(_) => {}
        }
    }
}

fn encode(order: u64, Remembered { key, delivery }: Remembered) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..16].copy_from_slice(&key.to_le_bytes());
    slot[16..24].copy_from_slice(&delivery.to_le_bytes());
    slot[24..32].copy_from_slice(&order.to_le_bytes());
    let check = xxh3_64_with_seed(&slot[..32], LAYOUT);
    slot[32..].copy_from_slice(&check.to_le_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<(u64, Remembered)> {
    let (key, rest) = slot.split_first_chunk::<16>()?;
    let (delivery, rest) = rest.split_first_chunk::<8>()?;
    let (order, rest) = rest.split_first_chunk::<8>()?;
    let check = rest.first_chunk::<8>()?;
    if u64::from_le_bytes(*check) != xxh3_64_with_seed(&slot[..32], LAYOUT) {
        return None;
    }
    let (key, delivery) = (u128::from_le_bytes(*key), u64::from_le_bytes(*delivery));
    Some((u64::from_le_bytes(*order), Remembered { key, delivery }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: u64) -> Remembered {
        Remembered { key: u128::from(n) << 64 | 1, delivery: n }
    }

    #[test]
    fn the_last_frames_are_recalled_in_order_and_torn_slots_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recent");
        let mut memory = Memory::open(&path).unwrap();
        assert!(memory.recall().is_empty());
        let count = REMEMBERED as u64 + 10;
        (0..count).for_each(|n| memory.remember(frame(n)));
        let mut next = Memory::open(&path).unwrap();
        assert_eq!(next.recall(), (10..count).map(frame).collect::<Vec<_>>());
        next.remember(frame(count));
        // Half a slot of the oldest, as a kill in the middle of a write would leave it.
        next.file.write_all_at(&[0xaa; 20], 11 * SLOT_BYTES as u64).unwrap();
        let recalled = Memory::open(&path).unwrap().recall();
        assert_eq!(recalled, (12..=count).map(frame).collect::<Vec<_>>());
        assert_eq!(fs::metadata(&path).unwrap().len(), (REMEMBERED * SLOT_BYTES) as u64);
    }

    #[test]
    fn a_file_that_is_not_ours_alone_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recent");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Memory::open(&path).is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Memory::open(&link).is_err());
    }
}
