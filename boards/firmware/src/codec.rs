//! Samples to frames, frames to a lamp, with the daemon's own codec: the lines that docs/serial.md shows.

use lineside::stage::decode::framing::{
    Deframe, Step, Sum, cobs,
    packet::{Header, SampleType},
};

use crate::chip::{LAMP, WIRE};
use crate::{CHANNELS, PACKET_BYTES, ROWS};

const CRC: Sum<u16> = Sum::<u16>::new(&crc::CRC_16_GENIBUS);

pub fn send(sequence: u16, samples: &[i16]) {
    let header = Header {
        samples: SampleType::I16,
        sensor: 1,
        schema: 1,
        sequence,
        time_us: u32::from(sequence) * ROWS as u32 * 1_000_000,
        channels: CHANNELS as u8,
    };
    let mut packet = [0; PACKET_BYTES];
    let mut frame = [0; cobs::encoded_bytes(PACKET_BYTES + 2)];
    // Neither can fail: the sizes are those of these samples.
    let framed = header
        .write_i16(samples, &mut packet)
        .and_then(|bytes| cobs::encode(&packet[..bytes], &CRC, &mut frame));
    if let Ok(bytes) = framed {
        WIRE.send(&frame[..bytes]);
    }
}

/// Longest body from the daemon, with its checksum.
const VERDICT_BYTES: usize = 64;

/// Shows the latest verdict: `P`ass, `F`ail, or another first letter.
pub struct Lamp {
    verdicts: cobs::Deframer<Sum<u16>, [u8; VERDICT_BYTES]>,
}

impl Lamp {
    pub const fn new() -> Self {
        Self { verdicts: cobs::Deframer::new(CRC, [0; VERDICT_BYTES]) }
    }

    pub fn take(&mut self, byte: u8) {
        // A damaged frame is passed over: the next verdict corrects the lamp.
        if let Step::Frame { body: [first, ..], .. } = self.verdicts.push(&[byte]) {
            LAMP.send(&[first.to_ascii_uppercase()]);
        }
    }
}

/// As large as what the codec keeps between two bytes, beside its buffer; `measure.py` reads the size.
#[used]
#[unsafe(link_section = ".figures")]
static CODEC_STATE: [u8; size_of::<Lamp>() - VERDICT_BYTES] = [0; size_of::<Lamp>() - VERDICT_BYTES];
