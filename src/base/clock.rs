//! Two times that must not be mixed up: one that only goes forward, and one that people read.
//!
//! Waits, ages and latencies use [`Micros`]; it starts at an arbitrary point and never jumps.
//! [`UnixMicros`] is the board's idea of the date, which may jump when the clock is set.

use core::fmt;
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

impl UnixMicros {
    /// Midnight of a day of the calendar, 1970 at the earliest.
    pub fn midnight(year: u64, month: u64, day: u64) -> Self {
        Self(days_from_civil(year, month, day) * MICROS_PER_DAY)
    }
}

impl fmt::Display for UnixMicros {
    /// RFC 3339 in UTC with microseconds: `2026-11-24T02:07:51.000250Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0 / MICROS_PER_DAY);
        let of_day = self.0 % MICROS_PER_DAY;
        let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

const MICROS_PER_DAY: u64 = 86_400_000_000;
const DAYS_FROM_0000_03_01_TO_1970: u64 = 719_468;
const DAYS_PER_ERA: u64 = 146_097;

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`: years
/// begin in March, so that the leap day is a year's last).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_FROM_0000_03_01_TO_1970;
    let (era, of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The inverse.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + of_year;
    (era * DAYS_PER_ERA + of_era).saturating_sub(DAYS_FROM_0000_03_01_TO_1970)
}

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

    #[test]
    fn dates_are_those_of_the_calendar() {
        let text = |unix_s: u64| ToString::to_string(&UnixMicros(unix_s * 1_000_000));
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00.000000Z"); // leap day of a century divisible by 400
        assert_eq!(text(1_709_251_199), "2024-02-29T23:59:59.000000Z");
        assert_eq!(text(1_709_251_200), "2024-03-01T00:00:00.000000Z");
        assert_eq!(text(1_798_761_599), "2026-12-31T23:59:59.000000Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00.000000Z"); // 2100 has no leap day
        assert_eq!(text(4_107_542_399), "2100-02-28T23:59:59.000000Z");
        for days in (0..50_000).step_by(13) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days, "{year}-{month}-{day}");
        }
        assert_eq!(ToString::to_string(&UnixMicros(1_000_250)), "1970-01-01T00:00:01.000250Z");
    }

    #[test]
    fn days_follow_each_other_through_four_centuries() {
        let mut before = (1969, 12, 31);
        for day in 0..146_097 {
            let now = civil_from_days(day);
            let next_day = now.2 == before.2 + 1 && (now.0, now.1) == (before.0, before.1);
            let next_month = now.2 == 1 && (now.0, now.1) == (before.0, before.1 + 1);
            let next_year = (now.1, now.2) == (1, 1) && now.0 == before.0 + 1 && before.1 == 12;
            assert!(next_day || next_month || next_year, "{before:?} then {now:?}");
            before = now;
        }
        assert_eq!(before, (2369, 12, 31));
    }
}
