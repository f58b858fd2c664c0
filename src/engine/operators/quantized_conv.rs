//! QLinearConv (opset 10): convolution of quantised pictures.
//!
//! Source: ONNX, Operators.md, and onnxruntime for the order of rounding: sums of (x − zero)·(w − zero)
//! and bias in whole numbers, times the f32 factor x_scale·w_scale ÷ y_scale, rounded half to even,
//! plus zero, saturated. Padding is the zero point. tract's answers differ (0.23.9).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Inputs, Literal, wrap};
use super::values::{coordinates, floats, from_floats, ints, strides};

#[derive(Debug)]
enum Pads {
    Explicit(Option<Vec<usize>>),
    Same { lower: bool },
}

#[derive(Debug)]
struct QLinearConv {
    group: usize,
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    pads: Pads,
}

pub(super) fn conv(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let pads = match node.get_attr_opt::<&str>("auto_pad")?.unwrap_or("NOTSET") {
        "SAME_UPPER" => Pads::Same { lower: false },
        "SAME_LOWER" => Pads::Same { lower: true },
        "VALID" => Pads::Explicit(None),
        _ => Pads::Explicit(node.get_attr_opt_vec("pads")?),
    };
    let conv = QLinearConv {
        group: node.get_attr_opt("group")?.unwrap_or(1),
        strides: node.get_attr_opt_vec("strides")?,
        dilations: node.get_attr_opt_vec("dilations")?,
        pads,
    };
    wrap(context, node, conv)
}

/// One axis of the picture.
struct Along {
    input: usize,
    output: usize,
    stride: usize,
    dilation: usize,
    front: usize,
}

impl QLinearConv {
    fn along(&self, i: usize, axes: usize, input: usize, kernel: usize) -> TractResult<Along> {
        let of = |list: &Option<Vec<usize>>| list.as_ref().map_or(Some(1), |list| list.get(i).copied());
        let stride = of(&self.strides).filter(|stride| *stride > 0).context("strides")?;
        let dilation = of(&self.dilations).context("dilations")?;
        let span = kernel.saturating_sub(1) * dilation + 1;
        let (output, front) = match &self.pads {
            Pads::Same { lower } => {
                let output = input.div_ceil(stride);
                let pad = (output.saturating_sub(1) * stride + span).saturating_sub(input);
                (output, if *lower { pad.div_ceil(2) } else { pad / 2 })
            }
            Pads::Explicit(pads) => {
                let none = vec![0; 2 * axes];
                let pads = pads.as_ref().unwrap_or(&none);
                ensure!(pads.len() == 2 * axes, "{} pads for {axes} axes", pads.len());
                let room = (input + pads[i] + pads[i + axes]).checked_sub(span);
                (room.context("a kernel larger than its input")? / stride + 1, pads[i])
            }
        };
        Ok(Along { input, output, stride, dilation, front })
    }
}

impl Literal for QLinearConv {
    fn name(&self) -> &'static str {
        "QLinearConv"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, w) = (inputs.need(0)?, inputs.need(3)?);
        let axes = x.rank().checked_sub(2).context("a picture has a batch and channels")?;
        ensure!(w.rank() == x.rank() && axes > 0, "a kernel of shape {:?} for {:?}", w.shape(), x.shape());
        let (batches, channels) = (x.shape()[0], x.shape()[1]);
        let (outputs, of_group) = (w.shape()[0], w.shape()[1]);
        let fits = self.group > 0 && channels == of_group * self.group && outputs % self.group == 0;
        ensure!(fits, "{channels} channels in {} groups", self.group);
        let number = |position| -> TractResult<f64> {
            floats(inputs.need(position)?)?.first().copied().context("an empty number")
        };
        let (x_scale, y_scale) = (number(1)? as f32, number(6)? as f32);
        let (x_zero, y_zero) = (number(2)? as i32, number(7)?);
        let (w_scales, w_zeros) = (floats(inputs.need(4)?)?, ints(inputs.need(5)?)?);
        let each = |count: usize| count == 1 || count == outputs;
        ensure!(
            each(w_scales.len()) && each(w_zeros.len()),
            "one scale, or one for each of {outputs} channels"
        );
        let bias = inputs.get(8).map(ints).transpose()?;
        let along: Vec<Along> = (0..axes)
            .map(|i| self.along(i, axes, x.shape()[i + 2], w.shape()[i + 2]))
            .collect::<TractResult<_>>()?;
        let picture: Vec<i32> = ints(x)?.into_iter().map(|value| value as i32 - x_zero).collect();
        let kernel = ints(w)?;
        let steps = strides(&x.shape()[2..]);
        let pixels: usize = x.shape()[2..].iter().product();
        let spatial: Vec<usize> = along.iter().map(|along| along.output).collect();
        let taps: Vec<Vec<usize>> = coordinates(&w.shape()[2..]).collect();
        // Which pixel each tap of each output reads; none outside.
        let reads: Vec<Vec<(usize, usize)>> = coordinates(&spatial)
            .map(|at| {
                let read = |(tap, offset): (usize, &Vec<usize>)| {
                    let pixel = (0..axes).try_fold(0, |flat, i| {
                        let a = &along[i];
                        let place = (at[i] * a.stride + offset[i] * a.dilation).checked_sub(a.front)?;
                        (place < a.input).then_some(flat + place * steps[i])
                    });
                    pixel.map(|pixel| (tap, pixel))
                };
                taps.iter().enumerate().filter_map(read).collect()
            })
            .collect();
        let to = inputs.need(7)?.datum_type();
        let (least, most) = super::quantized::range(to)?;
        let pick = |values: &[f64], at: usize| if values.len() == 1 { values[0] } else { values[at] };
        let mut values = Vec::with_capacity(batches * outputs * reads.len());
        for batch in 0..batches {
            for output in 0..outputs {
                let zero = if w_zeros.len() == 1 { w_zeros[0] } else { w_zeros[output] };
                let begin = output * of_group * taps.len();
                let weights: Vec<i32> =
                    kernel[begin..begin + of_group * taps.len()].iter().map(|w| (w - zero) as i32).collect();
                let factor = x_scale * pick(&w_scales, output) as f32 / y_scale;
                let first = batch * channels + output / (outputs / self.group) * of_group;
                for reads in &reads {
                    let mut sum = bias.as_ref().map_or(0, |bias| bias[output] as i32);
                    for channel in 0..of_group {
                        let plane = &picture[(first + channel) * pixels..][..pixels];
                        let weights = &weights[channel * taps.len()..][..taps.len()];
                        for (tap, pixel) in reads {
                            sum = sum.wrapping_add(plane[*pixel] * weights[*tap]);
                        }
                    }
                    let scaled = f64::from((sum as f32 * factor).round_ties_even());
                    values.push((scaled + y_zero).clamp(least, most));
                }
            }
        }
        let shape = [&[batches, outputs], &*spatial].concat();
        Ok(vec![from_floats(to, &shape, &values)?])
    }
}
