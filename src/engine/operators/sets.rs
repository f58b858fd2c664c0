//! Unique (opset 11), OneHot (opset 9) and ConstantOfShape (opset 9) with a shape that is not constant.
//!
//! Source: ONNX, Operators.md. Unique compares slices along an axis, or elements without one; first
//! places and counts belong to each. An index of OneHot outside [−depth, depth) gives a row of `off`;
//! tract panics there (0.23.9).

use std::cmp::Ordering;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, choose, seen, wrap};
use super::values::{around, axis, floats, ints, pick, wholes};

#[derive(Debug)]
struct Unique {
    axis: Option<i64>,
    sorted: bool,
}

pub(super) fn unique(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let sorted = node.get_attr_opt::<i64>("sorted")?.unwrap_or(1) != 0;
    wrap(context, node, Unique { axis: node.get_attr_opt("axis")?, sorted })
}

/// Elements that can be put in order.
fn order(tensor: &Tensor) -> TractResult<Box<dyn Fn(usize, usize) -> Ordering + '_>> {
    if tensor.datum_type() == String::datum_type() {
        let texts = tensor.try_as_plain_ram()?.as_slice::<String>()?.to_vec();
        return Ok(Box::new(move |a, b| texts[a].cmp(&texts[b])));
    }
    if tensor.datum_type().is_integer() {
        let values = wholes(tensor)?;
        return Ok(Box::new(move |a, b| values[a].cmp(&values[b])));
    }
    let values = floats(tensor)?;
    Ok(Box::new(move |a, b| {
        let (a, b): (f64, f64) = (values[a], values[b]);
        if a == b { Ordering::Equal } else { a.total_cmp(&b) }
    }))
}

impl Literal for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let mut shape = match self.axis {
            Some(_) => x.shape().to_vec(),
            None => vec![x.len()],
        };
        let at = self.axis.map_or(Ok(0), |at| axis(at, shape.len()))?;
        let (before, length, behind) = around(&shape, at);
        let flat = |i: usize, outer: usize, inner: usize| (outer * length + i) * behind + inner;
        let slice = |i: usize| (0..before * behind).map(move |n| flat(i, n / behind, n % behind));
        let element = order(x)?;
        let compared = |a: &usize, b: &usize| {
            let mut pairs = slice(*a).zip(slice(*b)).map(|(a, b)| element(a, b));
            pairs.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        };
        let mut sorted: Vec<usize> = (0..length).collect();
        // Stable, so that of equal ones the first stands first.
        sorted.sort_by(compared);
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for i in sorted {
            match groups.last_mut() {
                Some(group) if compared(&group[0], &i).is_eq() => group.push(i),
                _ => groups.push(vec![i]),
            }
        }
        if !self.sorted {
            groups.sort_by_key(|group| group[0]);
        }
        let mut inverse = vec![0; length];
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|i| inverse[*i] = number as i64);
        }
        let firsts: Vec<usize> = groups.iter().map(|group| group[0]).collect();
        let mut from = Vec::with_capacity(before * firsts.len() * behind);
        for outer in 0..before {
            for i in &firsts {
                from.extend((0..behind).map(|inner| Some(flat(*i, outer, inner))));
            }
        }
        shape[at] = firsts.len();
        Ok(vec![
            pick(x, &shape, &from)?,
            tensor1(&firsts.iter().map(|i| *i as i64).collect::<Vec<_>>()),
            tensor1(&inverse),
            tensor1(&groups.iter().map(|group| group.len() as i64).collect::<Vec<_>>()),
        ])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let x = seen(inputs, 0)?;
        let mut shape: Vec<Option<TDim>> = x.shape.iter().cloned().map(Some).collect();
        let length = match self.axis {
            Some(at) => {
                let at = axis(at, shape.len())?;
                shape[at].take()
            }
            None => Some(std::mem::replace(&mut shape, vec![None]).into_iter().flatten().product()),
        };
        let open = || Form::open(i64::datum_type(), vec![None]);
        let inverse = Form::open(i64::datum_type(), vec![length]);
        Ok(Some(vec![Form::open(x.datum_type, shape), open(), inverse, open()]))
    }
}

#[derive(Debug)]
struct OneHot {
    axis: i64,
}

pub(super) fn one_hot(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, OneHot { axis: node.get_attr_opt("axis")?.unwrap_or(-1) })
}

impl OneHot {
    fn depth(tensor: &Tensor) -> TractResult<usize> {
        let depth = floats(tensor)?.first().copied().context("an empty depth")?;
        ensure!((0.0..1e9).contains(&depth), "a depth of {depth}");
        Ok(depth as usize)
    }
}

impl Literal for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (indices, depth, values) = (inputs.need(0)?, Self::depth(inputs.need(1)?)?, inputs.need(2)?);
        ensure!(values.len() == 2, "{} values instead of off and on", values.len());
        let at = axis(self.axis, indices.rank() + 1)?;
        let mut shape = indices.shape().to_vec();
        shape.insert(at, depth);
        let behind: usize = shape[at + 1..].iter().product();
        let mut from = vec![Some(0); shape.iter().product()];
        for (position, index) in floats(indices)?.into_iter().enumerate() {
            let index = if index < 0.0 { index + depth as f64 } else { index };
            if index >= 0.0 && (index as usize) < depth {
                let (outer, inner) = (position / behind.max(1), position % behind.max(1));
                from[(outer * depth + index as usize) * behind + inner] = Some(1);
            }
        }
        Ok(vec![pick(values, &shape, &from)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (indices, depth) = (seen(inputs, 0)?, seen(inputs, 1)?);
        let at = axis(self.axis, indices.shape.len() + 1)?;
        let mut shape: Vec<Option<TDim>> = indices.shape.iter().cloned().map(Some).collect();
        let depth = depth.value.as_deref().map(Self::depth).transpose()?;
        shape.insert(at, depth.map(|depth| depth.to_dim()));
        Ok(Some(vec![Form::open(seen(inputs, 2)?.datum_type, shape)]))
    }
}

#[derive(Debug)]
struct ConstantOfShape {
    value: Tensor,
}

pub(super) fn constant_of_shape(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    // Left to tract, a missing value is an f64.
    let Some(value) = node.get_attr_opt("value")? else {
        return constant_of_shape(context, &with_value(node));
    };
    let value = context.load_tensor(value)?;
    ensure!(value.len() == 1, "a value of {} elements", value.len());
    let value = value.into_shape(&[1])?;
    choose(context, node, ConstantOfShape { value }, |inputs| {
        inputs[0].is_some_and(|shape| shape.konst.is_none())
    })
}

/// The node with the value that the standard gives it: an f32 of 0.
fn with_value(node: &NodeProto) -> NodeProto {
    let zero = TensorProto {
        dims: vec![1],
        data_type: OnnxType::Float as i32,
        raw_data: vec![0; 4],
        ..TensorProto::default()
    };
    let mut node = node.clone();
    node.attribute.push(AttributeProto {
        name: "value".to_owned(),
        r#type: AttributeType::Tensor as i32,
        t: Some(zero),
        ..AttributeProto::default()
    });
    node
}

impl Literal for ConstantOfShape {
    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let shape = ints(inputs.need(0)?)?.into_iter().map(|length| Ok(usize::try_from(length)?));
        let shape = shape.collect::<TractResult<Vec<_>>>()?;
        let count = shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
        // What a board's memory could hold at most; more is a broken shape.
        let count = count.filter(|count| *count < 1 << 28).with_context(|| format!("a shape {shape:?}"))?;
        Ok(vec![pick(&self.value, &shape, &vec![Some(0); count])?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let rank = seen(inputs, 0)?.lengths()?.first().copied().context("a shape is a list")?;
        Ok(Some(vec![Form::open(self.value.datum_type(), vec![None; rank])]))
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::Sample;

    #[test]
    fn a_constant_without_a_value_is_an_f32_of_zero() {
        let sample = Sample::default().input("x", DataType::F32, &[2]).integers("shape", &[2]);
        let sample =
            sample.node("ConstantOfShape", &["shape"], &["c"], &[]).node("Add", &["x", "c"], &["y"], &[]);
        let x = Tensor::f32(&[2], vec![1.0, 2.0]);
        assert_eq!(sample.output("y").model().session().run(&[&x]).unwrap(), [x]);
    }
}
