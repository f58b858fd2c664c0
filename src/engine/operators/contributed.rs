//! onnxruntime's own quantised operators (`com.microsoft`, version 1), as its QOperator quantiser writes
//! them: QLinearAdd, QLinearMul, QLinearSigmoid, QLinearLeakyRelu, QLinearConcat, QLinearAveragePool,
//! QLinearGlobalAveragePool, QLinearSoftmax and QGemm; and the list of all of that domain.
//!
//! Source: onnxruntime, docs/ContribOperators.md. Bytes become numbers, x = (q − zero) · scale; the operator
//! is computed in f64; its answer becomes bytes once, saturate(round_half_even(y ÷ scale) + zero).
//! onnxruntime computes in f32 or with tables, so that an answer near a half may be one step off
//! its. QGemm adds whole numbers first, bias included, as onnxruntime does. An absent zero point is 0.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_ndarray::ArrayD;

use super::literal::{Built, Inputs, Literal, wrap};
use super::patches::Windows;
use super::quantized::range;
use super::values::{around, axis, broadcast, broadcast_at, coordinates, floats, from_floats, ints, pairs};
use super::{Builder, quantized_lstm};

/// Every one of them.
pub(super) const OPERATORS: &[(&str, Builder)] = &[
    ("DynamicQuantizeLSTM", quantized_lstm::dynamic_lstm),
    ("QGemm", gemm),
    ("QLinearAdd", add),
    ("QLinearAveragePool", average_pool),
    ("QLinearConcat", concat),
    ("QLinearGlobalAveragePool", global_average_pool),
    ("QLinearLeakyRelu", leaky_relu),
    ("QLinearMul", mul),
    ("QLinearSigmoid", sigmoid),
    ("QLinearSoftmax", softmax),
];

/// Whether the operator is one of these, which the standard's own domain lacks.
pub(in crate::engine) fn has(operator: &str) -> bool {
    OPERATORS.iter().any(|(name, _)| *name == operator)
}

/// One number at `position`, or `absent`.
fn one(inputs: &Inputs<'_>, position: usize, absent: f64) -> TractResult<f64> {
    let Some(tensor) = inputs.get(position) else { return Ok(absent) };
    ensure!(tensor.len() == 1, "one number is wanted at input {position}, not {:?}", tensor.shape());
    Ok(floats(tensor)?[0])
}

/// The numbers of a tensor whose scale and zero point stand behind it.
fn reals(inputs: &Inputs<'_>, position: usize) -> TractResult<Vec<f64>> {
    let (scale, zero) = (one(inputs, position + 1, 1.0)?, one(inputs, position + 2, 0.0)?);
    Ok(floats(inputs.need(position)?)?.into_iter().map(|q| (q - zero) * scale).collect())
}

/// Bytes of `values`, whose scale stands at `position` and the zero point behind it.
fn quantised(
    inputs: &Inputs<'_>,
    position: usize,
    like: &Tensor,
    shape: &[usize],
    values: &[f64],
) -> TractResult<Vec<Tensor>> {
    inputs.need(position)?;
    let (scale, zero) = (one(inputs, position, 1.0)?, one(inputs, position + 1, 0.0)?);
    let to = inputs.get(position + 1).unwrap_or(like).datum_type();
    let (least, most) = range(to)?;
    let step = |value: &f64| {
        let whole = (value / scale).round_ties_even() + zero;
        if whole.is_nan() { zero } else { whole.clamp(least, most) }
    };
    Ok(vec![from_floats(to, shape, &values.iter().map(step).collect::<Vec<_>>())?])
}

/// A, A_scale, A_zero, B, B_scale, B_zero, C_scale, C_zero.
#[derive(Debug)]
struct Pair(&'static str, fn(f64, f64) -> f64);

fn add(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, Pair("QLinearAdd", |a, b| a + b))
}

fn mul(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, Pair("QLinearMul", |a, b| a * b))
}

impl Literal for Pair {
    fn name(&self) -> &'static str {
        self.0
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (inputs.need(0)?, inputs.need(3)?);
        let (left, right) = (reals(inputs, 0)?, reals(inputs, 3)?);
        let (shape, pairs) = pairs(a.shape(), b.shape())?;
        let values: Vec<f64> = match a.shape() == b.shape() {
            true => left.iter().zip(&right).map(|(a, b)| (self.1)(*a, *b)).collect(),
            false => pairs.map(|(i, j)| (self.1)(left[i], right[j])).collect(),
        };
        quantised(inputs, 6, a, &shape, &values)
    }
}

/// X, X_scale, X_zero, Y_scale, Y_zero.
#[derive(Debug)]
enum Each {
    Sigmoid,
    LeakyRelu(f64),
}

fn sigmoid(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, Each::Sigmoid)
}

fn leaky_relu(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let alpha = node.get_attr_opt::<f32>("alpha")?.map_or(0.01, f64::from);
    wrap(context, node, Each::LeakyRelu(alpha))
}

impl Literal for Each {
    fn name(&self) -> &'static str {
        match self {
            Self::Sigmoid => "QLinearSigmoid",
            Self::LeakyRelu(_) => "QLinearLeakyRelu",
        }
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let value = |x: f64| match self {
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::LeakyRelu(alpha) if x < 0.0 => alpha * x,
            Self::LeakyRelu(_) => x,
        };
        let values: Vec<f64> = reals(inputs, 0)?.into_iter().map(value).collect();
        quantised(inputs, 3, x, x.shape(), &values)
    }
}

/// Y_scale, Y_zero, then each tensor with its scale and zero point.
#[derive(Debug)]
struct Concat {
    axis: i64,
}

fn concat(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let axis = node.get_attr_opt("axis")?.context("an axis is wanted")?;
    wrap(context, node, Concat { axis })
}

impl Literal for Concat {
    fn name(&self) -> &'static str {
        "QLinearConcat"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let first = inputs.need(2)?;
        let at = axis(self.axis, first.rank())?;
        let mut shape = first.shape().to_vec();
        let mut parts = Vec::new();
        shape[at] = 0;
        for position in (2..).step_by(3).take_while(|position| inputs.get(*position).is_some()) {
            let part = inputs.need(position)?;
            let fits = part.rank() == shape.len()
                && (0..shape.len()).all(|axis| axis == at || part.shape()[axis] == shape[axis]);
            ensure!(fits, "{:?} beside {:?}, along axis {at}", part.shape(), first.shape());
            shape[at] += part.shape()[at];
            let (_, along, behind) = around(part.shape(), at);
            parts.push((along * behind, reals(inputs, position)?));
        }
        let mut values = Vec::with_capacity(shape.iter().product());
        for row in 0..around(&shape, at).0 {
            for (length, part) in &parts {
                values.extend_from_slice(&part[row * length..(row + 1) * length]);
            }
        }
        quantised(inputs, 0, first, &shape, &values)
    }
}

/// X, X_scale, X_zero, Y_scale, Y_zero: the mean over all axes but batch and channel.
#[derive(Debug)]
struct GlobalAveragePool {
    channels_last: bool,
}

fn global_average_pool(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let channels_last = node.get_attr_opt::<i64>("channels_last")?.unwrap_or(0) != 0;
    wrap(context, node, GlobalAveragePool { channels_last })
}

impl Literal for GlobalAveragePool {
    fn name(&self) -> &'static str {
        "QLinearGlobalAveragePool"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        ensure!(x.rank() > 2, "a picture has a batch and channels, not {:?}", x.shape());
        let channel = if self.channels_last { x.rank() - 1 } else { 1 };
        let shape: Vec<usize> = (0..x.rank())
            .map(|axis| if axis == 0 || axis == channel { x.shape()[axis] } else { 1 })
            .collect();
        let (channels, pixels) = (x.shape()[channel], x.len() / (shape[0] * shape[channel]).max(1));
        let step = if self.channels_last { (1, channels) } else { (pixels, 1) };
        let values = reals(inputs, 0)?;
        let mean = |i: usize| {
            let begin = i / channels * channels * pixels + i % channels * step.0;
            let sum: f64 = (0..pixels).map(|pixel| values[begin + pixel * step.1]).sum();
            sum / pixels as f64
        };
        let means: Vec<f64> = (0..shape[0] * channels).map(mean).collect();
        quantised(inputs, 3, x, &shape, &means)
    }
}

/// X, X_scale, X_zero, Y_scale, Y_zero: the mean of each window.
#[derive(Debug)]
struct AveragePool {
    windows: Windows,
    count_include_pad: bool,
}

fn average_pool(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let flag = |name: &str| -> TractResult<bool> { Ok(node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0) };
    ensure!(!flag("channels_last")?, "channels_last is not supported; export with the channels in front");
    let count_include_pad = flag("count_include_pad")?;
    wrap(context, node, AveragePool { windows: Windows::of(node)?, count_include_pad })
}

impl Literal for AveragePool {
    fn name(&self) -> &'static str {
        "QLinearAveragePool"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let numbers = ArrayD::from_shape_vec(x.shape(), reals(inputs, 0)?)?;
        let count = |inside: usize| if self.count_include_pad { self.windows.taps() } else { inside.max(1) };
        let means = self
            .windows
            .pooled(&numbers, |inside| inside.iter().sum::<f64>() / count(inside.len()) as f64)?;
        let values: Vec<f64> = means.iter().copied().collect();
        quantised(inputs, 3, x, means.shape(), &values)
    }
}

/// X, X_scale, X_zero, Y_scale, Y_zero. Below operator set 13 a row is all that lies from the axis on.
#[derive(Debug)]
struct Softmax {
    axis: i64,
    and_behind: bool,
}

fn softmax(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let and_behind = node.get_attr_opt::<i64>("opset")?.context("the operator set is wanted")? < 13;
    let axis = node.get_attr_opt("axis")?.unwrap_or(if and_behind { 1 } else { -1 });
    wrap(context, node, Softmax { axis, and_behind })
}

impl Literal for Softmax {
    fn name(&self) -> &'static str {
        "QLinearSoftmax"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let at = axis(self.axis, x.rank())?;
        let (before, length, behind) = match self.and_behind {
            true => (x.shape()[..at].iter().product(), x.shape()[at..].iter().product(), 1),
            false => around(x.shape(), at),
        };
        let mut values = reals(inputs, 0)?;
        for (outer, inner) in (0..before).flat_map(|outer| (0..behind).map(move |inner| (outer, inner))) {
            let places: Vec<usize> =
                (0..length).map(|along| (outer * length + along) * behind + inner).collect();
            let largest = places.iter().map(|place| values[*place]).fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = places.iter().map(|place| (values[*place] - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            places.iter().zip(powers).for_each(|(place, power)| values[*place] = power / sum);
        }
        quantised(inputs, 3, x, x.shape(), &values)
    }
}

/// A, a_scale, a_zero, B, b_scale, b_zero (one, or one for each column), C, y_scale, y_zero. Without
/// y_scale the answer is a float.
#[derive(Debug)]
struct Gemm {
    alpha: f64,
    transposed: [bool; 2],
}

fn gemm(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let flag = |name: &str| -> TractResult<bool> { Ok(node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0) };
    let alpha = node.get_attr_opt::<f32>("alpha")?.map_or(1.0, f64::from);
    wrap(context, node, Gemm { alpha, transposed: [flag("transA")?, flag("transB")?] })
}

impl Literal for Gemm {
    fn name(&self) -> &'static str {
        "QGemm"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (inputs.need(0)?, inputs.need(3)?);
        let sides = |matrix: &Tensor, transposed: bool| match (matrix.shape(), transposed) {
            (&[rows, columns], false) => Ok((rows, columns, columns, 1)),
            (&[columns, rows], true) => Ok((rows, columns, 1, rows)),
            (shape, _) => bail!("a matrix of shape {shape:?}"),
        };
        let (rows, inner, a_row, a_column) = sides(a, self.transposed[0])?;
        let (also, columns, b_row, b_column) = sides(b, self.transposed[1])?;
        ensure!(inner == also, "matrices of shape {:?} and {:?}", a.shape(), b.shape());
        let each = |position: usize, absent: f64| -> TractResult<Vec<f64>> {
            let values = inputs.get(position).map(floats).transpose()?.unwrap_or_else(|| vec![absent]);
            ensure!([1, columns].contains(&values.len()), "one for each of {columns} columns at {position}");
            Ok(values.iter().copied().cycle().take(columns).collect())
        };
        let (a_scale, a_zero) = (one(inputs, 1, 1.0)?, one(inputs, 2, 0.0)? as i64);
        let (b_scales, b_zeros) = (each(4, 1.0)?, each(5, 0.0)?);
        let bias = match inputs.get(6) {
            Some(c) => Some((c.shape(), ints(c)?)),
            None => None,
        };
        if let Some((shape, _)) = &bias {
            ensure!(broadcast(shape, &[rows, columns])? == [rows, columns], "C of shape {shape:?}");
        }
        let (left, right) = (ints(a)?, ints(b)?);
        let value = |at: Vec<usize>| {
            let (row, column) = (at[0], at[1]);
            let zero = b_zeros[column] as i64;
            let sum: i64 = (0..inner)
                .map(|i| {
                    (left[row * a_row + i * a_column] - a_zero)
                        * (right[i * b_row + column * b_column] - zero)
                })
                .sum();
            let bias = bias.as_ref().map_or(0, |(shape, bias)| bias[broadcast_at(shape, &at)]);
            (sum + bias) as f64 * (self.alpha * a_scale * b_scales[column])
        };
        let values: Vec<f64> = coordinates(&[rows, columns]).map(value).collect();
        match inputs.get(7) {
            Some(_) => quantised(inputs, 7, a, &[rows, columns], &values),
            None => Ok(vec![from_floats(DatumType::F32, &[rows, columns], &values)?]),
        }
    }
}
