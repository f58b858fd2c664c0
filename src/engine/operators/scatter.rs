//! ScatterND (opset 11 to 18), whose indices may count from the end.
//!
//! Source: ONNX, Operators.md. data[indices[…]] = updates[…], or joined with it by the reduction, one
//! index after the other. tract refuses a negative index, and panics on it with a reduction (0.23.9).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, seen, wrap};
use super::values::{floats, from_floats, ints, pick, strides};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reduction {
    Replace,
    Add,
    Mul,
    Max,
    Min,
}

#[derive(Debug)]
struct ScatterNd {
    reduction: Reduction,
}

pub(super) fn scatter_nd(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let reduction = match node.get_attr_opt::<&str>("reduction")?.unwrap_or("none") {
        "none" => Reduction::Replace,
        "add" => Reduction::Add,
        "mul" => Reduction::Mul,
        "max" => Reduction::Max,
        "min" => Reduction::Min,
        other => bail!("reduction {other:?}"),
    };
    wrap(context, node, ScatterNd { reduction })
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

impl Literal for ScatterNd {
    fn name(&self) -> &'static str {
        "ScatterND"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (data, indices, updates) = (inputs.need(0)?, inputs.need(1)?, inputs.need(2)?);
        let targets = targets(data.shape(), indices, updates.shape())?;
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
            let mut values = ints(data)?;
            for (update, target) in ints(updates)?.into_iter().zip(targets) {
                let old = values[target];
                values[target] = match self.reduction {
                    Reduction::Replace => update,
                    Reduction::Add => old.wrapping_add(update),
                    Reduction::Mul => old.wrapping_mul(update),
                    Reduction::Max => old.max(update),
                    Reduction::Min => old.min(update),
                };
            }
            let values = Tensor::from_shape(data.shape(), &values)?;
            return Ok(vec![values.cast_to_dt(data.datum_type())?.into_owned()]);
        }
        let mut values = floats(data)?;
        for (update, target) in floats(updates)?.into_iter().zip(targets) {
            let old = values[target];
            values[target] = match self.reduction {
                Reduction::Replace => update,
                Reduction::Add => old + update,
                Reduction::Mul => old * update,
                Reduction::Max => old.max(update),
                Reduction::Min => old.min(update),
            };
        }
        Ok(vec![from_floats(data.datum_type(), data.shape(), &values)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let data = seen(inputs, 0)?;
        Ok(Some(vec![Form::of(data.datum_type, &data.shape)]))
    }
}
