//! Hardmax (opset 1 to 13): 1 at the first largest of a row, 0 elsewhere. Below opset 13 a row is all that lies
//! from the axis on, from there it lies along the axis.
//!
//! Source: ONNX, Operators.md; where NaN stands first nothing is largest, as in onnxruntime, and NaN elsewhere is
//! passed over. tract marks a leading NaN, and panics on rows without elements (0.23.9).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Inputs, Literal, wrap};
use super::values::{around, axis, floats, from_floats};

#[derive(Debug)]
struct Hardmax {
    axis: i64,
    and_behind: bool,
}

pub(super) fn hardmax(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let and_behind = context.onnx_operator_set_version < 13;
    let axis = node.get_attr_opt("axis")?.unwrap_or(if and_behind { 1 } else { -1 });
    wrap(context, node, Hardmax { axis, and_behind })
}

impl Literal for Hardmax {
    fn name(&self) -> &'static str {
        "Hardmax"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let values = floats(x)?;
        let (before, length, behind) = match axis(self.axis, x.rank().max(1))? {
            at if self.and_behind => (x.shape()[..at].iter().product(), x.shape()[at..].iter().product(), 1),
            _ if x.rank() == 0 => (1, 1, 1),
            at => around(x.shape(), at),
        };
        let mut marks = vec![0.0; values.len()];
        for (outer, inner) in (0..before).flat_map(|outer| (0..behind).map(move |inner| (outer, inner))) {
            let place = |along: usize| (outer * length + along) * behind + inner;
            let larger = |best: usize, next: usize| if values[next] > values[best] { next } else { best };
            if let Some(largest) = (0..length).map(place).reduce(larger)
                && !values[largest].is_nan()
            {
                marks[largest] = 1.0;
            }
        }
        Ok(vec![from_floats(x.datum_type(), x.shape(), &marks)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    fn of(shape: &[usize], x: &[f32], axis: i64) -> Vec<f32> {
        let lengths: Vec<i64> = shape.iter().map(|length| *length as i64).collect();
        let sample = Sample::default().input("x", DataType::F32, &lengths);
        let model =
            sample.node("Hardmax", &["x"], &["y"], &[Attribute::Int("axis", axis)]).output("y").model();
        model.session().run(&[&Tensor::f32(shape, x.to_vec())]).unwrap()[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn the_first_largest_is_marked_and_a_leading_nan_is_not() {
        const NAN: f32 = f32::NAN;
        assert_eq!(of(&[2, 3], &[1.0, 4.0, 4.0, 7.0, NAN, 2.0], 1), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(of(&[2, 2], &[NAN, 1.0, 3.0, NAN], 0), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(of(&[2, 2], &[NAN, NAN, f32::NEG_INFINITY, -1.0], 1), [0.0, 0.0, 0.0, 1.0]);
        assert!(of(&[2, 0], &[], 1).is_empty());
    }
}
