//! Consistent Overhead Byte Stuffing (Cheshire and Baker, 1999): a zero ends a frame and stands
//! nowhere else.
//!
//! Promise: a receiver finds the next frame at the next zero, whatever came before. Empty frames (two
//! zeros in a row) are passed over, so a sender may put a zero in front of a frame as well: one bad
//! byte then costs one frame. Overhead: one byte, one more for each 254 without a zero, and the zero.

use super::checksum::{Checksum, LONGEST_BYTES};
use super::held::Held;
use super::{Deframe, EncodeError, Step, WireError};

/// Bytes that `encode` needs at most for `body` bytes, checksum included in the count.
pub const fn encoded_bytes(body: usize) -> usize {
    body + body / 254 + 2
}

/// Writes `body` and its checksum as one frame, zero at its end; gives the bytes written.
pub fn encode(body: &[u8], checksum: &impl Checksum, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut sum = [0; LONGEST_BYTES];
    let sum = &mut sum[..checksum.bytes()];
    checksum.write(body, sum);
    // Where the current run's length goes, once it is known.
    let mut code_at = 0;
    let mut at = 1;
    for &byte in body.iter().chain(&*sum) {
        if at - code_at == 255 {
            *out.get_mut(code_at).ok_or(EncodeError::NoRoom)? = 255;
            code_at = at;
            at += 1;
        }
        if byte == 0 {
            *out.get_mut(code_at).ok_or(EncodeError::NoRoom)? = (at - code_at) as u8;
            code_at = at;
        } else {
            *out.get_mut(at).ok_or(EncodeError::NoRoom)? = byte;
        }
        at += 1;
    }
    *out.get_mut(code_at).ok_or(EncodeError::NoRoom)? = (at - code_at) as u8;
    *out.get_mut(at).ok_or(EncodeError::NoRoom)? = 0;
    Ok(at + 1)
}

/// Decodes as bytes come; the buffer holds the longest body with its checksum.
#[derive(Debug)]
pub struct Deframer<C, B> {
    held: Held<C, B>,
    state: State,
    /// Bytes of this run that are still to come.
    run: u8,
    /// A zero stands between this run and the next.
    zero_after: bool,
    /// Bytes of the stream taken so far; wraps.
    taken: u32,
    began: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two frames.
    Between,
    Inside,
    /// The frame is lost; its zero ends it.
    Skipping(WireError),
}

impl<C: Checksum, B: AsRef<[u8]> + AsMut<[u8]>> Deframer<C, B> {
    /// A receiver of frames with `checksum`, at most as long as `buf`.
    pub const fn new(checksum: C, buf: B) -> Self {
        let held = Held::new(checksum, buf);
        Self { held, state: State::Between, run: 0, zero_after: false, taken: 0, began: 0 }
    }

    /// Takes a part of the frame from the head of `rest`, of which the first byte is not zero; says how many
    /// bytes that was. The error: the frame does not fit, and is lost.
    fn take(&mut self, rest: &[u8]) -> Result<usize, WireError> {
        if self.run > 0 {
            let reach = rest.len().min(self.run as usize);
            let taken = self.held.append_to_zero(&rest[..reach])?;
            self.run -= taken as u8;
            return Ok(taken);
        }
        let Some(&code) = rest.first() else { return Ok(0) };
        if self.zero_after {
            self.held.push(0)?;
        }
        self.run = code - 1;
        self.zero_after = code < 255;
        Ok(1)
    }

    /// The frame's zero came: the bytes of its body.
    fn finish(&mut self) -> Result<usize, WireError> {
        match core::mem::replace(&mut self.state, State::Between) {
            State::Skipping(why) => Err(why),
            State::Inside | State::Between if self.run > 0 => Err(WireError::Malformed),
            State::Inside | State::Between => self.held.end(),
        }
    }
}

impl<C: Checksum, B: AsRef<[u8]> + AsMut<[u8]>> Deframe for Deframer<C, B> {
    fn push<'i>(&mut self, input: &'i [u8]) -> Step<'_, 'i> {
        let mut rest = input;
        while let Some((&byte, after)) = rest.split_first() {
            if byte == 0 {
                rest = after;
                self.taken = self.taken.wrapping_add(1);
                if self.state == State::Between {
                    continue;
                }
                return match self.finish() {
                    Ok(body) => Step::Frame { body: self.held.body(body), began: self.began, rest },
                    Err(why) => Step::Bad { why, rest },
                };
            }
            if self.state == State::Between {
                self.held.clear();
                (self.state, self.run, self.zero_after) = (State::Inside, 0, false);
                self.began = self.taken;
            }
            let taken = if self.state == State::Inside {
                self.take(rest).unwrap_or_else(|why| {
                    self.state = State::Skipping(why);
                    0
                })
            } else {
                rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len())
            };
            rest = &rest[taken..];
            self.taken = self.taken.wrapping_add(taken as u32);
        }
        Step::NeedMore
    }

    fn idle(&mut self) {
        // A zero will come, or the sensor is gone; either way nothing later is lost by waiting.
    }

    fn cut(&mut self) -> Option<WireError> {
        let is_midway = core::mem::replace(&mut self.state, State::Between) != State::Between;
        is_midway.then(|| WireError::BrokenOff { bytes: self.taken.wrapping_sub(self.began) as usize })
    }

    fn is_midway(&self) -> bool {
        self.state != State::Between
    }
}
