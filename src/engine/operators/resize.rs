//! Resize (opset 10 to 19) with every mode, and Upsample (opset 9), its elder.
//!
//! Source: ONNX, Operators.md. Interpolation is separable: along each axis an output pixel is a
//! weighted sum of input pixels, and the weights come from its place in the input. tract has half of
//! the modes (0.23.9); here are all: antialias, regions of interest, aspect policies, every transform.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, seen, wrap};
use super::values::{around, axis, coordinates, floats, from_floats, ints, pick, strides};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Nearest(Nearest),
    Linear,
    Cubic { a: f64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Nearest {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
    /// Opset 10, which has no word for it: down where it grows, up where it shrinks, as in its tests and onnxruntime.
    Older,
}

impl Nearest {
    /// The pixel for a place between two.
    fn of(self, place: f64, scale: f64) -> f64 {
        match self {
            Self::PreferFloor => (place - 0.5).ceil(),
            Self::PreferCeil => (place + 0.5).floor(),
            Self::Floor => place.floor(),
            Self::Older if scale >= 1.0 => place.floor(),
            Self::Ceil | Self::Older => place.ceil(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Transform {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixelForNearest,
    TfCropAndResize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Aspect {
    Stretch,
    NotLarger,
    NotSmaller,
}

#[derive(Debug)]
struct Resize {
    name: &'static str,
    /// Where roi, scales and sizes stand among the inputs.
    inputs: [Option<usize>; 3],
    /// Scales of opset 7, where they are an attribute.
    scales: Option<Vec<f64>>,
    mode: Mode,
    transform: Transform,
    aspect: Aspect,
    antialias: bool,
    exclude_outside: bool,
    extrapolation: f64,
    axes: Option<Vec<i64>>,
}

pub(super) fn resize(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    // Opset 10 knows scales only, and one transform.
    let old = context.onnx_operator_set_version < 11;
    let transform = match node.get_attr_opt::<&str>("coordinate_transformation_mode")? {
        None if old => Transform::Asymmetric,
        None | Some("half_pixel") => Transform::HalfPixel,
        Some("half_pixel_symmetric") => Transform::HalfPixelSymmetric,
        Some("pytorch_half_pixel") => Transform::PytorchHalfPixel,
        Some("align_corners") => Transform::AlignCorners,
        Some("asymmetric") => Transform::Asymmetric,
        Some("tf_half_pixel_for_nn") => Transform::TfHalfPixelForNearest,
        Some("tf_crop_and_resize") => Transform::TfCropAndResize,
        Some(other) => bail!("coordinate_transformation_mode {other:?}"),
    };
    let nearest = match node.get_attr_opt::<&str>("nearest_mode")? {
        None if old => Nearest::Older,
        None | Some("round_prefer_floor") => Nearest::PreferFloor,
        Some("round_prefer_ceil") => Nearest::PreferCeil,
        Some("floor") => Nearest::Floor,
        Some("ceil") => Nearest::Ceil,
        Some(other) => bail!("nearest_mode {other:?}"),
    };
    let is_nearest = matches!(node.get_attr_opt::<&str>("mode")?, None | Some("nearest"));
    ensure!(
        !is_nearest || transform != Transform::HalfPixelSymmetric,
        "nearest with half_pixel_symmetric: the standard's text and onnxruntime disagree; use half_pixel"
    );
    let resize = Resize {
        name: "Resize",
        inputs: if old { [None, Some(1), None] } else { [Some(1), Some(2), Some(3)] },
        scales: None,
        mode: match node.get_attr_opt::<&str>("mode")?.unwrap_or("nearest") {
            "nearest" => Mode::Nearest(nearest),
            "linear" | "bilinear" => Mode::Linear,
            "cubic" => Mode::Cubic { a: node.get_attr_opt::<f32>("cubic_coeff_a")?.unwrap_or(-0.75).into() },
            other => bail!("mode {other:?}"),
        },
        transform,
        aspect: match node.get_attr_opt::<&str>("keep_aspect_ratio_policy")?.unwrap_or("stretch") {
            "stretch" => Aspect::Stretch,
            "not_larger" => Aspect::NotLarger,
            "not_smaller" => Aspect::NotSmaller,
            other => bail!("keep_aspect_ratio_policy {other:?}"),
        },
        antialias: node.get_attr_opt::<i64>("antialias")?.unwrap_or(0) != 0,
        exclude_outside: node.get_attr_opt::<i64>("exclude_outside")?.unwrap_or(0) != 0,
        extrapolation: node.get_attr_opt::<f32>("extrapolation_value")?.unwrap_or(0.0).into(),
        axes: node.get_attr_opt_vec("axes")?,
    };
    wrap(context, node, resize)
}

pub(super) fn upsample(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let scales = node.get_attr_opt_vec::<f32>("scales")?;
    let resize = Resize {
        name: "Upsample",
        inputs: [None, Some(1), None],
        scales: scales.map(|scales| scales.into_iter().map(f64::from).collect()),
        mode: match node.get_attr_opt::<&str>("mode")?.unwrap_or("nearest") {
            "nearest" => Mode::Nearest(Nearest::Floor),
            "linear" | "bilinear" => Mode::Linear,
            other => bail!("mode {other:?}"),
        },
        transform: Transform::Asymmetric,
        aspect: Aspect::Stretch,
        antialias: false,
        exclude_outside: false,
        extrapolation: 0.0,
        axes: None,
    };
    wrap(context, node, resize)
}

/// How one axis is resized.
#[derive(Debug)]
struct Along {
    from: usize,
    to: usize,
    scale: f64,
    /// Of the region of interest, as parts of the axis.
    region: (f64, f64),
}

impl Resize {
    fn axes(&self, rank: usize) -> TractResult<Vec<usize>> {
        match &self.axes {
            Some(axes) => axes.iter().map(|at| axis(*at, rank)).collect(),
            None => Ok((0..rank).collect()),
        }
    }

    fn along(
        &self,
        shape: &[usize],
        scales: Option<Vec<f64>>,
        sizes: Option<Vec<i64>>,
        roi: Option<Vec<f64>>,
    ) -> TractResult<Vec<Along>> {
        let mut all: Vec<Along> = shape
            .iter()
            .map(|length| Along { from: *length, to: *length, scale: 1.0, region: (0.0, 1.0) })
            .collect();
        let axes = self.axes(shape.len())?;
        let roi = roi.filter(|roi| self.transform == Transform::TfCropAndResize && !roi.is_empty());
        if let Some(roi) = roi {
            ensure!(roi.len() == 2 * axes.len(), "a roi of {} numbers for {} axes", roi.len(), axes.len());
            for (i, at) in axes.iter().enumerate() {
                all[*at].region = (roi[i], roi[i + axes.len()]);
            }
        }
        if let Some(sizes) = sizes {
            ensure!(sizes.len() == axes.len(), "{} sizes for {} axes", sizes.len(), axes.len());
            let ratio = |i: usize| sizes[i] as f64 / shape[axes[i]] as f64;
            let ratios = (0..axes.len()).map(ratio);
            let common = match self.aspect {
                Aspect::Stretch => None,
                Aspect::NotLarger => ratios.reduce(f64::min),
                Aspect::NotSmaller => ratios.reduce(f64::max),
            };
            for (i, at) in axes.iter().enumerate() {
                let along = &mut all[*at];
                along.scale = common.unwrap_or_else(|| ratio(i));
                along.to = match common {
                    Some(scale) => (scale * along.from as f64 + 0.5).floor() as usize,
                    None => usize::try_from(sizes[i])?,
                };
            }
        } else {
            let scales = scales.context("neither scales nor sizes are given")?;
            ensure!(scales.len() == axes.len(), "{} scales for {} axes", scales.len(), axes.len());
            for (i, at) in axes.iter().enumerate() {
                let along = &mut all[*at];
                along.scale = scales[i];
                let part = along.region.1 - along.region.0;
                // Scales are f32 in the file: their product is one as well.
                let length = along.from as f32 * (part * scales[i]) as f32;
                along.to = length.floor() as usize;
                // The standard's tests divide by the broken length, onnxruntime by the whole one.
                ensure!(
                    self.transform != Transform::AlignCorners || length == length.floor() || along.to == 1,
                    "align_corners to a length of {length}: the standard's tests and onnxruntime disagree; give sizes"
                );
            }
        }
        Ok(all)
    }

    /// Place in the input of an output pixel.
    fn place(&self, along: &Along, at: usize) -> f64 {
        let (x, from, to) = (at as f64, along.from as f64, along.to as f64);
        match self.transform {
            Transform::HalfPixel => (x + 0.5) / along.scale - 0.5,
            Transform::HalfPixelSymmetric => {
                let adjusted = to / (along.scale * from);
                from / 2.0 * (1.0 - adjusted) + (x + 0.5) / along.scale - 0.5
            }
            Transform::PytorchHalfPixel => {
                if along.to == 1 {
                    0.0
                } else {
                    (x + 0.5) / along.scale - 0.5
                }
            }
            Transform::AlignCorners => {
                if along.to == 1 {
                    0.0
                } else {
                    x * (from - 1.0) / (to - 1.0)
                }
            }
            // In f32, as onnxruntime: 3 ÷ 0.6 is 5 there, and just below it with more digits of 0.6f32.
            Transform::Asymmetric => f64::from(x as f32 / along.scale as f32),
            Transform::TfHalfPixelForNearest => (x + 0.5) / along.scale,
            Transform::TfCropAndResize => {
                let (start, end) = along.region;
                match along.to {
                    1 => 0.5 * (start + end) * (from - 1.0),
                    _ => start * (from - 1.0) + x * (end - start) * (from - 1.0) / (to - 1.0),
                }
            }
        }
    }

    /// Input pixels of an output pixel with their weights.
    fn taps(&self, along: &Along, place: f64) -> Vec<(usize, f64)> {
        let last = along.from as i64 - 1;
        let inside = |at: i64| at.clamp(0, last) as usize;
        if let Mode::Nearest(nearest) = self.mode {
            return vec![(inside(nearest.of(place, along.scale) as i64), 1.0)];
        }
        let (reach, weight): (f64, Box<dyn Fn(f64) -> f64>) = match self.mode {
            Mode::Cubic { a } => (2.0, Box::new(move |x| cubic(a, x.abs()))),
            _ => (1.0, Box::new(|x| (1.0 - x.abs()).max(0.0))),
        };
        // A kernel that shrinks a picture is as much wider.
        let narrow = if self.antialias { along.scale.min(1.0) } else { 1.0 };
        let base = place.ceil() as i64 - 1;
        let ratio = place - base as f64;
        let first = (-reach / narrow).floor() as i64 + 1;
        let mut taps: Vec<(i64, f64)> =
            (first..2 - first).map(|i| (base + i, weight((i as f64 - ratio) * narrow))).collect();
        if self.exclude_outside {
            taps.retain(|(at, _)| (0..=last).contains(at));
        }
        let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
        taps.into_iter().map(|(at, weight)| (inside(at), weight / sum)).collect()
    }
}

/// Keys' kernel.
fn cubic(a: f64, x: f64) -> f64 {
    match x {
        x if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        _ => 0.0,
    }
}

impl Literal for Resize {
    fn name(&self) -> &'static str {
        self.name
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let given =
            |which: usize| self.inputs[which].and_then(|at| inputs.get(at)).filter(|tensor| tensor.len() > 0);
        let scales = given(1).map(floats).transpose()?.or_else(|| self.scales.clone());
        let all = self.along(
            x.shape(),
            scales,
            given(2).map(ints).transpose()?,
            given(0).map(floats).transpose()?,
        )?;
        let shape: Vec<usize> = all.iter().map(|along| along.to).collect();
        let places = |along: &Along| (0..along.to).map(|at| self.place(along, at)).collect::<Vec<_>>();
        if let (Mode::Nearest(_), false) = (self.mode, self.transform == Transform::TfCropAndResize) {
            let steps = strides(x.shape());
            let taps: Vec<Vec<usize>> = all
                .iter()
                .map(|along| places(along).into_iter().map(|place| self.taps(along, place)[0].0).collect())
                .collect();
            let source = |at: Vec<usize>| {
                Some(at.iter().enumerate().map(|(axis, at)| taps[axis][*at] * steps[axis]).sum())
            };
            return Ok(vec![pick(x, &shape, &coordinates(&shape).map(source).collect::<Vec<_>>())?]);
        }
        let mut values = floats(x)?;
        let mut now = x.shape().to_vec();
        for (at, along) in all.iter().enumerate() {
            let untouched = along.from == along.to && along.scale == 1.0 && along.region == (0.0, 1.0);
            if untouched && self.transform != Transform::TfCropAndResize {
                continue;
            }
            let (before, length, behind) = around(&now, at);
            let taps: Vec<_> = places(along).into_iter().map(|place| self.taps(along, place)).collect();
            let mut next = vec![0.0; before * along.to * behind];
            for outer in 0..before {
                for (to, taps) in taps.iter().enumerate() {
                    let row = &mut next[(outer * along.to + to) * behind..][..behind];
                    for (from, weight) in taps {
                        let source = &values[(outer * length + from) * behind..][..behind];
                        row.iter_mut().zip(source).for_each(|(sum, value)| *sum += weight * value);
                    }
                }
            }
            values = next;
            now[at] = along.to;
        }
        if self.transform == Transform::TfCropAndResize {
            let outside: Vec<Vec<bool>> = all
                .iter()
                .map(|along| {
                    let within = 0.0..=(along.from as f64 - 1.0);
                    places(along).into_iter().map(|place| !within.contains(&place)).collect()
                })
                .collect();
            for (value, at) in values.iter_mut().zip(coordinates(&shape)) {
                if at.iter().enumerate().any(|(axis, at)| outside[axis][*at]) {
                    *value = self.extrapolation;
                }
            }
        }
        Ok(vec![from_floats(x.datum_type(), &shape, &values)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let x = seen(inputs, 0)?;
        // Absent, known, or only known in a run.
        let given = |which: usize| -> TractResult<Option<Option<Arc<Tensor>>>> {
            let at = self.inputs[which].and_then(|at| inputs.get(at)).and_then(Option::as_ref);
            let empty = |seen: &&Seen| seen.shape.iter().any(|length| *length == 0.to_dim());
            Ok(at.filter(|seen| !empty(seen)).map(|seen| seen.value.clone()))
        };
        let (roi, scales, sizes) = (given(0)?, given(1)?, given(2)?);
        if [&roi, &scales, &sizes].iter().any(|input| matches!(input, Some(None))) {
            return Ok(Some(vec![Form::open(x.datum_type, vec![None; x.shape.len()])]));
        }
        let tensor = |input: Option<Option<Arc<Tensor>>>| input.flatten();
        let scales =
            tensor(scales).map(|scales| floats(&scales)).transpose()?.or_else(|| self.scales.clone());
        let all = self.along(
            &x.lengths()?,
            scales,
            tensor(sizes).map(|sizes| ints(&sizes)).transpose()?,
            tensor(roi).map(|roi| floats(&roi)).transpose()?,
        )?;
        let shape: Vec<TDim> = all.iter().map(|along| along.to.to_dim()).collect();
        Ok(Some(vec![Form::of(x.datum_type, &shape)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opset_10_takes_the_pixel_below_where_it_grows_and_above_where_it_shrinks() {
        assert_eq!(Nearest::Older.of(1.0 / 0.6, 0.6), 2.0);
        assert_eq!(Nearest::Older.of(3.0 / 2.0, 2.0), 1.0);
    }
}
