//! Frames from a serial port: one thread a port, for all pipelines that listen to it.
//!
//! Promise: a port that is absent, busy or unplugged is tried again until it is there, and each reason
//! is said once; every byte read reaches the [`Talk`] in order; what cannot be queued yet is held, and
//! the port is not read meanwhile. With `durable`, what was read is settled before the next read.
//! Not here: how frames stand in the stream (`decode::framing`; the daemon joins the two), what their
//! bytes mean (`decode`).

mod handle;
mod health;
mod marks;
pub mod modbus;
mod pace;
mod pattern;
pub mod tty;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Arrival, Intake, identity};
use crate::base::counters::PortCounters;
use crate::base::words::in_words;
use crate::base::{Carried, Clock, Frame, Identity, Micros, Origin, SystemClock, UnixMicros};
use crate::config;
use crate::flow::{Backoff, Receipt, Settlement, Ticket};
pub use handle::{Bell, PortHandle, pair};
use health::Health;
pub use marks::Marks;
use pace::Pace;
use tty::Tty;

/// One read. A kernel hands out at most 4096 bytes of a tty at once.
const READ_BYTES: usize = 4096;
/// How often the line's health is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A port that is away costs one look at a path: soon after it is back it is open.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What is spoken on a port. Pure: bytes and time come in; frames, and bytes to send, go out.
pub trait Talk: Send {
    /// The port is open (again). Whatever was half received or half asked is void.
    fn opened(&mut self, now: Micros);

    /// For how long bytes may wait unread. Zero for who measures the silence between them.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// Bytes came.
    fn received(&mut self, now: Micros, bytes: &[u8], hear: &mut dyn FnMut(Heard<'_>));

    /// Appends to `out` what is to be sent now. Gives the time to be asked again, if no byte comes
    /// before it.
    fn pump(&mut self, now: Micros, out: &mut Vec<u8>, hear: &mut dyn FnMut(Heard<'_>)) -> Option<Micros>;
}

impl Talk for Box<dyn Talk> {
    fn opened(&mut self, now: Micros) {
        (**self).opened(now);
    }

    fn patience(&self) -> Duration {
        (**self).patience()
    }

    fn received(&mut self, now: Micros, bytes: &[u8], hear: &mut dyn FnMut(Heard<'_>)) {
        (**self).received(now, bytes, hear);
    }

    fn pump(&mut self, now: Micros, out: &mut Vec<u8>, hear: &mut dyn FnMut(Heard<'_>)) -> Option<Micros> {
        (**self).pump(now, out, hear)
    }
}

/// A frame that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// What it carries.
    pub payload: &'a [u8],
    /// Where its first byte stood among all bytes ever received on this port; wraps.
    pub began: u32,
    /// Who on this line sent it, where the frame says so.
    pub sensor: Option<u8>,
    /// Its sequence number, where it has one.
    pub sequence: Option<u16>,
}

/// What one pipeline wants of a port.
#[derive(Clone, Debug)]
pub struct Route {
    /// Index of the pipeline and its lane.
    pub pipeline: usize,
    /// Frames of these sensors only; `None`: of all.
    pub sensors: Option<Vec<u8>>,
}

/// A port and who listens to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Path or pattern, as configured.
    pub port: String,
    /// How bits stand on the wire.
    pub line: config::serial::Line,
    /// Longest frame, for messages.
    pub max_frame_bytes: usize,
    /// The shortest `stale_after_ms` of its pipelines.
    pub stale_after: Option<Duration>,
    /// What was read is settled before the next read.
    pub durable: bool,
    /// Somebody sends frames by himself, so that their absence means something.
    pub expects_frames: bool,
    /// Who listens.
    pub routes: Vec<Route>,
}

/// Counts frames that are not settled yet, and rings when the last one is.
struct Unsettled {
    frames: AtomicU64,
    handle: PortHandle,
}

impl Settlement for Unsettled {
    fn settled(&self, _: Receipt) {
        if self.frames.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.handle.wake();
        }
    }

    fn expect_more(&self, _: Receipt, extra: usize) {
        self.frames.fetch_add(extra as u64, Ordering::AcqRel);
    }

    fn left(&self, receipt: Receipt) {
        // A wire delivers nothing again: the port must not wait for it for ever.
        self.settled(receipt);
    }
}

/// Turns what was heard into arrivals, and arrivals into queued frames.
struct Desk {
    settings: Settings,
    intake: Arc<Intake>,
    counters: Arc<PortCounters>,
    marks: Marks,
    origins: Vec<(Option<u8>, Origin)>,
    delivery: u64,
    unsettled: Option<Arc<Unsettled>>,
    /// Arrivals for lanes without room.
    held: VecDeque<(usize, Arrival)>,
}

impl Desk {
    fn take(&mut self, now: Micros, heard: Heard<'_>) {
        self.counters.frames.bump();
        let began = self.marks.time_of(heard.began);
        // The date of the first byte: the date now, less the time since.
        let acquired_at =
            UnixMicros(SystemClock.wall().0.saturating_sub(now.since(began).as_micros() as u64));
        self.delivery = self.delivery.wrapping_add(1);
        let identity = Identity { delivery: self.delivery, redelivered: false, key: 0 };
        let origin = self.origin(heard.sensor);
        let payload = Bytes::copy_from_slice(heard.payload);
        let mut wanted = false;
        for index in 0..self.settings.routes.len() {
            let Route { pipeline, sensors } = &self.settings.routes[index];
            let listens = |list: &Vec<u8>| heard.sensor.is_some_and(|sensor| list.contains(&sensor));
            if !sensors.as_ref().is_none_or(listens) {
                continue;
            }
            wanted = true;
            let pipeline = *pipeline;
            let frame = Frame {
                payload: payload.clone(),
                origin: origin.clone(),
                identity,
                acquired_at,
                taken_at: now,
                carried: Carried { sequence: heard.sequence, ..Carried::default() },
            };
            self.intake.count(pipeline, payload.len(), false);
            let arrival = Arrival { frame, too_large: None, ticket: self.ticket() };
            // Behind one that waits already: frames stay in order.
            let waits =
                if self.held.is_empty() { self.intake.push(pipeline, arrival) } else { Some(arrival) };
            self.held.extend(waits.map(|arrival| (pipeline, arrival)));
        }
        if !wanted {
            self.counters.unmatched.bump();
        }
    }

    fn ticket(&self) -> Ticket {
        match &self.unsettled {
            None => Ticket::none(),
            Some(unsettled) => {
                unsettled.frames.fetch_add(1, Ordering::AcqRel);
                Ticket::new(unsettled.clone(), Receipt { delivery: self.delivery })
            }
        }
    }

    /// Frames of one sensor share windows; sensors on one port do not.
    fn origin(&mut self, sensor: Option<u8>) -> Origin {
        if let Some((_, origin)) = self.origins.iter().find(|(known, _)| *known == sensor) {
            return origin.clone();
        }
        let port = &self.settings.port;
        let level = port.rsplit('/').next().unwrap_or(port);
        let mut origin = match sensor {
            None => Origin::new(port),
            Some(sensor) => Origin::new(&format!("{port}#{sensor}")),
        };
        // What may stand in a topic level: no wildcards of a pattern, no separators.
        let level: String =
            level.chars().map(|c| if "+#*?{}".contains(c) || c.is_control() { '_' } else { c }).collect();
        origin.levels.push(("port".into(), level));
        origin.levels.extend(sensor.map(|sensor| ("sensor".into(), sensor.to_string())));
        // At most 256 sensors and none: this list is short.
        self.origins.push((sensor, origin.clone()));
        origin
    }

    /// Queues what is held, as far as there is room.
    fn push_held(&mut self) {
        while let Some((pipeline, arrival)) = self.held.pop_front() {
            if let Some(waits) = self.intake.push(pipeline, arrival) {
                self.held.push_front((pipeline, waits));
                return;
            }
        }
    }

    /// Whether more may be read.
    fn takes_more(&self) -> bool {
        let settled =
            self.unsettled.as_ref().is_none_or(|unsettled| unsettled.frames.load(Ordering::Acquire) == 0);
        self.held.is_empty() && settled
    }
}

/// The thread of one port.
pub struct SerialSource<T> {
    talk: T,
    desk: Desk,
    bell: Bell,
    health: Health,
    out: Vec<u8>,
}

/// Why a port is no longer served.
enum Ended {
    Stopping,
    Lost(io::Error),
}

impl<T: Talk> SerialSource<T> {
    /// A source that `handle` wakes and ends.
    pub fn new(
        settings: Settings,
        talk: T,
        intake: Arc<Intake>,
        counters: Arc<PortCounters>,
        handle: PortHandle,
        bell: Bell,
    ) -> Self {
        let health =
            Health::new(&settings.port, settings.line.baud, settings.max_frame_bytes, settings.stale_after);
        let health = if settings.expects_frames { health } else { health.of_a_bus() };
        let unsettled = settings.durable.then(|| Arc::new(Unsettled { frames: AtomicU64::new(0), handle }));
        let desk = Desk {
            marks: Marks::new(settings.line.character_ns()),
            settings,
            intake,
            counters,
            origins: Vec::new(),
            delivery: identity::random(),
            unsettled,
            held: VecDeque::new(),
        };
        Self { talk, desk, bell, health, out: Vec::new() }
    }

    /// Serves the port until the handle ends it.
    pub fn run(mut self) {
        let port = self.desk.settings.port.clone();
        let mut backoff =
            Backoff::between(OPEN_AGAIN.0, OPEN_AGAIN.1, SystemClock.wall().0 ^ port.len() as u64);
        let mut said = String::new();
        while !self.bell.is_stopping() {
            match Tty::open(&port, &self.desk.settings.line) {
                Ok(tty) => {
                    self.opened(&tty);
                    backoff.connected(SystemClock.now());
                    said.clear();
                    match self.serve(&tty) {
                        Ended::Stopping => break,
                        Ended::Lost(error) => {
                            log::warn!(
                                "port {port}: gone ({error}); it is opened again as soon as it is back"
                            );
                        }
                    }
                    self.desk.counters.up.store(0, Ordering::Relaxed);
                }
                Err(error) => {
                    let words = in_words(&error);
                    // Each reason once in full: a port that is away for a night fills no log.
                    let level = if words == said { log::Level::Debug } else { log::Level::Warn };
                    log::log!(level, "port {port}: {words}; trying again until it opens");
                    said = words;
                }
            }
            self.desk.counters.failures.bump();
            self.wait(backoff.failed(SystemClock.now()));
        }
        self.desk.counters.up.store(0, Ordering::Relaxed);
    }

    fn opened(&mut self, tty: &Tty) {
        let Desk { settings, counters, .. } = &self.desk;
        counters.opens.bump();
        counters.up.store(1, Ordering::Relaxed);
        let now = SystemClock.now();
        // Half a message of before would be the beginning of another.
        self.out.clear();
        self.talk.opened(now);
        self.health.opened(now, counters, tty.line_counts());
        let line = tty::in_words(&settings.line);
        if tty.path.as_os_str() == settings.port.as_str() {
            log::info!("port {}: open, {line}", settings.port);
        } else {
            log::info!("port {}: {} is open, {line}", settings.port, tty.path.display());
        }
        for note in &tty.notes {
            log::warn!("port {}: the driver {note}", settings.port);
        }
    }

    /// Until the next attempt. What is held is queued meanwhile.
    fn wait(&mut self, wait: Duration) {
        let until = SystemClock.now() + wait;
        while !self.bell.is_stopping() {
            let left = until.since(SystemClock.now());
            if left.is_zero() {
                return;
            }
            let mut fds = [PollFd::new(self.bell.pipe(), PollFlags::IN)];
            // An interrupted wait is a short one.
            let _ = poll(&mut fds, Some(&timespec(left)));
            if !fds[0].revents().is_empty() {
                self.bell.heard();
            }
            self.desk.push_held();
            // An absent port has been told of; that nothing comes from it needs no word.
            self.note_stall();
        }
    }

    fn look(&mut self) {
        let remarks = self.health.look(SystemClock.now(), &self.desk.counters);
        for remark in remarks {
            log::log!(remark.level, "{}", remark.words);
        }
        self.note_stall();
    }

    fn note_stall(&self) {
        let stalled = self.health.is_stalled(SystemClock.now());
        self.desk.counters.stalled.store(u64::from(stalled), Ordering::Relaxed);
    }

    fn serve(&mut self, tty: &Tty) -> Ended {
        let mut buf = [0; READ_BYTES];
        let mut look_at = SystemClock.now();
        let mut pace = Pace::new(self.desk.settings.line.character_ns(), self.talk.patience());
        let mut read_at = look_at;
        loop {
            if self.bell.is_stopping() {
                return Ended::Stopping;
            }
            self.desk.push_held();
            let now = SystemClock.now();
            if now >= look_at {
                self.health.line(&self.desk.counters, tty.line_counts());
                self.look();
                look_at = now + LOOK_EVERY;
            }
            let (talk, desk) = (&mut self.talk, &mut self.desk);
            let due = talk.pump(now, &mut self.out, &mut |heard| desk.take(now, heard));
            self.bell.outgoing(&mut self.out);
            let rests = now < read_at;
            let reads = self.desk.takes_more() && !rests;
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::IN, reads);
            interest.set(PollFlags::OUT, !self.out.is_empty());
            let mut fds = [PollFd::new(tty.file(), interest), PollFd::new(self.bell.pipe(), PollFlags::IN)];
            let until = due.unwrap_or(look_at).min(if rests { read_at } else { look_at });
            match poll(&mut fds, Some(&timespec(until.since(now)))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Ended::Lost(errno.into()),
            }
            let (port, bell) = (fds[0].revents(), fds[1].revents());
            if !bell.is_empty() {
                self.bell.heard();
            }
            // A rest that is over is followed by a read; there is no need to ask once more for whether.
            let rested = rests && SystemClock.now() >= read_at && self.desk.takes_more();
            if port.contains(PollFlags::OUT)
                && let Err(error) = self.write(tty)
            {
                return Ended::Lost(error);
            }
            if rested || reads && port.contains(PollFlags::IN) {
                match tty.file().read(&mut buf) {
                    Ok(0) => return Ended::Lost(ErrorKind::UnexpectedEof.into()),
                    Ok(bytes) => {
                        let now = SystemClock.now();
                        self.received(now, &buf[..bytes]);
                        read_at = now + pace.read(bytes, now);
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(error) => return Ended::Lost(error),
                }
            } else if port.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                if rests {
                    // What came before it hung up is still there to be read.
                    read_at = now;
                    continue;
                }
                return Ended::Lost(ErrorKind::BrokenPipe.into());
            }
        }
    }

    fn received(&mut self, now: Micros, bytes: &[u8]) {
        self.desk.counters.bytes.add(bytes.len() as u64);
        self.desk.marks.read(bytes.len(), now);
        let (talk, desk) = (&mut self.talk, &mut self.desk);
        talk.received(now, bytes, &mut |heard| desk.take(now, heard));
    }

    fn write(&mut self, tty: &Tty) -> io::Result<()> {
        match tty.file().write(&self.out) {
            Ok(written) => {
                self.out.drain(..written);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn timespec(wait: Duration) -> Timespec {
    // A day at most: the clock is looked at again anyway.
    let wait = wait.min(Duration::from_secs(86_400));
    Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos() as _ }
}
