//! How long a busy port rests between two reads.
//!
//! A driver wakes its reader for every few bytes, and at full speed waking costs more than the work.
//! Promise: after silence, and on a line that is silent for most of the time, bytes are read as they
//! come; on a busy one a read waits at most [`LONGEST_REST`], while no more than an eighth of what the
//! kernel keeps can come. Pure: bytes and time come in.

use std::time::Duration;

use crate::base::Micros;

/// What a rest adds to a frame's latency at most.
const LONGEST_REST: Duration = Duration::from_millis(4);
/// Of the 4,096 bytes that a tty keeps for its reader.
const REST_CHARACTERS: u64 = 512;
/// Over such a time a line is called busy or not.
const SLOT: Duration = Duration::from_millis(50);
/// Busy: characters fill at least one part in so many of the time.
const BUSY_PART: u64 = 4;

/// Of one port.
#[derive(Debug)]
pub(super) struct Pace {
    character_ns: u64,
    rest: Duration,
    is_busy: bool,
    slot_began: Micros,
    slot_bytes: u64,
}

impl Pace {
    /// A line on which a character takes so long, and whose bytes may wait unread for `patience`.
    pub(super) fn new(character_ns: u64, patience: Duration) -> Self {
        let rest = Duration::from_nanos(REST_CHARACTERS * character_ns).min(LONGEST_REST).min(patience);
        Self { character_ns, rest, is_busy: false, slot_began: Micros(0), slot_bytes: 0 }
    }

    /// A read gave so many bytes. For how long the next may wait.
    pub(super) fn read(&mut self, bytes: usize, now: Micros) -> Duration {
        self.slot_bytes += bytes as u64;
        let slot = now.since(self.slot_began);
        if slot >= SLOT {
            let on_the_wire = Duration::from_nanos(self.slot_bytes * self.character_ns);
            self.is_busy = on_the_wire * BUSY_PART as u32 >= slot;
            (self.slot_began, self.slot_bytes) = (now, 0);
        }
        if self.is_busy { self.rest } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 921,600 baud.
    const CHARACTER_NS: u64 = 10_851;
    const PATIENT: Duration = Duration::from_secs(1);

    /// Reads `bytes` every `every_us` for a second; gives the rests of the last tenth.
    fn rests(pace: &mut Pace, from: Micros, bytes: usize, every_us: u64) -> Vec<Duration> {
        let reads = 1_000_000 / every_us;
        let rests: Vec<Duration> =
            (0..reads).map(|n| pace.read(bytes, Micros(from.0 + n * every_us))).collect();
        rests[rests.len() * 9 / 10..].to_vec()
    }

    #[test]
    fn a_full_line_rests_for_an_eighth_of_the_kernels_room_at_most() {
        let mut pace = Pace::new(CHARACTER_NS, PATIENT);
        let rests = rests(&mut pace, Micros(5), 92, 1_000);
        assert!(rests.iter().all(|rest| *rest == LONGEST_REST), "{rests:?}");
        assert!(LONGEST_REST <= Duration::from_nanos(REST_CHARACTERS * CHARACTER_NS));
        // At 3 Mbaud the room is the narrower bound.
        let mut fast = Pace::new(3_333, PATIENT);
        assert!(self::rests(&mut fast, Micros(5), 300, 1_000).iter().all(|r| r.as_micros() == 1_706));
    }

    #[test]
    fn a_line_with_a_frame_now_and_then_is_read_at_once() {
        let mut pace = Pace::new(CHARACTER_NS, PATIENT);
        let rests = rests(&mut pace, Micros(5), 30, 5_000);
        assert!(rests.iter().all(Duration::is_zero), "{rests:?}");
    }

    #[test]
    fn the_first_read_after_a_silence_is_not_followed_by_a_rest() {
        let mut pace = Pace::new(CHARACTER_NS, PATIENT);
        rests(&mut pace, Micros(5), 92, 1_000);
        assert!(pace.read(30, Micros(3_000_000)).is_zero());
    }

    #[test]
    fn who_measures_silence_is_never_made_to_rest() {
        let mut pace = Pace::new(CHARACTER_NS, Duration::ZERO);
        assert!(rests(&mut pace, Micros(5), 92, 1_000).iter().all(Duration::is_zero));
    }
}
