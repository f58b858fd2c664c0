//! What is equal on paper and not in floats stays as it was written.
//!
//! tract rewrites these while it declutters (0.23.9); each is fenced:
//!
//! - **A number times 0 is 0.** NaN and the infinities are not.
//! - **The square of a root is what it was of.** Below 0 there is no root.
//! - **A constant in f64 that is 0, 1, 2 or ½ in f32.** x · 1e-60 is not 0, and x to the 2.000000001 no square.
//! - **Two constant factors are one.** Rounded otherwise; and the product of the two may be too large or too small
//!   for the type where that of one with the number is not, or the other way round.
//! - **A sum of squares times about 1 ÷ n is their mean.** Times 1 ÷ (n − 1) it is not, and in f64 it is
//!   computed in f32.
//!
//! Goes when tract leaves them.

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Div, Mul, Pow, Sqrt, Square, Sub};

use super::quotients::squares_in;
use super::{fence, within};

/// Fences every such operator, those of loops and branches too.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        within(model, id, &apply)?;
        if is_root_of_square(model, id)? {
            fence::behind(model, id)?;
        } else if let Some(slot) = constant_to_hide(model, id)? {
            fence::hide(model, id, slot)?;
        }
    }
    Ok(())
}

fn binary(node: &TypedNode) -> Option<&TypedBinOp> {
    node.op_as::<TypedBinOp>()
}

/// Whether a node is a root and a reader squares it.
fn is_root_of_square(model: &TypedModel, id: usize) -> TractResult<bool> {
    let node = model.node(id);
    if !node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<Sqrt>()) {
        return Ok(false);
    }
    Ok(node.outputs[0].successors.iter().map(|inlet| model.node(inlet.node)).any(|reader| {
        reader.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<Square>())
            || binary(reader).is_some_and(|op| {
                op.0.is::<Pow>() || op.0.is::<Mul>() && reader.inputs[0] == reader.inputs[1]
            })
    }))
}

/// Which of a node's inputs is a constant that tract is not to see.
fn constant_to_hide(model: &TypedModel, id: usize) -> TractResult<Option<usize>> {
    let node = model.node(id);
    let Some(op) = binary(node) else { return Ok(None) };
    let datum_type = model.outlet_fact(node.inputs[0])?.datum_type;
    if !datum_type.is_float() {
        return Ok(None);
    }
    let product = op.0.is::<Mul>();
    for slot in 0..2 {
        let Some(konst) = model.outlet_fact(node.inputs[slot])?.konst.clone() else { continue };
        if product && joins(model, node, slot) {
            return Ok(Some(slot));
        }
        let Some(value) = konst.as_uniform() else { continue };
        let value = value.cast_to_scalar::<f64>()?;
        let looks = |like: f64| value != like && f64::from(value as f32) == like;
        let neutral = product && looks(1.0)
            || (op.0.is::<Add>() || op.0.is::<Sub>()) && looks(0.0)
            || op.0.is::<Div>() && looks(1.0)
            || op.0.is::<Pow>() && (looks(0.5) || looks(1.0) || looks(2.0));
        let hidden = neutral
            || product && (value == 0.0 || looks(0.0))
            || product && !value.is_finite()
            || product && is_nearly_a_mean(model, node, slot, value)?;
        if hidden {
            return Ok(Some(slot));
        }
    }
    Ok(None)
}

/// Whether a product's other factor is a product by a constant itself.
fn joins(model: &TypedModel, node: &TypedNode, slot: usize) -> bool {
    let other = model.node(node.inputs[1 - slot].node);
    let is_constant =
        |slot: usize| model.outlet_fact(other.inputs[slot]).is_ok_and(|fact| fact.konst.is_some());
    binary(other).is_some_and(|op| op.0.is::<Mul>()) && (0..2).any(is_constant)
}

/// Whether a sum of squares is multiplied by what tract takes for 1 ÷ their number, and is not.
fn is_nearly_a_mean(model: &TypedModel, node: &TypedNode, slot: usize, value: f64) -> TractResult<bool> {
    let Some(count) = squares_in(model, model.node(node.inputs[1 - slot].node))? else { return Ok(false) };
    let inverse = (count as f32).recip();
    let near = (value - f64::from(inverse)).abs() < 1e-6;
    let single = model.outlet_fact(node.inputs[slot])?.datum_type == DatumType::F32;
    Ok(near && !(single && value as f32 == inverse))
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    fn of(x: &[f32], graph: impl Fn(Sample) -> Sample) -> Vec<f32> {
        let sample = Sample::default().input("x", DataType::F32, &[1, x.len() as i64]).output("y");
        let answer = graph(sample).model().session().run(&[&Tensor::f32(&[1, x.len()], x.to_vec())]).unwrap();
        answer[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn what_is_no_number_times_0_is_none() {
        let zero =
            |sample: Sample| sample.weights("zero", &[], &[0.0]).node("Mul", &["zero", "x"], &["y"], &[]);
        let answer = of(&[5.0, f32::NAN, f32::INFINITY], zero);
        assert!(answer[0] == 0.0 && answer[1].is_nan() && answer[2].is_nan(), "{answer:?}");
    }

    #[test]
    fn the_square_of_no_root_is_none() {
        for squared in ["Mul", "Pow"] {
            let answer = of(&[4.0, -4.0], |sample| {
                let other = if squared == "Mul" { "r" } else { "two" };
                let sample = sample.weights("two", &[], &[2.0]).node("Sqrt", &["x"], &["r"], &[]);
                sample.node(squared, &["r", other], &["y"], &[])
            });
            assert!(answer[0] == 4.0 && answer[1].is_nan(), "{squared}: {answer:?}");
        }
    }

    #[test]
    fn two_factors_stay_two() {
        for (a, b, x) in [(1e-30, 1e-30, 1e38), (1e30, 1e30, 1e-38), (1e30, 1e-30, 1e10)] {
            let answer = of(&[x], |sample| {
                let sample = sample.weights("a", &[], &[a]).weights("b", &[1], &[b]);
                sample.node("Mul", &["x", "a"], &["m"], &[]).node("Mul", &["b", "m"], &["y"], &[])
            });
            assert_eq!(answer, [x * a * b]);
        }
    }

    #[test]
    fn squares_by_one_less_than_their_number_are_not_their_mean() {
        let x: Vec<f32> = (0..4097).map(|i| (i % 7) as f32).collect();
        let sum: f32 = x.iter().map(|x| x * x).sum();
        for (divided, number) in [("Div", 4096.0), ("Mul", 1.0 / 4096.0)] {
            let answer = of(&x, |sample| {
                let sample = sample.node("Mul", &["x", "x"], &["s"], &[]).integers("along", &[1]);
                let sample =
                    sample.node("ReduceSum", &["s", "along"], &["n"], &[]).weights("k", &[], &[number]);
                sample.node(divided, &["n", "k"], &["y"], &[])
            });
            assert!((answer[0] / (sum / 4096.0) - 1.0).abs() < 1e-5, "{answer:?}");
        }
    }

    fn by_zero(sample: Sample, x: &str, y: &str) -> Sample {
        sample.weights("zero", &[], &[0.0]).node("Mul", &["zero", x], &[y], &[]).output(y)
    }

    #[test]
    fn in_a_loop_as_in_a_graph_through_a_file_too() {
        // What it carries on keeps it a loop.
        let body = Sample::default().input("h", DataType::F32, &[1]).input("e", DataType::F32, &[1]);
        let body = body.node("Add", &["h", "e"], &["next"], &[]).output("next");
        let body = by_zero(body, "e", "l");
        let each = [Attribute::Graph("body", &body), Attribute::Int("num_scan_inputs", 1)];
        let sample = Sample::default().input("x", DataType::F32, &[3, 1]).weights("begin", &[1], &[1.0]);
        let sample = sample.node("Scan", &["begin", "x"], &["last", "y"], &each).output("y").output("last");
        for model in [sample.model(), sample.saved_model()] {
            let x = Tensor::f32(&[3, 1], vec![5.0, f32::NAN, f32::INFINITY]);
            let answer = model.session().run(&[&x]).unwrap();
            let answer = answer[0].as_f32().unwrap();
            assert!(answer[0] == 0.0 && answer[1].is_nan() && answer[2].is_nan(), "{answer:?}");
        }
    }
}
