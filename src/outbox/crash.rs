//! A disk that remembers each write and sync, and plays every state in which a power cut may leave it.
//!
//! The rules are those that a journalling file system gives at its worst: what a sync covered is there;
//! of what it did not cover, each sector of 512 bytes is there, missing (zeros, or the file ends
//! before it), or torn in the middle, independently of the others; each name made, changed or removed
//! since the folder's last sync may be as before or as after, independently.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use super::disk::Disk;

const SECTOR_BYTES: usize = 512;

/// Randomness with a seed (SplitMix64): a failure can be played again.
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A file's bytes, and how many of them are synced.
#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    /// Name → inode, as the process sees it.
    names: BTreeMap<String, usize>,
    /// Name → inode, as of the folder's last sync.
    safe_names: BTreeMap<String, usize>,
    writing: Option<usize>,
    /// Steps of writing done: a power cut may come before each.
    steps: u64,
    /// The power is gone from this step on.
    cut_at: Option<u64>,
    /// Every operation that writes fails like this.
    fails: Option<ErrorKind>,
    lie: Lie,
}

/// What a disk may only claim to have done; shows that the tests would notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lie {
    #[default]
    None,
    Sync,
    SyncFolder,
}

/// The disk; clones are handles on the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Sectors(Arc<Mutex<State>>);

impl Sectors {
    /// The power goes before the `step`-th writing step from now.
    pub(super) fn cut_at(&self, step: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.steps + step);
    }

    /// Every operation that writes fails like this, half done, until told otherwise.
    pub(super) fn fail(&self, kind: Option<ErrorKind>) {
        self.state().fails = kind;
    }

    pub(super) fn lie(&self, lie: Lie) {
        self.state().lie = lie;
    }

    pub(super) fn steps(&self) -> u64 {
        self.state().steps
    }

    pub(super) fn is_cut(&self) -> bool {
        let state = self.state();
        state.cut_at.is_some_and(|cut_at| state.steps >= cut_at)
    }

    /// One of the disks that the next start may find.
    pub(super) fn after_power_cut(&self, dice: &mut Dice) -> Sectors {
        let state = self.state();
        let mut names = state.safe_names.clone();
        for name in state.names.keys().chain(state.safe_names.keys()) {
            // Each change of a name on its own; a name that has not changed stays.
            if dice.one_in(2) {
                match state.names.get(name) {
                    Some(inode) => _ = names.insert(name.clone(), *inode),
                    None => _ = names.remove(name),
                }
            }
        }
        let inodes = state.inodes.iter().map(|inode| Inode::surviving(inode, dice)).collect();
        let lie = state.lie;
        Sectors(Arc::new(Mutex::new(State {
            inodes,
            safe_names: names.clone(),
            names,
            lie,
            ..State::default()
        })))
    }

    /// Flips a bit somewhere in what is there.
    pub(super) fn rot(&self, dice: &mut Dice) {
        let mut state = self.state();
        let inodes: Vec<usize> = state.names.values().copied().collect();
        if inodes.is_empty() {
            return;
        }
        let inode = inodes[dice.below(inodes.len() as u64) as usize];
        let bytes = &mut state.inodes[inode].bytes;
        if !bytes.is_empty() {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << dice.below(8);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// One step of writing; with the power gone, or a fault, it does not happen.
    fn step<T>(&self, change: impl FnOnce(&mut State, bool) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        if state.cut_at.is_some_and(|cut_at| state.steps >= cut_at) {
            return Err(io::Error::other("the power is gone"));
        }
        state.steps += 1;
        let fails = state.fails;
        let done = change(&mut state, fails.is_some());
        fails.map_or(done, |kind| Err(kind.into()))
    }
}

impl Inode {
    fn surviving(&self, dice: &mut Dice) -> Self {
        let mut bytes = self.bytes.clone();
        // The length is written on its own: anything from what was synced to what was written.
        let length = match dice.below(4) {
            0 => self.synced,
            1 => self.synced + dice.below((bytes.len() - self.synced) as u64 + 1) as usize,
            _ => bytes.len(),
        };
        bytes.truncate(length);
        let mut at = self.synced;
        while at < bytes.len() {
            let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(bytes.len());
            match dice.below(4) {
                0 => bytes[at..end].fill(0),
                1 => {
                    let torn = at + dice.below((end - at) as u64 + 1) as usize;
                    bytes[torn..end].fill(if dice.one_in(2) { 0 } else { 0xa5 });
                }
                _ => {}
            }
            at = end;
        }
        Self { synced: bytes.len(), bytes }
    }
}

impl Disk for Sectors {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        Ok(state
            .names
            .iter()
            .map(|(name, at)| (name.clone(), state.inodes[*at].bytes.len() as u64))
            .collect())
    }

    fn read(&mut self, name: &str, at_most: u64) -> io::Result<Vec<u8>> {
        let state = self.state();
        let inode = state.names.get(name).ok_or(ErrorKind::NotFound)?;
        let bytes = &state.inodes[*inode].bytes;
        Ok(bytes[..bytes.len().min(at_most as usize)].to_vec())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.step(|state, _| {
            if state.names.contains_key(name) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            state.inodes.push(Inode::default());
            let inode = state.inodes.len() - 1;
            state.names.insert(name.into(), inode);
            state.writing = Some(inode);
            Ok(())
        })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.step(|state, fails| {
            let inode = state.writing.ok_or(ErrorKind::NotFound)?;
            // A full disk takes a part.
            let taken = if fails { bytes.len() / 2 } else { bytes.len() };
            state.inodes[inode].bytes.extend_from_slice(&bytes[..taken]);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.step(|state, fails| {
            let inode = state.writing.ok_or(ErrorKind::NotFound)?;
            let honest = state.lie != Lie::Sync;
            let inode = &mut state.inodes[inode];
            if !fails && honest {
                inode.synced = inode.bytes.len();
            }
            Ok(())
        })
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.step(|state, fails| {
            if !fails && state.lie != Lie::SyncFolder {
                state.safe_names = state.names.clone();
            }
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.step(|state, fails| {
            if !fails {
                state.names.remove(name).ok_or(ErrorKind::NotFound)?;
            }
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.step(|state, fails| {
            if !fails {
                let inode = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
                state.names.insert(to.into(), inode);
            }
            Ok(())
        })
    }
}
