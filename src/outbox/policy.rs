//! When predictions go to disk, when workers wait, and how fast the backlog comes back: pure functions
//! of time and numbers.
//!
//! A healthy link keeps an entry for milliseconds; writing it down would cost a flash its life for
//! nothing. A link that is up and slower than the line is no reason either: the same prediction would be
//! written, read back, and be just as late. There the chain pushes back: workers wait, lanes fill, and
//! `when_full` decides. So the disk is for a link that brings nothing through: it is down, or stalled.

use std::time::Duration;

use crate::base::Micros;

/// The publishing connection, as the outbox sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// There is none.
    Down {
        /// For so long.
        since: Micros,
    },
    /// There is one.
    Up {
        /// When the broker last took something: the connection itself, or an entry.
        moved: Micros,
    },
}

/// What the decision to write looks at.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The connection.
    pub line: Line,
    /// When the oldest entry was queued that is in memory and not under way.
    pub oldest: Micros,
    /// Memory is full to more than half its share.
    pub memory_is_short: bool,
    /// The daemon is stopping: who waits for a link that is down, waits in vain.
    pub closing: bool,
}

/// Whether what waits in memory is to be written.
pub fn must_write(waiting: Waiting, now: Micros, spill_after: Duration) -> bool {
    let Waiting { line, oldest, memory_is_short, closing } = waiting;
    let has_waited = now.since(oldest) >= spill_after;
    match line {
        Line::Down { since } => has_waited || now.since(since) >= spill_after || memory_is_short || closing,
        Line::Up { moved } => has_waited && now.since(moved) >= spill_after,
    }
}

/// How many entries may wait over a link that is up: as many as the broker has lately taken within a
/// time. So what is queued behind them is no later than that, whatever workers and link are capable of,
/// and a link that pauses for less makes nobody wait.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    window: Duration,
    begun: Micros,
    taken: usize,
    taken_before: usize,
}

impl Throughput {
    /// Counted over windows of this length.
    pub fn new(window: Duration, now: Micros) -> Self {
        Self { window, begun: now, taken: 0, taken_before: 0 }
    }

    /// The broker has taken one. Time in which it takes none says nothing of its rate.
    pub fn count(&mut self, now: Micros) {
        let passed = now.since(self.begun);
        if passed >= self.window {
            // A window that a pause has cut short counts for what it has shown.
            let was_paused = passed >= 2 * self.window;
            let before = if was_paused { self.of_a_window() } else { self.taken };
            (self.begun, self.taken_before, self.taken) = (now, before, 0);
        }
        self.taken += 1;
    }

    /// Entries of one window.
    pub fn of_a_window(&self) -> usize {
        self.taken.max(self.taken_before)
    }
}

/// Lets the backlog out at a rate, a little at a time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    per_sec: u64,
    /// In millionths of an entry.
    saved: u64,
    last: Micros,
}

impl Pace {
    /// So many entries a second.
    pub fn new(per_sec: u64) -> Self {
        Self { per_sec, saved: 0, last: Micros(0) }
    }

    /// Entries that may go, at most what [`Pace::BURST`] lets gather.
    pub fn allowed(&mut self, now: Micros) -> u64 {
        let gained = now.since(self.last).min(Self::BURST).as_micros() as u64 * self.per_sec;
        let most = (Self::BURST.as_micros() as u64 * self.per_sec).max(1_000_000);
        self.saved = self.saved.saturating_add(gained).min(most);
        self.last = now;
        self.saved / 1_000_000
    }

    /// One goes.
    pub fn spend(&mut self) {
        self.saved = self.saved.saturating_sub(1_000_000);
    }

    /// A live prediction never finds more of the backlog before it than comes in this time.
    pub const BURST: Duration = Duration::from_millis(20);
}

/// With live entries waiting as well, the backlog gets every so manyth turn: it does not starve behind a
/// line that is always busy.
pub const BACKLOG_TURN: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(1);
    const NOW: Micros = Micros(10_000_000);

    fn waiting(line: Line, oldest: u64) -> Waiting {
        Waiting { line, oldest: Micros(oldest), memory_is_short: false, closing: false }
    }

    fn up(moved: u64) -> Line {
        Line::Up { moved: Micros(moved) }
    }

    fn down(since: u64) -> Line {
        Line::Down { since: Micros(since) }
    }

    #[test]
    fn a_link_that_moves_writes_nothing_however_late_it_is() {
        assert!(!must_write(waiting(up(9_000_001), 9_000_001), NOW, AFTER));
        let late = Waiting { memory_is_short: true, closing: true, ..waiting(up(9_000_001), 0) };
        assert!(!must_write(late, NOW, AFTER), "pushing back is cheaper than flash");
        assert!(!must_write(waiting(up(0), 9_000_001), NOW, AFTER), "after a long silence of ours");
    }

    #[test]
    fn what_waits_too_long_is_written_where_the_link_is_down_or_stalled() {
        assert!(must_write(waiting(up(9_000_000), 9_000_000), NOW, AFTER));
        assert!(must_write(waiting(down(9_500_000), 9_000_000), NOW, AFTER));
    }

    #[test]
    fn a_link_that_has_been_down_for_long_makes_nobody_wait_again() {
        assert!(must_write(waiting(down(9_000_000), 9_999_999), NOW, AFTER));
        assert!(!must_write(waiting(down(9_000_001), 9_999_999), NOW, AFTER));
        let short = Waiting { memory_is_short: true, ..waiting(down(9_999_998), 9_999_999) };
        assert!(must_write(short, NOW, AFTER));
    }

    #[test]
    fn as_many_may_wait_as_the_broker_takes_in_time_and_a_pause_changes_nothing() {
        let mut throughput = Throughput::new(AFTER, Micros(0));
        assert_eq!(throughput.of_a_window(), 0);
        let mut now = Micros(0);
        let mut pass = |throughput: &mut Throughput, count: u64, every_ms: u64| {
            for _ in 0..count {
                now = now + Duration::from_millis(every_ms);
                throughput.count(now);
            }
        };
        pass(&mut throughput, 5000, 2);
        assert!((499..=500).contains(&throughput.of_a_window()), "{throughput:?}");
        pass(&mut throughput, 1, 60_000);
        assert!((499..=500).contains(&throughput.of_a_window()), "{throughput:?}");
        pass(&mut throughput, 200, 20);
        assert!((49..=51).contains(&throughput.of_a_window()), "slower now: {throughput:?}");
    }

    #[test]
    fn the_backlog_goes_at_its_rate_whatever_the_clock_does() {
        let mut pace = Pace::new(1000);
        let mut gone = 0;
        for ms in 0..10_000 {
            let now = Micros(1_000_000 + ms * 1000);
            while pace.allowed(now) > 0 {
                pace.spend();
                gone += 1;
            }
        }
        assert!((9_990..=10_020).contains(&gone), "{gone}");
        assert_eq!(pace.allowed(Micros(u64::MAX)), 20, "an hour of silence saves up one burst");
        assert_eq!(pace.allowed(Micros(0)), 20, "a time before the last one gains nothing");
        assert_eq!(Pace::new(1).allowed(Micros(u64::MAX)), 0);
    }

    #[test]
    fn a_rate_of_one_a_second_is_kept_too() {
        let mut pace = Pace::new(1);
        let mut gone = 0;
        for ms in (0..10_000).step_by(10) {
            if pace.allowed(Micros(1_000_000 + ms * 1000)) > 0 {
                pace.spend();
                gone += 1;
            }
        }
        assert!((9..=11).contains(&gone), "{gone}");
    }
}
