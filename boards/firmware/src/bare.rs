//! The same program without a codec: bodies as they are out, bytes as they come in.

use crate::PACKET_BYTES;
use crate::chip::{LAMP, WIRE};

pub fn send(sequence: u16, samples: &[i16]) {
    let mut packet = [0; PACKET_BYTES];
    packet[4..6].copy_from_slice(&sequence.to_le_bytes());
    for (to, sample) in packet[11..].chunks_exact_mut(2).zip(samples) {
        to.copy_from_slice(&sample.to_le_bytes());
    }
    WIRE.send(&packet);
}

pub struct Lamp;

impl Lamp {
    pub const fn new() -> Self {
        Self
    }

    pub fn take(&mut self, byte: u8) {
        LAMP.send(&[byte.to_ascii_uppercase()]);
    }
}
