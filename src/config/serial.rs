//! A serial port as meant: the line, how frames stand in its stream, and who is listened to.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Modbus;
use crate::base::wire::{ByteOrder, CrcName};

/// `[pipeline.source]` with `kind = "serial"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Serial {
    /// Path, or a pattern with `*`.
    pub port: String,
    /// How bits stand on the wire.
    pub line: Line,
    /// What is spoken on it.
    pub wire: Wire,
    /// Packets of these sensors only; `None`: of all.
    pub sensors: Option<Vec<u8>>,
    /// What was read is settled before the port is read again.
    pub durable: bool,
}

impl Serial {
    /// `[pipeline.source.modbus]`, where that is spoken.
    pub fn modbus(&self) -> Option<&Modbus> {
        match &self.wire {
            Wire::Modbus(modbus) => Some(modbus),
            Wire::Frames(_) => None,
        }
    }
}

/// What is spoken on a port.
#[derive(Clone, Debug, PartialEq)]
pub enum Wire {
    /// Whoever sends, sends frames.
    Frames(Framing),
    /// Registers of Modbus units.
    Modbus(Modbus),
}

/// How bits stand on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Bits a second.
    pub baud: u32,
    /// Bits of a character, 5 to 8.
    pub data_bits: u8,
    /// Parity bit.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// Who may hold the sender back.
    pub flow: FlowControl,
    /// The driver switches an RS-485 transceiver.
    pub rs485: bool,
}

impl Line {
    /// The line of tests that are about something else.
    #[cfg(test)]
    pub(crate) const USUAL: Self = Self {
        baud: 115_200,
        data_bits: 8,
        parity: Parity::None,
        stop_bits: 1,
        flow: FlowControl::None,
        rs485: false,
    };

    /// Time that one character takes, in nanoseconds.
    pub fn character_ns(&self) -> u64 {
        let bits = 1 + self.data_bits + u8::from(self.parity != Parity::None) + self.stop_bits;
        u64::from(bits) * 1_000_000_000 / u64::from(self.baud)
    }
}

/// Parity bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// Not sent.
    None,
    /// Makes the number of ones even.
    Even,
    /// Makes the number of ones odd.
    Odd,
}

/// Who may hold the sender back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowControl {
    /// Nobody.
    None,
    /// RTS and CTS.
    Hardware,
    /// XON and XOFF; only where frames never hold these bytes.
    Software,
}

/// How frames stand in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Which framing.
    pub kind: FramingKind,
    /// `None`: no checksum.
    pub crc: Option<CrcName>,
    /// `None`: the algorithm's own.
    pub crc_order: Option<ByteOrder>,
    /// Bytes of the sequence number in front of each body; 0: none.
    pub sequence_bytes: u8,
    /// Longest body.
    pub max_frame_bytes: NonZeroUsize,
    /// Silence that ends an unfinished frame.
    pub idle_reset: Duration,
}

impl Framing {
    /// Bytes that a frame can carry behind its sequence number, and the key that says so.
    pub fn payload_bytes(&self) -> (RangeInclusive<usize>, &'static str) {
        let number = match (self.sequence_bytes, &self.kind) {
            (0, _) => 0,
            // The digits of 65 535, and a colon.
            (_, FramingKind::Line) => 6,
            (bytes, _) => usize::from(bytes),
        };
        let longest = self.max_frame_bytes.get();
        let (longest, key) = match &self.kind {
            FramingKind::Fixed { bytes, .. } => {
                let exactly = bytes.get().saturating_sub(number);
                return (exactly..=exactly, "frame_bytes");
            }
            FramingKind::Length { sync, bytes, counts, .. } => {
                let crc = self.crc.map_or(0, CrcName::bytes);
                let beside = match counts {
                    LengthCounts::Body => 0,
                    LengthCounts::BodyAndCrc => crc,
                    LengthCounts::Whole => sync.as_bytes().len() + usize::from(*bytes) + crc,
                };
                let highest = (1u64 << (8 * bytes)) - 1;
                let counted = usize::try_from(highest).unwrap_or(usize::MAX).saturating_sub(beside);
                if counted < longest { (counted, "length_bytes") } else { (longest, "max_frame_bytes") }
            }
            _ => (longest, "max_frame_bytes"),
        };
        // A blank line is no frame.
        let shortest = usize::from(self.kind == FramingKind::Line && number == 0);
        (shortest..=longest.saturating_sub(number), key)
    }
}

/// Which framing, with what belongs to it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingKind {
    /// Consistent overhead byte stuffing: a zero ends a frame.
    Cobs,
    /// RFC 1055.
    Slip,
    /// LF or CR LF ends a frame.
    Line,
    /// A sync word and a length.
    Length {
        /// In front of each frame.
        sync: SyncWord,
        /// Bytes of the length field, 1 to 4.
        bytes: u8,
        /// Of the length field.
        order: ByteOrder,
        /// What it counts.
        counts: LengthCounts,
        /// Where the bytes begin that the checksum covers.
        crc_from: CrcFrom,
    },
    /// A sync word, and bodies of one size.
    Fixed {
        /// In front of each frame.
        sync: SyncWord,
        /// Bytes of every body.
        bytes: NonZeroUsize,
        /// Where the bytes begin that the checksum covers.
        crc_from: CrcFrom,
    },
}

/// The bytes in front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncWord {
    bytes: [u8; Self::LONGEST],
    len: u8,
}

impl SyncWord {
    /// Most bytes in one.
    pub const LONGEST: usize = 8;

    /// From hexadecimal digits, with or without blanks: `AA55`, `aa 55`.
    pub fn parse(text: &str) -> Option<SyncWord> {
        let digits: Vec<u32> =
            text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
        let len = digits.len() / 2;
        if digits.is_empty() || !digits.len().is_multiple_of(2) || len > Self::LONGEST {
            return None;
        }
        let mut bytes = [0; Self::LONGEST];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (pair[0] << 4 | pair[1]) as u8;
        }
        Some(SyncWord { bytes, len: len as u8 })
    }

    /// The bytes, first one first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What a length field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthCounts {
    /// The body.
    Body,
    /// The body and its checksum.
    BodyAndCrc,
    /// Every byte from the sync word to the checksum.
    Whole,
}

/// Where the bytes begin that a checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrcFrom {
    /// The body.
    Body,
    /// The length field.
    Length,
    /// The sync word.
    Sync,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_word_is_whole_bytes_in_hexadecimal() {
        assert_eq!(SyncWord::parse("aa 55").unwrap().as_bytes(), [0xaa, 0x55]);
        assert_eq!(SyncWord::parse("0x55"), None);
        assert_eq!(SyncWord::parse(""), None);
        assert_eq!(SyncWord::parse("AA5"), None);
        assert_eq!(SyncWord::parse("112233445566778899"), None);
    }

    #[test]
    fn a_character_takes_its_start_and_stop_bits_too() {
        let line = Line {
            baud: 9600,
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
            flow: FlowControl::None,
            rs485: false,
        };
        assert_eq!(line.character_ns(), 1_041_666);
        assert_eq!(Line { parity: Parity::Even, stop_bits: 2, ..line }.character_ns(), 1_250_000);
    }
}
