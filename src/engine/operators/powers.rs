//! Pow (opset 1 to 15) as C has it: of every base, of ±0, ±∞ and NaN too.
//!
//! Source: ONNX, Operators.md; IEEE 754-2019, 9.2.1. tract takes a root for the power of ½ (0.23.9), so that −∞
//! becomes NaN and −0 stays −0; gives f64 for f32 to a power in f64; and raises whole numbers by repeated
//! multiplication that panics or wraps for an exponent below 0. The result has the type of the base. Whole
//! numbers to whole powers wrap, and a fraction of one is cut towards 0.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::logic::{Iff, comp_eq};
use tract_onnx::tract_hir::infer::helpers::infer_shape_broadcasting;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::binary::{wire_cast, wire_rank_broadcast};
use tract_onnx::tract_hir::ops::math;

use super::literal::{Built, Form, Inputs, Literal, Seen, choose_between, seen};
use super::values::{constant, ints, pairs};

pub(super) fn pow(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let floats = (expand(Power), vec![]);
    choose_between(context, node, Ok(floats), Whole, |inputs| {
        [0, 1].iter().all(|at| inputs[*at].is_some_and(|fact| fact.datum_type.is_integer()))
    })
}

/// Where base or exponent is a float.
#[derive(Clone, Debug)]
struct Power;

impl Expansion for Power {
    fn name(&self) -> StaticName {
        "Pow".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.with(&inputs[0].shape, move |s, base| {
            s.with(&inputs[1].shape, move |s, exponent| {
                match infer_shape_broadcasting(&[&base, &exponent])? {
                    Some(shape) => s.equals(&outputs[0].shape, shape),
                    None => Ok(()),
                }
            })
        })
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let (base, exponent) = (model.outlet_fact(inputs[0])?.clone(), model.outlet_fact(inputs[1])?.clone());
        let to = base.datum_type;
        let constant = exponent.konst.as_ref();
        let is_root = constant
            .filter(|konst| konst.len() == 1 && konst.rank() <= base.rank())
            .is_some_and(|konst| konst.cast_to_scalar::<f64>().is_ok_and(|exponent| exponent == 0.5));
        if to.is_float() && is_root {
            return root(name, model, inputs[0]);
        }
        // As a float an exponent of few digits is the same number.
        let is_small =
            |konst: &Arc<Tensor>| ints(konst).is_ok_and(|all| all.iter().all(|e| e.abs() <= 1 << 11));
        let within = match (to.is_float(), exponent.datum_type.is_float()) {
            (true, true) => to.common_super_type(exponent.datum_type).context("no common type")?,
            (true, false) if constant.is_some_and(is_small) => to,
            _ => DatumType::F64,
        };
        let wires = wire_rank_broadcast(name, model, inputs)?;
        let wires = wire_cast(name, model, &wires, within)?;
        if within == to {
            return model.wire_node(name, math::pow(), &wires);
        }
        let power = model.wire_node(format!("{name}.pow"), math::pow(), &wires)?;
        model.wire_node(name, cast(to), &power)
    }
}

/// The power of ½: no root of −0, and of −∞ it is ∞.
fn root(name: &str, model: &mut TypedModel, base: OutletId) -> TractResult<TVec<OutletId>> {
    let fact = model.outlet_fact(base)?.clone();
    let mut constant = |called: &str, value: f32| {
        constant(model, format!("{name}.{called}"), value, fact.datum_type, fact.rank())
    };
    let (least, most) = (constant("least", f32::NEG_INFINITY)?, constant("most", f32::INFINITY)?);
    let root = model.wire_node(format!("{name}.root"), math::sqrt(), &[base])?;
    let root = model.wire_node(format!("{name}.abs"), math::abs(), &root)?[0];
    let is_least = TypedBinOp(comp_eq(), None);
    let is_least = model.wire_node(format!("{name}.is-least"), is_least, &[base, least])?[0];
    model.wire_node(name, Iff, &[is_least, most, root])
}

/// Whole numbers to whole powers.
#[derive(Debug)]
struct Whole;

/// Below an exponent of 0 a fraction, of which only ±1 leaves a whole number.
fn power(base: i64, exponent: i64) -> i64 {
    match (u64::try_from(exponent), base) {
        (Ok(mut exponent), _) => {
            let (mut square, mut product) = (base, 1_i64);
            while exponent > 0 {
                if exponent % 2 == 1 {
                    product = product.wrapping_mul(square);
                }
                square = square.wrapping_mul(square);
                exponent /= 2;
            }
            product
        }
        (Err(_), 1) => 1,
        (Err(_), -1) => 1 - 2 * (exponent & 1),
        (Err(_), _) => 0,
    }
}

impl Literal for Whole {
    fn name(&self) -> &'static str {
        "Pow"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        let (shape, pairs) = pairs(a.shape(), b.shape())?;
        let (left, right) = (ints(a)?, ints(b)?);
        let powers = pairs.map(|(i, j)| power(left[i], right[j]));
        let powers = Tensor::from_shape(&shape, &powers.collect::<Vec<_>>())?;
        Ok(vec![powers.cast_to_dt(a.datum_type())?.into_owned()])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (a, b) = (seen(inputs, 0)?, seen(inputs, 1)?);
        Ok(Some(vec![Form::of(a.datum_type, &multi_broadcast(&[&a.shape, &b.shape])?)]))
    }
}

#[cfg(test)]
mod tests {
    use super::power;
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::Sample;

    #[test]
    fn a_power_of_whole_numbers_is_exact_and_truncates_fractions() {
        assert_eq!(power(3_000_000_007, 2), 9_000_000_042_000_000_049);
        assert_eq!([power(-2, 3), power(7, 0), power(2, -1), power(-1, -3), power(1, -9)], [-8, 1, 0, -1, 1]);
        // 3^(2^62) is 1 modulo 2^64.
        assert_eq!([power(-1, i64::MAX), power(3, 1 << 62), power(0, -1)], [-1, 1, 0]);
    }

    fn to(base: &[f32], exponent: f32) -> Vec<f32> {
        let sample = Sample::default().input("x", DataType::F32, &[base.len() as i64]).output("y");
        let model = sample.weights("e", &[1], &[exponent]).node("Pow", &["x", "e"], &["y"], &[]).model();
        let answer = model.session().run(&[&Tensor::f32(&[base.len()], base.to_vec())]).unwrap();
        answer[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn the_power_of_a_half_is_no_root_where_there_are_signs() {
        const INF: f32 = f32::INFINITY;
        let powers = to(&[-INF, INF, -0.0, 4.0, -4.0, f32::NAN], 0.5);
        assert_eq!(powers[..4], [INF, INF, 0.0, 2.0]);
        assert!(powers[2].is_sign_positive() && powers[4].is_nan() && powers[5].is_nan());
        assert_eq!(to(&[-INF, -0.0], -0.5), [0.0, INF]);
        assert_eq!(to(&[-INF, -0.0, -2.0], 3.0), [-INF, -0.0, -8.0]);
        assert_eq!(to(&[f32::NAN, -INF, 0.0], 0.0), [1.0; 3]);
        assert_eq!(to(&[1.0, -1.0], INF), [1.0; 2]);
    }
}
