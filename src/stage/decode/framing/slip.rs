//! SLIP (RFC 1055): 0xC0 ends a frame; 0xDB stands before what is written in place of 0xC0 and 0xDB.
//!
//! Promise: as with `cobs`, a receiver finds the next frame at the next 0xC0, and empty frames are
//! passed over. [`encode`] puts 0xC0 in front as well, as the RFC advises: one bad byte costs one frame.

use super::checksum::{Checksum, LONGEST_BYTES};
use super::held::Held;
use super::{Deframe, EncodeError, Step, WireError, Writer};

const END: u8 = 0xc0;
const ESC: u8 = 0xdb;
const ESC_END: u8 = 0xdc;
const ESC_ESC: u8 = 0xdd;

/// Bytes that `encode` needs at most for `body` bytes, checksum included in the count.
pub const fn encoded_bytes(body: usize) -> usize {
    2 * body + 2
}

/// Writes `body` and its checksum as one frame; gives the bytes written.
pub fn encode(body: &[u8], checksum: &impl Checksum, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut sum = [0; LONGEST_BYTES];
    let sum = &mut sum[..checksum.bytes()];
    checksum.write(body, sum);
    let mut out = Writer::new(out);
    out.byte(END)?;
    for &byte in body.iter().chain(&*sum) {
        match byte {
            END => out.all(&[ESC, ESC_END])?,
            ESC => out.all(&[ESC, ESC_ESC])?,
            byte => out.byte(byte)?,
        }
    }
    out.byte(END)?;
    Ok(out.at)
}

/// Decodes as bytes come; the buffer holds the longest body with its checksum.
#[derive(Debug)]
pub struct Deframer<C, B> {
    held: Held<C, B>,
    state: State,
    /// Bytes of the stream taken so far; wraps.
    taken: u32,
    began: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two frames.
    Between,
    Inside,
    /// After 0xDB.
    Escaped,
    /// The frame is lost; its 0xC0 ends it.
    Skipping(WireError),
}

impl<C: Checksum, B: AsRef<[u8]> + AsMut<[u8]>> Deframer<C, B> {
    /// A receiver of frames with `checksum`, at most as long as `buf`.
    pub const fn new(checksum: C, buf: B) -> Self {
        Self { held: Held::new(checksum, buf), state: State::Between, taken: 0, began: 0 }
    }

    /// Appends decoded bytes; what does not fit makes the frame a lost one.
    fn append(&mut self, bytes: &[u8]) {
        if let Err(why) = self.held.append(bytes) {
            self.state = State::Skipping(why);
        }
    }

    /// The frame's 0xC0 came: the bytes of its body.
    fn finish(&mut self) -> Result<usize, WireError> {
        match core::mem::replace(&mut self.state, State::Between) {
            State::Skipping(why) => Err(why),
            State::Escaped => Err(WireError::Malformed),
            State::Inside | State::Between => self.held.end(),
        }
    }
}

impl<C: Checksum, B: AsRef<[u8]> + AsMut<[u8]>> Deframe for Deframer<C, B> {
    fn push<'i>(&mut self, input: &'i [u8]) -> Step<'_, 'i> {
        let mut rest = input;
        while let Some((&byte, after)) = rest.split_first() {
            if byte == END {
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
                (self.state, self.began) = (State::Inside, self.taken);
            }
            let used = match self.state {
                State::Escaped => {
                    self.state = State::Inside;
                    match byte {
                        ESC_END => self.append(&[END]),
                        ESC_ESC => self.append(&[ESC]),
                        _ => self.state = State::Skipping(WireError::Malformed),
                    }
                    1
                }
                State::Skipping(_) => rest.iter().position(|&byte| byte == END).unwrap_or(rest.len()),
                State::Inside | State::Between if byte == ESC => {
                    self.state = State::Escaped;
                    1
                }
                State::Inside | State::Between => {
                    let special = |byte: &u8| *byte == END || *byte == ESC;
                    let used = rest.iter().position(special).unwrap_or(rest.len());
                    self.append(&rest[..used]);
                    used
                }
            };
            rest = &rest[used..];
            self.taken = self.taken.wrapping_add(used as u32);
        }
        Step::NeedMore
    }

    fn idle(&mut self) {
        // As with `cobs`: waiting for the end loses nothing later.
    }

    fn cut(&mut self) -> Option<WireError> {
        let is_midway = core::mem::replace(&mut self.state, State::Between) != State::Between;
        is_midway.then(|| WireError::BrokenOff { bytes: self.taken.wrapping_sub(self.began) as usize })
    }

    fn is_midway(&self) -> bool {
        self.state != State::Between
    }
}
