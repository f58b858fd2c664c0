//! The packet: a small binary body that says which sensor sent which samples; laid out in `FORMAT.md`.
//!
//! ```text
//! 0 kind   1 sensor   2..4 schema   4..6 sequence   6..10 time_us   10 channels   11.. samples
//! ```
//!
//! Numbers are little-endian. Promise: `core` alone, both ways; what a schema's channels mean is not
//! here but in the model's card.

use super::EncodeError;

/// Bytes in front of the samples.
pub const HEADER_BYTES: usize = 11;

/// Version of the layout, in the upper half of the first byte.
const VERSION: u8 = 0x10;

/// What a sample's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleType {
    /// 16-bit signed integers.
    I16,
    /// 32-bit floats.
    F32,
}

impl SampleType {
    /// Bytes of one number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::I16 => 2,
            Self::F32 => 4,
        }
    }
}

/// What stands in front of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the numbers are.
    pub samples: SampleType,
    /// Which sensor on this line.
    pub sensor: u8,
    /// What its channels are: a key into the card.
    pub schema: u16,
    /// Counts this sensor's packets; wraps.
    pub sequence: u16,
    /// The sensor's own clock at the first sample, in microseconds; wraps after 71 minutes.
    pub time_us: u32,
    /// Numbers in a sample, at least 1.
    pub channels: u8,
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Not even a header.
    #[error("{bytes} bytes are no packet: its header alone takes {HEADER_BYTES}")]
    Short {
        /// Bytes that came.
        bytes: usize,
    },
    /// Another version, or something else altogether.
    #[error("a packet begins with 0x10 (i16 samples) or 0x11 (f32 samples), not with {kind:#04x}")]
    Kind {
        /// The first byte.
        kind: u8,
    },
    /// Samples of no channels.
    #[error("a packet has at least one channel, this one has none")]
    NoChannels,
    /// The bytes behind the header are no whole number of samples, or none.
    #[error(
        "{bytes} bytes behind the header are no whole number of samples: {channels} channels of {size} bytes"
    )]
    Torn {
        /// Bytes behind the header.
        bytes: usize,
        /// Numbers in a sample.
        channels: u8,
        /// Bytes of a number.
        size: usize,
    },
}

/// A packet's header and its samples as bytes, row after row.
pub fn split(body: &[u8]) -> Result<(Header, &[u8]), PacketError> {
    let Some((head, samples)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return Err(PacketError::Short { bytes: body.len() });
    };
    let &[kind, sensor, s0, s1, q0, q1, t0, t1, t2, t3, channels] = head;
    let numbers = match kind {
        0x10 => SampleType::I16,
        0x11 => SampleType::F32,
        kind => return Err(PacketError::Kind { kind }),
    };
    if channels == 0 {
        return Err(PacketError::NoChannels);
    }
    let (bytes, size) = (samples.len(), numbers.bytes());
    if bytes == 0 || !bytes.is_multiple_of(size * channels as usize) {
        return Err(PacketError::Torn { bytes, channels, size });
    }
    let header = Header {
        samples: numbers,
        sensor,
        schema: u16::from_le_bytes([s0, s1]),
        sequence: u16::from_le_bytes([q0, q1]),
        time_us: u32::from_le_bytes([t0, t1, t2, t3]),
        channels,
    };
    Ok((header, samples))
}

impl Header {
    /// Writes the header to the front of `out`; samples follow at the returned place.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let kind = VERSION
            | match self.samples {
                SampleType::I16 => 0,
                SampleType::F32 => 1,
            };
        let [s0, s1] = self.schema.to_le_bytes();
        let [q0, q1] = self.sequence.to_le_bytes();
        let [t0, t1, t2, t3] = self.time_us.to_le_bytes();
        let head = [kind, self.sensor, s0, s1, q0, q1, t0, t1, t2, t3, self.channels];
        out.get_mut(..HEADER_BYTES).ok_or(EncodeError::NoRoom)?.copy_from_slice(&head);
        Ok(HEADER_BYTES)
    }

    /// Writes a packet of 16-bit samples, row after row; gives its bytes. `self.samples` is I16 and
    /// `samples` a whole number of rows.
    pub fn write_i16(&self, samples: &[i16], out: &mut [u8]) -> Result<usize, EncodeError> {
        if self.samples != SampleType::I16 || !self.are_rows(samples.len()) {
            return Err(EncodeError::NotCarried);
        }
        let mut at = self.write(out)?;
        for sample in samples {
            out.get_mut(at..at + 2).ok_or(EncodeError::NoRoom)?.copy_from_slice(&sample.to_le_bytes());
            at += 2;
        }
        Ok(at)
    }

    /// The same for 32-bit floats.
    pub fn write_f32(&self, samples: &[f32], out: &mut [u8]) -> Result<usize, EncodeError> {
        if self.samples != SampleType::F32 || !self.are_rows(samples.len()) {
            return Err(EncodeError::NotCarried);
        }
        let mut at = self.write(out)?;
        for sample in samples {
            out.get_mut(at..at + 4).ok_or(EncodeError::NoRoom)?.copy_from_slice(&sample.to_le_bytes());
            at += 4;
        }
        Ok(at)
    }

    fn are_rows(&self, numbers: usize) -> bool {
        self.channels > 0 && numbers > 0 && numbers.is_multiple_of(self.channels as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        samples: SampleType::I16,
        sensor: 3,
        schema: 7,
        sequence: 258,
        time_us: 1_000_000,
        channels: 2,
    };

    #[test]
    fn what_is_written_is_read_and_little_endian() {
        let mut out = [0; 32];
        let bytes = HEADER.write_i16(&[1, -2], &mut out).unwrap();
        let wire = [0x10, 3, 7, 0, 2, 1, 0x40, 0x42, 0x0f, 0, 2, 1, 0, 0xfe, 0xff];
        assert_eq!(out[..bytes], wire);
        assert_eq!(split(&wire), Ok((HEADER, &wire[11..])));
        let floats = Header { samples: SampleType::F32, ..HEADER };
        let bytes = floats.write_f32(&[1.0, 2.0], &mut out).unwrap();
        assert_eq!(split(&out[..bytes]).unwrap().0, floats);
    }

    #[test]
    fn what_is_no_packet_says_why() {
        assert_eq!(split(&[0x10; 10]), Err(PacketError::Short { bytes: 10 }));
        assert_eq!(split(&[0x20; 12]), Err(PacketError::Kind { kind: 0x20 }));
        let mut wire = [0x10, 3, 7, 0, 2, 1, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(split(&wire), Err(PacketError::NoChannels));
        wire[10] = 2;
        assert_eq!(split(&wire), Err(PacketError::Torn { bytes: 2, channels: 2, size: 2 }));
        assert_eq!(split(&wire[..11]), Err(PacketError::Torn { bytes: 0, channels: 2, size: 2 }));
        assert_eq!(HEADER.write_i16(&[1], &mut [0; 32]), Err(EncodeError::NotCarried));
        assert_eq!(HEADER.write_i16(&[1, 2], &mut [0; 14]), Err(EncodeError::NoRoom));
    }
}
