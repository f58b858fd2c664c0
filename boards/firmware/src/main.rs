//! A sensor without an operating system: eight channels of a hydraulic rig, sixty samples a cycle, out
//! of a serial port in the daemon's own frames; and a lamp that shows what the daemon made of them.
//!
//! Numbers come from a recipe instead of a converter, so that a test knows them ([`sample`]). All else
//! is what a real one would do: fill a packet, frame it, send it; take in what comes back, frame by
//! frame, between two packets. Not here: the chip (`chip`).

#![no_std]
#![no_main]

mod chip;

#[cfg(feature = "codec")]
use lineside::stage::decode::framing::{
    Deframe, Step, Sum, cobs,
    packet::{Header, SampleType},
};

use chip::{LAMP, WIRE};

const CHANNELS: usize = 8;
/// Samples in a packet: a block takes less of the wire than its samples one by one.
const ROWS: usize = 4;
/// The packet's header, and the samples.
const PACKET_BYTES: usize = 11 + 2 * CHANNELS * ROWS;
/// Longest body from the daemon, with its checksum.
#[cfg(feature = "codec")]
const VERDICT_BYTES: usize = 64;
const PACKETS: u16 = 60 / ROWS as u16 * 4;

#[cfg(feature = "codec")]
const CRC: Sum<u16> = Sum::<u16>::new(&crc::CRC_16_IBM_3740);
#[cfg(feature = "codec")]
type Verdicts = cobs::Deframer<Sum<u16>, [u8; VERDICT_BYTES]>;

/// As large as what the codec keeps between two bytes, beside its buffer; `measure.py` reads the size.
#[cfg(feature = "codec")]
#[used]
#[unsafe(link_section = ".figures")]
static CODEC_STATE: [u8; size_of::<Verdicts>() - VERDICT_BYTES] =
    [0; size_of::<Verdicts>() - VERDICT_BYTES];

fn main() -> ! {
    WIRE.open();
    LAMP.open();
    chip::start_clock();
    let mut lamp = Lamp::new();
    for sequence in 0..PACKETS {
        let mut samples = [0; CHANNELS * ROWS];
        for (row, of_row) in samples.chunks_exact_mut(CHANNELS).enumerate() {
            for (channel, value) in of_row.iter_mut().enumerate() {
                *value = sample(sequence as usize * ROWS + row, channel);
            }
            lamp.watch_for_a_millisecond();
        }
        send(sequence, &samples);
    }
    loop {
        lamp.watch_for_a_millisecond();
    }
}

/// What a converter would give: hundredths of the channel's unit. Each cycle of sixty samples is one of
/// a cooler in another condition.
fn sample(number: usize, channel: usize) -> i16 {
    /// Centre of each channel, for a cooler that works and for one that is about to fail.
    const CENTRE: [[i16; CHANNELS]; 2] =
        [[3560, 4090, 3830, 3060, 60, 4640, 219, 5900], [5570, 6060, 5770, 5220, 68, 1990, 146, 5690]];
    let cycle = number / 60;
    // A little restlessness that no rounding hides.
    let noise = (number * 37 + channel * 11) % 9;
    CENTRE[cycle % 2][channel] + noise as i16 - 4
}

#[cfg(feature = "codec")]
fn send(sequence: u16, samples: &[i16]) {
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

#[cfg(not(feature = "codec"))]
fn send(sequence: u16, samples: &[i16]) {
    let mut packet = [0; PACKET_BYTES];
    packet[4..6].copy_from_slice(&sequence.to_le_bytes());
    for (to, sample) in packet[11..].chunks_exact_mut(2).zip(samples) {
        to.copy_from_slice(&sample.to_le_bytes());
    }
    WIRE.send(&packet);
}

/// Shows the latest verdict: `P`ass, `F`ail, or another first letter.
struct Lamp {
    #[cfg(feature = "codec")]
    deframer: Verdicts,
}

impl Lamp {
    const fn new() -> Self {
        Self {
            #[cfg(feature = "codec")]
            deframer: cobs::Deframer::new(CRC, [0; VERDICT_BYTES]),
        }
    }

    fn watch_for_a_millisecond(&mut self) {
        while !chip::millisecond_is_over() {
            while let Some(byte) = WIRE.received() {
                self.take(byte);
            }
        }
    }

    #[cfg(feature = "codec")]
    fn take(&mut self, byte: u8) {
        // A damaged frame is passed over: the next verdict corrects the lamp.
        if let Step::Frame { body: [first, ..], .. } = self.deframer.push(&[byte]) {
            LAMP.send(&[first.to_ascii_uppercase()]);
        }
    }

    #[cfg(not(feature = "codec"))]
    fn take(&mut self, byte: u8) {
        LAMP.send(&[byte.to_ascii_uppercase()]);
    }
}
