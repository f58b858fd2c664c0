//! ScatterND (opset 11 to 18), whose indices may count from the end; ScatterElements (opset 16 to 18) to the largest or
//! the smallest float, which NaN is.
//!
//! Source: ONNX, Operators.md. data[indices[…]] = updates[…], or joined with it by the reduction, one
//! index after the other. tract refuses a negative index, and panics on it with a reduction; NaN is to it
//! neither larger nor smaller (0.23.9), to onnxruntime and NumPy both.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, choose, seen, wrap};
use super::stock;
use super::values::{
    axis, coordinates, floats, from_floats, from_wholes, ints, larger, pick, strides, wholes,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reduction {
    Replace,
    Add,
    Mul,
    Max,
    Min,
}

#[derive(Debug)]
struct Scatter {
    reduction: Reduction,
    /// The axis that the indices are of; else each row of them is a place.
    axis: Option<i64>,
}

impl Scatter {
    fn of(node: &NodeProto, axis: Option<i64>) -> TractResult<Self> {
        let reduction = match node.get_attr_opt::<&str>("reduction")?.unwrap_or("none") {
            "none" => Reduction::Replace,
            "add" => Reduction::Add,
            "mul" => Reduction::Mul,
            "max" => Reduction::Max,
            "min" => Reduction::Min,
            other => bail!("reduction {other:?}"),
        };
        Ok(Self { reduction, axis })
    }
}

pub(super) fn scatter_nd(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, Scatter::of(node, None)?)
}

pub(super) fn scatter_elements(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let scatter = Scatter::of(node, Some(node.get_attr_opt("axis")?.unwrap_or(0)))?;
    match scatter.reduction {
        Reduction::Max | Reduction::Min => {
            choose(context, node, scatter, |inputs| inputs[0].is_some_and(|fact| fact.datum_type.is_float()))
        }
        _ => stock(context, node),
    }
}

/// Where in the data each element of the updates goes, along one axis.
fn along(data: &[usize], at: i64, indices: &Tensor, updates: &[usize]) -> TractResult<Vec<usize>> {
    let at = axis(at, data.len())?;
    ensure!(indices.shape() == updates, "indices of shape {:?}, updates of {updates:?}", indices.shape());
    ensure!(updates.len() == data.len(), "updates of shape {updates:?} for data of {data:?}");
    let steps = strides(data);
    let target = |(mut place, index): (Vec<usize>, i64)| {
        let length = data[at] as i64;
        ensure!((-length..length).contains(&index), "index {index} on an axis of {length}");
        place[at] = index.rem_euclid(length) as usize;
        let inside = place.iter().zip(data).all(|(place, length)| place < length);
        ensure!(inside, "updates of shape {updates:?} for data of {data:?}");
        Ok(place.iter().zip(&steps).map(|(place, step)| place * step).sum())
    };
    coordinates(updates).zip(ints(indices)?).map(target).collect()
}

/// Where in the data each element of the updates goes.
fn targets(data: &[usize], indices: &Tensor, updates: &[usize]) -> TractResult<Vec<usize>> {
    let (named, leading) = indices.shape().split_last().context("indices without an axis")?;
    ensure!(*named <= data.len(), "{named} indices of {} axes", data.len());
    ensure!(
        updates.len() == leading.len() + data.len() - named
            && updates[..leading.len()] == *leading
            && updates[leading.len()..] == data[*named..],
        "updates of shape {updates:?}"
    );
    let steps = strides(data);
    let behind: usize = data[*named..].iter().product();
    let mut targets = Vec::new();
    let index = ints(indices)?;
    for row in 0..leading.iter().product::<usize>() {
        let mut begin = 0;
        for (axis, at) in index[row * named..(row + 1) * named].iter().enumerate() {
            let length = data[axis] as i64;
            ensure!((-length..length).contains(at), "index {at} on an axis of {length}");
            begin += at.rem_euclid(length) as usize * steps[axis];
        }
        targets.extend(begin..begin + behind);
    }
    Ok(targets)
}

impl Literal for Scatter {
    fn name(&self) -> &'static str {
        if self.axis.is_some() { "ScatterElements" } else { "ScatterND" }
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (data, indices, updates) = (inputs.need(0)?, inputs.need(1)?, inputs.need(2)?);
        let targets = match self.axis {
            Some(axis) => along(data.shape(), axis, indices, updates.shape())?,
            None => targets(data.shape(), indices, updates.shape())?,
        };
        if self.reduction == Reduction::Replace {
            // One tensor to pick from: the data and, behind it, the updates.
            let flat = |tensor: &Tensor| tensor.clone().into_shape(&[tensor.len()]);
            let both = Tensor::stack_tensors(0, &[flat(data)?, flat(updates)?])?;
            let mut from: Vec<Option<usize>> = (0..data.len()).map(Some).collect();
            for (source, target) in targets.into_iter().enumerate() {
                from[target] = Some(data.len() + source);
            }
            return Ok(vec![pick(&both, data.shape(), &from)?]);
        }
        if data.datum_type().is_integer() {
            let mut values = wholes(data)?;
            for (update, target) in wholes(updates)?.into_iter().zip(targets) {
                let old = values[target];
                values[target] = match self.reduction {
                    Reduction::Replace => update,
                    Reduction::Add => old.wrapping_add(update),
                    Reduction::Mul => old.wrapping_mul(update),
                    Reduction::Max => old.max(update),
                    Reduction::Min => old.min(update),
                };
            }
            return Ok(vec![from_wholes(data.datum_type(), data.shape(), &values)?]);
        }
        let mut values = floats(data)?;
        for (update, target) in floats(updates)?.into_iter().zip(targets) {
            let old = values[target];
            values[target] = match self.reduction {
                Reduction::Replace => update,
                Reduction::Add => old + update,
                Reduction::Mul => old * update,
                Reduction::Max => larger(update, old),
                Reduction::Min => -larger(-update, -old),
            };
        }
        Ok(vec![from_floats(data.datum_type(), data.shape(), &values)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let data = seen(inputs, 0)?;
        Ok(Some(vec![Form::of(data.datum_type, &data.shape)]))
    }
}
