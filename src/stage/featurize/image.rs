//! A picture to a filled tensor: cut or scaled to fit, colours as the model wants them, normalised.
//!
//! In Python terms: `convert("L")` where the card says grey, `crop` for `centre_crop`, `resize`, then
//! `(pixel * scale - mean) / std` in 32-bit floats.
//! Not here: the filters (`resize`).

use super::error::{FeaturizeError, FeaturizeSetupError};
use super::resize::{Resizer, Size};
use super::shape::Element;
use crate::base::{Data, Image, Tensor};
use crate::config::card::{Channels, Fit, ImageFeatures, ImageLayout};

/// Fills inputs of one shape; keeps its scratch from picture to picture.
#[derive(Clone, Debug)]
pub(super) struct Filler {
    features: ImageFeatures,
    shape: Vec<usize>,
    /// For each channel of the model what each byte becomes; `None`: bytes stay bytes.
    levels: Option<Vec<[f32; 256]>>,
    resizer: Resizer,
    cut: Vec<u8>,
    fitted: Vec<u8>,
}

impl Filler {
    /// `shape` has been checked against the card already.
    pub(super) fn new(
        features: &ImageFeatures,
        shape: &[usize],
        element: Element,
    ) -> Result<Filler, FeaturizeSetupError> {
        let complain = |what: String| Err(FeaturizeSetupError::Card { what });
        let ImageFeatures { width, height, scale, mean, std, .. } = features;
        let channels = features.channels.count();
        let sides = 1..=usize::from(u16::MAX);
        if !sides.contains(width) || !sides.contains(height) {
            return complain(format!(
                "the picture is to become {width}x{height}; each side must be 1 to 65535"
            ));
        }
        for (key, values) in [("mean", mean), ("std", std)] {
            if values.len() != channels {
                return complain(format!(
                    "{key} has {} values; the model has {channels} channels",
                    values.len()
                ));
            }
        }
        let as_they_are = *scale == 1.0 && mean.iter().all(|x| *x == 0.0) && std.iter().all(|x| *x == 1.0);
        let levels = if element == Element::U8 {
            if !as_they_are {
                return complain(
                    "a model that takes bytes cannot take scaled ones; use scale 1, mean 0, std 1".into(),
                );
            }
            None
        } else {
            let levels: Vec<[f32; 256]> = mean
                .iter()
                .zip(std)
                .map(|(mean, std)| std::array::from_fn(|byte| (byte as f32 * scale - mean) / std))
                .collect();
            if levels.iter().flatten().any(|level| !level.is_finite()) {
                return complain(format!(
                    "scale {scale}, mean {mean:?} and std {std:?} do not give finite numbers"
                ));
            }
            Some(levels)
        };
        Ok(Filler {
            features: features.clone(),
            shape: shape.to_vec(),
            levels,
            resizer: Resizer::default(),
            cut: Vec::new(),
            fitted: Vec::new(),
        })
    }

    /// Fills one input.
    pub(super) fn fill(&mut self, image: &Image) -> Result<Tensor, FeaturizeError> {
        let &Image { width, height, channels, ref pixels } = image;
        let whole = width.checked_mul(height).and_then(|n| n.checked_mul(channels));
        let sides = 1..=u32::MAX as usize;
        if !matches!(channels, 1 | 3)
            || whole != Some(pixels.len())
            || !sides.contains(&width)
            || !sides.contains(&height)
        {
            return Err(FeaturizeError::BadPicture { width, height, channels, bytes: pixels.len() });
        }
        let model = (self.features.width, self.features.height);
        let region = match self.features.fit {
            Fit::Exact if (width, height) != model => {
                return Err(FeaturizeError::WrongSize {
                    seen_width: width,
                    seen_height: height,
                    width: model.0,
                    height: model.1,
                });
            }
            Fit::CentreCrop => centre((width, height), model),
            _ => Region { left: 0, top: 0, size: (width, height) },
        };
        let size = match self.features.fit {
            Fit::Letterbox { .. } => letterboxed((width, height), model),
            _ => model,
        };

        let to_grey = self.features.channels == Channels::Grey && channels == 3;
        let (source, channels) = if to_grey || region.size != (width, height) {
            self.cut.clear();
            let lines = pixels.chunks_exact(width * channels).skip(region.top).take(region.size.1);
            for line in lines {
                let line = &line[region.left * channels..(region.left + region.size.0) * channels];
                if to_grey {
                    self.cut.extend(line.as_chunks::<3>().0.iter().map(luma));
                } else {
                    self.cut.extend_from_slice(line);
                }
            }
            (self.cut.as_slice(), if to_grey { 1 } else { channels })
        } else {
            (pixels.as_slice(), channels)
        };
        let fitted = if size == region.size {
            source
        } else {
            self.resizer.resize(source, region.size, channels, size, self.features.filter, &mut self.fitted);
            &self.fitted
        };
        let picture = Placed { pixels: fitted, channels, size, model };
        let data = match &self.levels {
            None => Data::U8(picture.spread(&self.features, |_, byte| byte)),
            Some(levels) => {
                Data::F32(picture.spread(&self.features, |channel, byte| levels[channel][usize::from(byte)]))
            }
        };
        Ok(Tensor { shape: self.shape.clone(), data })
    }
}

/// Pillow's `convert("L")`: ITU-R 601 in 16 bits.
fn luma(&[red, green, blue]: &[u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16) as u8
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Region {
    left: usize,
    top: usize,
    size: Size,
}

/// The largest part in the middle with the model's proportions, to whole pixels.
fn centre((width, height): Size, model: Size) -> Region {
    let rounded = |side: usize, num: usize, den: usize| {
        let (side, num, den) = (side as u64, num as u64, den as u64);
        ((side * num + den / 2) / den).max(1) as usize
    };
    let size = if width as u64 * model.1 as u64 > height as u64 * model.0 as u64 {
        (rounded(height, model.0, model.1).min(width), height)
    } else {
        (width, rounded(width, model.1, model.0).min(height))
    };
    Region { left: (width - size.0) / 2, top: (height - size.1) / 2, size }
}

/// The whole picture inside the model's, as YOLO does it: one scale, sides rounded.
fn letterboxed((width, height): Size, model: Size) -> Size {
    let scale = (model.0 as f64 / width as f64).min(model.1 as f64 / height as f64);
    // Half to even, as Python's round.
    let side = |side: usize, most: usize| ((side as f64 * scale).round_ties_even() as usize).clamp(1, most);
    (side(width, model.0), side(height, model.1))
}

/// Pixels of `size`, to stand in the middle of a picture of the model's size.
struct Placed<'a> {
    pixels: &'a [u8],
    channels: usize,
    size: Size,
    model: Size,
}

impl Placed<'_> {
    /// The tensor's elements in the card's layout and colour order.
    fn spread<T: Copy + Default>(&self, features: &ImageFeatures, level: impl Fn(usize, u8) -> T) -> Vec<T> {
        let (width, height) = self.model;
        let wanted = features.channels.count();
        let pad = match features.fit {
            Fit::Letterbox { pad } => pad,
            _ => 0, // nothing is left to pad
        };
        let left = (width - self.size.0) / 2;
        let top = (height - self.size.1) / 2;
        // Which channel of the picture the model's channel is.
        let from = |channel: usize| match (self.channels, features.channels) {
            (1, _) => 0,
            (_, Channels::Bgr) => 2 - channel,
            _ => channel,
        };
        // Steps from one pixel, and from one channel, to the next.
        let (pixel_step, channel_step) = match features.layout {
            ImageLayout::Nchw => (1, width * height),
            ImageLayout::Nhwc => (wanted, 1),
        };
        let mut out = vec![T::default(); width * height * wanted];
        let padded = self.size != self.model;
        for channel in 0..wanted {
            let plane = &mut out[channel * channel_step..];
            if padded {
                let grey = level(channel, pad);
                plane.iter_mut().step_by(pixel_step).take(width * height).for_each(|x| *x = grey);
            }
            for (y, line) in self.pixels.chunks_exact(self.size.0 * self.channels).enumerate() {
                let start = ((top + y) * width + left) * pixel_step;
                let bytes = line[from(channel)..].iter().step_by(self.channels);
                for (x, byte) in plane[start..].iter_mut().step_by(pixel_step).zip(bytes) {
                    *x = level(channel, *byte);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::card::Filter;

    pub(super) fn features(width: usize, height: usize, channels: Channels, fit: Fit) -> ImageFeatures {
        let count = channels.count();
        ImageFeatures {
            input: "x".into(),
            width,
            height,
            channels,
            fit,
            filter: Filter::Nearest,
            layout: ImageLayout::Nchw,
            scale: 1.0,
            mean: vec![0.0; count],
            std: vec![1.0; count],
        }
    }

    fn filled(features: &ImageFeatures, image: &Image) -> Vec<f32> {
        let mut filler = Filler::new(features, &[1], Element::F32).unwrap();
        filler.fill(image).unwrap().as_f32().unwrap().to_vec()
    }

    fn rgb(width: usize, height: usize) -> Image {
        let pixels = (0..width * height * 3).map(|i| (i * 7 % 256) as u8).collect();
        Image { width, height, channels: 3, pixels }
    }

    #[test]
    fn layouts_and_colour_orders_hold_the_same_pixels() {
        let image = Image { width: 2, height: 1, channels: 3, pixels: vec![1, 2, 3, 4, 5, 6] };
        let mut card = features(2, 1, Channels::Rgb, Fit::Exact);
        assert_eq!(filled(&card, &image), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        card.layout = ImageLayout::Nhwc;
        assert_eq!(filled(&card, &image), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        card.channels = Channels::Bgr;
        assert_eq!(filled(&card, &image), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        card.layout = ImageLayout::Nchw;
        assert_eq!(filled(&card, &image), [3.0, 6.0, 2.0, 5.0, 1.0, 4.0]);
    }

    #[test]
    fn normalisation_is_that_of_the_model_s_channel_and_not_the_picture_s() {
        let image = Image { width: 1, height: 1, channels: 3, pixels: vec![10, 20, 255] };
        let mut card = features(1, 1, Channels::Bgr, Fit::Exact);
        (card.scale, card.mean, card.std) = (1.0 / 255.0, vec![0.5, 0.25, 0.0], vec![0.5, 1.0, 2.0]);
        let unit = 1.0f32 / 255.0;
        assert_eq!(
            filled(&card, &image),
            [(255.0 * unit - 0.5) / 0.5, 20.0 * unit - 0.25, 10.0 * unit / 2.0]
        );
    }

    #[test]
    fn grey_is_pillow_s_luma_and_grey_pictures_serve_colour_models() {
        let image =
            Image { width: 3, height: 1, channels: 3, pixels: vec![255, 0, 0, 10, 200, 30, 255, 255, 255] };
        assert_eq!(filled(&features(3, 1, Channels::Grey, Fit::Exact), &image), [76.0, 124.0, 255.0]);
        let grey = Image { width: 2, height: 1, channels: 1, pixels: vec![7, 8] };
        assert_eq!(filled(&features(2, 1, Channels::Rgb, Fit::Exact), &grey), [7.0, 8.0, 7.0, 8.0, 7.0, 8.0]);
    }

    #[test]
    fn a_letterbox_is_centred_between_bars_of_the_given_grey() {
        let image = Image { width: 4, height: 2, channels: 1, pixels: vec![9; 8] };
        let mut card = features(4, 5, Channels::Grey, Fit::Letterbox { pad: 114 });
        let expected = [[114.0; 4], [9.0; 4], [9.0; 4], [114.0; 4], [114.0; 4]];
        assert_eq!(filled(&card, &image), expected.concat());
        // Scaled by 1.5; the odd pixel of the bars goes below and to the right.
        (card.width, card.height) = (6, 6);
        let lines = filled(&card, &image);
        let bars: Vec<bool> = lines.chunks(6).map(|line| line == [114.0; 6]).collect();
        assert_eq!(bars, [true, false, false, false, true, true]);
        assert_eq!(letterboxed((1280, 720), (640, 640)), (640, 360));
        assert_eq!(letterboxed((1, 1000), (64, 64)), (1, 64));
        // 5 × 0.5 = 2.5, which Python rounds to 2.
        assert_eq!(letterboxed((5, 10), (5, 5)), (2, 5));
    }

    #[test]
    fn a_centre_crop_takes_the_middle_before_it_scales() {
        assert_eq!(centre((640, 480), (64, 64)), Region { left: 80, top: 0, size: (480, 480) });
        assert_eq!(centre((480, 640), (64, 32)), Region { left: 0, top: 200, size: (480, 240) });
        assert_eq!(centre((64, 64), (64, 64)), Region { left: 0, top: 0, size: (64, 64) });
        assert_eq!(centre((1, 1000), (64, 64)), Region { left: 0, top: 499, size: (1, 1) });
        let image = Image { width: 4, height: 2, channels: 1, pixels: vec![1, 2, 3, 4, 5, 6, 7, 8] };
        assert_eq!(filled(&features(2, 2, Channels::Grey, Fit::CentreCrop), &image), [2.0, 3.0, 6.0, 7.0]);
        // Colour, cut and turned grey in one go.
        let image = rgb(5, 3);
        let cut = filled(&features(3, 3, Channels::Grey, Fit::CentreCrop), &image);
        let middle = |x: usize, y: usize| luma(image.pixels[(y * 5 + x) * 3..].first_chunk().unwrap());
        assert_eq!(cut[0], f32::from(middle(1, 0)));
        assert_eq!(cut[8], f32::from(middle(3, 2)));
    }

    #[test]
    fn another_size_is_refused_where_the_card_says_exact() {
        let card = features(8, 8, Channels::Rgb, Fit::Exact);
        let mut filler = Filler::new(&card, &[1, 3, 8, 8], Element::F32).unwrap();
        let refused = filler.fill(&rgb(9, 8)).unwrap_err();
        assert_eq!(refused.to_string(), "the picture is 9x8; fit = \"exact\" wants 8x8");
        assert!(filler.fill(&rgb(8, 8)).is_ok());
        let short = Image { pixels: vec![0; 5], ..rgb(8, 8) };
        assert!(matches!(filler.fill(&short), Err(FeaturizeError::BadPicture { .. })));
    }

    #[test]
    fn bytes_reach_a_byte_model_as_they_are_or_the_card_is_refused() {
        let mut card = features(2, 1, Channels::Grey, Fit::Exact);
        let image = Image { width: 2, height: 1, channels: 1, pixels: vec![0, 255] };
        let tensor = Filler::new(&card, &[1, 1, 1, 2], Element::U8).unwrap().fill(&image).unwrap();
        assert_eq!(tensor.data, Data::U8(vec![0, 255]));
        card.scale = 1.0 / 255.0;
        assert!(Filler::new(&card, &[1, 1, 1, 2], Element::U8).is_err());
    }

    #[test]
    fn a_card_that_cannot_be_right_is_named() {
        let complaint = |change: fn(&mut ImageFeatures)| {
            let mut card = features(8, 8, Channels::Rgb, Fit::Stretch);
            change(&mut card);
            Filler::new(&card, &[1, 3, 8, 8], Element::F32).unwrap_err().to_string()
        };
        assert_eq!(complaint(|c| c.mean = vec![0.5]), "mean has 1 values; the model has 3 channels");
        assert!(complaint(|c| c.std = vec![1.0, 0.0, 1.0]).contains("do not give finite numbers"));
        assert!(complaint(|c| c.width = 0).contains("0x8"));
    }
}
