//! One port, from absent to open and back, a step at a time.
//!
//! Promise: no step waits; what a port waits for it says as a [`Wait`]. [`super::serve`] does the waiting.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::PollFlags;

use super::super::Intake;
use super::desk::Desk;
use super::health::Health;
use super::pace::Pace;
use super::tty::{self, Tty};
use super::{Bell, PortHandle, Settings, Talk};
use crate::base::counters::PortCounters;
use crate::base::words::in_words;
use crate::base::{Clock, Micros, SystemClock};
use crate::flow::Backoff;

/// One read. A kernel hands out at most 4096 bytes of a tty at once.
const READ_BYTES: usize = 4096;
/// How often the line's health is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A port that is away costs one look at a path: soon after it is back it is open.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A port, and who speaks on it.
pub struct SerialSource<T> {
    talk: T,
    desk: Desk,
    bell: Bell,
    health: Health,
    out: Vec<u8>,
    backoff: Backoff,
    /// Why it could not be opened, in the words that were logged.
    said: String,
    state: State,
}

enum State {
    Away { again_at: Micros },
    Open(Open),
}

struct Open {
    tty: Tty,
    pace: Pace,
    /// Nothing is read before.
    read_at: Micros,
    look_at: Micros,
}

/// What a port waits for, beside its bell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// Of its file; `None`: not of that.
    pub(super) interest: Option<PollFlags>,
    /// It wants its turn then at the latest.
    pub(super) until: Micros,
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
        let health = Health::new(&settings);
        let now = SystemClock.now();
        // Ports that are away together are not tried together.
        let seed = SystemClock.wall().0 ^ settings.port.len() as u64;
        Self {
            talk,
            desk: Desk::new(settings, intake, counters, handle),
            bell,
            health,
            out: Vec::new(),
            backoff: Backoff::between(OPEN_AGAIN.0, OPEN_AGAIN.1, seed),
            said: String::new(),
            state: State::Away { again_at: now },
        }
    }

    /// Whether its bytes may wait while another port has its turn.
    pub fn is_patient(&self) -> bool {
        !self.talk.patience().is_zero()
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(super) fn tty(&self) -> Option<&Tty> {
        match &self.state {
            State::Away { .. } => None,
            State::Open(open) => Some(&open.tty),
        }
    }

    /// Does what is due, and says what to wait for.
    pub(super) fn prepare(&mut self) -> Wait {
        let now = SystemClock.now();
        self.desk.push_held();
        if let State::Away { again_at } = self.state
            && now >= again_at
        {
            self.state = self.open(now);
        }
        self.look(now);
        let (look_at, read_at) = match &self.state {
            State::Open(open) => (open.look_at, open.read_at),
            State::Away { again_at } => return Wait { interest: None, until: *again_at },
        };
        let (talk, desk) = (&mut self.talk, &mut self.desk);
        talk.has_room(desk.takes_more());
        let due = talk.pump(now, &mut self.out, &mut |heard| desk.take(now, heard)).unwrap_or(look_at);
        self.bell.outgoing(&mut self.out);
        let rests = now < read_at;
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, !rests && (desk.takes_more() || talk.asks()));
        interest.set(PollFlags::OUT, !self.out.is_empty());
        // A rest is short, and the read after it sees what happened meanwhile. A port that must not be
        // read for longer is still watched for its end.
        let interest = (!rests || !interest.is_empty()).then_some(interest);
        Wait { interest, until: due.min(if rests { read_at } else { look_at }) }
    }

    /// After the wait: `port` and `bell` are what came of it.
    pub(super) fn go_on(&mut self, wait: Wait, port: PollFlags, bell: PollFlags) {
        if !bell.is_empty() {
            self.bell.heard();
        }
        if let State::Open(open) = &mut self.state
            && let Err(error) = open.go_on(wait, port, &mut self.talk, &mut self.desk, &mut self.out)
        {
            self.lost(&error);
        }
    }

    /// The port cannot be served any longer.
    pub(super) fn lost(&mut self, error: &io::Error) {
        let State::Open(open) = &self.state else { return };
        open.tty.abandon();
        self.desk.counters.up.store(0, Ordering::Relaxed);
        let port = &self.desk.settings.port;
        log::warn!("port {port}: gone ({error}); it is opened again as soon as it is back");
        self.state = self.away();
    }

    fn away(&mut self) -> State {
        self.desk.counters.failures.bump();
        let now = SystemClock.now();
        State::Away { again_at: now + self.backoff.failed(now) }
    }

    fn open(&mut self, now: Micros) -> State {
        let settings = &self.desk.settings;
        let port = &settings.port;
        let tty = match Tty::open(port, &settings.line) {
            Ok(tty) => tty,
            Err(error) => {
                let words = in_words(&error);
                // Each reason once in full: a port that is away for a night fills no log.
                let level = if words == self.said { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "port {port}: {words}; trying again until it opens");
                self.said = words;
                return self.away();
            }
        };
        self.backoff.connected(now);
        self.said.clear();
        let counters = &self.desk.counters;
        counters.opens.bump();
        counters.up.store(1, Ordering::Relaxed);
        // Half a message of before would be the beginning of another.
        self.out.clear();
        self.talk.opened(now);
        self.health.opened(now, counters, tty.line_counts());
        let line = tty::in_words(&settings.line);
        if tty.path.as_os_str() == port.as_str() {
            log::info!("port {port}: open, {line}");
        } else {
            log::info!("port {port}: {} is open, {line}", tty.path.display());
        }
        for note in &tty.notes {
            log::warn!("port {port}: the driver {note}");
        }
        let pace = Pace::new(settings.line.character_ns(), self.talk.patience());
        State::Open(Open { tty, pace, read_at: now, look_at: now })
    }

    /// An absent port has been told of; that nothing comes from it needs no word.
    fn look(&mut self, now: Micros) {
        let health = &mut self.health;
        if let State::Open(open) = &mut self.state {
            if now < open.look_at {
                return;
            }
            open.look_at = now + LOOK_EVERY;
            let (spoke, is_read) = (self.desk.spoke(), self.desk.takes_more());
            let counters = &self.desk.counters;
            health.line(counters, open.tty.line_counts());
            for remark in health.look(now, counters, is_read, |sensor| spoke.contains(&sensor)) {
                log::log!(remark.level, "{}", remark.words);
            }
        }
        self.desk.counters.stalled.store(u64::from(health.is_stalled(now)), Ordering::Relaxed);
    }
}

impl<T> Drop for SerialSource<T> {
    fn drop(&mut self) {
        self.desk.counters.up.store(0, Ordering::Relaxed);
    }
}

impl Open {
    fn go_on<T: Talk>(
        &mut self,
        wait: Wait,
        port: PollFlags,
        talk: &mut T,
        desk: &mut Desk,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        if port.contains(PollFlags::OUT) {
            self.write(out)?;
        }
        let rests = SystemClock.now() < self.read_at;
        // A rest that is over is followed by a read; there is no need to ask once more for whether.
        let reads = port.contains(PollFlags::IN) || wait.interest.is_none() && !rests;
        if reads && (desk.takes_more() || talk.asks()) {
            return self.read(talk, desk);
        }
        if port.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            if !rests {
                return Err(ErrorKind::BrokenPipe.into());
            }
            // What came before it hung up is still there to be read.
            self.read_at = SystemClock.now();
        }
        Ok(())
    }

    fn read<T: Talk>(&mut self, talk: &mut T, desk: &mut Desk) -> io::Result<()> {
        let mut buf = [0; READ_BYTES];
        match self.tty.file().read(&mut buf) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                let now = SystemClock.now();
                desk.read(bytes, now);
                talk.received(now, &buf[..bytes], &mut |heard| desk.take(now, heard));
                self.read_at = self.pace.read(bytes, now);
                Ok(())
            }
            Err(error) => none_yet(error),
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> io::Result<()> {
        match self.tty.file().write(out) {
            Ok(written) => {
                out.drain(..written);
                Ok(())
            }
            Err(error) => none_yet(error),
        }
    }
}

fn none_yet(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}
