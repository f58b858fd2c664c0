//! MeanVarianceNormalization (opset 9 to 13): (x − mean) ÷ (√variance + 1e-9).
//!
//! Source: ONNX, Operators.md. tract takes the mean of the squares minus the square of the mean (0.23.9), of which
//! nothing is left where the mean is large: at 100 the third digit is wrong, at 10,000 all are. Here it is
//! the mean of the squared differences, as in onnxruntime. The mean is taken away twice, because as a float it is
//! itself rounded. f16 is computed in f32.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::math;
use tract_onnx::tract_hir::ops::nn::{Reduce, Reducer};

use super::literal::Built;
use super::single::in_single;
use super::values::{axis, constant};

#[derive(Clone, Debug)]
struct MeanVariance {
    axes: Vec<i64>,
}

pub(super) fn mean_variance(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let axes = node.get_attr_opt_vec("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    in_single(Ok((expand(MeanVariance { axes }), vec![])))
}

impl Expansion for MeanVariance {
    fn name(&self) -> StaticName {
        "MeanVarianceNormalization".into()
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
        let axes = self.axes.iter().map(|at| Ok(axis(*at, fact.rank())? as i64));
        let axes = axes.collect::<TractResult<Vec<_>>>()?;
        let mean = |model: &mut TypedModel, called: &str, of: OutletId| {
            let mean = Reduce::new(Some(axes.clone()), true, Reducer::Mean);
            mean.wire(&format!("{name}.{called}"), model, &[of])
        };
        let mut centred = inputs[0];
        for (of, less) in [("mean", "centred"), ("rest", "difference")] {
            let mean = mean(model, of, centred)?[0];
            let less = format!("{name}.{less}");
            centred = model.wire_node(less, math::sub(), &[centred, mean])?[0];
        }
        let square = model.wire_node(format!("{name}.square"), math::square(), &[centred])?[0];
        let variance = mean(model, "variance", square)?;
        let deviation = model.wire_node(format!("{name}.deviation"), math::sqrt(), &variance)?[0];
        let epsilon = constant(model, format!("{name}.epsilon"), 1e-9, fact.datum_type, fact.rank())?;
        let divisor = model.wire_node(format!("{name}.divisor"), math::add(), &[deviation, epsilon])?[0];
        model.wire_node(name, math::div(), &[centred, divisor])
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    #[test]
    fn a_large_mean_leaves_the_variance_its_digits() {
        let sample = Sample::default().input("x", DataType::F32, &[1, 1, 2, 4]).output("y");
        let axes = [Attribute::Ints("axes", &[0, 2, 3])];
        let model = sample.node("MeanVarianceNormalization", &["x"], &["y"], &axes).model();
        // Whole numbers, and exact in f32 at every one of these offsets.
        let spread = [-3.0_f32, -1.0, 0.0, 1.0, 2.0, -2.0, 3.0, 0.0];
        let deviation = (28.0_f32 / 8.0).sqrt();
        for offset in [0.0, 100.0, -100.0, 1e4, 1e6] {
            let x = Tensor::f32(&[1, 1, 2, 4], spread.map(|x| x + offset).to_vec());
            let answer = model.session().run(&[&x]).unwrap();
            let ours = answer[0].as_f32().unwrap();
            let near = ours.iter().zip(spread).all(|(a, b)| (a - b / deviation).abs() < 1e-6);
            assert!(near, "at {offset}: {ours:?}");
        }
        let same = model.session().run(&[&Tensor::f32(&[1, 1, 2, 4], vec![0.1; 8])]).unwrap();
        assert!(same[0].as_f32().unwrap().iter().all(|x| x.abs() < 1e-6), "{same:?}");
    }
}
