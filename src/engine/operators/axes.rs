//! Squeeze (opset 1 to 13), whatever order its axes come in, and with none below opset 13.
//!
//! Source: ONNX, Operators.md. tract takes the axes away from the last one listed to the first, so that it fails or
//! panics where they do not ascend, and wants the attribute that the standard lets be left out (0.23.9).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::Built;
use super::values::{axis, ints};

#[derive(Clone, Debug)]
struct Squeeze {
    /// Those of the attribute.
    axes: Option<Vec<i64>>,
}

pub(super) fn squeeze(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let axes = node.get_attr_opt_vec::<i64>("axes")?;
    Ok((expand(Squeeze { axes }), vec![]))
}

/// Which axes go, the last one first. Without a list, all of length 1.
fn gone<D: DimLike>(shape: &[D], listed: Option<&[i64]>) -> TractResult<Vec<usize>> {
    let mut gone = match listed {
        None => (0..shape.len()).filter(|at| shape[*at].is_one()).collect(),
        Some(listed) => listed.iter().map(|at| axis(*at, shape.len())).collect::<TractResult<Vec<_>>>()?,
    };
    gone.sort_unstable();
    gone.dedup();
    gone.reverse();
    for at in &gone {
        ensure!(shape[*at].is_one(), "axis {at} of {shape:?} has not length 1; it cannot be squeezed");
    }
    Ok(gone)
}

fn left<D: DimLike>(shape: &[D], listed: Option<&[i64]>) -> TractResult<TVec<D>> {
    let gone = gone(shape, listed)?;
    Ok(shape
        .iter()
        .enumerate()
        .filter(|(at, _)| !gone.contains(at))
        .map(|(_, length)| length.clone())
        .collect())
}

impl Expansion for Squeeze {
    fn name(&self) -> StaticName {
        "Squeeze".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!((1..=2).contains(&inputs.len()), "{} inputs", inputs.len());
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        if inputs.len() == 2 {
            return s.given_2(&inputs[0].shape, &inputs[1].value, move |s, shape, axes| {
                s.equals(&outputs[0].shape, left(&shape, Some(&ints(&axes)?))?)
            });
        }
        s.given(&inputs[0].shape, move |s, shape| {
            s.equals(&outputs[0].shape, left(&shape, self.axes.as_deref())?)
        })
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let listed = match inputs.get(1) {
            None => self.axes.clone(),
            Some(axes) => {
                let axes = model.outlet_fact(*axes)?.konst.clone();
                let axes = axes.context("the axes must be a constant: give the input a value with --fix")?;
                Some(ints(&axes)?)
            }
        };
        let mut wire = tvec!(inputs[0]);
        let gone = gone(&model.outlet_fact(inputs[0])?.shape.to_tvec(), listed.as_deref())?;
        for (step, at) in gone.iter().enumerate() {
            let name = if step + 1 == gone.len() { name.to_owned() } else { format!("{name}.axis-{at}") };
            wire = model.wire_node(name, AxisOp::Rm(*at), &wire)?;
        }
        Ok(wire)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::Sample;

    fn squeezed(axes: &[i64]) -> Vec<usize> {
        let sample = Sample::default().input("x", DataType::F32, &[1, 3, 1, 1]).integers("axes", axes);
        let sample = sample.node("Squeeze", &["x", "axes"], &["s"], &[]).node("Neg", &["s"], &["y"], &[]);
        let x = Tensor::zeros(&[1, 3, 1, 1]);
        sample.output("y").model().session().run(&[&x]).unwrap()[0].shape.clone()
    }

    #[test]
    fn axes_are_squeezed_in_any_order() {
        assert_eq!(squeezed(&[3, 0]), [3, 1]);
        assert_eq!(squeezed(&[-1, 2, 0]), [3]);
        assert_eq!(squeezed(&[0, -4]), [3, 1, 1]);
    }

    #[test]
    fn an_axis_that_is_not_there_or_too_long_is_named() {
        for (axis, told) in [(1, "axis 1 of"), (7, "axis 7")] {
            let sample = Sample::default().input("x", DataType::F32, &[1, 3]).integers("axes", &[axis]);
            let told_of = sample.node("Squeeze", &["x", "axes"], &["y"], &[]).output("y").refusal();
            assert!(told_of.contains(told) && !told_of.contains("panicked"), "{told_of}");
        }
    }
}
