//! Every other score of a softmax is every other score of all of them.
//!
//! tract moves a slice with a step (`Downsample`) in front of whatever keeps the axis, and counts
//! Softmax among that (0.23.9): `softmax(x)[::2]` becomes `softmax(x[::2])`, which is another
//! number, without a word. Found by random graphs (seed 558). Behind a softmax such a slice is
//! gathered instead, which nothing moves. Goes when tract asks Softmax for its own axes.

use tract_core::internal::{DimLike, TypedModelPatch, tensor1};
use tract_core::ops::array::Gather;
use tract_core::ops::downsample::Downsample;
use tract_core::ops::nn::Softmax;
use tract_core::prelude::{SpecialOps, TractResult, TypedModel};

/// Rewrites every such slice of the outer graph.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    if !model.nodes().iter().any(|node| node.op_is::<Softmax>()) {
        return Ok(());
    }
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let Some(step) = node.op_as::<Downsample>() else { continue };
        let Ok(length) = model.outlet_fact(node.inputs[0])?.shape[step.axis].to_usize() else { continue };
        if !behind_softmax(model, id) {
            continue;
        }
        let forward = (step.modulo..length).step_by(step.stride.unsigned_abs());
        let kept: Vec<i64> = match step.stride > 0 {
            true => forward.map(|at| at as i64).collect(),
            false => forward.map(|at| (length - 1 - at) as i64).collect(),
        };
        let mut patch = TypedModelPatch::new("a strided slice behind a softmax");
        let input = patch.tap_model(model, node.inputs[0])?;
        let kept = patch.add_const(format!("{}.kept", node.name), tensor1(&kept))?;
        let output = patch.wire_node(&node.name, Gather::new(step.axis), &[input, kept])?[0];
        patch.shunt_outside(model, id.into(), output)?;
        patch.apply(model)?;
    }
    Ok(())
}

/// Whether a softmax stands anywhere before this node: the slice would be moved over all between.
fn behind_softmax(model: &TypedModel, id: usize) -> bool {
    let mut open = vec![id];
    let mut seen = vec![false; model.nodes().len()];
    while let Some(id) = open.pop() {
        for input in &model.node(id).inputs {
            if !std::mem::replace(&mut seen[input.node], true) {
                if model.node(input.node).op_is::<Softmax>() {
                    return true;
                }
                open.push(input.node);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    fn every(step: i64, operator: &str) -> Vec<f32> {
        let (from, to) = if step > 0 { (0, i64::MAX) } else { (-1, i64::MIN) };
        let sample = Sample::default()
            .input("x", DataType::F32, &[1, 4])
            .integers("from", &[from])
            .integers("to", &[to])
            .integers("axis", &[1])
            .integers("step", &[step])
            .node(operator, &["x"], &["p"], &[Attribute::Int("axis", 1)])
            .node("Neg", &["p"], &["n"], &[])
            .node("Slice", &["n", "from", "to", "axis", "step"], &["y"], &[])
            .output("y");
        let input = Tensor::f32(&[1, 4], vec![0.0, 1.0, 2.0, 3.0]);
        sample.model().session().run(&[&input]).unwrap()[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn a_slice_with_a_step_takes_from_the_softmax_of_all() {
        let powers = [0.0_f32, 1.0, 2.0, 3.0].map(f32::exp);
        let sum: f32 = powers.iter().sum();
        let near = |ours: Vec<f32>, theirs: &[f32]| {
            assert_eq!(ours.len(), theirs.len());
            assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?}, not {theirs:?}");
        };
        near(every(2, "Softmax"), &[-powers[0] / sum, -powers[2] / sum]);
        near(every(-3, "Softmax"), &[-powers[3] / sum, -powers[0] / sum]);
        near(every(2, "LogSoftmax"), &[sum.ln(), sum.ln() - 2.0]);
    }
}
