//! Pixels from pixels: the filters of Pillow and those of OpenCV, to one grey level.
//!
//! `box`, `bilinear`, `bicubic`, `lanczos` are Pillow's `Image.resize`: kernels widen when they shrink,
//! the horizontal pass comes first and is rounded to 8 bits. `*_fast` are OpenCV's `INTER_LINEAR` and
//! `INTER_CUBIC` (also torch's `interpolate(antialias=False)`): fixed kernels, borders repeated.
//! `nearest` is Pillow's: the source pixel under each centre. `testdata/` holds what they give.
//! Not here: which part of a picture, and where it goes (`image`).

use fast_image_resize as fir;
use fir::images::{TypedImage, TypedImageRef};

use crate::config::card::Filter;

/// Width and height in pixels, at least 1 each.
pub(super) type Size = (usize, usize);

/// Keeps its scratch from picture to picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Resizer {
    convolve: fir::Resizer,
    narrowed: Vec<u8>,
    interpolated: Vec<f32>,
}

impl Resizer {
    /// Fills `out` with `source` at the size `to`. `source` holds `from.0 × from.1 × channels` bytes;
    /// `channels` is 1 or 3.
    pub(super) fn resize(
        &mut self,
        source: &[u8],
        from: Size,
        channels: usize,
        to: Size,
        filter: Filter,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        if from == to {
            out.extend_from_slice(source);
            return;
        }
        out.resize(to.0 * to.1 * channels, 0);
        let kernel = match filter {
            Filter::Nearest => return nearest(source, from, channels, to, out),
            Filter::BilinearFast => return self.interpolate(source, from, channels, to, linear, out),
            Filter::BicubicFast => return self.interpolate(source, from, channels, to, cubic, out),
            Filter::Box => fir::FilterType::Box,
            Filter::Bilinear => fir::FilterType::Bilinear,
            Filter::Bicubic => fir::FilterType::CatmullRom,
            Filter::Lanczos => fir::FilterType::Lanczos3,
        };
        // Left to itself the library goes vertically first, and its rounding in between then differs
        // from Pillow's by more than one level where a filter overshoots.
        let between = (to.0, from.1);
        let mut narrowed = std::mem::take(&mut self.narrowed);
        narrowed.resize(between.0 * between.1 * channels, 0);
        if channels == 1 {
            self.convolve::<fir::pixels::U8>(source, from, between, kernel, &mut narrowed);
            self.convolve::<fir::pixels::U8>(&narrowed, between, to, kernel, out);
        } else {
            self.convolve::<fir::pixels::U8x3>(source, from, between, kernel, &mut narrowed);
            self.convolve::<fir::pixels::U8x3>(&narrowed, between, to, kernel, out);
        }
        self.narrowed = narrowed;
    }

    /// By type of pixel: `fir::Resizer::resize` looks it up, and links its code for all sixteen.
    fn convolve<P: fir::PixelTrait>(
        &mut self,
        source: &[u8],
        from: Size,
        to: Size,
        kernel: fir::FilterType,
        out: &mut [u8],
    ) {
        const FITS: &str = "the caller gives buffers of exactly this size";
        let source = TypedImageRef::<P>::from_buffer(from.0 as u32, from.1 as u32, source).expect(FITS);
        let mut out = TypedImage::<P>::from_buffer(to.0 as u32, to.1 as u32, out).expect(FITS);
        let options =
            fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(kernel)).use_alpha(false);
        self.convolve.resize_typed(&source, &mut out, &options).expect("crop boxes are the whole picture");
    }

    /// Fixed kernels: only the source rows and columns under them are looked at.
    fn interpolate(
        &mut self,
        source: &[u8],
        from: Size,
        channels: usize,
        to: Size,
        weights: fn(f64) -> [f64; 4],
        out: &mut [u8],
    ) {
        let (across, down) = (taps(from.0, to.0, weights), taps(from.1, to.1, weights));
        let row = to.0 * channels;
        let mut wanted = vec![false; from.1];
        for tap in &down {
            tap.place
                .iter()
                .zip(&tap.weight)
                .filter(|(_, weight)| **weight != 0.0)
                .for_each(|(&at, _)| wanted[at] = true);
        }
        self.interpolated.resize(from.1 * row, 0.0);
        let narrowed = self.interpolated.chunks_exact_mut(row);
        for ((line, narrow), _) in
            source.chunks_exact(from.0 * channels).zip(narrowed).zip(&wanted).filter(|(_, w)| **w)
        {
            for (pixel, tap) in narrow.chunks_exact_mut(channels).zip(&across) {
                for (channel, value) in pixel.iter_mut().enumerate() {
                    *value = (0..4)
                        .map(|i| f32::from(line[tap.place[i] * channels + channel]) * tap.weight[i])
                        .sum();
                }
            }
        }
        let mut sums = vec![0.0f32; row];
        for (line, tap) in out.chunks_exact_mut(row).zip(&down) {
            sums.fill(0.5); // rounds half up
            for (&at, &weight) in tap.place.iter().zip(&tap.weight).filter(|(_, weight)| **weight != 0.0) {
                let narrow = &self.interpolated[at * row..(at + 1) * row];
                sums.iter_mut().zip(narrow).for_each(|(sum, value)| *sum += value * weight);
            }
            // The cast saturates at 0 and 255.
            line.iter_mut().zip(&sums).for_each(|(byte, sum)| *byte = *sum as u8);
        }
    }
}

fn nearest(source: &[u8], from: Size, channels: usize, to: Size, out: &mut [u8]) {
    let (across, down) = (under_centres(from.0, to.0), under_centres(from.1, to.1));
    for (line, row) in out.chunks_exact_mut(to.0 * channels).zip(down) {
        for (pixel, column) in line.chunks_exact_mut(channels).zip(&across) {
            let at = (row * from.0 + column) * channels;
            pixel.copy_from_slice(&source[at..at + channels]);
        }
    }
}

/// The source pixel under the centre of each output pixel. Steps are added up as Pillow does it: where
/// a centre falls between two pixels, the rounding of the sum decides.
fn under_centres(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut place = step * 0.5;
    (0..to)
        .map(|_| {
            let at = (place as usize).min(from - 1);
            place += step;
            at
        })
        .collect()
}

/// Four source pixels and how much each counts.
struct Tap {
    place: [usize; 4],
    weight: [f32; 4],
}

/// The taps of each output pixel along one axis.
fn taps(from: usize, to: usize, weights: fn(f64) -> [f64; 4]) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale - 0.5;
            let left = centre.floor();
            let last = (from - 1) as f64;
            Tap {
                place: [-1.0, 0.0, 1.0, 2.0].map(|offset| (left + offset).clamp(0.0, last) as usize),
                weight: weights(centre - left).map(|weight| weight as f32),
            }
        })
        .collect()
}

fn linear(t: f64) -> [f64; 4] {
    [0.0, 1.0 - t, t, 0.0]
}

fn cubic(t: f64) -> [f64; 4] {
    // OpenCV's and torch's; Pillow's convolution has -0.5.
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const FILTERS: [(&str, Filter); 7] = [
        ("nearest", Filter::Nearest),
        ("box", Filter::Box),
        ("bilinear", Filter::Bilinear),
        ("bilinear_fast", Filter::BilinearFast),
        ("bicubic", Filter::Bicubic),
        ("bicubic_fast", Filter::BicubicFast),
        ("lanczos", Filter::Lanczos),
    ];

    /// A picture of `testdata/resize.json` and what Pillow and OpenCV make of it, by filter.
    #[derive(serde::Deserialize)]
    struct Case {
        channels: usize,
        from: Size,
        to: Size,
        source: String,
        expected: BTreeMap<String, String>,
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn each_filter_gives_what_pillow_or_opencv_give() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("testdata/resize.json")).unwrap();
        assert!(cases.len() >= 8);
        let mut resizer = Resizer::default();
        let mut out = Vec::new();
        for case in &cases {
            let source = bytes(&case.source);
            for (name, filter) in FILTERS {
                resizer.resize(&source, case.from, case.channels, case.to, filter, &mut out);
                let expected = bytes(&case.expected[name]);
                assert_eq!(out.len(), expected.len());
                let off = out.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                let allowed = if filter == Filter::Nearest { 0 } else { 1 };
                assert!(off <= allowed, "{name} {:?} to {:?}: off by {off}", case.from, case.to);
            }
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let source: Vec<u8> = (0..60).collect();
        let mut out = Vec::new();
        for filter in [Filter::Nearest, Filter::Lanczos, Filter::BicubicFast] {
            Resizer::default().resize(&source, (5, 4), 3, (5, 4), filter, &mut out);
            assert_eq!(out, source);
        }
    }

    #[test]
    fn one_pixel_fills_any_size_and_any_size_fits_one_pixel() {
        let mut out = Vec::new();
        for (_, filter) in FILTERS {
            Resizer::default().resize(&[9, 99, 199], (1, 1), 3, (7, 5), filter, &mut out);
            assert!(out.chunks(3).all(|pixel| pixel == [9, 99, 199]), "{filter:?}");
            Resizer::default().resize(&[50; 1000 * 3], (1000, 3), 1, (1, 1), filter, &mut out);
            assert_eq!(out, [50], "{filter:?}");
        }
    }
}
