//! What a receiver holds of a frame under way: its body and checksum, decoded already.
//!
//! Promise: never more bytes than the buffer has; a body is handed out only when its checksum holds.

use super::WireError;
use super::checksum::Checksum;

#[derive(Debug)]
pub(super) struct Held<C, B> {
    checksum: C,
    buf: B,
    len: usize,
}

impl<C: Checksum, B: AsRef<[u8]> + AsMut<[u8]>> Held<C, B> {
    pub(super) const fn new(checksum: C, buf: B) -> Self {
        Self { checksum, buf, len: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes bytes; the error: the frame is longer than the buffer.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let end = self.len + bytes.len();
        let capacity = self.buf.as_ref().len();
        let room = self.buf.as_mut().get_mut(self.len..end).ok_or(WireError::Overlong { capacity })?;
        room.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Takes one byte; the error: the frame is longer than the buffer.
    pub(super) fn push(&mut self, byte: u8) -> Result<(), WireError> {
        let capacity = self.buf.as_ref().len();
        *self.buf.as_mut().get_mut(self.len).ok_or(WireError::Overlong { capacity })? = byte;
        self.len += 1;
        Ok(())
    }

    /// Takes the bytes before the first zero, and says how many: looked at and copied in one pass, because
    /// the runs of small numbers are a few bytes long. The error as with [`Held::push`].
    pub(super) fn append_to_zero(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        for (taken, &byte) in bytes.iter().enumerate() {
            if byte == 0 {
                return Ok(taken);
            }
            self.push(byte)?;
        }
        Ok(bytes.len())
    }

    /// The frame has ended: the bytes of its body.
    pub(super) fn end(&self) -> Result<usize, WireError> {
        let bytes = self.len;
        let Some(body) = bytes.checked_sub(self.checksum.bytes()) else {
            return Err(WireError::Short { bytes });
        };
        let (covered, sum) = self.buf.as_ref()[..bytes].split_at(body);
        if self.checksum.holds(covered, sum) { Ok(body) } else { Err(WireError::Checksum { bytes }) }
    }

    /// The first bytes that are held.
    pub(super) fn body(&self, bytes: usize) -> &[u8] {
        &self.buf.as_ref()[..bytes]
    }
}
