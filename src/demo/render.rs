//! A production line to look at when there is none: machined plates on a conveyor belt, as a camera
//! above it sees them, with known defects.
//!
//! Promise: a part depends on the line's seed, its share of defects and the part's number only, and its
//! pixels are the same bytes on every machine. The class is what a person would say: a defect lies
//! on the metal and is strong enough to be seen. No two shots share light, pose or noise.
//! `models/part-inspection` is trained on lines with other seeds: [`TRAINING_SEEDS`].
//!
//! ```text
//! workpiece (the drawing) ─┐
//! flaw (what is wrong) ────┼─► scene (pose, light, lens, sensor) ─► Part
//! texture, rng ────────────┘
//! ```

mod flaw;
mod rng;
mod scene;
mod texture;
mod workpiece;

use std::ops::Range;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::base::Image;
use flaw::Flaw;
use rng::Rng;
use scene::{Shot, Surfaces};

/// Pixels across each picture.
pub const WIDTH: usize = 320;
/// Pixels down each picture.
pub const HEIGHT: usize = 240;

/// Seeds whose lines `models/part-inspection/train.py` has seen; a demo must not use them.
pub const TRAINING_SEEDS: Range<u64> = 9_000_000_000..9_000_001_000;

/// What is wrong with a part: the classes of `models/part-inspection`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// Nothing.
    Ok,
    /// A tool slipped over the surface.
    Scratch,
    /// One or several small craters.
    Pit,
    /// A bore or a slot was not made.
    MissingHole,
    /// Dried coolant or rust.
    Stain,
}

impl Defect {
    /// Every class, in the model's order.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Scratch, Self::Pit, Self::MissingHole, Self::Stain];

    /// The model's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Scratch => "scratch",
            Self::Pit => "pit",
            Self::MissingHole => "missing_hole",
            Self::Stain => "stain",
        }
    }
}

/// An upright rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Columns; at least 1.
    pub width: usize,
    /// Rows; at least 1.
    pub height: usize,
}

/// A line that makes parts. Building one costs a few milliseconds; share it.
#[derive(Clone, Debug)]
pub struct Line {
    seed: u64,
    defects_per_mille: u32,
    surfaces: Surfaces,
}

/// One part, as the camera saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What a person would say.
    pub truth: Defect,
    /// Where the defect is; `None` for a good part.
    pub region: Option<Region>,
    /// `WIDTH × HEIGHT`, RGB.
    pub picture: Image,
}

impl Line {
    /// A line of this seed on which `defects_per_mille` of 1000 parts are bad, each kind as often;
    /// more than 1000 is 1000.
    pub fn new(seed: u64, defects_per_mille: u32) -> Self {
        Self { seed, defects_per_mille: defects_per_mille.min(1000), surfaces: Surfaces::new(seed) }
    }

    /// The class of part number `index`, without rendering it.
    pub fn truth(&self, index: u64) -> Defect {
        self.begin(index).0
    }

    /// Part number `index`; parts may be asked for in any order.
    pub fn part(&self, index: u64) -> Part {
        let (truth, mut rng) = self.begin(index);
        let shot = Shot::draw(&mut rng);
        let flaw = Flaw::draw(truth, &mut rng);
        let pixels = shot.expose(&flaw, &self.surfaces);
        Part {
            truth,
            region: flaw.extent_mm().map(|extent| shot.region(extent)),
            picture: Image { width: WIDTH, height: HEIGHT, channels: 3, pixels },
        }
    }

    fn begin(&self, index: u64) -> (Defect, Rng) {
        let mut rng = Rng::new(self.seed, index);
        let bad = rng.below(1000) < self.defects_per_mille;
        // Drawn for good parts as well, so that a part's looks do not hang on the share of bad ones.
        let kind = Defect::ALL[1 + rng.below(4) as usize];
        (if bad { kind } else { Defect::Ok }, rng)
    }
}

impl Part {
    /// The picture as the camera sends it; `quality` 1 to 100.
    pub fn jpeg(&self, quality: u8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 * 1024);
        let mut encoder = Encoder::new(&mut bytes, quality.clamp(1, 100));
        // Colours as sharp as light, as the model's training pictures had them.
        encoder.set_sampling_factor(SamplingFactor::F_1_1);
        encoder
            .encode(&self.picture.pixels, WIDTH as u16, HEIGHT as u16, ColorType::Rgb)
            .expect("320 × 240 RGB fits JPEG, and a Vec takes what it is given");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a, enough to pin bytes.
    fn digest(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    #[test]
    fn a_part_is_the_same_bytes_whenever_and_wherever_it_is_made() {
        let line = Line::new(7, 400);
        let parts = [0, 1, 2, 3, 1_000_000].map(|index| line.part(index));
        assert_eq!(parts[1], Line::new(7, 400).part(1));
        // Change these only together with the weights in models/part-inspection: the model knows
        // the line as it was then.
        assert_eq!(
            parts.map(|part| digest(&part.picture.pixels)),
            [
                7_901_852_460_435_094_341,
                728_321_859_062_027_617,
                1_077_622_069_752_970_163,
                15_794_679_878_834_974_019,
                9_856_053_301_283_254_363,
            ]
        );
    }

    #[test]
    fn the_model_knows_the_classes_in_the_same_order() {
        let card = include_str!("../../models/part-inspection/model.toml");
        let card: toml::Table = card.parse().expect("the card is TOML");
        let labels = card["output"]["labels"].as_array().expect("labels are a list");
        let labels: Vec<_> = labels.iter().map(|label| label.as_str()).collect();
        assert_eq!(labels, Defect::ALL.map(|defect| Some(defect.label())));
    }

    #[test]
    fn the_share_of_defects_is_kept_and_every_kind_comes() {
        let line = Line::new(3, 400);
        let mut counts = [0; 5];
        for index in 0..20_000 {
            counts[line.truth(index) as usize] += 1;
        }
        assert!((11_700..12_300).contains(&counts[0]), "{counts:?}");
        assert!(counts[1..].iter().all(|n| (1_800..2_200).contains(n)), "{counts:?}");
    }

    #[test]
    fn a_line_without_defects_and_one_of_nothing_else() {
        let (good, bad) = (Line::new(1, 0), Line::new(1, u32::MAX));
        for index in 0..200 {
            assert_eq!(good.truth(index), Defect::Ok);
            assert_ne!(bad.truth(index), Defect::Ok);
        }
        let part = bad.part(5);
        assert_eq!(part.truth, bad.truth(5));
        let region = part.region.expect("it is bad");
        assert!(region.x + region.width <= WIDTH && region.y + region.height <= HEIGHT, "{region:?}");
        assert_eq!(good.part(5).region, None);
    }

    #[test]
    fn a_defect_changes_pixels_inside_its_region_and_nowhere_else_but_for_noise() {
        for (seed, index) in (0..4).flat_map(|seed| (0..10).map(move |index| (seed, index))) {
            let bad = Line::new(seed, 1000).part(index);
            let region = bad.region.expect("it is bad");
            // The same shot without its flaw.
            let (_, mut rng) = Line::new(seed, 0).begin(index);
            let good = Shot::draw(&mut rng).expose(&Flaw::None, &Surfaces::new(seed));
            let (mut strongest, mut outside) = (0, 0);
            for y in 0..HEIGHT {
                for x in 0..WIDTH {
                    let at = (y * WIDTH + x) * 3 + 1;
                    let change = i32::from(bad.picture.pixels[at]) - i32::from(good[at]);
                    let near = (region.x..region.x + region.width).contains(&x)
                        && (region.y..region.y + region.height).contains(&y);
                    match near {
                        true => strongest = strongest.max(change.abs()),
                        false => outside = outside.max(change.abs()),
                    }
                }
            }
            assert!(strongest >= 30, "seed {seed} part {index}: {:?} of {strongest} levels", bad.truth);
            // Both shots have the same noise; the lens spreads a region's border by a pixel or two.
            assert!(outside <= 12, "seed {seed} part {index}: {:?} spills {outside} levels", bad.truth);
        }
    }

    #[test]
    fn a_jpeg_decodes_to_nearly_the_picture() {
        let part = Line::new(2, 400).part(11);
        let decoded = image::load_from_memory(&part.jpeg(92)).expect("it was encoded").to_rgb8();
        assert_eq!(decoded.dimensions(), (WIDTH as u32, HEIGHT as u32));
        let difference: u64 =
            decoded.iter().zip(&part.picture.pixels).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(difference / (part.picture.pixels.len() as u64) < 4, "mean difference is 4 levels or more");
    }
}
