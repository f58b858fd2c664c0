//! Operators over which tract moves what may not be moved, each with a fence behind it.
//!
//! - **Softmax.** tract moves a slice with a step (`Downsample`, which a convolution with a stride
//!   becomes as well) in front of whatever keeps the axis, and counts Softmax among that (0.23.9):
//!   `softmax(x)[::2]` becomes `softmax(x[::2])`. Random graphs, seeds 558 and 1000447. Goes when
//!   tract asks Softmax for its own axes.
//! - **Expand, and Tile of length 1.** Spread along the axis that a product sums over, it is dropped, and one element is
//!   summed instead of all (0.23.9). Random graphs, seeds 1000011 and 1000036. Goes when tract's
//!   products keep the length of a summed axis.
//! - **A slice with a step, and a convolution of one element with a stride,** which becomes one. Moved in front of an
//!   axis that was added, spread or reshaped, it finds no such axis or another length, and the optimiser fails
//!   (0.23.9). Goes when tract asks those operators.
//! - **A number for each channel minus, or divided by, a convolution.** It is folded into the weights as
//!   if the convolution stood first (0.23.9): `1 - conv(x)` becomes `1 + conv(x)` without the bias's
//!   sign, and a quotient is taken of each weight. Random graphs, seed 1006702. Goes when tract asks
//!   which operand the convolution is.
//! - **A product that loses its last axis.** The axis is taken from the product itself, whose equation then has
//!   none in its answer, and is read as if it had no answer: the optimiser fails (0.23.9), where it sums over several
//!   axes or a Reshape in front makes several of one. Goes when tract writes and reads `ij->` alike.

use std::collections::HashSet;

use tract_core::internal::ToDim;
use tract_core::ops::array::{MultiBroadcastTo, StridedSlice, Tile};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::cnn::Conv;
use tract_core::ops::downsample::Downsample;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{Div, Sub};
use tract_core::ops::nn::Softmax;
use tract_core::prelude::{TractResult, TypedFact, TypedModel, TypedNode};

use super::fence;

/// Fences every such operator of the outer graph.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    // A slice or a stride becomes a `Downsample` only while the graph is decluttered.
    let steps = model
        .nodes()
        .iter()
        .any(|node| node.op_is::<StridedSlice>() || node.op_is::<Downsample>() || node.op_is::<Conv>());
    let sums = model.nodes().iter().any(|node| node.op_is::<EinSum>() || node.op_is::<Conv>());
    let reshapes = model.nodes().iter().any(|node| matches!(node.op_as(), Some(AxisOp::Reshape(..))));
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        if is_one_number(model, id, reshapes)? {
            fence::behind(model, id)?;
        } else if strides_over_an_axis(model, id) || (node.op_is::<StridedSlice>() && has_steps(model, id)?) {
            fence::before(model, id, 0)?;
        } else if (steps && node.op_is::<Softmax>()) || (sums && spreads(node)) {
            fence::behind(model, id)?;
        } else if sums
            && let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>()
            && (op.is::<Sub>() || op.is::<Div>())
            && model.outlet_fact(node.inputs[1])?.konst.is_none()
            && is_for_channels(model.outlet_fact(node.inputs[0])?)
        {
            fence::before(model, id, 1)?;
        }
    }
    Ok(())
}

fn has_steps(model: &TypedModel, id: usize) -> TractResult<bool> {
    let node = model.node(id);
    let Some(slot) = node.op_as::<StridedSlice>().and_then(|slice| slice.optional_steps_input) else {
        return Ok(false);
    };
    let steps = model.outlet_fact(node.inputs[slot])?.konst.clone();
    let Some(steps) = steps else { return Ok(true) };
    Ok(steps.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.iter().any(|step| *step != 1))
}

/// Whether an axis of length 1 may come out longer.
fn spreads(node: &TypedNode) -> bool {
    node.op_is::<MultiBroadcastTo>() || node.op_is::<Tile>()
}

/// Whether a convolution takes every second, say, and has an axis that was added or reshaped in front of it.
fn strides_over_an_axis(model: &TypedModel, id: usize) -> bool {
    let node = model.node(id);
    let Some(conv) = node.op_as::<Conv>() else { return false };
    let pool = &conv.pool_spec;
    let skips = |axis: usize| {
        let (stride, dilation) = (pool.stride(axis), pool.dilation(axis));
        stride > 1 && (pool.kernel_shape[axis] == 1 || dilation.is_multiple_of(stride))
    };
    if !(0..pool.rank()).any(skips) {
        return false;
    }
    let (mut open, mut seen) = (vec![node.inputs[0].node], HashSet::new());
    while let Some(above) = open.pop() {
        let node = model.node(above);
        if matches!(node.op_as(), Some(AxisOp::Add(_) | AxisOp::Reshape(..))) {
            return true;
        }
        // A convolution takes the step over itself.
        if seen.insert(above) && !node.op_is::<Conv>() {
            open.extend(node.inputs.iter().map(|input| input.node));
        }
    }
    false
}

/// Whether a product sums over several axes to one number, or over one that a Reshape may make several: its axes of
/// length 1 may be taken from it, and the several made one.
fn is_one_number(model: &TypedModel, id: usize, reshapes: bool) -> TractResult<bool> {
    let Some(sum) = model.node(id).op_as::<EinSum>() else { return Ok(false) };
    let summed = sum.axes.iter_all_axes().filter(|axis| axis.outputs[0].is_empty()).count();
    Ok(summed > usize::from(!reshapes) && model.outlet_fact(id.into())?.shape.volume() == 1.to_dim())
}

/// Whether a tensor may be one number for each channel.
fn is_for_channels(fact: &TypedFact) -> bool {
    fact.shape.iter().filter(|length| **length != 1.to_dim()).count() <= 1
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

    #[test]
    fn a_convolution_with_a_stride_sees_the_softmax_of_all() {
        let sample = Sample::default()
            .input("x", DataType::F32, &[1, 1, 4])
            .weights("w", &[1, 1, 1], &[1.0])
            .node("Softmax", &["x"], &["p"], &[Attribute::Int("axis", 2)])
            .node("Conv", &["p", "w"], &["all"], &[])
            .integers("from", &[0])
            .integers("to", &[i64::MAX])
            .integers("axis", &[2])
            .integers("step", &[2])
            .node("Slice", &["all", "from", "to", "axis", "step"], &["y"], &[])
            .output("y");
        let input = Tensor::f32(&[1, 1, 4], vec![0.0; 4]);
        let answer = sample.model().session().run(&[&input]).unwrap();
        assert_eq!(answer[0].as_f32(), Some(&[0.25, 0.25][..]));
    }

    #[test]
    fn a_number_minus_or_divided_by_a_convolution_keeps_its_order() {
        for (operator, right) in [("Sub", [-1.0, -3.0, -5.0, -7.0]), ("Div", [0.5, 0.25, 1.0 / 6.0, 0.125])] {
            let sample = Sample::default()
                .input("x", DataType::F32, &[1, 1, 4])
                .weights("w", &[1, 1, 1], &[2.0])
                .weights("one", &[1, 1, 1], &[1.0])
                .node("Conv", &["x", "w"], &["c"], &[])
                .node(operator, &["one", "c"], &["y"], &[])
                .output("y");
            let input = Tensor::f32(&[1, 1, 4], vec![1.0, 2.0, 3.0, 4.0]);
            let answer = sample.model().session().run(&[&input]).unwrap();
            let ours = answer[0].as_f32().unwrap();
            assert!(ours.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-6), "{operator}: {ours:?}");
        }
    }

    #[test]
    fn a_product_that_loses_its_last_axis_is_summed() {
        let sample =
            Sample::default().input("x", DataType::F32, &[2, 2, 2]).weights("w", &[2, 1], &[1.0, 10.0]);
        let sample = sample
            .node("Einsum", &["x", "w"], &["s"], &[Attribute::Text("equation", "abc,az->z")])
            .integers("first", &[0])
            .node("Squeeze", &["s", "first"], &["y"], &[])
            .output("y");
        let x = Tensor::f32(&[2, 2, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let answer = sample.model().session().run(&[&x]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[], vec![270.0])]);
        let multiplied =
            Sample::default().input("x", DataType::F32, &[2, 2, 2]).weights("w", &[2, 1], &[1.0, 10.0]);
        let multiplied = multiplied
            .node("Einsum", &["x", "w"], &["s"], &[Attribute::Text("equation", "abc,az->z")])
            .weights("v", &[1, 3], &[1.0, 2.0, -1.0])
            .node("MatMul", &["s", "v"], &["y"], &[])
            .output("y");
        let answer = multiplied.model().session().run(&[&x]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[3], vec![270.0, 540.0, -270.0])]);
    }

    #[test]
    fn every_second_of_an_expanded_axis_is_taken() {
        let bounds = [("from", 0), ("to", i64::MAX), ("axis", 0), ("step", 2)];
        let sample = Sample::default().input("x", DataType::F32, &[1, 2]).integers("shape", &[3, 2]);
        let sample = bounds.iter().fold(sample, |sample, (name, value)| sample.integers(name, &[*value]));
        let sample = sample
            .node("Expand", &["x", "shape"], &["wide"], &[])
            .node("Relu", &["wide"], &["r"], &[])
            .node("Slice", &["r", "from", "to", "axis", "step"], &["y"], &[])
            .output("y");
        let answer = sample.model().session().run(&[&Tensor::f32(&[1, 2], vec![2.0, 5.0])]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[2, 2], vec![2.0, 5.0, 2.0, 5.0])]);
    }

    #[test]
    fn an_expanded_axis_is_summed_over_its_whole_length() {
        let sample = Sample::default()
            .input("x", DataType::F32, &[1])
            .integers("shape", &[3])
            .weights("w", &[3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0])
            .node("Expand", &["x", "shape"], &["wide"], &[])
            .node("MatMul", &["wide", "w"], &["y"], &[])
            .output("y");
        let answer = sample.model().session().run(&[&Tensor::f32(&[1], vec![2.0])]).unwrap();
        assert_eq!(answer[0].as_f32(), Some(&[12.0, 120.0][..]));
        let tiled = Sample::default()
            .input("x", DataType::F32, &[1])
            .integers("times", &[2])
            .weights("w", &[2, 2], &[1.0, 10.0, 2.0, 20.0])
            .node("Tile", &["x", "times"], &["t"], &[])
            .node("MatMul", &["t", "w"], &["y"], &[])
            .output("y");
        let answer = tiled.model().session().run(&[&Tensor::f32(&[1], vec![2.0])]).unwrap();
        assert_eq!(answer[0].as_f32(), Some(&[6.0, 60.0][..]));
    }

    #[test]
    fn a_convolution_of_one_element_strides_over_an_axis_that_was_added() {
        let strides = [Attribute::Ints("strides", &[2, 2])];
        let sample = Sample::default().input("x", DataType::F32, &[1, 1, 4]).integers("last", &[3]);
        let sample =
            sample.weights("w", &[1, 1, 1, 1], &[2.0]).node("Unsqueeze", &["x", "last"], &["u"], &[]);
        let sample = sample.node("Relu", &["u"], &["r"], &[]).node("Conv", &["r", "w"], &["y"], &strides);
        let input = Tensor::f32(&[1, 1, 4], vec![1.0, 2.0, 3.0, 4.0]);
        let answer = sample.output("y").model().session().run(&[&input]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[1, 1, 2, 1], vec![2.0, 6.0])]);
        // What was one axis before it was two.
        let sample =
            Sample::default().input("x", DataType::F32, &[1, 1, 9]).integers("square", &[1, 1, 3, 3]);
        let sample =
            sample.weights("w", &[1, 1, 1, 1], &[1.0]).node("Reshape", &["x", "square"], &["s"], &[]);
        let sample = sample.node("Conv", &["s", "w"], &["y"], &strides);
        let input = Tensor::f32(&[1, 1, 9], (0..9).map(|at| at as f32).collect());
        let answer = sample.output("y").model().session().run(&[&input]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[1, 1, 2, 2], vec![0.0, 2.0, 6.0, 8.0])]);
    }

    #[test]
    fn a_product_of_flattened_axes_to_one_number_is_summed() {
        let sample = Sample::default().input("x", DataType::F32, &[1, 2, 2]).integers("flat", &[1, 4]);
        let sample = sample.weights("w", &[4, 1], &[1.0, 2.0, 3.0, 4.0]).weights("v", &[1], &[0.5]);
        let sample =
            sample.node("Reshape", &["x", "flat"], &["f"], &[]).node("MatMul", &["f", "w"], &["p"], &[]);
        let sample = sample.node("MatMul", &["p", "v"], &["y"], &[]);
        let input = Tensor::f32(&[1, 2, 2], vec![1.0; 4]);
        let answer = sample.output("y").model().session().run(&[&input]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[1], vec![5.0])]);
    }
}
