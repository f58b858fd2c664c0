//! A framing chosen while the program runs, and its two directions.

use alloc::vec;
use alloc::vec::Vec;

use super::catalogue::AnyChecksum;
use super::checksum::{Checksum, LONGEST_BYTES};
use super::sequence::SequenceField;
use super::sized::Layout;
use super::{Deframe, EncodeError, Step, WireError, cobs, line, sized, slip};
use crate::base::wire::{ByteOrder, CrcName};

/// Which framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`cobs`]
    Cobs,
    /// [`slip`]
    Slip,
    /// [`line`](mod@line)
    Line,
    /// [`sized`]: a length field or a fixed size behind a sync word.
    Sized(Layout),
}

/// How bodies travel: framing, checksum and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Which framing.
    pub kind: Kind,
    /// `None`: no checksum.
    pub crc: Option<CrcName>,
    /// `None`: the algorithm's own; in lines the high digits first.
    pub crc_order: Option<ByteOrder>,
    /// In front of each body.
    pub sequence: SequenceField,
    /// Longest body, sequence number included.
    pub max_body_bytes: usize,
}

impl Framing {
    /// The checksum, ready for use.
    pub fn checksum(&self) -> AnyChecksum {
        let order = match self.kind {
            Kind::Line => self.crc_order.or(Some(ByteOrder::Big)),
            Kind::Cobs | Kind::Slip | Kind::Sized(_) => self.crc_order,
        };
        AnyChecksum::new(self.crc, order)
    }

    /// The receiving side.
    pub fn deframer(&self) -> AnyDeframer {
        let checksum = self.checksum();
        let (body, sum) = (self.max_body_bytes, checksum.bytes());
        match self.kind {
            Kind::Cobs => AnyDeframer::Cobs(cobs::Deframer::new(checksum, vec![0; body + sum])),
            Kind::Slip => AnyDeframer::Slip(slip::Deframer::new(checksum, vec![0; body + sum])),
            Kind::Line => {
                AnyDeframer::Line(line::Deframer::new(checksum, vec![0; line::encoded_bytes(body, sum)]))
            }
            Kind::Sized(layout) => {
                let bytes = layout.header_bytes() + body + sum;
                AnyDeframer::Sized(sized::Deframer::new(layout, checksum, vec![0; bytes]))
            }
        }
    }

    /// The sending side.
    pub fn enframer(&self) -> Enframer {
        Enframer { framing: *self, checksum: self.checksum(), body: Vec::new() }
    }
}

/// A receiver of any framing.
#[derive(Debug)]
#[expect(missing_docs, reason = "named after the framings")]
pub enum AnyDeframer {
    Cobs(cobs::Deframer<AnyChecksum, Vec<u8>>),
    Slip(slip::Deframer<AnyChecksum, Vec<u8>>),
    Line(line::Deframer<AnyChecksum, Vec<u8>>),
    Sized(sized::Deframer<AnyChecksum, Vec<u8>>),
}

impl Deframe for AnyDeframer {
    fn push<'i>(&mut self, input: &'i [u8]) -> Step<'_, 'i> {
        match self {
            Self::Cobs(deframer) => deframer.push(input),
            Self::Slip(deframer) => deframer.push(input),
            Self::Line(deframer) => deframer.push(input),
            Self::Sized(deframer) => deframer.push(input),
        }
    }

    fn idle(&mut self) {
        match self {
            Self::Cobs(deframer) => deframer.idle(),
            Self::Slip(deframer) => deframer.idle(),
            Self::Line(deframer) => deframer.idle(),
            Self::Sized(deframer) => deframer.idle(),
        }
    }

    fn cut(&mut self) -> Option<WireError> {
        match self {
            Self::Cobs(deframer) => deframer.cut(),
            Self::Slip(deframer) => deframer.cut(),
            Self::Line(deframer) => deframer.cut(),
            Self::Sized(deframer) => deframer.cut(),
        }
    }

    fn is_midway(&self) -> bool {
        match self {
            Self::Cobs(deframer) => deframer.is_midway(),
            Self::Slip(deframer) => deframer.is_midway(),
            Self::Line(deframer) => deframer.is_midway(),
            Self::Sized(deframer) => deframer.is_midway(),
        }
    }
}

/// A sender of any framing.
#[derive(Debug)]
pub struct Enframer {
    framing: Framing,
    checksum: AnyChecksum,
    body: Vec<u8>,
}

impl Enframer {
    /// Appends `payload` as one frame to `out`; `sequence` is used where the framing has one.
    pub fn encode(&mut self, sequence: u16, payload: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.body.clear();
        match self.framing.sequence {
            SequenceField::None => {}
            SequenceField::U8 => self.body.push(sequence as u8),
            SequenceField::U16 => self.body.extend(sequence.to_le_bytes()),
            SequenceField::DecimalU8 => self.body.extend(alloc::format!("{}:", sequence as u8).bytes()),
            SequenceField::DecimalU16 => self.body.extend(alloc::format!("{sequence}:").bytes()),
        }
        self.body.extend_from_slice(payload);
        // Slip doubles at worst; every other framing takes less.
        let start = out.len();
        out.resize(
            start
                + slip::encoded_bytes(self.body.len() + LONGEST_BYTES)
                + sized::SYNC_BYTES
                + 4
                + LONGEST_BYTES,
            0,
        );
        let (body, checksum, to) = (&self.body, &self.checksum, &mut out[start..]);
        let written = match self.framing.kind {
            Kind::Cobs => cobs::encode(body, checksum, to),
            Kind::Slip => slip::encode(body, checksum, to),
            Kind::Line => line::encode(body, checksum, to),
            Kind::Sized(layout) => sized::encode(body, &layout, checksum, to),
        };
        out.truncate(start + written.unwrap_or(0));
        written.map(|_| ())
    }
}
