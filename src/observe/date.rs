//! Whether the board's date can be trusted: a board without a battery starts somewhere in the past
//! and is set right some minutes after boot.

use std::path::Path;

use crate::base::{Clock, SystemClock, UnixMicros};

/// Kept by systemd-timesyncd once the clock has been set from the network.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// Where systemd-timesyncd runs, it is asked.
const TIMESYNC: &str = "/run/systemd/timesync";
/// 2026-01-01T00:00:00Z: nothing of ours is older.
const EARLIEST: UnixMicros = UnixMicros(1_767_225_600_000_000);

/// What systemd-timesyncd says; where it does not run (chrony, ntpd, a container), whether the date
/// is one that we can live in. Looks at the file system: not for every frame.
pub fn clock_synced() -> bool {
    judge(SystemClock.wall(), Path::new(TIMESYNC).is_dir(), Path::new(SYNCHRONISED).exists())
}

fn judge(now: UnixMicros, timesyncd_runs: bool, timesyncd_has_synced: bool) -> bool {
    now >= EARLIEST && (timesyncd_has_synced || !timesyncd_runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_before_this_program_is_never_right() {
        assert!(!judge(UnixMicros(0), true, true));
        assert!(!judge(UnixMicros(EARLIEST.0 - 1), false, false));
    }

    #[test]
    fn timesyncd_is_believed_where_it_runs() {
        assert!(!judge(EARLIEST, true, false));
        assert!(judge(EARLIEST, true, true));
        assert!(judge(EARLIEST, false, false));
    }
}
