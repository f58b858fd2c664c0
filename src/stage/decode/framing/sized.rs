//! A sync word in front, and a size that is fixed or written in a length field.
//!
//! Promise: when a frame proves bad, the search goes on one byte behind its sync word, through what is
//! held already: nothing that came after a damaged frame is lost with it. A damaged length makes the
//! receiver wait for bytes that may not come; [`Deframe::idle`] ends that wait. Without a checksum a
//! wrong length is believed, and the frames under it are lost.
//!
//! Work: each byte that is held may begin a candidate whose checksum is computed, so a hostile sender
//! can make one byte cost as much as the longest frame; ordinary noise does not.

use super::checksum::{Checksum, LONGEST_BYTES};
use super::{ByteOrder, Deframe, EncodeError, Step, WireError, Writer};

/// Longest sync word.
pub const SYNC_BYTES: usize = 8;

/// Where bodies stand in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    sync: [u8; SYNC_BYTES],
    sync_bytes: usize,
    /// How long a body is.
    pub size: Size,
    /// Where the bytes begin that the checksum covers; they end where it stands.
    pub covered_from: Part,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Always so many bytes.
    Fixed(usize),
    /// Behind the sync word stands a length.
    Field {
        /// 1 to 4.
        bytes: usize,
        /// Of the field.
        order: ByteOrder,
        /// What it counts.
        counts: Counts,
    },
}

/// What a length field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// The body alone.
    Body,
    /// The body and the checksum behind it.
    BodyAndChecksum,
    /// Every byte of the frame, sync word and the field itself included.
    Whole,
}

/// A part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The sync word.
    Sync,
    /// The length field; where there is none, the body.
    Length,
    /// The body.
    Body,
}

impl Layout {
    /// `None`: the sync word is empty or longer than [`SYNC_BYTES`], or a length field has a size that
    /// is not 1 to 4 bytes.
    pub const fn new(sync: &[u8], size: Size, covered_from: Part) -> Option<Layout> {
        let mut word = [0; SYNC_BYTES];
        if sync.is_empty() || sync.len() > SYNC_BYTES {
            return None;
        }
        if let Size::Field { bytes, .. } = size
            && (bytes == 0 || bytes > 4)
        {
            return None;
        }
        let mut i = 0;
        while i < sync.len() {
            word[i] = sync[i];
            i += 1;
        }
        Some(Layout { sync: word, sync_bytes: sync.len(), size, covered_from })
    }

    fn sync(&self) -> &[u8] {
        &self.sync[..self.sync_bytes]
    }

    /// Bytes in front of a body.
    pub const fn header_bytes(&self) -> usize {
        self.sync_bytes
            + match self.size {
                Size::Fixed(_) => 0,
                Size::Field { bytes, .. } => bytes,
            }
    }

    const fn covered_at(&self) -> usize {
        match self.covered_from {
            Part::Sync => 0,
            Part::Length => self.sync_bytes,
            Part::Body => self.header_bytes(),
        }
    }

    /// What a length field counts beside the body.
    const fn beside_body(&self, checksum: usize) -> usize {
        match self.size {
            Size::Field { counts: Counts::BodyAndChecksum, .. } => checksum,
            Size::Field { counts: Counts::Whole, .. } => self.header_bytes() + checksum,
            Size::Field { counts: Counts::Body, .. } | Size::Fixed(_) => 0,
        }
    }

    /// The body's bytes according to a header; what the header says where that cannot be.
    fn body_bytes(&self, header: &[u8], checksum: usize) -> Result<usize, u32> {
        let (order, field) = match self.size {
            Size::Fixed(bytes) => return Ok(bytes),
            Size::Field { order, .. } => (order, &header[self.sync_bytes..]),
        };
        let join = |length: u32, byte: &u8| length << 8 | u32::from(*byte);
        let length = match order {
            ByteOrder::Big => field.iter().fold(0, join),
            ByteOrder::Little => field.iter().rev().fold(0, join),
        };
        (length as usize).checked_sub(self.beside_body(checksum)).ok_or(length)
    }
}

/// Writes `body` as one frame; gives the bytes written.
pub fn encode(
    body: &[u8],
    layout: &Layout,
    checksum: &impl Checksum,
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    let mut to = Writer::new(out);
    to.all(layout.sync())?;
    match layout.size {
        Size::Fixed(bytes) if bytes != body.len() => return Err(EncodeError::NotCarried),
        Size::Fixed(_) => {}
        Size::Field { bytes, order, .. } => {
            let length = (body.len() + layout.beside_body(checksum.bytes())) as u64;
            if length >> (8 * bytes) != 0 {
                return Err(EncodeError::NotCarried);
            }
            let all = length.to_le_bytes();
            for i in 0..bytes {
                to.byte(match order {
                    ByteOrder::Little => all[i],
                    ByteOrder::Big => all[bytes - 1 - i],
                })?;
            }
        }
    }
    to.all(body)?;
    let end = to.at;
    let sum_bytes = checksum.bytes();
    let mut sum = [0; LONGEST_BYTES];
    checksum.write(&out[layout.covered_at()..end], &mut sum[..sum_bytes]);
    out.get_mut(end..end + sum_bytes).ok_or(EncodeError::NoRoom)?.copy_from_slice(&sum[..sum_bytes]);
    Ok(end + sum_bytes)
}

/// Bytes without a sync word that are passed over before they are told of: a sender that never sends one is heard.
const STRAY_AT_MOST: u32 = 4096;

/// Collects a frame from its sync word on; `buf` holds the longest whole one, header and checksum
/// included.
#[derive(Debug)]
pub struct Deframer<C, B> {
    layout: Layout,
    checksum: C,
    buf: B,
    /// Bytes held: a frame's beginning, and what was taken behind it for one that proved bad.
    len: usize,
    /// Of the bytes held, those of the frame that was handed out last; they go with the next push.
    spent: usize,
    /// Of the bytes held, those told of already as parts of a bad frame.
    told: usize,
    /// Of the bytes held, those behind which there was silence: nothing more belongs to them.
    stale: usize,
    /// Bytes passed over that were not told of yet.
    stray: u32,
    taken: u32,
}

impl<C: Checksum, B: AsRef<[u8]> + AsMut<[u8]>> Deframer<C, B> {
    /// A receiver of frames as `layout` describes them, at most as long as `buf`.
    pub const fn new(layout: Layout, checksum: C, buf: B) -> Self {
        Self { layout, checksum, buf, len: 0, spent: 0, told: 0, stale: 0, stray: 0, taken: 0 }
    }

    /// Lets the first `count` bytes go.
    fn forget(&mut self, count: usize, are_stray: bool) {
        self.buf.as_mut().copy_within(count..self.len, 0);
        self.len -= count;
        if are_stray {
            self.stray = self.stray.saturating_add(count.saturating_sub(self.told) as u32);
        }
        self.told = self.told.saturating_sub(count);
        self.stale = self.stale.saturating_sub(count);
    }

    /// Lets go what cannot be the beginning of a frame.
    fn seek(&mut self) {
        let sync = self.layout.sync();
        let held = &self.buf.as_ref()[..self.len];
        let could_begin = |at: &usize| {
            let seen = &held[*at..];
            let shown = seen.len().min(sync.len());
            seen[..shown] == sync[..shown]
        };
        let at = (0..self.len).find(could_begin).unwrap_or(self.len);
        if at > 0 {
            self.forget(at, true);
        }
    }

    /// Takes input until `wanted` bytes are held.
    fn fill(&mut self, wanted: usize, rest: &mut &[u8]) -> bool {
        let count = wanted.saturating_sub(self.len).min(rest.len());
        let (now, later) = rest.split_at(count);
        self.buf.as_mut()[self.len..self.len + count].copy_from_slice(now);
        self.len += count;
        self.taken = self.taken.wrapping_add(count as u32);
        *rest = later;
        self.len >= wanted
    }

    /// The frame at the front is none: tells so, and lets its first byte go.
    fn refuse<'i>(&mut self, why: WireError, bytes: usize, rest: &'i [u8]) -> Step<'_, 'i> {
        self.told = self.told.max(bytes.min(self.len));
        self.forget(1, true);
        Step::Bad { why, rest }
    }
}

impl<C: Checksum, B: AsRef<[u8]> + AsMut<[u8]>> Deframe for Deframer<C, B> {
    fn push<'i>(&mut self, input: &'i [u8]) -> Step<'_, 'i> {
        let mut rest = input;
        let spent = core::mem::take(&mut self.spent);
        if spent > 0 {
            self.forget(spent, false);
        }
        let (sync, header) = (self.layout.sync_bytes, self.layout.header_bytes());
        loop {
            if self.len == 0 {
                // The usual search, without a copy.
                let first = self.layout.sync[0];
                let room = STRAY_AT_MOST.saturating_sub(self.stray) as usize;
                let searched = &rest[..rest.len().min(room)];
                let skipped = searched.iter().position(|&byte| byte == first).unwrap_or(searched.len());
                self.stray = self.stray.saturating_add(skipped as u32);
                self.taken = self.taken.wrapping_add(skipped as u32);
                rest = &rest[skipped..];
                if self.stray >= STRAY_AT_MOST {
                    let bytes = core::mem::take(&mut self.stray);
                    return Step::Bad { why: WireError::Stray { bytes }, rest };
                }
                if rest.is_empty() {
                    return Step::NeedMore;
                }
            }
            self.seek();
            if self.len < sync {
                if self.stale > 0 {
                    // The beginning of a sync word that never came: stray like what stood before it.
                    self.forget(self.stale, true);
                    continue;
                }
                if self.fill(self.len + 1, &mut rest) {
                    continue;
                }
                return Step::NeedMore;
            }
            if self.stray > 0 {
                let bytes = core::mem::take(&mut self.stray);
                return Step::Bad { why: WireError::Stray { bytes }, rest };
            }
            let held = self.len;
            let broken = WireError::BrokenOff { bytes: held };
            if held < header && self.stale > 0 {
                return self.refuse(broken, held, rest);
            }
            if header > self.buf.as_ref().len() {
                return self.refuse(WireError::Overlong { capacity: self.buf.as_ref().len() }, held, rest);
            }
            if !self.fill(header, &mut rest) {
                return Step::NeedMore;
            }
            let sum = self.checksum.bytes();
            let body = match self.layout.body_bytes(&self.buf.as_ref()[..header], sum) {
                Ok(body) => body,
                Err(length) => return self.refuse(WireError::Length { length }, header, rest),
            };
            let total = header.saturating_add(body).saturating_add(sum);
            if total > self.buf.as_ref().len() {
                let capacity = self.buf.as_ref().len();
                return self.refuse(WireError::Overlong { capacity }, header, rest);
            }
            if held < total && self.stale > 0 {
                return self.refuse(broken, held, rest);
            }
            if !self.fill(total, &mut rest) {
                return Step::NeedMore;
            }
            let frame = &self.buf.as_ref()[..total];
            let covered = &frame[self.layout.covered_at()..header + body];
            if !self.checksum.holds(covered, &frame[header + body..]) {
                return self.refuse(WireError::Checksum { bytes: total }, total, rest);
            }
            self.spent = total;
            return Step::Frame {
                body: &self.buf.as_ref()[header..header + body],
                began: self.taken.wrapping_sub(self.len as u32),
                rest,
            };
        }
    }

    fn idle(&mut self) {
        self.stale = self.len;
    }

    fn cut(&mut self) -> Option<WireError> {
        self.idle();
        None
    }

    fn is_midway(&self) -> bool {
        self.len > self.spent
    }
}
