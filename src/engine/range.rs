//! How large an output can be at most, where its function says so, and against what a difference in it
//! is measured for that reason.
//!
//! A difference is told relative to the largest number of its tensor. Where the tensor comes out of a
//! sigmoid, a tanh or a softmax and stands at the foot of it (a probability of 3e-5, and nothing beside
//! it), that asks for what no f32 kernel gives: those are exact to some 1e-7 of their range, not of
//! themselves. Such a tensor is measured against a hundredth of its range at least; one whose range is
//! not known, against its own largest number alone.

use tract_core::internal::DimLike;
use tract_core::ops::array::{Slice, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Div, Mul, Tanh};
use tract_core::ops::nn::{Reduce, Reducer, Sigmoid, Softmax, SoftmaxKind};
use tract_core::prelude::{OutletId, TypedModel};

/// The part of a range that a difference is measured against at least. At the default tolerance of 1e-4
/// it lets a probability be 1e-6 off: ten times what kernels are, a hundredth of what a threshold is
/// written with.
const PART: f64 = 0.01;

/// No chain that a person wrote is longer; a graph of a hostile one is not climbed for ever.
const MAX_CLIMB: usize = 32;

/// For each output, the least that a difference is measured against; 0 where its range is not known.
pub(super) fn least(model: &TypedModel) -> Vec<f64> {
    let outputs = model.outputs.iter();
    outputs.map(|outlet| bound(model, *outlet, MAX_CLIMB).map_or(0.0, |bound| PART * bound)).collect()
}

/// What no number of a tensor is beyond.
fn bound(model: &TypedModel, outlet: OutletId, climb: usize) -> Option<f64> {
    let node = model.node(outlet.node);
    let climb = climb.checked_sub(1)?;
    let of = |input: usize| bound(model, *node.inputs.get(input)?, climb);
    let op = &*node.op;
    if let Some(element_wise) = op.downcast_ref::<ElementWiseOp>() {
        return (element_wise.0.is::<Sigmoid>() || element_wise.0.is::<Tanh>()).then_some(1.0);
    }
    if let Some(softmax) = op.downcast_ref::<Softmax>() {
        return (softmax.kind == SoftmaxKind::Softmax).then_some(1.0);
    }
    if op.is::<AxisOp>() || op.is::<Slice>() {
        return of(0);
    }
    if op.is::<TypedConcat>() {
        return (0..node.inputs.len()).map(of).try_fold(0.0_f64, |most, bound| Some(most.max(bound?)));
    }
    if let Some(reduce) = op.downcast_ref::<Reduce>() {
        let shape = &model.outlet_fact(node.inputs[0]).ok()?.shape;
        return match reduce.reducer {
            Reducer::Max | Reducer::Min => of(0),
            // A mean is a sum that is divided next.
            Reducer::Sum => {
                let mut lengths = reduce.axes.iter().map(|axis| shape.get(*axis)?.to_usize().ok());
                let count = lengths.try_fold(1_usize, |count, length| count.checked_mul(length?))?;
                Some(of(0)? * count as f64)
            }
            _ => None,
        };
    }
    if let Some(TypedBinOp(op, _)) = op.downcast_ref::<TypedBinOp>() {
        let number = |input: usize| {
            let konst = model.outlet_fact(*node.inputs.get(input)?).ok()?.konst.clone()?;
            let number = konst.as_uniform()?.cast_to_scalar::<f64>().ok()?.abs();
            (number > 0.0 && number.is_finite()).then_some(number)
        };
        return match (op.is::<Mul>(), op.is::<Div>()) {
            (true, _) => number(1).map(|number| (0, number)).or_else(|| number(0).map(|number| (1, number))),
            (_, true) => number(1).map(|number| (0, 1.0 / number)),
            _ => None,
        }
        .and_then(|(input, factor)| Some(of(input)? * factor));
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::base::DataType;
    use crate::engine::Model;
    use crate::engine::sample::{Attribute, Sample};

    fn least(nodes: &[(&str, &[Attribute])]) -> f64 {
        let mut sample = Sample::default().input("t0", DataType::F32, &[1, 4]).weights("ten", &[1], &[10.0]);
        for (i, (operator, with)) in nodes.iter().enumerate() {
            let (from, to) = (format!("t{i}"), format!("t{}", i + 1));
            let inputs = if *operator == "Mul" { vec![from.as_str(), "ten"] } else { vec![from.as_str()] };
            sample = sample.node(operator, &inputs, &[&to], with);
        }
        let model: Model = sample.output(&format!("t{}", nodes.len())).model();
        model.least()[0]
    }

    #[test]
    fn a_probability_is_measured_against_a_hundredth_however_it_is_shaped_and_averaged() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} and {b}");
        near(least(&[("Sigmoid", &[])]), 0.01);
        near(least(&[("Softmax", &[Attribute::Int("axis", 1)])]), 0.01);
        near(least(&[("Sigmoid", &[]), ("Flatten", &[]), ("ReduceMean", &[])]), 0.01);
        near(least(&[("Tanh", &[]), ("Mul", &[])]), 0.1);
    }

    #[test]
    fn what_may_be_any_number_is_measured_against_itself() {
        assert_eq!(least(&[("Relu", &[])]), 0.0);
        assert_eq!(least(&[("Sigmoid", &[]), ("Log", &[])]), 0.0);
        assert_eq!(least(&[("Mul", &[])]), 0.0);
        assert_eq!(least(&[("LogSoftmax", &[Attribute::Int("axis", 1)])]), 0.0);
    }
}
