//! The outbox: predictions on their way out, owned here until the broker has acknowledged them.
//!
//! Promise: an entry leaves by [`Outbox::settle`] or by the bound, never because a connection or a
//! process is gone. Entries live in memory; those that wait, because the link is down or behind, are
//! written to a segment log in groups, and their frames are settled by that. The MQTT client is a pipe
//! that may break: what it had not delivered is handed out again. A disk that fails costs nothing that
//! was not dropped by choice: entries then wait in memory, and workers behind them.
//!
//! - [`record`]: the bytes of a segment; [`log`]: segments, and what order of writes is safe
//! - [`disk`]: what is asked of a disk; `crash` (tests): every state in which a power cut may leave one
//! - `queue`: what waits and what is under way; [`policy`]: when to write, and how fast the backlog goes
//! - [`keeper`]: the thread that writes, reads back and removes; [`place`]: the folder and its lock
//!
//! Not here: the protocol (`mqtt`), what an entry says (`stage::publish`).

#[cfg(test)]
mod crash;
pub mod disk;
pub mod keeper;
pub mod log;
pub mod place;
pub mod policy;
mod queue;
pub mod record;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::counters::{Counter, Gauge, PipelineCounters};
use crate::base::words::in_words;
use crate::base::{Back, Identity, Micros, Reason};
use crate::config::{self, OutboxWhenFull, Qos};
use crate::flow::Ticket;
use crate::flow::fail::{self, Point};

pub use keeper::Keeper;
use log::Log;
pub use place::{Place, PlaceError};
use queue::{Queue, size};

/// One message on its way out.
#[derive(Debug)]
pub struct Entry {
    /// Index of its pipeline, for counters.
    pub pipeline: usize,
    /// Where it goes.
    pub topic: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// How it goes.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// A prediction, or a report that there is none.
    pub kind: Kind,
    /// Which frame it answers.
    pub identity: Identity,
    /// What goes beside the payload (MQTT 5).
    pub back: Option<Arc<Back>>,
    /// Settled together with the entry.
    pub ticket: Ticket,
    /// When it was handed in.
    pub queued_at: Micros,
}

/// What an entry is to the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer.
    Prediction,
    /// A frame without an answer.
    Error,
    /// A copy of either for the topic that a frame's sender asked for (MQTT 5).
    Reply,
}

/// Names an entry that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

/// An entry to send now; it stays in the outbox until its token is settled.
#[derive(Debug)]
pub struct Outgoing {
    /// Hand this back when the broker has acknowledged it.
    pub token: Token,
    /// Index of its pipeline, for counters; `None`: of an earlier configuration.
    pub pipeline: Option<usize>,
    /// Where it goes.
    pub topic: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// How it goes.
    pub qos: Qos,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// What goes beside the payload (MQTT 5).
    pub back: Option<Arc<Back>>,
    /// It may have been sent before, on a connection that broke or by a process that died.
    pub again: bool,
    /// A suspect ([`Outbox::suspect`]): nothing else is to be under way beside it.
    pub alone: bool,
}

/// An entry that has left.
#[derive(Debug)]
pub struct Settled {
    /// Index of its pipeline, for counters; `None`: of an earlier configuration.
    pub pipeline: Option<usize>,
    /// What it was.
    pub kind: Kind,
    /// To be settled; empty where the disk has settled it before.
    pub ticket: Ticket,
    /// When it was handed in; `None` where it was read back from disk.
    pub queued_at: Option<Micros>,
}

/// How the disk under the outbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DiskState {
    /// None: entries wait in memory only.
    Absent,
    /// Works, as far as is known.
    Ready,
    /// `max_bytes` are reached, and `when_full` is `block`.
    Full,
    /// The last write failed; it is tried again.
    Failing,
}

impl DiskState {
    const ALL: [Self; 4] = [Self::Absent, Self::Ready, Self::Full, Self::Failing];

    /// Name in `stats`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Failing => "failing",
        }
    }
}

/// What happened to the disk.
#[derive(Debug, Default)]
pub struct DiskCounters {
    /// Entries on disk, those of earlier processes included.
    pub entries: Gauge,
    /// Bytes of all segments.
    pub bytes: Gauge,
    /// Entries written since the start.
    pub written: Counter,
    /// Bytes written since the start.
    pub written_bytes: Gauge,
    /// Groups made safe since the start: each is one sync.
    pub syncs: Gauge,
    /// Operations that failed.
    pub errors: Counter,
    /// Bytes that belong to no record.
    pub damaged_bytes: Gauge,
    /// Entries dropped to make room whose pipeline is unknown, or of an earlier configuration.
    pub dropped_unnamed: Counter,
}

/// The outbox at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Entries in memory that are not on disk.
    pub live: usize,
    /// Their bytes.
    pub live_bytes: u64,
    /// Entries on disk.
    pub stored: u64,
    /// Bytes of the segments that hold them.
    pub stored_bytes: u64,
    /// How the disk is.
    pub disk: DiskState,
}

/// An outbox with its folder.
pub struct Opened {
    /// The queue.
    pub outbox: Arc<Outbox>,
    /// To be run on a thread of its own; absent where the disk cannot be used.
    pub keeper: Option<Keeper<disk::Folder>>,
    /// Key and delivery of the newest frames whose answers are on disk.
    pub frames: Vec<(u128, u64)>,
}

/// Frames whose answers are on disk and that the broker may send again after a start: its in-flight
/// window, generously.
const FRAMES_RECALLED: usize = 4096;

/// A pipeline's name and counters.
pub type Counted = (Arc<str>, Arc<PipelineCounters>);

/// The queue; shared by workers, the publishing connection and the [`Keeper`].
pub struct Outbox {
    queue: Mutex<Queue>,
    /// Room in memory, for workers that wait.
    space: Condvar,
    /// Something to do, for the keeper.
    work: Condvar,
    /// Workers that wait for room.
    waiting: AtomicUsize,
    config: config::Outbox,
    names: Vec<Arc<str>>,
    counters: Vec<Arc<PipelineCounters>>,
    disk_state: AtomicU8,
    /// What the disk did.
    pub disk: DiskCounters,
}

impl Outbox {
    /// The outbox in the folder of `[outbox]`, with what earlier processes left there. A disk that is
    /// full, read-only or broken is no reason not to answer frames: it is told, and they stay with
    /// their source until the broker has their answers. `session` differs from that of every earlier
    /// process. `wake` tells the publishing connection of something to send.
    pub fn open(
        config: &config::Outbox,
        pipelines: Vec<Counted>,
        max_inflight: u16,
        now: Micros,
        session: u64,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Opened, PlaceError> {
        let outbox = Arc::new(Self::new(config, pipelines, max_inflight, now));
        let opened = Place::take(&config.path).and_then(|place| {
            let folder = disk::Folder::new(place);
            let segment_bytes = keeper::segment_bytes(config.max_bytes.get());
            Log::open(folder, session, segment_bytes)
                .map_err(|source| PlaceError::Unusable { path: config.path.clone(), source })
        });
        let mut log = match opened {
            Ok(log) => log,
            Err(error @ PlaceError::Unusable { .. }) => {
                ::log::error!("{}; predictions wait in memory only", in_words(&error));
                return Ok(Opened { outbox, keeper: None, frames: Vec::new() });
            }
            Err(error) => return Err(error),
        };
        let frames = log.newest_frames(FRAMES_RECALLED);
        let keeper = Keeper::new(outbox.clone(), log, wake);
        let left = outbox.depth();
        if left.stored > 0 {
            ::log::info!(
                "outbox: {} prediction(s), {} bytes, were left in {}; they go out beside the live ones",
                left.stored,
                left.stored_bytes,
                config.path.display()
            );
        }
        Ok(Opened { outbox, keeper: Some(keeper), frames })
    }

    /// An empty outbox with the limits of `[outbox]`, for these pipelines; `max_inflight` are under way at a
    /// time. Without a [`Keeper`] it has no disk.
    pub fn new(config: &config::Outbox, pipelines: Vec<Counted>, max_inflight: u16, now: Micros) -> Self {
        let (names, counters) = pipelines.into_iter().unzip();
        Self {
            queue: Mutex::new(Queue::new(config, max_inflight.into(), now)),
            space: Condvar::new(),
            work: Condvar::new(),
            waiting: AtomicUsize::new(0),
            config: config.clone(),
            names,
            counters,
            disk_state: AtomicU8::new(DiskState::Absent as u8),
            disk: DiskCounters::default(),
        }
    }

    /// Takes an entry in. Behind a link that is up and late it waits for the broker, so that the chain
    /// pushes back as far as the source. When memory is full it waits for the disk; where that does not
    /// help, it waits for the link (`block`) or lets the oldest go, counted and settled (`drop_oldest`).
    /// An entry that still waits when the outbox closes stays with its source.
    pub fn append(&self, entry: Entry) {
        fail::pass(Point::AnswerMade);
        let mut dropped = Vec::new();
        let mut queue = self.lock();
        loop {
            let (entries, bytes) = queue.live();
            let is_late = queue.makes_wait();
            let has_room = entries == 0 || bytes + size(&entry) <= self.config.memory_bytes.get();
            if has_room && !is_late {
                break;
            }
            let drops = self.config.when_full == OutboxWhenFull::DropOldest
                && !queue.is_up()
                && matches!(self.disk_state(), DiskState::Absent | DiskState::Failing);
            if drops && let Some(oldest) = queue.drop_oldest() {
                dropped.push(oldest);
                continue;
            }
            if queue.closing {
                entry.ticket.leave();
                return;
            }
            self.work.notify_one();
            self.waiting.fetch_add(1, Ordering::Relaxed);
            queue = self.space.wait(queue).unwrap_or_else(PoisonError::into_inner);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        queue.append(entry);
        let is_down = !queue.is_up();
        drop(queue);
        if is_down {
            // Its source may wait for it to be safe.
            self.work.notify_one();
        }
        for entry in dropped {
            self.count_dropped(Some(entry.pipeline));
            entry.ticket.settle();
        }
        fail::pass(Point::AnswerQueued);
    }

    /// The next entry to send; from now on it is under way. Live ones come first, in order; the backlog
    /// gets its turns.
    pub fn take(&self, now: Micros) -> Option<Outgoing> {
        self.lock().take(now, |name| self.index_of(name))
    }

    /// The broker has it: the entry leaves, for its ticket to be settled and counted.
    pub fn settle(&self, token: Token, now: Micros) -> Option<Settled> {
        self.leave(token, now, true)
    }

    /// The broker will never have it: the entry leaves, for its ticket to be settled and counted as lost.
    pub fn give_up(&self, token: Token, now: Micros) -> Option<Settled> {
        self.leave(token, now, false)
    }

    fn leave(&self, token: Token, now: Micros, is_taken: bool) -> Option<Settled> {
        let mut queue = self.lock();
        let settled = queue.settle(token, now, is_taken, |name| self.index_of(name));
        let was_stored = settled.as_ref().is_some_and(|settled| settled.queued_at.is_none());
        let keeper_has_work = !queue.emptied.is_empty();
        drop(queue);
        self.space.notify_all();
        if was_stored {
            self.disk.entries.take(1);
        }
        if keeper_has_work {
            self.work.notify_one();
        }
        settled
    }

    /// The broker refused it, and may take it another time: it goes out again, not before `until`. How
    /// often it has been refused while others were taken.
    pub fn refused(&self, token: Token, until: Micros) -> u32 {
        self.lock().refused(token, until)
    }

    /// Connections may have ended over it: it goes out alone from now on, before all others.
    pub fn suspect(&self, token: Token) {
        self.lock().suspect(token);
    }

    /// Topic and length of an entry.
    pub fn describe(&self, token: Token) -> Option<(Arc<str>, usize)> {
        self.lock().describe(token)
    }

    /// There is a connection.
    pub fn connected(&self, now: Micros) {
        self.lock().connected(now);
        self.work.notify_one();
    }

    /// The connection is gone: whatever was under way is handed out again, in order.
    pub fn connection_lost(&self, now: Micros) {
        self.lock().connection_lost(now);
        self.space.notify_all();
        self.work.notify_one();
    }

    /// The daemon is stopping: workers that wait for room give up, and nothing of the backlog goes out
    /// any more.
    pub fn close(&self) {
        self.lock().closing = true;
        self.space.notify_all();
        self.work.notify_one();
    }

    /// The end: the connection is gone for good, and gets nothing more, though its thread may be late. What is
    /// left in memory is written, if the disk lets us until `deadline`, and else stays with its source; then
    /// the keeper ends. How many stayed.
    pub fn finish(&self, now: Micros, deadline: Instant) -> u64 {
        let mut queue = self.lock();
        queue.connection_lost(now);
        queue.closing = true;
        queue.finishing = true;
        self.work.notify_all();
        while queue.live().0 > 0 && self.has_disk() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.space.wait_timeout(queue, left.min(Duration::from_millis(20)));
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let stayed = queue.leave_all();
        queue.ended = true;
        drop(queue);
        self.work.notify_all();
        stayed as u64
    }

    /// Whether what is in memory could be written.
    pub fn has_disk(&self) -> bool {
        self.disk_state() != DiskState::Absent
    }

    /// Whether all in memory is safe, at the broker or on disk.
    pub fn is_quiet(&self) -> bool {
        self.lock().is_quiet()
    }

    /// Entries and bytes, those under way included.
    pub fn depth(&self) -> Depth {
        let (live, live_bytes) = self.lock().live();
        Depth {
            live,
            live_bytes,
            stored: self.disk.entries.get(),
            stored_bytes: self.disk.bytes.get(),
            disk: self.disk_state(),
        }
    }

    /// Whether a worker waits for room, which only the broker or the disk can give.
    pub fn makes_wait(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// `[outbox] max_bytes`.
    pub fn max_bytes(&self) -> u64 {
        self.config.max_bytes.get()
    }

    fn disk_state(&self) -> DiskState {
        DiskState::ALL[usize::from(self.disk_state.load(Ordering::Relaxed))]
    }

    fn set_disk_state(&self, state: DiskState) {
        self.disk_state.store(state as u8, Ordering::Relaxed);
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| &**known == name)
    }

    fn count_dropped(&self, pipeline: Option<usize>) {
        match pipeline {
            Some(pipeline) => self.counters[pipeline].lost(Reason::OutboxDropOldest).bump(),
            None => self.disk.dropped_unnamed.bump(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
