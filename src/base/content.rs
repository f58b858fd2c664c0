//! A frame's payload, decoded: pixels or rows of numbers; and the features made of it.

use alloc::vec::Vec;

use super::Tensor;

/// What decoding makes of a payload.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A picture.
    Image(Image),
    /// Samples or table rows.
    Rows(Rows),
}

/// An upright picture, 8 bits a channel, rows from the top, no padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `height × width × channels` bytes.
    pub pixels: Vec<u8>,
}

/// Rows of numbers in the card's column order; NaN stands for a missing value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Numbers in a row.
    pub columns: usize,
    /// Row after row, oldest first.
    pub values: Vec<f64>,
}

impl Rows {
    /// Each row, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.columns.max(1))
    }
}

/// A filled model input, with what interpretation may hold against the scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// The input tensor as the card lays it out.
    pub input: Tensor,
    /// The newest row in its own units (imputed, not scaled): columns, then derived ones. Empty
    /// for pictures.
    pub observed: Vec<f64>,
}
