//! Every other score of a softmax is every other score of all of them.
//!
//! tract moves a slice with a step (`Downsample`) in front of whatever keeps the axis, and counts
//! Softmax among that (0.23.9): `softmax(x)[::2]` becomes `softmax(x[::2])`, which is another
//! number, without a word. Found by random graphs (seed 558). Where a graph slices at all, a fence
//! behind each softmax stops it. Goes when tract asks Softmax for its own axes.

use tract_core::ops::array::StridedSlice;
use tract_core::ops::downsample::Downsample;
use tract_core::ops::nn::Softmax;
use tract_core::prelude::{TractResult, TypedModel};

use super::fence;

/// Fences every softmax of the outer graph.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    // A slice becomes a `Downsample` only while the graph is decluttered.
    if !model.nodes().iter().any(|node| node.op_is::<StridedSlice>() || node.op_is::<Downsample>()) {
        return Ok(());
    }
    for id in 0..model.nodes().len() {
        if model.node(id).op_is::<Softmax>() {
            fence::behind(model, id)?;
        }
    }
    Ok(())
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
