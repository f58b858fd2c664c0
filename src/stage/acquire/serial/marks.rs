//! When the first byte of a frame came, which an operating system does not tell.
//!
//! Known is when a read returned, and how many bytes it gave. The last of them was just there (on a busy
//! line, at most a rest of `pace` before); the ones before it took their time on the wire, but came after
//! the read before. Promise: bounded memory, and times that never go backwards.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Micros;

/// Reads that are remembered: a frame of 4096 bytes may come in as many reads; the oldest are then
/// forgotten, which makes its time later by no more than they spanned.
const REMEMBERED: usize = 512;

/// Times of the latest reads. Positions in the stream wrap at 2³².
#[derive(Debug)]
pub struct Marks {
    character_ns: u64,
    end: u32,
    reads: VecDeque<(u32, Micros)>,
}

impl Marks {
    /// A line on which a character takes so long.
    pub fn new(character_ns: u64) -> Self {
        Self { character_ns, end: 0, reads: VecDeque::new() }
    }

    /// A read returned `bytes` at `now`.
    pub fn read(&mut self, bytes: usize, now: Micros) {
        if self.reads.len() == REMEMBERED {
            self.reads.pop_front();
        }
        self.end = self.end.wrapping_add(bytes as u32);
        self.reads.push_back((self.end, now));
    }

    /// When the byte at `position` came.
    pub fn time_of(&mut self, position: u32) -> Micros {
        let is_before = |end: u32| (position.wrapping_sub(end) as i32) < 0;
        let Some(read) = self.reads.iter().position(|(end, _)| is_before(*end)) else {
            return self.reads.back().map_or(Micros(0), |(_, now)| *now);
        };
        // Frames come in order: earlier reads are asked for no more, but for the one just before.
        self.reads.drain(..read.saturating_sub(1));
        let before = if read == 0 { Micros(0) } else { self.reads[0].1 };
        let (end, now) = self.reads[read.min(1)];
        let behind = u64::from(end.wrapping_sub(position).wrapping_sub(1));
        let on_the_wire = Duration::from_nanos(behind * self.character_ns);
        Micros(now.0.saturating_sub(on_the_wire.as_micros() as u64)).max(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_one_read_are_spread_over_their_time_on_the_wire() {
        let mut marks = Marks::new(100_000); // 0.1 ms a character
        marks.read(10, Micros(50_000));
        assert_eq!(marks.time_of(9), Micros(50_000));
        assert_eq!(marks.time_of(0), Micros(49_100));
    }

    #[test]
    fn a_byte_comes_after_the_read_before_it() {
        let mut marks = Marks::new(100_000);
        marks.read(10, Micros(50_000));
        marks.read(100, Micros(52_000));
        assert_eq!(marks.time_of(10), Micros(50_000));
        assert_eq!(marks.time_of(99), Micros(51_000));
        assert_eq!(marks.time_of(109), Micros(52_000));
    }

    #[test]
    fn positions_wrap_and_memory_is_bounded() {
        let mut marks = Marks::new(0);
        marks.end = u32::MAX - 3;
        marks.read(8, Micros(7));
        assert_eq!(marks.time_of(2), Micros(7));
        for i in 0..5_000 {
            marks.read(1, Micros(10 + i));
        }
        assert_eq!(marks.reads.len(), REMEMBERED);
        assert_eq!(marks.time_of(marks.end.wrapping_sub(1)), Micros(5_009));
    }
}
