//! How long characters, silences and answers take at a baud rate.

use core::time::Duration;

/// The times of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// One character: start bit, 8 data bits, parity, stop bits.
    pub character: Duration,
    /// How long a unit may think before the first byte of its answer.
    pub think: Duration,
}

/// From here on up the silences no longer shrink with the baud rate: "MODBUS over Serial Line", 2.5.1.1.
const FIXED_FROM_BAUD: u32 = 19_200;
const FIXED_GAP: Duration = Duration::from_micros(750);
const FIXED_SILENCE: Duration = Duration::from_micros(1_750);

/// How late an operating system and a USB adapter may hand over a byte: an FTDI chip waits 16 ms for
/// more, a busy scheduler a few more. Without it a reply in two portions would be taken for two.
const HANDED_OVER: Duration = Duration::from_millis(30);

impl Timing {
    /// For a line of `baud` with 8 data bits, `parity_bits` (0 or 1) and `stop_bits` (1 or 2).
    pub fn new(baud: u32, parity_bits: u32, stop_bits: u32, think: Duration) -> Self {
        let bits = u64::from(1 + 8 + parity_bits + stop_bits);
        let baud = u64::from(baud.max(1));
        Self { character: Duration::from_nanos((bits * 1_000_000_000).div_ceil(baud)), think }
    }

    fn is_fast(&self) -> bool {
        // With 11 bits, the frame of the specification.
        self.character <= Duration::from_nanos(11 * 1_000_000_000 / FIXED_FROM_BAUD as u64)
    }

    /// t1.5: the longest pause inside an ADU. Only a driver could keep watch over it; here it is for
    /// whoever sends.
    pub fn gap(&self) -> Duration {
        if self.is_fast() { FIXED_GAP } else { whole_micros(self.character * 3 / 2) }
    }

    /// t3.5: the shortest pause between two ADUs.
    pub fn silence(&self) -> Duration {
        if self.is_fast() { FIXED_SILENCE } else { whole_micros(self.character * 7 / 2) }
    }

    /// How long `bytes` are on the wire.
    pub fn on_wire(&self, bytes: usize) -> Duration {
        whole_micros(self.character * bytes as u32)
    }

    /// From handing over a request to giving up on its answer.
    pub fn time_out(&self, request_bytes: usize, reply_bytes: usize) -> Duration {
        self.on_wire(request_bytes + reply_bytes) + self.silence() + self.think + HANDED_OVER
    }

    /// After so long without a byte, nothing that was begun goes on.
    pub fn is_over_after(&self) -> Duration {
        self.silence() + HANDED_OVER
    }
}

/// Rounded up to what our clock counts in: a silence is never cut short.
fn whole_micros(time: Duration) -> Duration {
    Duration::from_micros(time.as_nanos().div_ceil(1_000) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silences_shrink_with_the_baud_rate_down_to_the_fixed_ones() {
        let slow = Timing::new(9_600, 1, 1, Duration::ZERO);
        assert_eq!(slow.character, Duration::from_nanos(1_145_834));
        assert_eq!(slow.silence(), Duration::from_micros(4_011));
        assert_eq!(slow.gap(), Duration::from_micros(1_719));
        for baud in [38_400, 115_200, 3_000_000] {
            let fast = Timing::new(baud, 0, 1, Duration::ZERO);
            assert_eq!((fast.gap(), fast.silence()), (FIXED_GAP, FIXED_SILENCE));
        }
        let border = Timing::new(19_200, 1, 1, Duration::ZERO);
        assert!(border.silence() >= FIXED_SILENCE && border.silence() < FIXED_SILENCE * 2);
    }

    #[test]
    fn an_answer_is_waited_for_as_long_as_its_bytes_and_its_unit_need() {
        let think = Duration::from_millis(500);
        let time_out = |baud, reply| Timing::new(baud, 1, 1, think).time_out(8, reply);
        // 125 registers at 1,200 baud take two and a half seconds on the wire alone.
        assert!(time_out(1_200, 255) > Duration::from_millis(2_400 + 500));
        assert!(time_out(115_200, 7) < Duration::from_millis(500 + 40));
        assert_eq!(Timing::new(0, 0, 1, think).character, Duration::from_secs(10), "no division by zero");
    }
}
