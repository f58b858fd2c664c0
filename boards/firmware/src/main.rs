//! A sensor without an operating system: eight channels of a hydraulic rig, sixty samples a cycle, out
//! of a serial port in the daemon's own frames; and a lamp that shows what the daemon made of them.
//!
//! Numbers come from a recipe instead of a converter, so that a test knows them ([`sample`]). All else
//! is what a real one would do: fill a packet, frame it, send it; take in what comes back, frame by
//! frame, between two packets. Not here: the frames (`codec`), the chip (`chip`).

#![no_std]
#![no_main]

mod chip;
#[cfg_attr(not(feature = "codec"), path = "bare.rs")]
mod codec;

use chip::{LAMP, WIRE};
use codec::{Lamp, send};

const CHANNELS: usize = 8;
/// Samples in a packet: a block takes less of the wire than its samples one by one.
const ROWS: usize = 4;
/// The packet's header, and the samples.
const PACKET_BYTES: usize = 11 + 2 * CHANNELS * ROWS;

const PACKETS: u16 = 60 / ROWS as u16 * 4;

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
            watch_for_a_millisecond(&mut lamp);
        }
        send(sequence, &samples);
    }
    loop {
        watch_for_a_millisecond(&mut lamp);
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

/// Takes in what comes back meanwhile.
fn watch_for_a_millisecond(lamp: &mut Lamp) {
    while !chip::millisecond_is_over() {
        while let Some(byte) = WIRE.received() {
            lamp.take(byte);
        }
    }
}
