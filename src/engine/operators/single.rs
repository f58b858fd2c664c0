//! What takes several steps in f16 takes them in f32, and is rounded once.
//!
//! tract adds up in the type of the elements (0.23.9): a mean of 1000 numbers of 100 is infinite in f16,
//! and one of 5000 ones is 2048 of them; of exp(x) − 1 near 0 no digit is left, BatchNormalization loses as many as its
//! mean has, and Sigmoid ends at 5e-7 instead of 0. onnxruntime and the training frameworks compute in f32. So these operators read f32 here,
//! whatever the graph's type: half becomes single in front, single half behind.

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::infer::InferenceOp;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::cast::cast;

use super::literal::Built;

/// tract's operator, in f32 where it would be in f16.
pub(super) fn stock(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    in_single(super::stock(context, node))
}

/// The same of an operator that was chosen before.
pub(super) fn in_single(built: Built) -> Built {
    let (op, closures) = built?;
    ensure!(closures.is_empty(), "{} holds a graph", op.name());
    Ok((Box::new(Single(op)), closures))
}

#[derive(Clone, Debug)]
struct Single(Box<dyn InferenceOp>);

impl PartialEq for Single {
    fn eq(&self, _other: &Self) -> bool {
        false
    }
}

impl Eq for Single {}

fn is_half(datum_type: DatumType) -> bool {
    datum_type == DatumType::F16
}

impl Op for Single {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    not_a_typed_op!();
}

impl Single {
    fn run(
        inputs: TVec<TValue>,
        run: impl FnOnce(TVec<TValue>) -> TractResult<Option<TVec<TValue>>>,
    ) -> TractResult<Option<TVec<TValue>>> {
        if !inputs.iter().any(|input| is_half(input.datum_type())) {
            return run(inputs);
        }
        let to = |from, to| {
            move |value: TValue| -> TractResult<TValue> {
                match value.datum_type() == from {
                    true => Ok(value.cast_to_dt(to)?.into_owned().into_tvalue()),
                    false => Ok(value),
                }
            }
        };
        let single =
            inputs.into_iter().map(to(DatumType::F16, DatumType::F32)).collect::<TractResult<_>>()?;
        let Some(outputs) = run(single)? else { return Ok(None) };
        outputs.into_iter().map(to(DatumType::F32, DatumType::F16)).collect::<TractResult<_>>().map(Some)
    }
}

impl EvalOp for Single {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Self::run(inputs, |inputs| self.0.eval(context, inputs).map(Some))?.context("no answer")
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        Self::run(inputs, |inputs| self.0.eval_out_of_plan(inputs))
    }
}

impl InferenceOp for Single {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.0.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.0.observe_outlets(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.0.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let mut single = HashMap::new();
        let mut halves = false;
        for (slot, input) in node.inputs.iter().enumerate() {
            let mut wire = mapping[input];
            if is_half(target.outlet_fact(wire)?.datum_type) {
                halves = true;
                let name = format!("{}.single-{slot}", node.name);
                // What has to be a constant stays one.
                let konst = target.outlet_fact(wire)?.konst.clone();
                wire = match konst {
                    Some(konst) => target.add_const(name, konst.cast_to_dt(DatumType::F32)?.into_owned())?,
                    None => target.wire_node(name, cast(DatumType::F32), &[wire])?[0],
                };
            }
            single.insert(*input, wire);
        }
        if !halves {
            return self.0.to_typed(source, node, target, mapping);
        }
        // The operator is asked whether it makes what was inferred.
        let mut node = node.clone();
        for output in &mut node.outputs {
            if output.fact.datum_type == GenericFactoid::Only(DatumType::F16) {
                output.fact.datum_type = GenericFactoid::Only(DatumType::F32);
            }
        }
        let made = self.0.to_typed(source, &node, target, &single)?;
        let half = |(slot, wire): (usize, OutletId)| match target.outlet_fact(wire)?.datum_type {
            DatumType::F32 => {
                let name = format!("{}.half-{slot}", node.name);
                Ok(target.wire_node(name, cast(DatumType::F16), &[wire])?[0])
            }
            _ => Ok(wire),
        };
        made.into_iter().enumerate().map(half).collect()
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use crate::base::{Data, DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    /// What an operator makes of halves; they are singles outside of the graph.
    fn of_halves(operator: &str, with: &[Attribute<'_>], x: &[f32]) -> Vec<f32> {
        let sample = Sample::default().input("x", DataType::F32, &[1, x.len() as i64]);
        let sample = sample.node("Cast", &["x"], &["h"], &[Attribute::Int("to", 10)]);
        let sample = sample.node(operator, &["h"], &["o"], with);
        let sample = sample.node("Cast", &["o"], &["y"], &[Attribute::Int("to", 1)]).output("y");
        let answer = sample.model().session().run(&[&Tensor::f32(&[1, x.len()], x.to_vec())]).unwrap();
        let Data::F32(values) = &answer[0].data else { panic!("{answer:?}") };
        values.clone()
    }

    #[test]
    fn a_function_of_halves_is_rounded_once() {
        // Beside 1, an f16 has steps of 2^-11 below; near 0 of 2^-24.
        let near = |ours: f32, right: f64| {
            (f64::from(ours) - right).abs() <= (right.abs() * 2_f64.powi(-11)).max(2_f64.powi(-25))
        };
        let x = [-20.0, -17.0, -15.0, -12.0, -7.0, -2.5, -0.3, 0.7, 2.9, 5.0];
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let functions: [(&str, &dyn Fn(f64) -> f64); 3] = [
            ("Sigmoid", &sigmoid),
            ("Softsign", &|x| x / (1.0 + x.abs())),
            ("HardSigmoid", &|x| (f64::from(0.2_f32) * x + 0.5).clamp(0.0, 1.0)),
        ];
        let halves = of_halves("Identity", &[], &x);
        for (name, of) in functions {
            for (ours, x) in of_halves(name, &[], &x).into_iter().zip(&halves) {
                assert!(near(ours, of(f64::from(*x))), "{name} of {x}: {ours}");
            }
        }
        let sum: f64 = halves.iter().map(|x| f64::from(*x).exp()).sum();
        for (ours, x) in of_halves("Softmax", &[], &x).into_iter().zip(&halves) {
            assert!(near(ours, f64::from(*x).exp() / sum), "Softmax: {ours} of {x}");
        }
    }
}
