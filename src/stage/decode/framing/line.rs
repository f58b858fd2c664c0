//! Lines of text: LF ends a frame, a CR before it is dropped, blank lines are passed over.
//!
//! A checksum stands as hexadecimal digits behind a `*`, as in NMEA 0183: `1.5,2.0*29B1`. Promise: an
//! overlong line costs itself and not the next.

use super::checksum::{Checksum, LONGEST_BYTES};
use super::{Deframe, EncodeError, Step, WireError, Writer};

const LF: u8 = b'\n';
const CR: u8 = b'\r';

/// Bytes that `encode` needs at most for `body` bytes and a checksum of `checksum` bytes.
pub const fn encoded_bytes(body: usize, checksum: usize) -> usize {
    body + 1 + 2 * checksum + 2
}

/// Writes `body` and its checksum as one line, CR LF at its end; gives the bytes written.
pub fn encode(body: &[u8], checksum: &impl Checksum, out: &mut [u8]) -> Result<usize, EncodeError> {
    if body.contains(&LF) || body.ends_with(&[CR]) || body.is_empty() {
        return Err(EncodeError::NotCarried);
    }
    let mut out = Writer::new(out);
    out.all(body)?;
    let bytes = checksum.bytes();
    if bytes > 0 {
        let mut sum = [0; LONGEST_BYTES];
        checksum.write(body, &mut sum[..bytes]);
        out.byte(b'*')?;
        for byte in &sum[..bytes] {
            out.byte(digit(byte >> 4))?;
            out.byte(digit(byte & 15))?;
        }
    }
    out.all(&[CR, LF])?;
    Ok(out.at)
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Collects a line; `buf` holds the longest one with its checksum and its CR.
#[derive(Debug)]
pub struct Deframer<C, B> {
    checksum: C,
    buf: B,
    len: usize,
    /// The line is too long; its LF ends it.
    overlong: bool,
    taken: u32,
    began: u32,
}

impl<C: Checksum, B: AsRef<[u8]> + AsMut<[u8]>> Deframer<C, B> {
    /// A receiver of lines with `checksum`, at most as long as `buf`.
    pub const fn new(checksum: C, buf: B) -> Self {
        Self { checksum, buf, len: 0, overlong: false, taken: 0, began: 0 }
    }

    fn append(&mut self, bytes: &[u8]) {
        if !self.is_midway() {
            self.began = self.taken;
        }
        let end = self.len + bytes.len();
        match self.buf.as_mut().get_mut(self.len..end) {
            Some(room) if !self.overlong => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            _ => self.overlong = true,
        }
    }

    /// The line's end came: bytes of its body; `None` for a blank line.
    fn finish(&mut self) -> Result<Option<usize>, WireError> {
        let len = core::mem::take(&mut self.len);
        if core::mem::take(&mut self.overlong) {
            return Err(WireError::Overlong { capacity: self.buf.as_ref().len() });
        }
        let line = &self.buf.as_ref()[..len];
        let line = line.strip_suffix(&[CR]).unwrap_or(line);
        let bytes = self.checksum.bytes();
        if line.is_empty() || bytes == 0 {
            return Ok((!line.is_empty()).then_some(line.len()));
        }
        let len = line.len();
        let Some(body) = len.checked_sub(1 + 2 * bytes) else {
            return Err(WireError::Short { bytes: len });
        };
        let (covered, tail) = line.split_at(body);
        let mut sum = [0; LONGEST_BYTES];
        let mut good = tail[0] == b'*';
        for (byte, digits) in sum.iter_mut().zip(tail[1..].chunks_exact(2)) {
            match (nibble(digits[0]), nibble(digits[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => good = false,
            }
        }
        if good && self.checksum.holds(covered, &sum[..bytes]) {
            Ok((body > 0).then_some(body))
        } else {
            Err(WireError::Checksum { bytes: len })
        }
    }
}

impl<C: Checksum, B: AsRef<[u8]> + AsMut<[u8]>> Deframe for Deframer<C, B> {
    fn push<'i>(&mut self, input: &'i [u8]) -> Step<'_, 'i> {
        let mut rest = input;
        loop {
            let Some(end) = rest.iter().position(|&byte| byte == LF) else {
                if !rest.is_empty() {
                    self.append(rest);
                    self.taken = self.taken.wrapping_add(rest.len() as u32);
                }
                return Step::NeedMore;
            };
            if end > 0 {
                self.append(&rest[..end]);
            }
            rest = &rest[end + 1..];
            self.taken = self.taken.wrapping_add(end as u32 + 1);
            match self.finish() {
                Ok(None) => {}
                Ok(Some(body)) => {
                    return Step::Frame { body: &self.buf.as_ref()[..body], began: self.began, rest };
                }
                Err(why) => return Step::Bad { why, rest },
            }
        }
    }

    fn idle(&mut self) {
        // As with `cobs`: waiting for the end loses nothing later.
    }

    fn cut(&mut self) -> Option<WireError> {
        let bytes = self.taken.wrapping_sub(self.began) as usize;
        let is_midway = self.is_midway();
        (self.len, self.overlong) = (0, false);
        is_midway.then_some(WireError::BrokenOff { bytes })
    }

    fn is_midway(&self) -> bool {
        self.len > 0 || self.overlong
    }
}
