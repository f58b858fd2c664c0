//! When predictions go to disk, and how fast the backlog comes back: pure functions of time and numbers.
//!
//! A healthy link keeps an entry for milliseconds; writing it down would cost a flash its life for
//! nothing. So the disk is for entries that wait: because the link is down, or because it is behind.

use std::time::Duration;

use crate::base::Micros;

/// What the decision to write looks at.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Since when there is no connection; `None`: there is one.
    pub down_since: Option<Micros>,
    /// When the oldest entry was queued that is in memory and not under way.
    pub oldest: Micros,
    /// Memory is full to more than half its share.
    pub memory_is_short: bool,
    /// The daemon is stopping: who waits for a link that is down, waits in vain.
    pub closing: bool,
}

/// Whether what waits in memory is to be written.
pub fn must_write(waiting: Waiting, now: Micros, spill_after: Duration) -> bool {
    let Waiting { down_since, oldest, memory_is_short, closing } = waiting;
    // Behind: also with a link that is up.
    now.since(oldest) >= spill_after
        || down_since.is_some_and(|since| now.since(since) >= spill_after || memory_is_short || closing)
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

    fn waiting(down_since: Option<u64>, oldest: u64) -> Waiting {
        Waiting {
            down_since: down_since.map(Micros),
            oldest: Micros(oldest),
            memory_is_short: false,
            closing: false,
        }
    }

    #[test]
    fn a_link_that_is_up_and_in_time_writes_nothing() {
        let now = Micros(10_000_000);
        assert!(!must_write(waiting(None, 9_000_001), now, AFTER));
        let short = Waiting { memory_is_short: true, closing: true, ..waiting(None, 9_000_001) };
        assert!(!must_write(short, now, AFTER), "pushing back is cheaper than flash");
    }

    #[test]
    fn what_waits_too_long_is_written_whether_the_link_is_up_or_down() {
        let now = Micros(10_000_000);
        assert!(must_write(waiting(None, 9_000_000), now, AFTER));
        assert!(must_write(waiting(Some(9_500_000), 9_000_000), now, AFTER));
    }

    #[test]
    fn a_link_that_has_been_down_for_long_makes_nobody_wait_again() {
        let now = Micros(10_000_000);
        assert!(must_write(waiting(Some(9_000_000), 9_999_999), now, AFTER));
        assert!(!must_write(waiting(Some(9_000_001), 9_999_999), now, AFTER));
        let short = Waiting { memory_is_short: true, ..waiting(Some(9_999_998), 9_999_999) };
        assert!(must_write(short, now, AFTER));
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
