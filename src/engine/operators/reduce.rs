//! Reductions (opset 1 to 20) where tract lacks them or answers wrongly: an axis without elements,
//! whole numbers, bool, axes that are not constant. f16 adds up in f32.
//!
//! Source: ONNX, Operators.md. Over no element: sum 0, product 1, max −∞ (the type's least value), min
//! +∞ (its largest), log-sum −∞. tract gives 0 for max and min, and adds whole numbers in 32 bits
//! (0.23.9). Here their sums wrap in their own type, and a mean is cut towards 0, as onnxruntime has it.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, choose, seen, wrap};
use super::single::in_single;
use super::values::{axis, coordinates, floats, from_floats, from_wholes, ints, larger, strides, wholes};

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    L1,
    L2,
    LogSum,
    LogSumExp,
    Max,
    Mean,
    Min,
    Prod,
    Sum,
    SumSquare,
}

#[derive(Debug)]
struct Reduce {
    how: How,
    keep: bool,
    axes: Option<Vec<i64>>,
    /// No axes mean none, not all.
    none: bool,
}

pub(super) fn reduce(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let how = match node.op_type.as_str() {
        "ReduceL1" => How::L1,
        "ReduceL2" => How::L2,
        "ReduceLogSum" => How::LogSum,
        "ReduceLogSumExp" => How::LogSumExp,
        "ReduceMax" => How::Max,
        "ReduceMean" => How::Mean,
        "ReduceMin" => How::Min,
        "ReduceProd" => How::Prod,
        "ReduceSum" => How::Sum,
        "ReduceSumSquare" => How::SumSquare,
        other => bail!("{other} is no reduction"),
    };
    let reduce = Reduce {
        how,
        keep: node.get_attr_opt::<i64>("keepdims")?.unwrap_or(1) != 0,
        axes: node.get_attr_opt_vec("axes")?,
        none: node.get_attr_opt::<i64>("noop_with_empty_axes")?.unwrap_or(0) != 0,
    };
    if how == How::LogSumExp {
        // tract's overflows where an exponential does, and nothing else has to.
        return wrap(context, node, reduce);
    }
    let ours = match how {
        How::Max | How::Min | How::Prod => {
            |inputs: &[Option<&TypedFact>]| of_what_tract_has_not(inputs, |of| !is_odd(of))
        }
        _ => |inputs: &[Option<&TypedFact>]| of_what_tract_has_not(inputs, |of| of.is_float()),
    };
    in_single(choose(context, node, reduce, ours))
}

/// It adds whole numbers in 32 bits, and has no roots and logarithms of them; `has` tells its types.
fn of_what_tract_has_not(inputs: &[Option<&TypedFact>], has: fn(DatumType) -> bool) -> bool {
    let get = |at: usize| inputs.get(at).copied().flatten();
    let is_empty = |fact: &TypedFact| fact.shape.iter().any(|length| *length == 0.to_dim());
    get(0).is_some_and(|x| !has(x.datum_type) || is_empty(x))
        || get(1).is_some_and(|axes| axes.konst.is_none() || is_empty(axes))
}

fn is_odd(datum_type: DatumType) -> bool {
    matches!(datum_type, DatumType::Bool | DatumType::TDim | DatumType::U32 | DatumType::U64)
}

impl Reduce {
    /// Which axes are reduced.
    fn reduced(&self, rank: usize, given: Option<&Tensor>) -> TractResult<Vec<bool>> {
        let axes = given.map(ints).transpose()?.or_else(|| self.axes.clone()).unwrap_or_default();
        let mut reduced = vec![axes.is_empty() && !self.none; rank];
        for at in axes {
            reduced[axis(at, rank)?] = true;
        }
        Ok(reduced)
    }

    /// Whether whole numbers give a whole one.
    fn is_whole(&self) -> bool {
        !matches!(self.how, How::L2 | How::LogSum | How::LogSumExp)
    }

    fn of_wholes(&self, values: impl ExactSizeIterator<Item = i128>) -> i128 {
        let count = values.len() as i128;
        match self.how {
            How::Max => values.max().unwrap_or(i128::MIN),
            How::Min => values.min().unwrap_or(i128::MAX),
            How::Prod => values.fold(1, i128::wrapping_mul),
            How::L1 => values.map(i128::abs).sum(),
            How::SumSquare => values.map(|x| x * x).fold(0, i128::wrapping_add),
            How::Mean => values.sum::<i128>() / count,
            _ => values.sum(),
        }
    }

    fn of(&self, values: &[f64], datum_type: DatumType) -> f64 {
        let sum = |f: fn(f64) -> f64| values.iter().copied().map(f).sum::<f64>();
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, larger);
        match self.how {
            How::L1 => sum(f64::abs),
            How::L2 => sum(|x| x * x).sqrt(),
            How::LogSum => sum(|x| x).ln(),
            How::LogSumExp if !largest.is_finite() => largest,
            How::LogSumExp => values.iter().map(|x| (x - largest).exp()).sum::<f64>().ln() + largest,
            How::Max if values.is_empty() => least(datum_type),
            How::Min if values.is_empty() => {
                -least(datum_type) - if datum_type.is_signed() { 1.0 } else { 0.0 }
            }
            How::Max => largest,
            How::Min => -values.iter().map(|x| -x).fold(f64::NEG_INFINITY, larger),
            How::Mean => sum(|x| x) / values.len() as f64,
            How::Prod => values.iter().product(),
            How::Sum => sum(|x| x),
            How::SumSquare => sum(|x| x * x),
        }
    }
}

fn least(datum_type: DatumType) -> f64 {
    match datum_type {
        DatumType::I8 => i8::MIN.into(),
        DatumType::I32 => i32::MIN.into(),
        DatumType::I64 => i64::MIN as f64,
        DatumType::F16 | DatumType::F32 | DatumType::F64 => f64::NEG_INFINITY,
        _ => 0.0,
    }
}

impl Literal for Reduce {
    fn name(&self) -> &'static str {
        "Reduce"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let reduced = self.reduced(x.rank(), inputs.get(1))?;
        let length = |wanted: bool| {
            let lengths = x.shape().iter().zip(&reduced);
            lengths.map(|(length, reduced)| if *reduced == wanted { *length } else { 1 }).collect::<Vec<_>>()
        };
        let (kept, inner, steps) = (length(false), length(true), strides(x.shape()));
        let flat = |at: &[usize]| at.iter().zip(&steps).map(|(at, step)| at * step).sum::<usize>();
        let offsets: Vec<usize> = coordinates(&inner).map(|at| flat(&at)).collect();
        let places = || coordinates(&kept).map(|at| flat(&at));
        let left = |(length, reduced): (&usize, &bool)| (self.keep || !reduced).then_some(*length);
        let shape: Vec<usize> = kept.iter().zip(&reduced).filter_map(left).collect();
        if x.datum_type().is_integer() && !offsets.is_empty() && self.is_whole() {
            let values = wholes(x)?;
            let out = places().map(|base| self.of_wholes(offsets.iter().map(|offset| values[base + offset])));
            return Ok(vec![from_wholes(x.datum_type(), &shape, &out.collect::<Vec<_>>())?]);
        }
        let values = floats(x)?;
        let out = places().map(|base| {
            let these: Vec<f64> = offsets.iter().map(|offset| values[base + offset]).collect();
            self.of(&these, x.datum_type())
        });
        Ok(vec![from_floats(x.datum_type(), &shape, &out.collect::<Vec<_>>())?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let x = seen(inputs, 0)?;
        let rank = x.shape.len();
        let axes = inputs.get(1).and_then(Option::as_ref);
        let reduced = match axes.map(|axes| axes.value.as_deref()) {
            Some(None) => {
                // Only a run tells which axes go: their number is known where none is dropped.
                let count =
                    axes.and_then(|axes| axes.lengths().ok()).and_then(|shape| shape.first().copied());
                let count = count.context("the number of axes depends on values")?;
                let left = if self.keep {
                    rank
                } else if count == 0 && !self.none {
                    0
                } else {
                    rank - count
                };
                return Ok(Some(vec![Form::open(x.datum_type, vec![None; left])]));
            }
            given => self.reduced(rank, given.flatten())?,
        };
        let shape: Vec<TDim> = x
            .shape
            .iter()
            .zip(&reduced)
            .filter(|(_, reduced)| self.keep || !**reduced)
            .map(|(length, reduced)| if *reduced { 1.to_dim() } else { length.clone() })
            .collect();
        Ok(Some(vec![Form::of(x.datum_type, &shape)]))
    }
}
