//! QuantizeLinear, DequantizeLinear (opset 10 to 25) and QLinearMatMul (opset 10 to 21) beyond int8
//! with constant f32 scales: 16 bit, blocks, f16 scales, scales that are computed.
//!
//! Source: ONNX, Operators.md. q = saturate(round_half_even(x ÷ scale) + zero), x = (q − zero) · scale.
//! The quotient is an f32 where x and scale are, as onnxruntime's is: halves must fall the same way.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Inputs, Literal, choose, wrap};
use super::values::{axis, broadcast, coordinates, floats, from_floats, ints};

/// How scales lie over a tensor: one, one for each index of an axis, or one for each block of it.
#[derive(Clone, Copy, Debug)]
struct Grid {
    axis: i64,
    block: usize,
}

impl Grid {
    fn of(node: &NodeProto) -> TractResult<Self> {
        let axis = node.get_attr_opt("axis")?.unwrap_or(1);
        Ok(Self { axis, block: node.get_attr_opt("block_size")?.unwrap_or(0) })
    }

    /// Which scale belongs to each element of `shape`.
    fn indices(self, shape: &[usize], scale: &[usize]) -> TractResult<Vec<usize>> {
        let count = shape.iter().product();
        if scale.iter().product::<usize>() == 1 {
            return Ok(vec![0; count]);
        }
        let at = axis(self.axis, shape.len())?;
        if self.block == 0 {
            ensure!(scale == [shape[at]], "scales of shape {scale:?} on axis {at} of {shape:?}");
            return Ok(coordinates(shape).map(|coordinate| coordinate[at]).collect());
        }
        let fits = scale.len() == shape.len()
            && (0..shape.len())
                .all(|i| scale[i] == if i == at { shape[i].div_ceil(self.block) } else { shape[i] });
        ensure!(fits, "scales of shape {scale:?} in blocks of {} on axis {at} of {shape:?}", self.block);
        let index = |mut coordinate: Vec<usize>| {
            coordinate[at] /= self.block;
            coordinate.iter().zip(scale).fold(0, |flat, (at, length)| flat * length + at)
        };
        Ok(coordinates(shape).map(index).collect())
    }
}

/// Whether a fact is a constant of one of tract's own quantised types.
fn is_small(fact: Option<&TypedFact>) -> bool {
    fact.is_none_or(|fact| fact.konst.is_some() && matches!(fact.datum_type, DatumType::I8 | DatumType::U8))
}

fn is_constant_f32(fact: Option<&TypedFact>) -> bool {
    fact.is_some_and(|fact| fact.konst.is_some() && fact.datum_type == DatumType::F32)
}

/// tract's are scalars and vectors.
fn is_blocked(fact: Option<&TypedFact>) -> bool {
    fact.is_some_and(|fact| fact.rank() > 1)
}

/// tract multiplies with 1 ÷ scale, where the standard divides: a half may fall the other way (0.23.9).
/// Of a power of two both are the same.
fn has_exact_reciprocal(scale: Option<&TypedFact>) -> bool {
    is_constant_f32(scale)
        && scale.and_then(|scale| scale.konst.as_deref()).is_some_and(|scale| {
            floats(scale).is_ok_and(|scales| scales.iter().all(|scale| scale.log2().fract() == 0.0))
        })
}

#[derive(Debug)]
struct Quantize {
    grid: Grid,
    to: Option<DatumType>,
    double: bool,
}

pub(super) fn quantize(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let to = node.get_attr_opt::<i64>("output_dtype")?.filter(|to| *to != 0);
    let to = to.map(|_| node.get_attr::<DatumType>("output_dtype")).transpose()?;
    let double = node.get_attr_opt::<i64>("precision")?.unwrap_or(0) == 11;
    choose(context, node, Quantize { grid: Grid::of(node)?, to, double }, |inputs| {
        let get = |at: usize| inputs.get(at).copied().flatten();
        // A type without a zero point is an attribute that tract does not read.
        get(0).is_none_or(|x| x.datum_type != DatumType::F32)
            || !has_exact_reciprocal(get(1))
            || is_blocked(get(1))
            || get(2).is_none()
            || !is_small(get(2))
    })
}

impl Literal for Quantize {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, scale) = (inputs.need(0)?, inputs.need(1)?);
        let to = inputs.get(2).map(Tensor::datum_type).or(self.to).unwrap_or(DatumType::U8);
        let (least, most) = range(to)?;
        let scales = floats(scale)?;
        let zeros = zeros(inputs.get(2), &scales)?;
        let narrow = !self.double && x.datum_type() != DatumType::F64;
        if let (&[scale], true) = (&*scales, x.datum_type() == DatumType::F32 && narrow) {
            let zero = zeros.as_ref().map_or(0.0, |zeros| zeros[0]);
            return per_tensor(x, scale as f32, zero as f32, to);
        }
        let half = x.datum_type() == DatumType::F16 && scale.datum_type() == DatumType::F16;
        let indices = self.grid.indices(x.shape(), scale.shape())?;
        let quantised = |(x, at): (f64, usize)| {
            let quotient = match (half, narrow) {
                (true, _) => f16::from_f64(x / scales[at]).to_f64(),
                (false, true) => f64::from(x as f32 / scales[at] as f32),
                (false, false) => x / scales[at],
            };
            let zero = zeros.as_ref().map_or(0.0, |zeros| zeros[at]);
            let whole = quotient.round_ties_even() + zero;
            if whole.is_nan() { zero } else { whole.clamp(least, most) }
        };
        let values: Vec<f64> = floats(x)?.into_iter().zip(indices).map(quantised).collect();
        Ok(vec![from_floats(to, x.shape(), &values)?])
    }
}

/// One scale for all, without a detour through f64: pictures go this way.
fn per_tensor(x: &Tensor, scale: f32, zero: f32, to: DatumType) -> TractResult<Vec<Tensor>> {
    let (least, most) = range(to)?;
    let (least, most) = (least as f32, most as f32);
    let plain = x.try_as_plain_ram()?;
    let quantised = plain.as_slice::<f32>()?.iter().map(|x| {
        let whole = (x / scale).round_ties_even() + zero;
        if whole.is_nan() { zero } else { whole.clamp(least, most) }
    });
    let tensor = match to {
        DatumType::U8 => Tensor::from_shape(x.shape(), &quantised.map(|q| q as u8).collect::<Vec<_>>())?,
        DatumType::I8 => Tensor::from_shape(x.shape(), &quantised.map(|q| q as i8).collect::<Vec<_>>())?,
        DatumType::U16 => Tensor::from_shape(x.shape(), &quantised.map(|q| q as u16).collect::<Vec<_>>())?,
        _ => Tensor::from_shape(x.shape(), &quantised.map(|q| q as i16).collect::<Vec<_>>())?,
    };
    Ok(vec![tensor])
}

#[derive(Debug)]
struct Dequantize {
    grid: Grid,
    to: Option<DatumType>,
}

pub(super) fn dequantize(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let to = node.get_attr_opt::<i64>("output_dtype")?.filter(|to| *to != 0);
    let to = to.map(|_| node.get_attr::<DatumType>("output_dtype")).transpose()?;
    choose(context, node, Dequantize { grid: Grid::of(node)?, to }, |inputs| {
        let get = |at: usize| inputs.get(at).copied().flatten();
        let known = |fact: &TypedFact| {
            matches!(fact.datum_type.unquantized(), DatumType::I8 | DatumType::U8 | DatumType::I32)
        };
        !get(0).is_some_and(known)
            || !is_constant_f32(get(1))
            || is_blocked(get(1))
            || get(2).is_some_and(|zero| zero.konst.is_none() || !known(zero))
    })
}

impl Literal for Dequantize {
    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, scale) = (inputs.need(0)?, inputs.need(1)?);
        let scales = floats(scale)?;
        let zeros = zeros(inputs.get(2), &scales)?;
        let indices = self.grid.indices(x.shape(), scale.shape())?;
        let real = |(q, at): (f64, usize)| (q - zeros.as_ref().map_or(0.0, |zeros| zeros[at])) * scales[at];
        let values: Vec<f64> = floats(x)?.into_iter().zip(indices).map(real).collect();
        Ok(vec![from_floats(self.to.unwrap_or(scale.datum_type()), x.shape(), &values)?])
    }
}

/// One zero point for each scale; none: all are 0.
fn zeros(given: Option<&Tensor>, scales: &[f64]) -> TractResult<Option<Vec<f64>>> {
    let zeros = given.map(floats).transpose()?;
    if let Some(zeros) = &zeros {
        ensure!(zeros.len() == scales.len(), "{} zero points for {} scales", zeros.len(), scales.len());
    }
    Ok(zeros)
}

/// Least and largest value of a quantised type.
pub(super) fn range(datum_type: DatumType) -> TractResult<(f64, f64)> {
    Ok(match datum_type {
        DatumType::I8 => (-128.0, 127.0),
        DatumType::U8 => (0.0, 255.0),
        DatumType::I16 => (-32768.0, 32767.0),
        DatumType::U16 => (0.0, 65535.0),
        other => bail!("quantised to {other:?}"),
    })
}

#[derive(Debug)]
struct QLinearMatMul;

pub(super) fn matmul(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, QLinearMatMul)
}

impl Literal for QLinearMatMul {
    fn name(&self) -> &'static str {
        "QLinearMatMul"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (inputs.need(0)?, inputs.need(3)?);
        let ([.., rows, inner], [.., also, columns]) = (a.shape(), b.shape()) else {
            bail!("matrices of shape {:?} and {:?}", a.shape(), b.shape());
        };
        let (rows, inner, columns) = (*rows, *inner, *columns);
        ensure!(inner == *also, "matrices of shape {:?} and {:?}", a.shape(), b.shape());
        let batch = broadcast(&a.shape()[..a.rank() - 2], &b.shape()[..b.rank() - 2])?;
        // One number for the tensor, one for each row of A, one for each column of B.
        let each = |tensor: &Tensor| -> TractResult<Vec<f64>> { floats(tensor) };
        let pick = |values: &[f64], at: usize| if values.len() == 1 { values[0] } else { values[at] };
        let (a_scale, a_zero) = (each(inputs.need(1)?)?, each(inputs.need(2)?)?);
        let (b_scale, b_zero) = (each(inputs.need(4)?)?, each(inputs.need(5)?)?);
        let (y_scale, y_zero) = (each(inputs.need(6)?)?, each(inputs.need(7)?)?);
        ensure!(
            [&a_scale, &a_zero].iter().all(|each| [1, rows].contains(&each.len()))
                && [&b_scale, &b_zero].iter().all(|each| [1, columns].contains(&each.len())),
            "numbers of scales and zero points"
        );
        ensure!(y_scale.len() == 1 && y_zero.len() == 1, "one scale of the answer");
        let to = inputs.need(7)?.datum_type();
        let (least, most) = range(to)?;
        let (left, right) = (ints(a)?, ints(b)?);
        let shape = [&*batch, &[rows, columns]].concat();
        let values = coordinates(&shape).map(|at| {
            let (outer, [row, column]) =
                at.split_last_chunk::<2>().map_or((&at[..], [0, 0]), |(o, l)| (o, *l));
            let (of_a, of_b) = (
                super::values::broadcast_at(&a.shape()[..a.rank() - 2], outer),
                super::values::broadcast_at(&b.shape()[..b.rank() - 2], outer),
            );
            let (zero_a, zero_b) = (pick(&a_zero, row) as i64, pick(&b_zero, column) as i64);
            let sum: i64 = (0..inner)
                .map(|i| {
                    (left[(of_a * rows + row) * inner + i] - zero_a)
                        * (right[(of_b * inner + i) * columns + column] - zero_b)
                })
                .sum();
            let scale = pick(&a_scale, row) * pick(&b_scale, column) / y_scale[0];
            (sum as f64 * scale + y_zero[0]).round_ties_even().clamp(least, most)
        });
        Ok(vec![from_floats(to, &shape, &values.collect::<Vec<_>>())?])
    }
}
