//! InstanceNormalization and GroupNormalization: the mean is taken away twice.
//!
//! Source: ONNX, Operators.md. A mean in f32 is rounded, and what that leaves of a plane of one value is divided by √epsilon,
//! which makes 300 times as much of it, once more in each such layer: of a black picture, a U-Net on tract (0.23.9) ends 0.57 off
//! the sum in f64, on onnxruntime 1.32 as well, on PyTorch 0.05. Of what the first mean leaves, the second is exact to far below epsilon.

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::infer::InferenceOp;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::math;
use tract_onnx::tract_hir::ops::nn::{Reduce, Reducer};

use super::literal::Built;
use super::single::in_single;

/// tract's operator, reading what is centred already.
#[derive(Clone, Debug)]
struct Centred {
    op: Box<dyn InferenceOp>,
    /// Without groups each channel is one.
    groups: Option<usize>,
}

pub(super) fn instance(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    centred(context, node, None)
}

pub(super) fn group(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    centred(context, node, Some(node.get_attr("num_groups")?))
}

fn centred(context: &ParsingContext<'_>, node: &NodeProto, groups: Option<usize>) -> Built {
    let (op, closures) = super::stock(context, node)?;
    in_single(Ok((Box::new(Centred { op, groups }), closures)))
}

impl PartialEq for Centred {
    fn eq(&self, _other: &Self) -> bool {
        false
    }
}

impl Eq for Centred {}

impl Centred {
    fn centre(&self, name: &str, model: &mut TypedModel, x: OutletId) -> TractResult<OutletId> {
        let fact = model.outlet_fact(x)?.clone();
        let channels = fact.shape.get(1).cloned().context("no axis of channels")?;
        let groups = self.groups.map(|groups| {
            let of_each = channels.clone().div_ceil(groups as u64);
            (tvec![channels], tvec![groups.to_dim(), of_each])
        });
        let mut wire = x;
        if let Some((whole, split)) = &groups {
            let split = AxisOp::Reshape(1, whole.clone(), split.clone());
            wire = model.wire_node(format!("{name}.groups"), split, &[wire])?[0];
        }
        let rank = model.outlet_fact(wire)?.rank();
        let mean = Reduce::new(Some((2..rank as i64).collect()), true, Reducer::Mean);
        let mean = mean.wire(&format!("{name}.centre"), model, &[wire])?[0];
        wire = model.wire_node(format!("{name}.centred"), math::sub(), &[wire, mean])?[0];
        if let Some((whole, split)) = groups {
            let merged = AxisOp::Reshape(1, split, whole);
            wire = model.wire_node(format!("{name}.channels"), merged, &[wire])?[0];
        }
        Ok(wire)
    }
}

impl Op for Centred {
    fn name(&self) -> StaticName {
        self.op.name()
    }

    not_a_typed_op!();
}

impl EvalOp for Centred {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.op.eval(context, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.op.eval_out_of_plan(inputs)
    }
}

impl InferenceOp for Centred {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.op.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.op.observe_outlets(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.op.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let x = *node.inputs.first().context("nothing to normalise")?;
        let mut mapping = mapping.clone();
        let centred = self.centre(&node.name, target, mapping[&x])?;
        mapping.insert(x, centred);
        self.op.to_typed(source, node, target, &mapping)
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    /// Four planes of 55 × 61 through one of the two operators, with a scale of 1 and a bias of 0.
    fn normalised(operator: &str, planes: [&dyn Fn(usize) -> f32; 4]) -> Vec<f32> {
        let groups = operator == "GroupNormalization";
        let with = if groups { vec![Attribute::Int("num_groups", 2)] } else { vec![] };
        // Below opset 21 a group has one scale for all of its channels.
        let scales = if groups { 2 } else { 4 };
        let sample = Sample::default().input("x", DataType::F32, &[1, 4, 55, 61]).output("y");
        let sample = sample.weights("scale", &[scales], &vec![1.0; scales as usize]);
        let sample = sample.weights("bias", &[scales], &vec![0.0; scales as usize]);
        let model = sample.node(operator, &["x", "scale", "bias"], &["y"], &with).model();
        let x = planes.iter().flat_map(|plane| (0..55 * 61).map(plane)).collect();
        let answer = model.session().run(&[&Tensor::f32(&[1, 4, 55, 61], x)]).unwrap();
        answer[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn of_planes_of_one_value_nothing_is_left() {
        for operator in ["InstanceNormalization", "GroupNormalization"] {
            for value in [0.1_f32, -0.371, 3.3, 700.7] {
                let ours = normalised(operator, [&|_| value; 4]);
                let largest = ours.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                assert!(largest <= 1e-6 * value.abs(), "{operator} of {value}: {largest}");
            }
        }
    }

    #[test]
    fn each_plane_or_group_has_its_own_mean_and_deviation() {
        // Half of a plane is low, half high; the one number in the middle is between.
        let step = |low: f32, high: f32| {
            move |at: usize| match at.cmp(&(55 * 61 / 2)) {
                std::cmp::Ordering::Less => low,
                std::cmp::Ordering::Equal => (low + high) / 2.0,
                std::cmp::Ordering::Greater => high,
            }
        };
        let planes: [&dyn Fn(usize) -> f32; 4] =
            [&step(1.0, 3.0), &step(-7.0, 1.0), &step(0.0, 2.0), &step(4.0, 6.0)];
        let last = 55 * 61 - 1;
        let ends = |ours: &[f32]| [0, 1, 2, 3].map(|plane| ours[plane * (last + 1) + last]);
        let near =
            |ours: [f32; 4], right: [f32; 4]| ours.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-3);
        let ours = ends(&normalised("InstanceNormalization", planes));
        assert!(near(ours, [1.0; 4]), "{ours:?}");
        // Of both planes of a group: mean −0.5 and deviation √14.75, mean 3 and deviation √5.
        let ours = ends(&normalised("GroupNormalization", planes));
        let (first, second) = (14.75_f32.sqrt(), 5.0_f32.sqrt());
        assert!(near(ours, [3.5 / first, 1.5 / first, -1.0 / second, 3.0 / second]), "{ours:?}");
    }
}
