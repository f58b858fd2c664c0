//! Sequence numbers: how many frames are missing between two that came, across the wrap.
//!
//! A number stands in front of a body: one or two bytes (little-endian), or, in lines, decimal digits
//! and a colon. Promise: whatever the numbers are, the count never panics and never goes backwards.

/// How a sequence number is written in front of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceField {
    /// There is none.
    None,
    /// One byte: wraps behind 255.
    U8,
    /// Two bytes, low byte first: wraps behind 65 535.
    U16,
    /// Decimal digits and a colon, `17:`, modulo 256.
    DecimalU8,
    /// Decimal digits and a colon, modulo 65 536.
    DecimalU16,
}

impl SequenceField {
    /// The number and what stands behind it; `None`: there is no number where one should be.
    pub fn split(self, body: &[u8]) -> Option<(u16, &[u8])> {
        match (self, body) {
            (Self::None, body) => Some((0, body)),
            (Self::U8, [number, rest @ ..]) => Some((u16::from(*number), rest)),
            (Self::U16, [low, high, rest @ ..]) => Some((u16::from_le_bytes([*low, *high]), rest)),
            (Self::DecimalU8 | Self::DecimalU16, body) => {
                let digits = body.iter().position(|&byte| byte == b':').filter(|digits| *digits > 0)?;
                let number = body[..digits].iter().try_fold(0u16, |number, byte| {
                    let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
                    Some(number.wrapping_mul(10).wrapping_add(digit))
                })?;
                let number = if self == Self::DecimalU8 { number & 0xff } else { number };
                Some((number, &body[digits + 1..]))
            }
            (Self::U8 | Self::U16, _) => None,
        }
    }

    /// Numbers before it begins again at 0.
    const fn count(self) -> u32 {
        match self {
            Self::U8 | Self::DecimalU8 => 1 << 8,
            Self::None | Self::U16 | Self::DecimalU16 => 1 << 16,
        }
    }
}

/// What a number says of the frames before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// The first that came.
    First,
    /// It follows directly.
    Next,
    /// So many frames are missing in between.
    Lost(u32),
    /// The number came twice: a repeated frame, or as many missing ones as there are numbers.
    Repeated,
    /// The sender began again at 0, less than half a round after it had counted further; so many frames
    /// are missing since.
    Restarted(u32),
}

impl Continuity {
    /// Frames that are missing before this one.
    pub const fn missing(self) -> u32 {
        match self {
            Self::Lost(frames) | Self::Restarted(frames) => frames,
            Self::First | Self::Next | Self::Repeated => 0,
        }
    }
}

/// Follows the numbers of one sender.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    numbers: u32,
    last: Option<u16>,
    was_cut: bool,
}

impl Sequence {
    /// Nothing has come yet.
    pub const fn new(field: SequenceField) -> Self {
        Self { numbers: field.count(), last: None, was_cut: false }
    }

    /// Nobody listened for a while: a sender that hangs on the port's power began anew meanwhile, and its
    /// first frames were not heard.
    pub fn cut(&mut self) {
        self.was_cut = true;
    }

    /// The next number came.
    pub fn next(&mut self, number: u16) -> Continuity {
        let Some(last) = self.last.replace(number) else { return Continuity::First };
        let was_cut = core::mem::take(&mut self.was_cut);
        // The frames at the beginning are those that a restart damages. Of 256 numbers each is soon used
        // up: there a jump back is a gap rather than a restart.
        let begins = number == 0 || self.numbers > 256 && (was_cut || number < 16);
        let step = u32::from(number).wrapping_sub(u32::from(last)) & (self.numbers - 1);
        match step {
            0 => Continuity::Repeated,
            1 => Continuity::Next,
            step if begins && step > self.numbers / 2 => Continuity::Restarted(number.into()),
            step => Continuity::Lost(step - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_counted_across_the_wrap() {
        let mut sequence = Sequence::new(SequenceField::U8);
        let seen: Vec<_> = [254, 255, 0, 3, 3, 4].map(|number| sequence.next(number)).into();
        use Continuity::{First, Lost, Next, Repeated};
        assert_eq!(seen, [First, Next, Next, Lost(2), Repeated, Next]);
        let mut sequence = Sequence::new(SequenceField::U16);
        assert_eq!([65_530, 2].map(|number| sequence.next(number)), [First, Lost(7)]);
        let mut sequence = Sequence::new(SequenceField::DecimalU8);
        assert_eq!([254, 1].map(|number| sequence.next(number)), [First, Lost(2)]);
    }

    #[test]
    fn a_sender_that_begins_again_is_not_a_gap_of_a_whole_round() {
        let mut sequence = Sequence::new(SequenceField::U16);
        sequence.next(1000);
        assert_eq!(sequence.next(0), Continuity::Restarted(0));
        assert_eq!(sequence.next(1), Continuity::Next);
    }

    #[test]
    fn of_a_sender_that_begins_again_the_frames_that_were_not_heard_are_missing() {
        let mut sequence = Sequence::new(SequenceField::U16);
        sequence.next(1000);
        assert_eq!(sequence.next(2), Continuity::Restarted(2), "its first frames were damaged");
        sequence.next(1000);
        assert_eq!(sequence.next(200), Continuity::Lost(64_735), "nothing says that it restarted");
        sequence.next(1000);
        sequence.cut();
        assert_eq!(sequence.next(200), Continuity::Restarted(200), "they came while the port was away");
        sequence.cut();
        assert_eq!(sequence.next(300), Continuity::Lost(99), "it has gone on");
        let mut sequence = Sequence::new(SequenceField::U8);
        sequence.next(100);
        sequence.cut();
        assert_eq!(sequence.next(45), Continuity::Lost(200), "a gap as well as a restart: counted");
    }

    #[test]
    fn numbers_are_read_in_each_form() {
        assert_eq!(SequenceField::U8.split(&[7, 1]), Some((7, &[1][..])));
        assert_eq!(SequenceField::U16.split(&[1, 2, 9]), Some((513, &[9][..])));
        assert_eq!(SequenceField::U16.split(&[1]), None);
        assert_eq!(SequenceField::DecimalU16.split(b"17:1.5"), Some((17, &b"1.5"[..])));
        assert_eq!(SequenceField::DecimalU16.split(b"65537:x"), Some((1, &b"x"[..])));
        assert_eq!(SequenceField::DecimalU16.split(b":x"), None);
        assert_eq!(SequenceField::DecimalU16.split(b"1a:x"), None);
        assert_eq!(SequenceField::DecimalU8.split(b"255:x"), Some((255, &b"x"[..])));
        assert_eq!(SequenceField::DecimalU8.split(b"65538:x"), Some((2, &b"x"[..])));
        assert_eq!(SequenceField::None.split(b"x"), Some((0, &b"x"[..])));
    }
}
