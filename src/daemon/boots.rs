//! A board that restarts over and over: a supply too weak for the load, a kernel that dies under it.
//!
//! Promise: after [`SHORT_BOOTS`] boots in a row that ended within [`STEADY`] and not by an ordered stop, the next one
//! is to wait before it takes any load, longer each time. A process that dies within one boot is not counted: the board
//! stood that. A boot writes one line beside the outbox, and removes it when it is steady or ends in order; where that
//! cannot be written, nothing is counted and nothing waits.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::flow::Threads;
use crate::outbox::Place;

/// So many short boots in a row are no chance.
pub const SHORT_BOOTS: u32 = 3;
/// A boot that lasted so long was no short one. A line that is switched off every evening never comes near.
pub const STEADY: Duration = Duration::from_secs(10 * 60);
/// The first wait; each short boot after it doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);
/// Differs from boot to boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How the last boots went.
#[derive(Debug)]
pub struct Boots {
    file: PathBuf,
    boot: String,
    /// In a row, up to and without this one.
    short: u32,
}

impl Boots {
    /// Counts this boot, in the folder of the outbox.
    pub fn count(folder: &Path) -> Self {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let counted = Self::of(folder, boot.trim());
        // Another daemon's record is not ours to write; that it is there ends us soon.
        if Place::holder(folder).is_none()
            && let Err(error) = counted.write()
        {
            log::debug!("short boots are not counted: {}: {error}", counted.file.display());
        }
        counted
    }

    fn of(folder: &Path, boot: &str) -> Self {
        let file = folder.join("boots");
        let short = match fs::read_to_string(&file).ok().as_deref().and_then(parse) {
            Some((before, short)) if before != boot => short.saturating_add(1),
            Some((_, short)) => short,
            // The last one was steady or ended in order, or there was none.
            None => 0,
        };
        Self { file, boot: boot.to_owned(), short }
    }

    /// Boots in a row before this one that were short.
    pub fn short(&self) -> u32 {
        self.short
    }

    /// How long to wait before any load; `None`: not at all.
    pub fn wait(&self) -> Option<Duration> {
        let beyond = self.short.checked_sub(SHORT_BOOTS)?;
        Some(FIRST_WAIT.saturating_mul(2_u32.saturating_pow(beyond)).min(LONGEST_WAIT))
    }

    /// From now on this boot is under load: when it has lasted `steady`, it was no short one. Until what is given
    /// back is told of the end.
    pub fn watch(self, steady: Duration) -> io::Result<Watched> {
        let (stop, stopped) = channel();
        let mut thread = Threads::default();
        let file = self.file.clone();
        thread.spawn("boots", move || {
            if stopped.recv_timeout(steady) == Err(RecvTimeoutError::Timeout) {
                self.end();
            }
        })?;
        Ok(Watched { file, thread, stop })
    }

    /// The process ends because it was asked to, or says why in words.
    pub fn end(self) {
        forget(&self.file);
    }

    /// A power cut leaves the old line or the new one.
    fn write(&self) -> io::Result<()> {
        let line = format!("{} {}\n", self.boot, self.short);
        if fs::read_to_string(&self.file).is_ok_and(|there| there == line) {
            return Ok(());
        }
        let new = self.file.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        self.file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

/// A boot under load.
pub struct Watched {
    file: PathBuf,
    thread: Threads,
    stop: Sender<()>,
}

impl Watched {
    /// As [`Boots::end`].
    pub fn end(self) {
        drop(self.stop);
        self.thread.join(std::time::Instant::now() + Duration::from_secs(1));
        forget(&self.file);
    }
}

fn forget(file: &Path) {
    // What stays counts one boot too many, three of which it takes.
    let _ = fs::remove_file(file);
}

fn parse(line: &str) -> Option<(&str, u32)> {
    let (boot, short) = line.trim_end().rsplit_once(' ')?;
    Some((boot, short.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot that dies at once.
    fn boot(folder: &Path, id: &str) -> Boots {
        let boots = Boots::of(folder, id);
        boots.write().unwrap();
        boots
    }

    #[test]
    fn the_fourth_short_boot_in_a_row_waits_and_later_ones_longer() {
        let folder = tempfile::tempdir().unwrap();
        let waits = |id: &str| boot(folder.path(), id).wait();
        assert_eq!(["a", "b", "c"].map(waits), [None, None, None]);
        let secs = |secs| Some(Duration::from_secs(secs));
        assert_eq!(["d", "e", "f"].map(waits), [secs(30), secs(60), secs(120)]);
        for id in 0..100 {
            waits(&id.to_string());
        }
        assert_eq!(waits("last"), Some(LONGEST_WAIT));
    }

    #[test]
    fn processes_that_die_within_one_boot_are_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..100 {
            assert_eq!(boot(folder.path(), "one").short(), 0);
        }
    }

    #[test]
    fn a_boot_that_lasted_and_an_ordered_stop_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        for id in ["a", "b", "c"] {
            boot(folder.path(), id);
        }
        let lasted = boot(folder.path(), "d");
        assert_eq!(lasted.short(), 3);
        let file = lasted.file.clone();
        let watched = lasted.watch(Duration::ZERO).unwrap();
        let begun = std::time::Instant::now();
        while file.exists() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(watched);
        assert_eq!(["e", "f"].map(|id| boot(folder.path(), id).short()), [0, 1]);
        boot(folder.path(), "g").watch(STEADY).unwrap().end();
        assert_eq!(boot(folder.path(), "h").short(), 0);
    }

    #[test]
    fn what_cannot_be_read_or_written_counts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for damaged in ["", "\0\0\0\0", "a", "a -1", "a 99999999999"] {
            fs::write(folder.path().join("boots"), damaged).unwrap();
            assert_eq!(Boots::of(folder.path(), "b").wait(), None, "{damaged:?}");
        }
        let none = Boots::of(&folder.path().join("not/there"), "b");
        assert!(none.write().is_err() && none.wait().is_none());
    }
}
