//! BatchNormalization (opset 1 to 15): (x − mean) ÷ √(variance + epsilon) · scale + bias for each channel.
//!
//! Source: ONNX, Operators.md. tract wants constants for all four and knows no training mode (0.23.9), in which mean and
//! variance are those of the batch. Here constants become one factor and one summand, as in onnxruntime, which a
//! convolution in front takes into its weights; others stay in the order of the formula. f16 is computed in
//! f32: a factor and a summand in f16 lose as many digits as the mean has.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::math;
use tract_onnx::tract_hir::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_hir::tract_core::ops::cast::cast;

use super::literal::Built;
use super::single::in_single;
use super::values::constant;

#[derive(Clone, Debug)]
struct BatchNorm {
    epsilon: f32,
    /// Of the running statistics, and that there are some.
    training: Option<f32>,
    outputs: usize,
}

pub(super) fn batch_norm(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let training = node.get_attr_opt::<i64>("training_mode")?.unwrap_or(0) != 0;
    let outputs = node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    ensure!(training || outputs == 1, "statistics of a training run; export the model in evaluation mode");
    ensure!(
        outputs <= 3 && node.output.iter().take(outputs).all(|name| !name.is_empty()),
        "outputs left out"
    );
    let momentum = node.get_attr_opt("momentum")?.unwrap_or(0.9);
    let epsilon = node.get_attr_opt("epsilon")?.unwrap_or(1e-5);
    in_single(Ok((expand(BatchNorm { epsilon, training: training.then_some(momentum), outputs }), vec![])))
}

/// Names and wires the nodes of one operator, in one type.
struct Wires<'m> {
    name: &'m str,
    model: &'m mut TypedModel,
    datum_type: DatumType,
    rank: usize,
}

impl Wires<'_> {
    fn wire(
        &mut self,
        called: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        Ok(self.model.wire_node(format!("{}.{called}", self.name), op, inputs)?[0])
    }

    fn constant(&mut self, called: &str, value: f32) -> TractResult<OutletId> {
        constant(self.model, format!("{}.{called}", self.name), value, self.datum_type, self.rank)
    }

    /// One number for each channel, as a tensor that goes with the picture.
    fn of_channels(&mut self, called: &str, vector: OutletId) -> TractResult<OutletId> {
        let mut wire = self.wire(&format!("{called}.typed"), cast(self.datum_type), &[vector])?;
        wire = self.wire(&format!("{called}.batch"), AxisOp::Add(0), &[wire])?;
        for axis in 2..self.rank {
            wire = self.wire(&format!("{called}.axis-{axis}"), AxisOp::Add(axis), &[wire])?;
        }
        Ok(wire)
    }

    fn mean(&mut self, called: &str, of: OutletId) -> TractResult<OutletId> {
        let axes = (0..self.rank as i64).filter(|axis| *axis != 1).collect();
        let mean = Reduce::new(Some(axes), true, Reducer::Mean);
        Ok(mean.wire(&format!("{}.{called}", self.name), self.model, &[of])?[0])
    }
}

impl Expansion for BatchNorm {
    fn name(&self) -> StaticName {
        "BatchNormalization".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 5)?;
        check_output_arity(outputs, self.outputs)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)?;
        for parameter in &inputs[1..] {
            s.equals(&parameter.rank, 1)?;
            s.equals(&parameter.shape[0], &inputs[0].shape[1])?;
        }
        for statistic in &outputs[1..] {
            s.equals(&statistic.datum_type, &inputs[3].datum_type)?;
            s.equals(&statistic.shape, &inputs[3].shape)?;
        }
        Ok(())
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?.clone();
        let constant =
            inputs[1..].iter().all(|input| model.outlet_fact(*input).is_ok_and(|fact| fact.konst.is_some()));
        let (datum_type, rank) = (fact.datum_type, fact.rank());
        ensure!(rank > 1, "a tensor of {rank} axes has no channels");
        let mut of = Wires { name, model, datum_type, rank };
        let scale = of.of_channels("scale", inputs[1])?;
        let bias = of.of_channels("bias", inputs[2])?;
        let known = [("mean", inputs[3]), ("variance", inputs[4])];
        let [mean, variance] = known.map(|(called, vector)| of.of_channels(called, vector));
        let (mut mean, mut variance) = (mean?, variance?);
        let mut statistics = tvec!();
        if let Some(momentum) = self.training {
            let (old, new) = (of.constant("old", momentum)?, of.constant("new", 1.0 - momentum)?);
            let known = [mean, variance];
            mean = of.mean("batch-mean", inputs[0])?;
            let less = of.wire("batch-less", math::sub(), &[inputs[0], mean])?;
            let square = of.wire("batch-square", math::square(), &[less])?;
            variance = of.mean("batch-variance", square)?;
            for (called, known, now) in [("mean", known[0], mean), ("variance", known[1], variance)] {
                let known = of.wire(&format!("running-{called}.old"), math::mul(), &[known, old])?;
                let now = of.wire(&format!("running-{called}.new"), math::mul(), &[now, new])?;
                let mut running = of.wire(&format!("running-{called}"), math::add(), &[known, now])?;
                for axis in (0..rank).rev().filter(|axis| *axis != 1) {
                    let called = format!("running-{called}.axis-{axis}");
                    running = of.wire(&called, AxisOp::Rm(axis), &[running])?;
                }
                statistics.push(running);
            }
        }
        let epsilon = of.constant("epsilon", self.epsilon)?;
        let variance = of.wire("variance.above-0", math::add(), &[variance, epsilon])?;
        let deviation = of.wire("deviation", math::sqrt(), &[variance])?;
        let factor = of.wire("factor", math::div(), &[scale, deviation])?;
        let y = if constant && self.training.is_none() {
            let part = of.wire("mean.part", math::mul(), &[mean, factor])?;
            let summand = of.wire("summand", math::sub(), &[bias, part])?;
            let product = of.wire("product", math::mul(), &[inputs[0], factor])?;
            of.model.wire_node(name, math::add(), &[product, summand])?[0]
        } else {
            let less = of.wire("less", math::sub(), &[inputs[0], mean])?;
            let product = of.wire("product", math::mul(), &[less, factor])?;
            of.model.wire_node(name, math::add(), &[product, bias])?[0]
        };
        statistics.insert(0, y);
        statistics.truncate(self.outputs);
        Ok(statistics)
    }
}
