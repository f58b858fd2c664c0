//! The thread between the queue and the disk: writes what waits, reads the backlog back, removes what is
//! settled, and makes room.
//!
//! Promise: every operation on the disk happens here, outside the queue's lock, so that neither a worker
//! nor the publishing connection ever waits for a flash. A frame is settled after the sync of its entry
//! has returned and not before. After an error the disk is tried again, for ever; meanwhile nothing that
//! it holds is given up, unless `drop_oldest` says so.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use super::disk::Disk;
use super::log::Log;
use super::policy::must_write;
use super::record::Record;
use super::{DiskState, Outbox};
use crate::base::{Clock, Micros};
use crate::config::OutboxWhenFull;
use crate::flow::fail::{self, Point};

/// Bytes that are made safe by one sync, about: more would make the first wait for the last.
pub const GROUP_BYTES: u64 = 256 * 1024;
/// Records read back and not sent yet, below which the next segment is read.
const READ_AHEAD: usize = 200;
/// The same in bytes of memory; what one segment holds comes on top.
const READ_AHEAD_BYTES: u64 = GROUP_BYTES;
/// Looks at the clock that often: an entry is written at most so much later than it may be.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Half of what the backlog may save up (`Pace::BURST`).
const BACKLOG_EVERY: Duration = Duration::from_millis(10);
/// After an error of the disk.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A segment that cannot be read is tried again: some errors pass.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The outbox's hold on a disk.
pub struct Keeper<D> {
    outbox: Arc<Outbox>,
    log: Log<D>,
    /// Tells the publishing connection that the backlog has something for it.
    wake: Box<dyn Fn() + Send>,
    /// Segments from here on are this process's own.
    first_own: u64,
    write_again_at: Micros,
    remove_again_at: Micros,
    /// Segment → when to read it again.
    unreadable: HashMap<u64, Micros>,
    /// What was done → why it failed, as told last.
    said: HashMap<&'static str, String>,
}

/// What [`Keeper::step`] left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more at once.
    Now,
    /// Look again after this long, or when called.
    Later(Duration),
}

/// Segments are a small part of the whole, so that removing one frees little, and reading one takes
/// little memory.
pub fn segment_bytes(max_bytes: u64) -> u64 {
    const LARGEST: u64 = 16 << 20;
    (max_bytes / 256).min(LARGEST)
}

impl<D: Disk> Keeper<D> {
    /// Gives `outbox` a disk, and what is on it.
    pub fn new(outbox: Arc<Outbox>, log: Log<D>, wake: impl Fn() + Send + 'static) -> Self {
        let first_own = log.segments().last().map_or(0, |segment| segment.index) + 1;
        outbox.disk.entries.add(log.segments().map(|segment| segment.records).sum());
        outbox.set_disk_state(DiskState::Ready);
        let keeper = Self {
            outbox,
            log,
            wake: Box::new(wake),
            first_own,
            write_again_at: Micros(0),
            remove_again_at: Micros(0),
            unreadable: HashMap::new(),
            said: HashMap::new(),
        };
        keeper.measure();
        keeper
    }

    /// Keeps until the outbox is told to end by [`Outbox::finish`].
    pub fn run(mut self, clock: &impl Clock) {
        loop {
            let next = self.step(clock);
            let queue = self.outbox.lock();
            if queue.ended {
                return;
            }
            if let Next::Later(wait) = next {
                let waited = self.outbox.work.wait_timeout(queue, wait);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// Does what there is to do now.
    pub fn step(&mut self, clock: &impl Clock) -> Next {
        self.remove_emptied(clock.now());
        self.read_ahead(clock.now());
        if self.write(clock) {
            return Next::Now;
        }
        let now = clock.now();
        let mut queue = self.outbox.lock();
        let is_draining = queue.is_up() && queue.stored().1 > 0;
        let is_due = queue.backlog_is_due(now);
        drop(queue);
        if is_due {
            (self.wake)();
        }
        Next::Later(if is_draining { BACKLOG_EVERY } else { LOOK_EVERY })
    }

    /// Writes one group, if it is time for it; whether there may be another.
    fn write(&mut self, clock: &impl Clock) -> bool {
        let now = clock.now();
        let mut queue = self.outbox.lock();
        let waiting = queue.waiting(self.outbox.config.memory_bytes.get());
        let due = waiting.is_some_and(|waiting| must_write(waiting, now, self.outbox.config.spill_after));
        if !due || (now < self.write_again_at && !queue.closing) {
            return false;
        }
        let closing = queue.closing;
        let group_bytes = GROUP_BYTES.min(self.room_bytes());
        let group = queue.begin_write(group_bytes, &self.outbox.names, now, clock.wall());
        drop(queue);
        let bytes = group.iter().map(|record| record.bytes() as u64).sum();
        let safe = match self.make_room(bytes) {
            Ok(true) => self.log.append(&group).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        let is_safe = matches!(safe, Ok(Some(_)));
        if is_safe {
            fail::pass(Point::RecordsSynced);
            self.outbox.disk.entries.add(group.len() as u64);
            self.outbox.disk.written.add(group.len() as u64);
        }
        let tickets = self.outbox.lock().written(is_safe);
        match safe {
            Ok(Some(_)) => self.well(),
            Ok(None) => self.outbox.set_disk_state(DiskState::Full),
            Err(error) => {
                self.outbox.set_disk_state(DiskState::Failing);
                self.say("write", &error);
            }
        }
        if !is_safe {
            self.write_again_at = now + TRY_AGAIN_AFTER;
        }
        self.measure();
        self.outbox.space.notify_all();
        tickets.into_iter().for_each(crate::flow::Ticket::settle);
        if closing {
            // The connection may end when nothing waits any more; while it is away it looks when called.
            (self.wake)();
        }
        is_safe
    }

    fn room_bytes(&self) -> u64 {
        // What is in memory counts too: together they stay below `max_bytes`.
        let config = &self.outbox.config;
        config.max_bytes.get().saturating_sub(config.memory_bytes.get())
    }

    /// Whether `bytes` more fit; `drop_oldest` makes them fit.
    fn make_room(&mut self, bytes: u64) -> io::Result<bool> {
        while self.log.bytes() > 0 && self.log.bytes() + bytes > self.room_bytes() {
            if self.outbox.config.when_full == OutboxWhenFull::Block {
                return Ok(false);
            }
            // What is under way may have arrived already: it is not ours to drop.
            let queue = self.outbox.lock();
            let oldest = self.log.segments().find(|segment| !queue.has_under_way(segment.index));
            let Some((index, records)) = oldest.map(|segment| (segment.index, segment.records)) else {
                return Ok(false);
            };
            drop(queue);
            self.drop_segment(index, records)?;
        }
        Ok(true)
    }

    /// Drops a segment that holds about `records` records; each is counted.
    fn drop_segment(&mut self, index: u64, records: u64) -> io::Result<()> {
        let mut queue = self.outbox.lock();
        if queue.emptied.contains(&index) {
            // All of it has arrived; it could not be removed.
            drop(queue);
            self.log.remove(index)?;
            self.outbox.lock().emptied.retain(|emptied| *emptied != index);
            return Ok(());
        }
        let loaded = queue.unload(index);
        drop(queue);
        let dropped = if loaded.is_empty() { self.log.read(index).unwrap_or_default() } else { loaded };
        self.log.remove(index)?;
        self.unreadable.remove(&index);
        for record in &dropped {
            self.outbox.count_dropped(self.outbox.index_of(&record.pipeline));
        }
        let gone = if dropped.is_empty() { records } else { dropped.len() as u64 };
        // Of a segment that cannot be read only the number of records is known.
        (dropped.len() as u64..gone).for_each(|_| self.outbox.count_dropped(None));
        self.outbox.disk.entries.take(gone);
        Ok(())
    }

    fn remove_emptied(&mut self, now: Micros) {
        if now < self.remove_again_at {
            return;
        }
        let emptied = self.outbox.lock().emptied.clone();
        for index in emptied {
            if let Err(error) = self.log.remove(index) {
                // It stays among the emptied ones, so that it is not read again: after the next start it is, and
                // sent again under the same ids.
                self.say("remove a segment from", &error);
                self.remove_again_at = now + TRY_AGAIN_AFTER;
                continue;
            }
            self.outbox.lock().emptied.retain(|emptied| *emptied != index);
            if self.outbox.disk_state() == DiskState::Full {
                // Room is made; where it is too little, the next write says so.
                self.outbox.set_disk_state(DiskState::Ready);
            }
        }
        self.measure();
    }

    /// Reads the next segment of the backlog when the connection will want it.
    fn read_ahead(&mut self, now: Micros) {
        let queue = self.outbox.lock();
        let enough = queue.stored().1 >= READ_AHEAD || queue.stored_bytes() >= READ_AHEAD_BYTES;
        if !queue.is_up() || queue.closing || enough {
            return;
        }
        let next = self.log.segments().find(|segment| {
            let readable = self.unreadable.get(&segment.index).is_none_or(|at| now >= *at);
            readable && !queue.is_loaded(segment.index)
        });
        let Some((index, expected)) = next.map(|segment| (segment.index, segment.records)) else { return };
        drop(queue);
        match self.log.read(index) {
            Ok(records) => {
                self.unreadable.remove(&index);
                // What was expected of a damaged segment and is not in it is gone.
                self.outbox.disk.entries.take(expected.saturating_sub(records.len() as u64));
                self.load(index, records);
            }
            Err(error) => {
                self.unreadable.insert(index, now + READ_AGAIN_AFTER);
                self.say("read a segment of", &error);
            }
        }
    }

    fn load(&mut self, index: u64, records: Vec<Record>) {
        self.outbox.lock().load(index, records, index < self.first_own);
        (self.wake)();
    }

    fn measure(&self) {
        let disk = &self.outbox.disk;
        disk.bytes.set(self.log.bytes());
        disk.damaged_bytes.set(self.log.damage().bytes);
        let (bytes, syncs) = self.log.written();
        disk.written_bytes.set(bytes);
        disk.syncs.set(syncs);
    }

    fn well(&mut self) {
        self.outbox.set_disk_state(DiskState::Ready);
        if !self.said.is_empty() {
            self.said.clear();
            log::info!("outbox: the disk under {} works again", self.outbox.config.path.display());
        }
    }

    /// Counts an error; a disk that is full for a night fills no log.
    fn say(&mut self, what: &'static str, error: &io::Error) {
        self.outbox.disk.errors.bump();
        let words = format!("outbox: cannot {what} {}: {error}", self.outbox.config.path.display());
        if self.said.get(what) != Some(&words) {
            let then = match (self.outbox.disk_state(), self.outbox.config.when_full) {
                (DiskState::Failing, OutboxWhenFull::Block) => {
                    "predictions wait in memory, and workers behind them; trying again"
                }
                (DiskState::Failing, OutboxWhenFull::DropOldest) => {
                    "predictions wait in memory, and the oldest goes when that is full; trying again"
                }
                _ => "trying again",
            };
            log::error!("{words}; {then}");
            self.said.insert(what, words);
        }
    }
}
