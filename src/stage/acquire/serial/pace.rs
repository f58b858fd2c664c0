//! When a busy port is read again.
//!
//! A driver wakes its reader for every few bytes, and at full speed waking costs more than the work.
//! Promise: after silence, and on a line that is silent for most of the time, bytes are read as they
//! come; on a busy one a read waits at most [`SHORT_REST`], on a full one [`LONG_REST`], and never until
//! more than a quarter of what the kernel keeps can have come. All ports that rest are read at the same
//! instants, so that processor and workers wake once for all of them. Pure: bytes and time come in.

use std::time::Duration;

use crate::base::Micros;

/// What a rest adds to a frame's latency at most, on a busy line and on a full one.
const SHORT_REST: Duration = Duration::from_millis(2);
const LONG_REST: Duration = Duration::from_millis(8);
/// Of the 4,096 bytes that a tty keeps for its reader.
const REST_CHARACTERS: u64 = 1024;
/// Over such a time a line is called quiet, busy or full.
const SLOT: Duration = Duration::from_millis(50);

/// Of one port.
#[derive(Debug)]
pub(super) struct Pace {
    character_ns: u64,
    /// No rest is longer.
    bound: Duration,
    /// Zero on a quiet line.
    rest_us: u64,
    slot_began: Micros,
    slot_bytes: u64,
}

impl Pace {
    /// A line on which a character takes so long, and whose bytes may wait unread for `patience`.
    pub(super) fn new(character_ns: u64, patience: Duration) -> Self {
        let bound = Duration::from_nanos(REST_CHARACTERS * character_ns).min(patience);
        Self { character_ns, bound, rest_us: 0, slot_began: Micros(0), slot_bytes: 0 }
    }

    /// A read gave so many bytes. Until when the next may wait.
    pub(super) fn read(&mut self, bytes: usize, now: Micros) -> Micros {
        self.slot_bytes += bytes as u64;
        let slot = now.since(self.slot_began);
        if slot >= SLOT {
            let on_the_wire = Duration::from_nanos(self.slot_bytes * self.character_ns);
            self.rest_us = if on_the_wire >= slot * 3 / 4 {
                self.at_most(LONG_REST)
            } else if on_the_wire >= slot / 4 {
                self.at_most(SHORT_REST)
            } else {
                0
            };
            (self.slot_began, self.slot_bytes) = (now, 0);
        }
        match now.0.checked_div(self.rest_us) {
            Some(instants) => Micros((instants + 1) * self.rest_us),
            None => now,
        }
    }

    /// Halved as often as the line needs it, so that its instants are those of the others too.
    fn at_most(&self, rest: Duration) -> u64 {
        let mut rest_us = rest.as_micros() as u64;
        while rest_us > self.bound.as_micros() as u64 {
            rest_us /= 2;
        }
        rest_us
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
    fn a_full_line_rests_while_a_quarter_of_the_kernels_room_fills_at_most() {
        let longest = |character_ns, bytes_a_ms| {
            let rests = rests(&mut Pace::new(character_ns, PATIENT), Micros(0), bytes_a_ms, 1_000);
            assert!(rests.iter().all(|rest| !rest.is_zero()), "{rests:?}");
            rests.into_iter().max().unwrap()
        };
        assert_eq!(longest(CHARACTER_NS, 92), Duration::from_micros(8_000));
        assert!(LONG_REST <= Duration::from_nanos(REST_CHARACTERS * CHARACTER_NS));
        // At 3 Mbaud the room is the narrower bound: 3,413 us.
        assert_eq!(longest(3_333, 300), Duration::from_micros(2_000));
    }

    #[test]
    fn a_line_that_is_half_full_rests_shortly() {
        let rests = rests(&mut Pace::new(CHARACTER_NS, PATIENT), Micros(5), 46, 1_000);
        assert!(rests.iter().all(|rest| !rest.is_zero() && *rest <= SHORT_REST), "{rests:?}");
    }

    #[test]
    fn busy_ports_are_read_at_the_same_instants_whatever_their_speed() {
        let mut slow = Pace::new(CHARACTER_NS, PATIENT);
        let mut fast = Pace::new(3_333, PATIENT);
        rests(&mut slow, Micros(5), 92, 1_000);
        rests(&mut fast, Micros(5), 300, 1_000);
        assert_eq!(slow.read(92, Micros(1_000_123)), Micros(1_008_000));
        assert_eq!(slow.read(92, Micros(1_008_000)), Micros(1_016_000), "not twice at one instant");
        assert_eq!(fast.read(300, Micros(1_006_077)), Micros(1_008_000));
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
