//! Operators that only move elements: CenterCropPad (opset 18), Compress (9), GatherND (11), ReverseSequence (10),
//! Pad (19) where it wraps or cuts, SpaceToDepth with mode `CRD` (28), TensorScatter (24), MaxUnpool (9).
//!
//! Source: ONNX, Operators.md. Each says, for every element of the output, where in the input it
//! stands; nothing is computed, so any element type goes through, strings included.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, choose, seen, wrap};
use super::values::{around, axis, coordinates, floats, ints, pick, strides};

/// Where the element of `coordinate` stands in a tensor with these strides.
fn flat(coordinate: &[usize], strides: &[usize]) -> usize {
    coordinate.iter().zip(strides).map(|(at, stride)| at * stride).sum()
}

fn lengths(tensor: &Tensor) -> TractResult<Vec<usize>> {
    ints(tensor)?.into_iter().map(|length| Ok(usize::try_from(length)?)).collect()
}

#[derive(Debug)]
struct CenterCropPad {
    axes: Option<Vec<i64>>,
}

pub(super) fn center_crop_pad(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, CenterCropPad { axes: node.get_attr_opt_vec("axes")? })
}

impl CenterCropPad {
    fn axes(&self, rank: usize) -> TractResult<Vec<usize>> {
        match &self.axes {
            Some(axes) => axes.iter().map(|at| axis(*at, rank)).collect(),
            None => Ok((0..rank).collect()),
        }
    }
}

impl Literal for CenterCropPad {
    fn name(&self) -> &'static str {
        "CenterCropPad"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let mut shape = x.shape().to_vec();
        let axes = self.axes(shape.len())?;
        let wanted = lengths(inputs.need(1)?)?;
        ensure!(wanted.len() == axes.len(), "{} lengths for {} axes", wanted.len(), axes.len());
        for (axis, length) in axes.iter().zip(wanted) {
            shape[*axis] = length;
        }
        let steps = strides(x.shape());
        // Cropping and padding both round down in front.
        let source = |at: Vec<usize>| {
            let moved = at.iter().zip(&shape).zip(x.shape()).map(|((at, new), old)| {
                let at = if new <= old { at + (old - new) / 2 } else { at.checked_sub((new - old) / 2)? };
                Some(at).filter(|at| at < old)
            });
            Some(flat(&moved.collect::<Option<Vec<_>>>()?, &steps))
        };
        Ok(vec![pick(x, &shape, &coordinates(&shape).map(source).collect::<Vec<_>>())?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (x, wanted) = (seen(inputs, 0)?, &seen(inputs, 1)?.value);
        let wanted = wanted.as_deref().map(lengths).transpose()?;
        let mut shape: Vec<Option<TDim>> = x.shape.iter().cloned().map(Some).collect();
        for (i, axis) in self.axes(shape.len())?.into_iter().enumerate() {
            shape[axis] = wanted.as_ref().and_then(|wanted| wanted.get(i)).map(|length| length.to_dim());
        }
        Ok(Some(vec![Form::open(x.datum_type, shape)]))
    }
}

#[derive(Debug)]
struct Compress {
    axis: Option<i64>,
}

pub(super) fn compress(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, Compress { axis: node.get_attr_opt("axis")? })
}

impl Literal for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, condition) = (inputs.need(0)?, floats(inputs.need(1)?)?);
        let mut shape = x.shape().to_vec();
        let at = match self.axis {
            Some(at) => axis(at, shape.len())?,
            None => {
                shape = vec![x.len()];
                0
            }
        };
        let (before, length, behind) = around(&shape, at);
        // A condition may be shorter than the axis: what it does not name is left out.
        let kept: Vec<usize> =
            (0..length).filter(|i| condition.get(*i).is_some_and(|keep| *keep != 0.0)).collect();
        let mut from = Vec::with_capacity(before * kept.len() * behind);
        for outer in 0..before {
            for i in &kept {
                from.extend((0..behind).map(|inner| Some((outer * length + i) * behind + inner)));
            }
        }
        shape[at] = kept.len();
        Ok(vec![pick(x, &shape, &from)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let x = seen(inputs, 0)?;
        let mut shape: Vec<Option<TDim>> = x.shape.iter().cloned().map(Some).collect();
        match self.axis {
            Some(at) => {
                let at = axis(at, shape.len())?;
                shape[at] = None;
            }
            None => shape = vec![None],
        }
        Ok(Some(vec![Form::open(x.datum_type, shape)]))
    }
}

#[derive(Debug)]
struct ReverseSequence {
    batch_axis: usize,
    time_axis: usize,
}

pub(super) fn reverse_sequence(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let batch_axis = node.get_attr_opt("batch_axis")?.unwrap_or(1);
    let time_axis = node.get_attr_opt("time_axis")?.unwrap_or(0);
    wrap(context, node, ReverseSequence { batch_axis, time_axis })
}

impl Literal for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, ends) = (inputs.need(0)?, lengths(inputs.need(1)?)?);
        let (shape, steps) = (x.shape(), strides(x.shape()));
        let (batch, time) = (self.batch_axis, self.time_axis);
        ensure!(batch < shape.len() && time < shape.len() && batch != time, "axes of a shape {shape:?}");
        ensure!(ends.len() == shape[batch], "{} lengths for a batch of {}", ends.len(), shape[batch]);
        ensure!(ends.iter().all(|end| *end <= shape[time]), "a length beyond {}", shape[time]);
        let source = |mut at: Vec<usize>| {
            let end = ends[at[batch]];
            if at[time] < end {
                at[time] = end - 1 - at[time];
            }
            Some(flat(&at, &steps))
        };
        Ok(vec![pick(x, shape, &coordinates(shape).map(source).collect::<Vec<_>>())?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let x = seen(inputs, 0)?;
        Ok(Some(vec![Form::of(x.datum_type, &x.shape)]))
    }
}

#[derive(Debug)]
struct GatherNd {
    batch_dims: usize,
}

/// Constant or not, its indices may count from the end: tract panics there (0.23.9).
pub(super) fn gather_nd(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, GatherNd { batch_dims: node.get_attr_opt("batch_dims")?.unwrap_or(0) })
}

impl GatherNd {
    /// The output's shape, and how many axes an index names.
    fn shape<T: Clone>(&self, data: &[T], indices: &[T], named: usize) -> TractResult<Vec<T>> {
        let batch = self.batch_dims;
        ensure!(
            batch < indices.len() && batch + named <= data.len(),
            "{named} indices of {} axes",
            data.len()
        );
        Ok([&indices[..indices.len() - 1], &data[batch + named..]].concat())
    }
}

impl Literal for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, indices) = (inputs.need(0)?, inputs.need(1)?);
        let (old, of) = (x.shape(), indices.shape());
        let named = *of.last().context("indices without an axis")?;
        let shape = self.shape(old, of, named)?;
        let batch = self.batch_dims;
        ensure!(old[..batch] == of[..batch], "batches of shape {:?} and {:?}", &old[..batch], &of[..batch]);
        let steps = strides(old);
        let behind: usize = old[batch + named..].iter().product();
        let mut from = Vec::with_capacity(shape.iter().product());
        let leading = coordinates(&of[..of.len() - 1]);
        for (at, index) in leading.zip(ints(indices)?.chunks(named.max(1))) {
            let mut begin = flat(&at[..batch], &steps);
            for (i, index) in index.iter().enumerate().take(named) {
                let length = old[batch + i] as i64;
                ensure!((-length..length).contains(index), "index {index} on an axis of {length}");
                begin += index.rem_euclid(length) as usize * steps[batch + i];
            }
            from.extend((0..behind).map(|inner| Some(begin + inner)));
        }
        Ok(vec![pick(x, &shape, &from)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (x, indices) = (seen(inputs, 0)?, seen(inputs, 1)?);
        let named = indices.shape.last().context("indices without an axis")?;
        let named = named.to_usize().context("the number of indices depends on values")?;
        let shape = self.shape(&x.shape, &indices.shape, named)?;
        Ok(Some(vec![Form::of(x.datum_type, &shape)]))
    }
}

#[derive(Debug)]
struct SpaceToDepth {
    block: usize,
    depth_last: bool,
}

pub(super) fn space_to_depth(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let depth_last = node.get_attr_opt::<&str>("mode")? == Some("CRD");
    wrap(context, node, SpaceToDepth { block: node.get_attr("blocksize")?, depth_last })
}

impl Literal for SpaceToDepth {
    fn name(&self) -> &'static str {
        "SpaceToDepth"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let (old, block) = (x.shape(), self.block);
        ensure!(old.len() == 4 && block > 0 && old[2] % block == 0 && old[3] % block == 0, "shape {old:?}");
        let shape = [old[0], old[1] * block * block, old[2] / block, old[3] / block];
        let steps = strides(old);
        let source = |at: Vec<usize>| {
            let (channel, row, column) = match self.depth_last {
                true => (at[1] / (block * block), at[1] / block % block, at[1] % block),
                false => (at[1] % old[1], at[1] / old[1] / block, at[1] / old[1] % block),
            };
            Some(flat(&[at[0], channel, at[2] * block + row, at[3] * block + column], &steps))
        };
        Ok(vec![pick(x, &shape, &coordinates(&shape).map(source).collect::<Vec<_>>())?])
    }
}

#[derive(Debug)]
struct Pad {
    /// Elements that are put in come from the other end; else they are the constant.
    wraps: bool,
}

/// `wrap`, constant pads that cut, and those of bools; the rest is tract's, which panics where a pad is
/// negative (0.23.9).
pub(super) fn pad(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    if let Some(pads) = node.get_attr_opt_vec::<i64>("pads")? {
        ensure!(
            pads.iter().all(|pad| *pad >= 0),
            "negative pads as an attribute; export with opset 11 or later"
        );
    }
    match node.get_attr_opt::<&str>("mode")?.unwrap_or("constant") {
        "wrap" => wrap(context, node, Pad { wraps: true }),
        "constant" => choose(context, node, Pad { wraps: false }, |inputs| {
            if inputs[0].is_some_and(|fact| fact.datum_type == DatumType::Bool) {
                return true;
            }
            let pads = inputs.get(1).copied().flatten().and_then(|pads| pads.konst.as_deref());
            pads.is_some_and(|pads| ints(pads).is_ok_and(|pads| pads.iter().any(|pad| *pad < 0)))
        }),
        _ => choose(context, node, Cut, |inputs| {
            let pads = inputs.get(1).copied().flatten().and_then(|pads| pads.konst.as_deref());
            pads.is_some_and(|pads| ints(pads).is_ok_and(|pads| pads.iter().any(|pad| *pad < 0)))
        }),
    }
}

/// Reflections that cut as well: we have none, and tract panics.
#[derive(Debug)]
struct Cut;

impl Literal for Cut {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn eval(&self, _: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        bail!("negative pads in a mode other than constant: cut with Slice first")
    }
}

impl Pad {
    /// In front of and behind each axis.
    fn pads(pads: &Tensor, axes: Option<&Tensor>, rank: usize) -> TractResult<Vec<(i64, i64)>> {
        let pads = ints(pads)?;
        let axes = match axes {
            Some(axes) => {
                ints(axes)?.into_iter().map(|at| axis(at, rank)).collect::<TractResult<Vec<_>>>()?
            }
            None => (0..rank).collect(),
        };
        ensure!(pads.len() == 2 * axes.len(), "{} pads for {} axes", pads.len(), axes.len());
        let mut all = vec![(0, 0); rank];
        for (i, at) in axes.iter().enumerate() {
            all[*at] = (pads[i], pads[i + axes.len()]);
        }
        Ok(all)
    }
}

impl Literal for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let pads = Self::pads(inputs.need(1)?, inputs.get(3), x.rank())?;
        let padded = |(length, (front, back)): (&usize, &(i64, i64))| -> TractResult<usize> {
            let padded = (*length as i64).saturating_add(front.saturating_add(*back));
            Ok(usize::try_from(padded.max(0))?)
        };
        let shape = x.shape().iter().zip(&pads).map(padded).collect::<TractResult<Vec<_>>>()?;
        let steps = strides(x.shape());
        // One tensor to pick from: the input and, behind it, the constant.
        let value = inputs.get(2).filter(|value| value.len() == 1);
        let mut from = x.clone().into_shape(&[x.len()])?;
        if let Some(value) = value {
            from = Tensor::stack_tensors(0, &[from, value.clone().into_shape(&[1])?])?;
        }
        let outside = value.map(|_| x.len());
        let source = |at: Vec<usize>| {
            let inside = at.iter().zip(&pads).zip(x.shape()).map(|((at, (front, _)), length)| {
                let (at, length) = (*at as i64 - front, *length as i64);
                match self.wraps {
                    true => Some(at.rem_euclid(length) as usize),
                    false => (0..length).contains(&at).then_some(at as usize),
                }
            });
            inside.collect::<Option<Vec<_>>>().map(|at| flat(&at, &steps)).or(outside)
        };
        Ok(vec![pick(&from, &shape, &coordinates(&shape).map(source).collect::<Vec<_>>())?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (x, pads) = (seen(inputs, 0)?, seen(inputs, 1)?);
        let axes = inputs.get(3).and_then(Option::as_ref).map(|axes| axes.value.clone());
        let pads = match (&pads.value, axes) {
            (Some(pads), None) => Some(Self::pads(pads, None, x.shape.len())?),
            (Some(pads), Some(Some(axes))) => Some(Self::pads(pads, Some(&axes), x.shape.len())?),
            _ => None,
        };
        let padded = |(i, length): (usize, &TDim)| {
            let pads = pads.as_ref()?;
            let sum = pads[i].0.saturating_add(pads[i].1);
            Some(match length.to_i64() {
                Ok(length) => length.saturating_add(sum).max(0).to_dim(),
                Err(_) => length.clone() + sum.to_dim(),
            })
        };
        Ok(Some(vec![Form::open(x.datum_type, x.shape.iter().enumerate().map(padded).collect())]))
    }
}

#[derive(Debug)]
struct TensorScatter {
    axis: i64,
    circular: bool,
}

pub(super) fn tensor_scatter(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let circular = node.get_attr_opt::<&str>("mode")? == Some("circular");
    wrap(context, node, TensorScatter { axis: node.get_attr_opt("axis")?.unwrap_or(-2), circular })
}

impl Literal for TensorScatter {
    fn name(&self) -> &'static str {
        "TensorScatter"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (past, update) = (inputs.need(0)?, inputs.need(1)?);
        let at = axis(self.axis, past.rank())?;
        ensure!(
            at > 0 && update.rank() == past.rank(),
            "axis {at} of shapes {:?}, {:?}",
            past.shape(),
            update.shape()
        );
        let (length, new) = (past.shape()[at], update.shape()[at]);
        let begins = match inputs.get(2) {
            Some(begins) => lengths(begins)?,
            None => vec![0; past.shape()[0]],
        };
        ensure!(begins.len() == past.shape()[0], "{} write indices", begins.len());
        ensure!(self.circular || begins.iter().all(|begin| begin + new <= length), "written beyond {length}");
        // One tensor to pick from: the cache and, behind it, the update.
        let both = Tensor::stack_tensors(
            0,
            &[past.clone().into_shape(&[past.len()])?, update.clone().into_shape(&[update.len()])?],
        )?;
        let mut from: Vec<Option<usize>> = (0..past.len()).map(Some).collect();
        let (old_steps, new_steps) = (strides(past.shape()), strides(update.shape()));
        for mut to in coordinates(update.shape()) {
            let source = flat(&to, &new_steps);
            to[at] += begins[to[0]];
            if self.circular {
                to[at] %= length;
            }
            from[flat(&to, &old_steps)] = Some(past.len() + source);
        }
        Ok(vec![pick(&both, past.shape(), &from)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let past = seen(inputs, 0)?;
        Ok(Some(vec![Form::of(past.datum_type, &past.shape)]))
    }
}

#[derive(Debug)]
struct MaxUnpool {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    pads: Vec<usize>,
}

pub(super) fn max_unpool(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let kernel: Vec<usize> = node.get_attr_vec("kernel_shape")?;
    let strides = node.get_attr_opt_vec("strides")?.unwrap_or_else(|| vec![1; kernel.len()]);
    let pads = node.get_attr_opt_vec("pads")?.unwrap_or_else(|| vec![0; 2 * kernel.len()]);
    ensure!(
        strides.len() == kernel.len() && pads.len() == 2 * kernel.len(),
        "strides and pads of the kernel"
    );
    wrap(context, node, MaxUnpool { kernel, strides, pads })
}

impl MaxUnpool {
    /// The shape that the pooling had in front of it, and the one that is asked for.
    fn shapes(&self, x: &[usize], wanted: Option<&Tensor>) -> TractResult<(Vec<usize>, Vec<usize>)> {
        let axes = self.kernel.len();
        ensure!(x.len() == axes + 2, "shape {x:?} for a kernel of {axes} axes");
        let mut inferred = x.to_vec();
        for i in 0..axes {
            let whole = (x[i + 2].saturating_sub(1)) * self.strides[i] + self.kernel[i];
            inferred[i + 2] =
                whole.checked_sub(self.pads[i] + self.pads[i + axes]).context("pads beyond the kernel")?;
        }
        let wanted = wanted.map(lengths).transpose()?.unwrap_or_else(|| inferred.clone());
        Ok((inferred, wanted))
    }
}

impl Literal for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let (inferred, wanted) = self.shapes(x.shape(), inputs.get(2))?;
        ensure!(wanted.len() == inferred.len(), "output_shape {wanted:?}");
        // Indices count in the tensor that was pooled; a larger output only has more room behind.
        let old = strides(&inferred);
        let new = strides(&wanted);
        let mut from = vec![None; wanted.iter().product()];
        for (source, index) in lengths(inputs.need(1)?)?.into_iter().enumerate() {
            let at: Vec<usize> =
                old.iter().zip(&inferred).map(|(step, length)| index / step % length).collect();
            ensure!(
                at.iter().zip(&wanted).all(|(at, length)| at < length),
                "index {index} is outside {wanted:?}"
            );
            from[flat(&at, &new)] = Some(source);
        }
        Ok(vec![pick(x, &wanted, &from)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let x = seen(inputs, 0)?;
        let wanted = inputs.get(2).and_then(Option::as_ref);
        if wanted.is_some_and(|wanted| wanted.value.is_none()) {
            return Ok(Some(vec![Form::open(x.datum_type, vec![None; x.shape.len()])]));
        }
        let (_, shape) = self.shapes(&x.lengths()?, wanted.and_then(|wanted| wanted.value.as_deref()))?;
        let shape: Vec<TDim> = shape.iter().map(|length| length.to_dim()).collect();
        Ok(Some(vec![Form::of(x.datum_type, &shape)]))
    }
}
