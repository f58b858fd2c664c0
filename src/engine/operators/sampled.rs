//! Operators that sample pictures between their pixels: AffineGrid (opset 20), RoiAlign (10 to 22),
//! DeformConv (19 to 22).
//!
//! Source: ONNX, Operators.md. Sampling is bilinear; a pixel outside counts as zero for DeformConv,
//! and RoiAlign clamps samples that lie within one pixel of the border.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_ndarray::{Array4, ArrayD, Ix4, IxDyn};

use super::literal::{Built, Form, Inputs, Literal, Seen, seen, wrap};
use super::values::{array, coordinates, floats, from_array, ints};

#[derive(Debug)]
struct AffineGrid {
    align_corners: bool,
}

pub(super) fn affine_grid(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let align_corners = node.get_attr_opt::<i64>("align_corners")?.unwrap_or(0) != 0;
    wrap(context, node, AffineGrid { align_corners })
}

/// Batch and spatial lengths of a size `[N, C, (D,) H, W]`, and the number of coordinates.
fn grid_shape(size: &Tensor) -> TractResult<Vec<usize>> {
    let size = ints(size)?.into_iter().map(|n| Ok(usize::try_from(n)?)).collect::<TractResult<Vec<_>>>()?;
    ensure!(matches!(size.len(), 4 | 5), "size {size:?}");
    Ok([&size[..1], &size[2..], &[size.len() - 2]].concat())
}

impl Literal for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (theta, shape) = (array(inputs.need(0)?)?, grid_shape(inputs.need(1)?)?);
        let axes = shape.len() - 2;
        ensure!(theta.shape() == [shape[0], axes, axes + 1], "theta of shape {:?}", theta.shape());
        // From −1 to 1: over the outer pixels' centres, or over their edges.
        let place = |at: usize, length: usize| match (self.align_corners, length) {
            (true, 1) => 0.0,
            (true, _) => 2.0 * at as f64 / (length - 1) as f64 - 1.0,
            (false, _) => (2.0 * at as f64 + 1.0) / length as f64 - 1.0,
        };
        let value = |at: &IxDyn| {
            // Coordinates count x first, axes z or y first.
            let homogeneous = (0..axes).map(|i| place(at[axes - i], shape[axes - i])).chain([1.0]);
            homogeneous.enumerate().map(|(i, position)| theta[[at[0], at[axes + 1], i]] * position).sum()
        };
        let grid = ArrayD::from_shape_fn(IxDyn(&shape), |at| value(&at));
        Ok(vec![from_array(inputs.need(0)?.datum_type(), &grid)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (theta, size) = (seen(inputs, 0)?, seen(inputs, 1)?);
        let shape: Vec<Option<TDim>> = match &size.value {
            Some(size) => grid_shape(size)?.iter().map(|length| Some(length.to_dim())).collect(),
            None => {
                // Two coordinates stand in three columns of theta, three in four.
                let axes = theta.lengths()?.get(1).copied().context("theta has no axis of coordinates")?;
                let mut shape = vec![None; axes + 1];
                shape[0] = Some(theta.shape[0].clone());
                shape.push(Some(axes.to_dim()));
                shape
            }
        };
        Ok(Some(vec![Form::open(theta.datum_type, shape)]))
    }
}

#[derive(Debug)]
struct RoiAlign {
    half_pixel: bool,
    largest: bool,
    height: usize,
    width: usize,
    samples: usize,
    scale: f64,
}

pub(super) fn roi_align(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    // Opset 16 brought the attribute and, with it, half pixels as the default.
    let default = if context.onnx_operator_set_version >= 16 { "half_pixel" } else { "output_half_pixel" };
    let align = RoiAlign {
        half_pixel: node.get_attr_opt::<&str>("coordinate_transformation_mode")?.unwrap_or(default)
            == "half_pixel",
        largest: node.get_attr_opt::<&str>("mode")? == Some("max"),
        height: node.get_attr_opt("output_height")?.unwrap_or(1),
        width: node.get_attr_opt("output_width")?.unwrap_or(1),
        samples: node.get_attr_opt("sampling_ratio")?.unwrap_or(0),
        scale: node.get_attr_opt::<f32>("spatial_scale")?.unwrap_or(1.0).into(),
    };
    wrap(context, node, align)
}

impl Literal for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = array(inputs.need(0)?)?.into_dimensionality::<Ix4>()?;
        let (boxes, batches) = (floats(inputs.need(1)?)?, ints(inputs.need(2)?)?);
        ensure!(boxes.len() == 4 * batches.len(), "{} numbers for {} boxes", boxes.len(), batches.len());
        let (images, channels, rows, columns) = x.dim();
        let mut out = Array4::<f64>::zeros((batches.len(), channels, self.height, self.width));
        for (n, batch) in batches.iter().enumerate() {
            let batch =
                usize::try_from(*batch).ok().filter(|batch| *batch < images).context("a batch index")?;
            let shift = if self.half_pixel { 0.5 } else { 0.0 };
            let [left, top, right, bottom] = std::array::from_fn(|i| boxes[4 * n + i] * self.scale - shift);
            let least = if self.half_pixel { f64::NEG_INFINITY } else { 1.0 };
            let (tall, wide) = ((bottom - top).max(least), (right - left).max(least));
            let (bin_tall, bin_wide) = (tall / self.height as f64, wide / self.width as f64);
            let count = |bin: f64| if self.samples > 0 { self.samples } else { bin.ceil().max(0.0) as usize };
            let (down, across) = (count(bin_tall), count(bin_wide));
            for at in coordinates(&[channels, self.height, self.width]) {
                let (channel, row, column) = (at[0], at[1], at[2]);
                let mut sum = 0.0;
                let mut largest: Option<f64> = None;
                for sample in coordinates(&[down, across]) {
                    let y = top + (row as f64 + (sample[0] as f64 + 0.5) / down as f64) * bin_tall;
                    let z = left + (column as f64 + (sample[1] as f64 + 0.5) / across as f64) * bin_wide;
                    let corners = clamped_corners(y, z, rows, columns);
                    let terms = corners.map(|(weight, y, x_at)| weight * x[[batch, channel, y, x_at]]);
                    sum += terms.iter().sum::<f64>();
                    let most = terms.into_iter().fold(f64::NEG_INFINITY, f64::max);
                    largest = Some(largest.map_or(most, |largest| largest.max(most)));
                }
                out[[n, channel, row, column]] = match self.largest {
                    true => largest.unwrap_or(0.0),
                    false => sum / (down * across).max(1) as f64,
                };
            }
        }
        Ok(vec![from_array(inputs.need(0)?.datum_type(), &out.into_dyn())?])
    }
}

/// Weight, row and column of the four pixels around a place; all weights are 0 far outside.
fn clamped_corners(y: f64, x: f64, rows: usize, columns: usize) -> [(f64, usize, usize); 4] {
    if y < -1.0 || y > rows as f64 || x < -1.0 || x > columns as f64 {
        return [(0.0, 0, 0); 4];
    }
    let split = |place: f64, length: usize| {
        let place = place.max(0.0).min((length - 1) as f64);
        let low = place as usize;
        (low, (low + 1).min(length - 1), place - low as f64)
    };
    let ((top, bottom, down), (left, right, along)) = (split(y, rows), split(x, columns));
    [
        ((1.0 - down) * (1.0 - along), top, left),
        ((1.0 - down) * along, top, right),
        (down * (1.0 - along), bottom, left),
        (down * along, bottom, right),
    ]
}

#[derive(Debug)]
struct DeformConv {
    dilations: [usize; 2],
    group: usize,
    offset_group: usize,
    pads: [usize; 2],
    strides: [usize; 2],
}

pub(super) fn deform_conv(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let pair = |name, default: usize| -> TractResult<[usize; 2]> {
        let values = node.get_attr_opt_vec::<usize>(name)?.unwrap_or_else(|| vec![default; 2]);
        values.get(..2).and_then(|two| two.try_into().ok()).with_context(|| format!("{name}: two axes"))
    };
    let conv = DeformConv {
        dilations: pair("dilations", 1)?,
        group: node.get_attr_opt("group")?.unwrap_or(1),
        offset_group: node.get_attr_opt("offset_group")?.unwrap_or(1),
        pads: pair("pads", 0)?,
        strides: pair("strides", 1)?,
    };
    wrap(context, node, conv)
}

impl Literal for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let four = |position| -> TractResult<Array4<f64>> {
            Ok(array(inputs.need(position)?)?.into_dimensionality()?)
        };
        let (x, weight, offset) = (four(0)?, four(1)?, four(2)?);
        let bias = inputs.get(3).map(floats).transpose()?;
        let mask = inputs.get(4).map(|_| four(4)).transpose()?;
        let (batches, channels, rows, columns) = x.dim();
        let (outputs, of_group, tall, wide) = weight.dim();
        let (_, offsets, out_rows, out_columns) = offset.dim();
        ensure!(
            channels == of_group * self.group && outputs % self.group == 0,
            "groups of {channels} channels"
        );
        ensure!(offsets == 2 * self.offset_group * tall * wide, "{offsets} offsets");
        ensure!(channels % self.offset_group == 0, "{channels} channels in {} groups", self.offset_group);
        let pixel = |batch: usize, channel: usize, y: i64, z: i64| {
            let inside = (0..rows as i64).contains(&y) && (0..columns as i64).contains(&z);
            if inside { x[[batch, channel, y as usize, z as usize]] } else { 0.0 }
        };
        let mut out = Array4::<f64>::zeros((batches, outputs, out_rows, out_columns));
        for at in coordinates(&[batches, channels, out_rows, out_columns]) {
            let (batch, channel, row, column) = (at[0], at[1], at[2], at[3]);
            let group = channel / of_group;
            let shared = channel * self.offset_group / channels;
            for tap in coordinates(&[tall, wide]) {
                let index = (shared * tall + tap[0]) * wide + tap[1];
                let place = |axis: usize, position: usize| {
                    (position * self.strides[axis] + tap[axis] * self.dilations[axis]) as f64
                        - self.pads[axis] as f64
                        + offset[[batch, 2 * index + axis, row, column]]
                };
                let (y, z) = (place(0, row), place(1, column));
                let (top, left) = (y.floor(), z.floor());
                let (down, along) = (y - top, z - left);
                let (top, left) = (top as i64, left as i64);
                let sampled = (1.0 - down) * (1.0 - along) * pixel(batch, channel, top, left)
                    + (1.0 - down) * along * pixel(batch, channel, top, left + 1)
                    + down * (1.0 - along) * pixel(batch, channel, top + 1, left)
                    + down * along * pixel(batch, channel, top + 1, left + 1);
                let sampled = sampled * mask.as_ref().map_or(1.0, |mask| mask[[batch, index, row, column]]);
                let per_group = outputs / self.group;
                for output in group * per_group..(group + 1) * per_group {
                    out[[batch, output, row, column]] +=
                        sampled * weight[[output, channel % of_group, tap[0], tap[1]]];
                }
            }
        }
        if let Some(bias) = bias {
            for ((_, output, _, _), value) in out.indexed_iter_mut() {
                *value += bias[output];
            }
        }
        Ok(vec![from_array(inputs.need(0)?.datum_type(), &out.into_dyn())?])
    }
}
