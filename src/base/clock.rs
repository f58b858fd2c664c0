//! Two times that must not be mixed up: one that only goes forward, and one that people read.
//!
//! Waits, ages and latencies use [`Micros`]; it starts at an arbitrary point and never jumps.
//! [`UnixMicros`] is the board's idea of the date, which may jump when the clock is set.

use core::ops::{Add, Sub};
use core::time::Duration;

/// Monotonic time in microseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Micros) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Micros {
    type Output = Micros;
    fn add(self, wait: Duration) -> Micros {
        Micros(self.0.saturating_add(wait.as_micros() as u64))
    }
}

impl Sub<Micros> for Micros {
    type Output = Duration;
    fn sub(self, earlier: Micros) -> Duration {
        self.since(earlier)
    }
}

/// Wall-clock time in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMicros(pub u64);

/// Where a thread at the edge takes its times from. Code that decides gets times as arguments.
pub trait Clock {
    /// Monotonic now.
    fn now(&self) -> Micros;
    /// The date.
    fn wall(&self) -> UnixMicros;
}

/// The machine's clocks.
#[cfg(feature = "daemon")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[cfg(feature = "daemon")]
impl Clock for SystemClock {
    fn now(&self) -> Micros {
        // One start for the process, so that times of different threads can be compared.
        static START: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        Micros(START.elapsed().as_micros() as u64)
    }

    fn wall(&self) -> UnixMicros {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            // A clock before 1970 is a board without a battery: the epoch says so honestly.
            .unwrap_or_default();
        UnixMicros(since_epoch.as_micros() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_its_start_is_zero_and_does_not_wrap() {
        assert_eq!(Micros(5).since(Micros(9)), Duration::ZERO);
        assert_eq!(Micros(9) - Micros(5), Duration::from_micros(4));
        assert_eq!(Micros(u64::MAX) + Duration::from_secs(1), Micros(u64::MAX));
    }
}
