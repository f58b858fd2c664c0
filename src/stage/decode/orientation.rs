//! Which way up a camera was held: EXIF's orientation, read and undone.
//!
//! Source: EXIF 3.0 (CIPA DC-008), tag 0x0112, in the zeroth IFD of a TIFF structure.
//! Promise: a block that cannot be read leaves the picture as it is stored; it says nothing about pixels.

use crate::base::Image;

const TAG: u16 = 0x0112;
/// Its type: an unsigned number of 16 bits.
const SHORT: u16 = 3;
const ENTRY_BYTES: usize = 12;

/// Where an upright picture's pixel stands in the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation {
    /// Rows of one are columns of the other.
    swapped: bool,
    /// Columns of the stored picture count from its right edge.
    from_right: bool,
    /// Rows of the stored picture count from its bottom.
    from_bottom: bool,
}

impl Orientation {
    /// What an EXIF block asks for, where it asks for anything.
    pub(super) fn read(exif: &[u8]) -> Option<Self> {
        let word: fn([u8; 2]) -> u16 = match exif.first_chunk()? {
            b"II\x2a\0" => u16::from_le_bytes,
            b"MM\0\x2a" => u16::from_be_bytes,
            _ => return None,
        };
        let short = |at: usize| exif.get(at..)?.first_chunk().map(|bytes| word(*bytes));
        let long = |at: usize| {
            let halves = [short(at)?, short(at.checked_add(2)?)?].map(u32::from);
            let [high, low] = if exif[0] == b'M' { halves } else { [halves[1], halves[0]] };
            usize::try_from(high << 16 | low).ok()
        };
        let entries = long(4)?;
        let count = short(entries)?;
        let mut at = entries.checked_add(2)?;
        for _ in 0..count {
            // tag, type, count, value: all of it, or the block is cut.
            exif.get(at..)?.first_chunk::<ENTRY_BYTES>()?;
            if short(at)? == TAG && short(at + 2)? == SHORT && long(at + 4)? == 1 {
                return Self::numbered(short(at + 8)?);
            }
            at += ENTRY_BYTES;
        }
        None
    }

    fn numbered(number: u16) -> Option<Self> {
        (1..=8).contains(&number).then_some(Self {
            swapped: number >= 5,
            from_right: matches!(number, 2 | 3 | 7 | 8),
            from_bottom: matches!(number, 3 | 4 | 6 | 7),
        })
    }

    /// The picture as its camera saw it.
    pub(super) fn upright(self, image: Image) -> Image {
        let Self { swapped, from_right, from_bottom } = self;
        if !(swapped || from_right || from_bottom) {
            return image;
        }
        let Image { width, height, channels, pixels } = image;
        let (columns, rows) = if swapped { (height, width) } else { (width, height) };
        let mut turned = Vec::with_capacity(pixels.len());
        for row in 0..rows {
            for column in 0..columns {
                let (x, y) = if swapped { (row, column) } else { (column, row) };
                let x = if from_right { width - 1 - x } else { x };
                let y = if from_bottom { height - 1 - y } else { y };
                let at = (y * width + x) * channels;
                turned.extend_from_slice(&pixels[at..at + channels]);
            }
        }
        Image { width: columns, height: rows, channels, pixels: turned }
    }
}

#[cfg(test)]
mod tests {
    use image::metadata::Orientation as Opinion;
    use image::{DynamicImage, RgbImage};
    use proptest::prelude::*;

    use super::*;

    /// A block with two entries, of which the second is the orientation.
    fn exif(number: u16, big: bool) -> Vec<u8> {
        let short = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let long = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let entry = |tag: u16, value: u16| {
            [&short(tag)[..], &short(SHORT), &long(1), &short(value), &short(0)].concat()
        };
        let mark = if big { *b"MM\0\x2a" } else { *b"II\x2a\0" };
        [&mark[..], &long(8), &short(2), &entry(0x0128, 2), &entry(TAG, number), &long(0)].concat()
    }

    #[test]
    fn each_of_the_eight_orientations_is_undone_as_another_library_does_it() {
        for (number, big) in (1..=8).flat_map(|number| [(number, true), (number, false)]) {
            let block = exif(number, big);
            for (width, height, channels) in [(3, 2, 3), (2, 5, 1), (1, 1, 3)] {
                let pixels: Vec<u8> = (0..(width * height * channels) as u8).collect();
                let ours = Orientation::read(&block).unwrap().upright(Image {
                    width,
                    height,
                    channels,
                    pixels: pixels.clone(),
                });
                let (w, h) = (width as u32, height as u32);
                let mut theirs = match channels {
                    1 => DynamicImage::ImageLuma8(image::GrayImage::from_raw(w, h, pixels).unwrap()),
                    _ => DynamicImage::ImageRgb8(RgbImage::from_raw(w, h, pixels).unwrap()),
                };
                theirs.apply_orientation(Opinion::from_exif_chunk(&block).unwrap());
                assert_eq!(
                    (ours.width as u32, ours.height as u32, ours.pixels),
                    (theirs.width(), theirs.height(), theirs.into_bytes()),
                    "orientation {number}"
                );
            }
        }
    }

    #[test]
    fn a_number_that_is_none_of_the_eight_asks_for_nothing() {
        for number in [0, 9, 256, u16::MAX] {
            assert_eq!(Orientation::read(&exif(number, true)), None);
        }
    }

    proptest! {
        #[test]
        fn damaged_blocks_are_read_as_another_library_reads_them(
            number in 0u16..10, big: bool, cut in 0usize..40, at in 0usize..40, byte: u8,
        ) {
            let mut block = exif(number, big);
            if let Some(place) = block.get_mut(at) {
                *place = byte;
            }
            block.truncate(cut.max(8));
            // Theirs takes a number above 255 for 255, which is none either.
            let theirs = Opinion::from_exif_chunk(&block).map(|opinion| u16::from(opinion.to_exif()));
            prop_assert_eq!(Orientation::read(&block), theirs.and_then(Orientation::numbered));
        }
    }
}
