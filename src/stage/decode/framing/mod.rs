//! A stream of bytes to frames and back; the layouts, with worked examples, are in `FORMAT.md` beside
//! this file.
//!
//! Promise: `core` alone and a fixed capacity, so that the same code runs on a microcontroller and in
//! the daemon. However the stream is cut into portions, the frames are the same. Every byte that is no
//! part of a good frame is told by a [`Step::Bad`]. With a checksum, one bad byte (changed, dropped or
//! inserted) costs at most two frames, and one only where the framing allows it: with `sized` always,
//! with `cobs`, `slip` and `line` when the sender puts a delimiter in front of a frame as well.
//! Not here: reading a port (`acquire::serial`), what a body means ([`packet`] and the decoders).
//!
//! Each framing is one file with the same two names: `encode` and `Deframer`.

pub mod checksum;
pub mod cobs;
mod held;
pub mod line;
pub mod packet;
pub mod sequence;
pub mod sized;
pub mod slip;

#[cfg(feature = "alloc")]
pub mod any;
#[cfg(feature = "alloc")]
pub mod catalogue;

pub use checksum::{Checksum, Sum, Unchecked};

pub use crate::base::wire::ByteOrder;

/// What one [`Deframe::push`] came to. `rest` is input not yet looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'d, 'i> {
    /// All input is taken in; no more frames can be made of it.
    NeedMore,
    /// A frame that holds its checksum.
    Frame {
        /// What it carries, without framing and checksum.
        body: &'d [u8],
        /// Where its first byte stood in the stream, counted from the first byte ever pushed; wraps.
        began: u32,
        /// Push this next, even when it is empty.
        rest: &'i [u8],
    },
    /// Bytes that are no frame. What follows is judged on its own.
    Bad {
        /// Why.
        why: WireError,
        /// Push this next, even when it is empty.
        rest: &'i [u8],
    },
}

/// Why a run of bytes is not a frame. The stream survives every one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The checksum does not belong to these bytes.
    #[error("the checksum of a frame of {bytes} bytes does not hold")]
    Checksum {
        /// Bytes between the delimiters or after the header, checksum included.
        bytes: usize,
    },
    /// Fewer bytes than a checksum and a sequence number take.
    #[error("a frame of {bytes} bytes is too short for its checksum")]
    Short {
        /// Bytes that came.
        bytes: usize,
    },
    /// More bytes than the capacity holds; they were passed over up to the next delimiter.
    #[error("a frame is longer than the {capacity} bytes that are taken")]
    Overlong {
        /// What would have been taken.
        capacity: usize,
    },
    /// The escapes of the framing are broken.
    #[error("a frame breaks the rules of its framing")]
    Malformed,
    /// A length that no frame can have.
    #[error("a header says {length} bytes, which no frame has")]
    Length {
        /// As the header has it.
        length: u32,
    },
    /// Silence in the middle of a frame.
    #[error("a frame broke off after {bytes} bytes")]
    BrokenOff {
        /// Bytes that came.
        bytes: usize,
    },
    /// Bytes outside of any frame, passed over in search of the next.
    #[error("{bytes} bytes between two frames")]
    Stray {
        /// How many.
        bytes: u32,
    },
}

/// Cuts a stream into frames.
pub trait Deframe {
    /// Takes input until a frame is whole or something is wrong. Call it with what is left until it
    /// says [`Step::NeedMore`].
    fn push<'i>(&mut self, input: &'i [u8]) -> Step<'_, 'i>;

    /// Nothing has come for so long that the rest of an unfinished frame will not come. What it
    /// held is looked at again by the next `push`, which may be one of no bytes.
    fn idle(&mut self);

    /// The stream was cut off here and goes on elsewhere, as when a port went away: no frame is made of
    /// bytes from both sides. Gives what was lost with it; where that may still hold a frame, the next
    /// `push` tells.
    fn cut(&mut self) -> Option<WireError>;

    /// Whether a frame has begun.
    fn is_midway(&self) -> bool;
}

/// Why a body cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The encoded frame does not fit into its buffer.
    #[error("the encoded frame does not fit into its buffer")]
    NoRoom,
    /// The framing cannot carry this body: a line with a line end in it, another size than `fixed` has,
    /// more than a length field counts.
    #[error("the framing cannot carry this body")]
    NotCarried,
}

/// Bytes written one after the other into a slice.
struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl<'o> Writer<'o> {
    fn new(out: &'o mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    fn byte(&mut self, byte: u8) -> Result<(), EncodeError> {
        *self.out.get_mut(self.at).ok_or(EncodeError::NoRoom)? = byte;
        self.at += 1;
        Ok(())
    }

    fn all(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end).ok_or(EncodeError::NoRoom)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
