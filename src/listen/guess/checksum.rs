//! Which CRC of the catalogue stands behind frames whose ends are known.

use std::collections::HashSet;

use crate::base::wire::{ByteOrder, CRC_NAMES, CrcAlgorithm, CrcName};
use crate::stage::decode::framing::Checksum;
use crate::stage::decode::framing::catalogue::AnyChecksum;

/// Frames that are tried at most.
const TRIED: usize = 48;
/// Of these, the first few decide whether the others are looked at.
const FIRST: usize = 5;
/// Bits that must have held before it is no accident, out of some 2¹⁵ things that are tried.
const BITS: usize = 32;
/// Share of the frames for which it must hold: a noisy line spoils some.
const SHARE: f64 = 0.6;

/// A checksum that fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    /// Which of the readings it fits.
    pub(super) reading: usize,
    /// Which checksum.
    pub(super) crc: (CrcName, Option<ByteOrder>),
    /// Its bytes.
    pub(super) bytes: usize,
}

/// Checksums that fit one of several readings of the same frames. A reading is what a checksum covers
/// of each frame, with the checksum behind it. `own`: the byte order that needs no mention, where it is not
/// the algorithm's.
pub(super) fn fitting(readings: &[Vec<Vec<u8>>], own: Option<ByteOrder>) -> Vec<Fit> {
    let readings: Vec<Vec<&[u8]>> = readings.iter().map(|frames| distinct(frames)).collect();
    let mut fits = Vec::new();
    for name in CRC_NAMES.iter().filter_map(|name| CrcName::parse(name)) {
        let mut orders = vec![own];
        for order in [ByteOrder::Little, ByteOrder::Big] {
            orders.extend((own != Some(order)).then_some(Some(order)));
        }
        for order in orders {
            let sum = AnyChecksum::new(Some(name), order);
            let bytes = sum.bytes();
            if bytes == 1 && order != own {
                continue;
            }
            for (reading, frames) in readings.iter().enumerate() {
                let known = fits.iter().any(|fit: &Fit| fit.reading == reading && fit.crc.0 == name);
                if !known && holds_often(&sum, frames, width(name)) {
                    let order = order.filter(|order| own != Some(*order));
                    fits.push(Fit { reading, crc: (name, order), bytes });
                }
            }
        }
    }
    // Wide ones first: that they fit says more.
    fits.sort_by_key(|fit| std::cmp::Reverse(fit.bytes));
    fits
}

/// The same frame again proves nothing.
fn distinct(frames: &[Vec<u8>]) -> Vec<&[u8]> {
    let mut seen = HashSet::new();
    frames.iter().map(Vec::as_slice).filter(|frame| seen.insert(*frame)).take(TRIED).collect()
}

fn holds_often(sum: &AnyChecksum, frames: &[&[u8]], width: usize) -> bool {
    let bytes = sum.bytes();
    let holds = |frame: &&&[u8]| {
        let body = frame.len().checked_sub(bytes).filter(|body| *body > 0);
        body.is_some_and(|body| sum.holds(&frame[..body], &frame[body..]))
    };
    if !frames.iter().take(FIRST).any(|frame| holds(&frame)) {
        return false;
    }
    let held = frames.iter().filter(holds).count();
    held >= 2 && held * width >= BITS && held as f64 >= SHARE * frames.len() as f64
}

fn width(name: CrcName) -> usize {
    usize::from(match name.algorithm() {
        CrcAlgorithm::U8(algorithm) => algorithm.width,
        CrcAlgorithm::U16(algorithm) => algorithm.width,
        CrcAlgorithm::U32(algorithm) => algorithm.width,
        CrcAlgorithm::U64(algorithm) => algorithm.width,
        CrcAlgorithm::U128(algorithm) => algorithm.width,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some frames of a sensor: a counter, slow values, many zeros.
    fn bodies(count: u8) -> Vec<Vec<u8>> {
        (0..count).map(|n| vec![1, n, 0, 0, 100 + n / 2, 0, 200, 0]).collect()
    }

    fn sealed(crc: &str, order: Option<ByteOrder>, count: u8) -> Vec<Vec<u8>> {
        let sum = AnyChecksum::new(CrcName::parse(crc), order);
        let seal = |mut body: Vec<u8>| {
            let at = body.len();
            body.resize(at + sum.bytes(), 0);
            let (covered, tail) = body.split_at_mut(at);
            sum.write(covered, tail);
            body
        };
        bodies(count).into_iter().map(seal).collect()
    }

    #[test]
    fn every_checksum_of_the_catalogue_is_found_in_either_order() {
        // A few from each width: all of them twice take a minute without optimisation.
        for name in CRC_NAMES.iter().step_by(9) {
            for order in [None, Some(ByteOrder::Big)] {
                let frames = sealed(name, order, 24);
                let fits = fitting(&[bodies(24), frames], None);
                let found = fits.iter().find(|fit| fit.crc.0.as_str() == *name);
                assert_eq!(found.map(|fit| fit.reading), Some(1), "{name} {order:?}: {fits:?}");
                assert_eq!(fits[0].crc.0.as_str(), *name, "{fits:?}");
            }
        }
    }

    #[test]
    fn a_third_of_damaged_frames_hides_nothing() {
        let mut frames = sealed("crc16_modbus", None, 30);
        frames.iter_mut().step_by(3).for_each(|frame| frame[3] ^= 0x10);
        let fits = fitting(&[frames], None);
        assert_eq!(fits[0].crc.0.as_str(), "CRC-16/MODBUS");
    }

    #[test]
    fn a_frame_that_repeats_and_frames_without_a_checksum_prove_nothing() {
        let same = vec![sealed("crc32_iso_hdlc", None, 1).remove(0); 40];
        assert_eq!(fitting(&[same], None), []);
        assert_eq!(fitting(&[bodies(60)], None), []);
        assert_eq!(fitting(&[vec![vec![0; 8]; 40]], None), []);
    }
}
