//! LogSoftmax (opset 1 to 13) and Softplus (opset 1), where an exponential leaves the range of floats.
//!
//! Source: ONNX, Operators.md. tract takes the logarithm of what has become 0 or infinite (0.23.9): −∞ for
//! the logarithm of a probability below e^−103, ∞ for the softplus of 89. Here the largest is taken
//! away first: x − max − ln Σ exp(x − max), and max(x, 0) + ln(1 + exp(−|x|)). Where 1 + e rounds e away, ln(1 + e)
//! is e − e² ÷ 2, so that a softplus never ends at 0.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::math;
use tract_onnx::tract_hir::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_hir::tract_core::ops::logic::{Iff, comp_lt};
use tract_onnx::tract_hir::tract_core::ops::nn::{Softmax, SoftmaxKind};

use super::literal::Built;
use super::single::in_single;
use super::values::{axis, constant};

#[derive(Clone, Debug)]
enum Logarithm {
    /// Along one axis, or along it and all behind.
    Softmax {
        axis: i64,
        and_behind: bool,
    },
    Softplus,
}

pub(super) fn log_softmax(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let and_behind = context.onnx_operator_set_version < 13;
    let axis = node.get_attr_opt("axis")?.unwrap_or(if and_behind { 1 } else { -1 });
    in_single(Ok((expand(Logarithm::Softmax { axis, and_behind }), vec![])))
}

pub(super) fn softplus(_context: &ParsingContext<'_>, _node: &NodeProto) -> Built {
    in_single(Ok((expand(Logarithm::Softplus), vec![])))
}

impl Expansion for Logarithm {
    fn name(&self) -> StaticName {
        match self {
            Self::Softmax { .. } => "LogSoftmax".into(),
            Self::Softplus => "Softplus".into(),
        }
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?.clone();
        if let Self::Softmax { axis: at, and_behind } = *self {
            // A whole tensor without axes is one row.
            let first = if and_behind && at == i64::try_from(fact.rank())? {
                fact.rank()
            } else {
                axis(at, fact.rank())?
            };
            let axes = if and_behind { (first..fact.rank()).collect() } else { tvec!(first) };
            return model.wire_node(name, Softmax::new(axes, None, SoftmaxKind::LogSoftmax), inputs);
        }
        let mut constant = |called: &str, value: f32| {
            constant(model, format!("{name}.{called}"), value, fact.datum_type, fact.rank())
        };
        let (zero, one) = (constant("zero", 0.0)?, constant("one", 1.0)?);
        // e³ ÷ 3 is less than a rounding of e.
        let small = if fact.datum_type == DatumType::F64 { 1e-8 } else { 4e-4 };
        let (half, few) = (constant("half", 0.5)?, constant("few", small)?);
        let mut wire = |called: &str, op: Box<dyn TypedOp>, inputs: &[OutletId]| -> TractResult<OutletId> {
            Ok(model.wire_node(format!("{name}.{called}"), op, inputs)?[0])
        };
        let x = inputs[0];
        let size = wire("abs", Box::new(math::abs()), &[x])?;
        let less = wire("neg", Box::new(math::neg()), &[size])?;
        let power = wire("exp", Box::new(math::exp()), &[less])?;
        let sum = wire("sum", Box::new(math::add()), &[power, one])?;
        let rest = wire("ln", Box::new(math::ln()), &[sum])?;
        let square = wire("square", Box::new(math::square()), &[power])?;
        let part = wire("part", Box::new(math::mul()), &[square, half])?;
        let series = wire("series", Box::new(math::sub()), &[power, part])?;
        let is_small = wire("is-small", Box::new(TypedBinOp(comp_lt(), None)), &[power, few])?;
        let rest = wire("rest", Box::new(Iff), &[is_small, series, rest])?;
        let positive = wire("max", Box::new(math::max()), &[x, zero])?;
        model.wire_node(name, math::add(), &[positive, rest])
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    fn answer(operator: &str, with: &[Attribute<'_>], x: &[f32]) -> Vec<f32> {
        let length = i64::try_from(x.len()).unwrap();
        let sample = Sample::default()
            .input("x", DataType::F32, &[1, length])
            .node(operator, &["x"], &["y"], with)
            .output("y");
        let x = Tensor::f32(&[1, x.len()], x.to_vec());
        sample.model().session().run(&[&x]).unwrap()[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn the_logarithm_of_a_vanishing_probability_is_finite() {
        let axis = [Attribute::Int("axis", -1)];
        assert_eq!(answer("LogSoftmax", &axis, &[0.0, -110.0, -300.0]), [0.0, -110.0, -300.0]);
        assert_eq!(answer("LogSoftmax", &axis, &[0.0, f32::NEG_INFINITY]), [0.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn the_softplus_of_a_large_number_is_that_number() {
        let ours =
            answer("Softplus", &[], &[100.0, 3e38, -200.0, 0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        assert_eq!(ours[..3], [100.0, 3e38, 0.0]);
        for (x, right) in
            [(-30.0, 9.357_623e-14_f32), (-80.0, 1.804_851_4e-35), (-8.0, 3.354_063e-4), (-7.0, 9.114_665e-4)]
        {
            let ours = answer("Softplus", &[], &[x])[0];
            assert!((ours / right - 1.0).abs() < 2e-4, "{ours} for {x}");
        }
        assert!((ours[3] - 2.0_f32.ln()).abs() < 1e-6, "{ours:?}");
        assert_eq!(ours[4..6], [f32::INFINITY, 0.0]);
        assert!(ours[6].is_nan());
    }
}
