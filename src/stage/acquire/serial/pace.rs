//! When a busy port is read again.
//!
//! A driver wakes its reader for every few bytes, and at full speed waking costs more than the work.
//! Promise: after silence, and on a line that is silent for most of the time, bytes are read as they
//! come; on a busy one a read waits at most [`LONGEST_REST`], while no more than an eighth of what the
//! kernel keeps can come. All busy ports are read at the same instants, so that processor and workers
//! wake once for all of them. Pure: bytes and time come in.

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
    /// [`LONGEST_REST`], halved as often as the line needs it; zero for one that never rests.
    rest_us: u64,
    is_busy: bool,
    slot_began: Micros,
    slot_bytes: u64,
}

impl Pace {
    /// A line on which a character takes so long, and whose bytes may wait unread for `patience`.
    pub(super) fn new(character_ns: u64, patience: Duration) -> Self {
        let bound = Duration::from_nanos(REST_CHARACTERS * character_ns).min(patience);
        let mut rest_us = LONGEST_REST.as_micros() as u64;
        while rest_us > bound.as_micros() as u64 {
            rest_us /= 2;
        }
        Self { character_ns, rest_us, is_busy: false, slot_began: Micros(0), slot_bytes: 0 }
    }

    /// A read gave so many bytes. Until when the next may wait.
    pub(super) fn read(&mut self, bytes: usize, now: Micros) -> Micros {
        self.slot_bytes += bytes as u64;
        let slot = now.since(self.slot_began);
        if slot >= SLOT {
            let on_the_wire = Duration::from_nanos(self.slot_bytes * self.character_ns);
            self.is_busy = on_the_wire * BUSY_PART as u32 >= slot;
            (self.slot_began, self.slot_bytes) = (now, 0);
        }
        if self.is_busy && self.rest_us > 0 { Micros((now.0 / self.rest_us + 1) * self.rest_us) } else { now }
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
        let rests: Vec<Duration> = (0..reads)
            .map(|n| Micros(from.0 + n * every_us))
            .map(|now| pace.read(bytes, now).since(now))
            .collect();
        rests[rests.len() * 9 / 10..].to_vec()
    }

    #[test]
    fn a_full_line_rests_while_an_eighth_of_the_kernels_room_fills_at_most() {
        let mut pace = Pace::new(CHARACTER_NS, PATIENT);
        let rests = rests(&mut pace, Micros(5), 92, 1_000);
        assert!(rests.iter().all(|rest| !rest.is_zero() && *rest <= LONGEST_REST), "{rests:?}");
        assert!(LONGEST_REST <= Duration::from_nanos(REST_CHARACTERS * CHARACTER_NS));
        // At 3 Mbaud the room is the narrower bound: 1,706 us.
        let mut fast = Pace::new(3_333, PATIENT);
        let rests = self::rests(&mut fast, Micros(5), 300, 1_000);
        assert!(rests.iter().all(|rest| !rest.is_zero() && rest.as_micros() <= 1_000), "{rests:?}");
    }

    #[test]
    fn busy_ports_are_read_at_the_same_instants_whatever_their_speed() {
        let mut slow = Pace::new(CHARACTER_NS, PATIENT);
        let mut fast = Pace::new(3_333, PATIENT);
        rests(&mut slow, Micros(5), 92, 1_000);
        rests(&mut fast, Micros(5), 300, 1_000);
        assert_eq!(slow.read(92, Micros(1_000_123)), Micros(1_004_000));
        assert_eq!(slow.read(92, Micros(1_004_000)), Micros(1_008_000), "not twice at one instant");
        assert_eq!(fast.read(300, Micros(1_003_077)), Micros(1_004_000));
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
        assert_eq!(pace.read(30, Micros(3_000_000)), Micros(3_000_000));
    }

    #[test]
    fn who_measures_silence_is_never_made_to_rest() {
        let mut pace = Pace::new(CHARACTER_NS, Duration::ZERO);
        assert!(rests(&mut pace, Micros(5), 92, 1_000).iter().all(Duration::is_zero));
    }
}
