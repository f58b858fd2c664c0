//! Element types that tract's own operators lack (0.23.9): Sigmoid, LeakyRelu, HardSwish, Erf, Gelu, Round, IsNaN
//! and IsInf of f64, Equal of bools; and TopK as it was below opset 10, with `k` an attribute.
//!
//! Source: ONNX, Operators.md. tract refuses these when they run. Asinh and Acosh, which double their number on
//! the way and come to infinity near the end of its type.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, choose, choose_between, seen, wrap};
use super::values::{around, axis, floats, from_floats, pairs};
use super::{single, stock};

/// A function of one number and a parameter.
#[derive(Debug)]
struct Function {
    name: &'static str,
    of: fn(f64, f64) -> f64,
    alpha: f64,
}

pub(super) fn function(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let usual = if node.op_type == "Swish" { 1.0 } else { 0.01 };
    let alpha: f64 = node.get_attr_opt::<f32>("alpha")?.unwrap_or(usual).into();
    let (name, of): (_, fn(f64, f64) -> f64) = match node.op_type.as_str() {
        "Sigmoid" => ("Sigmoid", |x, _| 1.0 / (1.0 + (-x).exp())),
        "LeakyRelu" => ("LeakyRelu", |x, alpha| if x < 0.0 { alpha * x } else { x }),
        "HardSwish" => ("HardSwish", |x, _| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "Erf" => ("Erf", |x, _| error_function(x)),
        "Gelu" if node.get_attr_opt::<&str>("approximate")? == Some("tanh") => {
            ("Gelu", |x, _| 0.5 * x * (1.0 + (ROOT_OF_2_BY_PI * (x + 0.044_715 * x * x * x)).tanh()))
        }
        "Gelu" => ("Gelu", |x, _| 0.5 * x * (1.0 + error_function(x * FRAC_1_SQRT_2))),
        "Asinh" => ("Asinh", |x, _| if x.abs() < DOUBLED { x.asinh() } else { logarithm(x).copysign(x) }),
        "Acosh" => ("Acosh", |x, _| if x < DOUBLED { x.acosh() } else { logarithm(x) }),
        "Round" => ("Round", |x, _| x.round_ties_even()),
        "Swish" => ("Swish", |x, alpha| x / (1.0 + (-alpha * x).exp())),
        other => bail!("{other} is none of these"),
    };
    let function = Function { name, of, alpha };
    match name {
        "Asinh" | "Acosh" => choose(context, node, function, is_wide),
        // tract's is SiLU, whatever alpha says.
        "Swish" if alpha != 1.0 => wrap(context, node, function),
        "Round" | "Erf" => choose(context, node, function, is_double),
        _ => choose_between(context, node, single::stock(context, node), function, is_double),
    }
}

/// From here on the area functions are ln |2x|, to more digits than a number has.
const DOUBLED: f64 = 1e30;

fn logarithm(x: f64) -> f64 {
    x.abs().ln() + std::f64::consts::LN_2
}

/// √(2/π)
const ROOT_OF_2_BY_PI: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;

/// The error function to the digits of an f64: its series, and farther out the continued fraction of what is missing
/// to 1 (Abramowitz and Stegun, 7.1.6 and 7.1.14).
fn error_function(x: f64) -> f64 {
    let size = x.abs();
    if size < 2.0 {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term.abs() > sum.abs() * f64::EPSILON / 4.0 {
            odd += 2.0;
            term *= 2.0 * x * x / odd;
            sum += term;
        }
        return FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    if size > 6.0 {
        return 1.0_f64.copysign(x);
    }
    // NaN goes through.
    let fraction = (1..120).rev().fold(size, |rest, step| size + f64::from(step) / 2.0 / rest);
    (1.0 - (-size * size).exp() / (PI.sqrt() * fraction)).copysign(x)
}

fn is_wide(inputs: &[Option<&TypedFact>]) -> bool {
    inputs[0].is_some_and(|fact| matches!(fact.datum_type, DatumType::F32 | DatumType::F64))
}

fn is_double(inputs: &[Option<&TypedFact>]) -> bool {
    inputs[0].is_some_and(|fact| fact.datum_type == DatumType::F64)
}

impl Literal for Function {
    fn name(&self) -> &'static str {
        self.name
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let values: Vec<f64> = floats(x)?.into_iter().map(|x| (self.of)(x, self.alpha)).collect();
        Ok(vec![from_floats(x.datum_type(), x.shape(), &values)?])
    }
}

/// IsNaN, or IsInf of these signs.
#[derive(Debug)]
enum Is {
    NotANumber,
    Infinite { positive: bool, negative: bool },
}

pub(super) fn is(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let flag = |name| -> TractResult<bool> { Ok(node.get_attr_opt::<i64>(name)?.unwrap_or(1) != 0) };
    let is = match node.op_type.as_str() {
        "IsNaN" => Is::NotANumber,
        _ => Is::Infinite { positive: flag("detect_positive")?, negative: flag("detect_negative")? },
    };
    choose(context, node, is, is_double)
}

impl Literal for Is {
    fn name(&self) -> &'static str {
        if matches!(self, Self::NotANumber) { "IsNaN" } else { "IsInf" }
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let is = |x: f64| match self {
            Self::NotANumber => x.is_nan(),
            Self::Infinite { positive, negative } => {
                x == f64::INFINITY && *positive || x == f64::NEG_INFINITY && *negative
            }
        };
        let values: Vec<bool> = floats(x)?.into_iter().map(is).collect();
        Ok(vec![Tensor::from_shape(x.shape(), &values)?])
    }
}

/// Equal of bools.
#[derive(Debug)]
struct Equal;

pub(super) fn equal(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    choose(context, node, Equal, |inputs| inputs[0].is_some_and(|fact| fact.datum_type == DatumType::Bool))
}

impl Literal for Equal {
    fn name(&self) -> &'static str {
        "Equal"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        let (shape, pairs) = pairs(a.shape(), b.shape())?;
        let bools = |tensor: &Tensor| -> TractResult<Vec<bool>> {
            Ok(tensor.try_as_plain_ram()?.as_slice::<bool>()?.to_vec())
        };
        let (left, right) = (bools(a)?, bools(b)?);
        let equal = pairs.map(|(i, j)| left[i] == right[j]);
        Ok(vec![Tensor::from_shape(&shape, &equal.collect::<Vec<_>>())?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (a, b) = (seen(inputs, 0)?, seen(inputs, 1)?);
        Ok(Some(vec![Form::of(DatumType::Bool, &multi_broadcast(&[&a.shape, &b.shape])?)]))
    }
}

/// The `k` largest along an axis, largest first; of equals the first.
#[derive(Debug)]
struct TopK {
    k: usize,
    axis: i64,
}

pub(super) fn top_k(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    match node.get_attr_opt::<i64>("k")? {
        Some(k) if node.input.len() == 1 => {
            let k = usize::try_from(k).with_context(|| format!("k is {k}"))?;
            wrap(context, node, TopK { k, axis: node.get_attr_opt("axis")?.unwrap_or(-1) })
        }
        _ => stock(context, node),
    }
}

impl Literal for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let at = axis(self.axis, x.rank())?;
        let (before, length, behind) = around(x.shape(), at);
        ensure!(self.k <= length, "k is {}, the axis has {length}", self.k);
        let values = floats(x)?;
        let count = before * self.k * behind;
        let (mut largest, mut places) = (vec![0.0; count], vec![0_i64; count]);
        for outer in 0..before {
            for inner in 0..behind {
                let value = |along: usize| values[(outer * length + along) * behind + inner];
                let mut order: Vec<usize> = (0..length).collect();
                // NaN is the largest, as where tract's operator runs (`passes::not_a_number`).
                let up = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
                order.sort_by(|a, b| up(value(*b), value(*a)));
                for (rank, along) in order.into_iter().take(self.k).enumerate() {
                    let to = (outer * self.k + rank) * behind + inner;
                    (largest[to], places[to]) = (value(along), along as i64);
                }
            }
        }
        let mut shape = x.shape().to_vec();
        shape[at] = self.k;
        Ok(vec![from_floats(x.datum_type(), &shape, &largest)?, Tensor::from_shape(&shape, &places)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let x = seen(inputs, 0)?;
        let mut shape = x.shape.to_vec();
        let at = axis(self.axis, shape.len())?;
        if let Ok(length) = shape[at].to_usize() {
            ensure!(self.k <= length, "k is {}, the axis has {length}", self.k);
        }
        shape[at] = self.k.to_dim();
        Ok(Some(vec![Form::of(x.datum_type, &shape), Form::of(DatumType::I64, &shape)]))
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{Data, DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    fn whole(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor { shape: shape.to_vec(), data: Data::I64(values.to_vec()) }
    }

    fn of_whole(shape: &[i64]) -> Sample {
        Sample::default().input("x", DataType::I64, shape).output("y")
    }

    #[test]
    fn whole_numbers_beyond_32_bits_are_multiplied_and_raised_exactly() {
        let product = of_whole(&[2, 2]).integers("w", &[3, 1 << 40]).node("MatMul", &["x", "w"], &["y"], &[]);
        let answer = product.model().session().run(&[&whole(&[2, 2], &[1, 2, 0, -1])]).unwrap();
        assert_eq!(answer, [whole(&[2], &[3 + (2 << 40), -(1 << 40)])]);
        let square = of_whole(&[2]).integers("two", &[2]).node("Pow", &["x", "two"], &["y"], &[]);
        let answer = square.model().session().run(&[&whole(&[2], &[3_000_000_007, -4])]).unwrap();
        assert_eq!(answer, [whole(&[2], &[9_000_000_042_000_000_049, 16])]);
    }

    #[test]
    fn bools_are_compared_and_padded() {
        let bools = |node: fn(Sample) -> Sample| {
            let sample = of_whole(&[2]).node("Cast", &["x"], &["b"], &[Attribute::Int("to", 9)]);
            let sample = node(sample).node("Cast", &["c"], &["y"], &[Attribute::Int("to", 7)]);
            sample.model().session().run(&[&whole(&[2], &[1, 0])]).unwrap().remove(0)
        };
        assert_eq!(bools(|sample| sample.node("Equal", &["b", "b"], &["c"], &[])), whole(&[2], &[1, 1]));
        let padded = |sample: Sample| sample.integers("p", &[1, 1]).node("Pad", &["b", "p"], &["c"], &[]);
        assert_eq!(bools(padded), whole(&[4], &[0, 1, 0, 0]));
    }

    #[test]
    fn the_largest_are_found_where_k_is_an_attribute() {
        let sample = Sample::default().input("x", DataType::F32, &[1, 4]).output("y").output("i");
        let mut session =
            sample.node("TopK", &["x"], &["y", "i"], &[Attribute::Int("k", 2)]).model().session();
        let answer = session.run(&[&Tensor::f32(&[1, 4], vec![1.0, 7.0, -2.0, 7.0])]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[1, 2], vec![7.0, 7.0]), whole(&[1, 2], &[1, 3])]);
        let answer = session.run(&[&Tensor::f32(&[1, 4], vec![-0.0, 0.0, -f32::NAN, f32::NAN])]).unwrap();
        assert_eq!(answer[1], whole(&[1, 2], &[2, 3]), "NaN is the largest, whatever its sign");
    }

    #[test]
    fn area_functions_reach_to_the_end_of_their_type() {
        for (operator, x, right) in [
            (
                "Asinh",
                [f32::MAX, -3e38, 0.5, f32::INFINITY],
                [89.415_99, -89.289_99, 0.481_211_84, f32::INFINITY],
            ),
            ("Acosh", [f32::MAX, 3e38, 2.0, f32::INFINITY], [89.415_99, 89.289_99, 1.316_958, f32::INFINITY]),
        ] {
            let sample = Sample::default().input("x", DataType::F32, &[4]).output("y");
            let model = sample.node(operator, &["x"], &["y"], &[]).model();
            let answer = model.session().run(&[&Tensor::f32(&[4], x.to_vec())]).unwrap();
            let answer = answer[0].as_f32().unwrap();
            assert!(answer.iter().zip(right).all(|(a, b)| *a == b || (a - b).abs() < 1e-5), "{answer:?}");
        }
    }

    #[test]
    fn a_swish_heeds_its_alpha() {
        let with = [Attribute::Float("alpha", 0.0)];
        let sample = Sample::default().input("x", DataType::F32, &[2]).node("Swish", &["x"], &["y"], &with);
        let answer =
            sample.output("y").model().session().run(&[&Tensor::f32(&[2], vec![3.0, -2.0])]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[2], vec![1.5, -1.0])]);
    }

    #[test]
    fn gelu_of_f64_has_its_digits() {
        // Python: x · erfc(−x ÷ √2) ÷ 2, and with math.tanh.
        let exact = [-0.015_524_163_314_440_348, 0.841_344_746_068_542_9, 6.999_999_999_991_041];
        let fast = [-0.015_084_266_089_998_577, 0.841_191_990_608_276_8, 6.999_999_999_999_997];
        for (approximate, right) in [("none", exact), ("tanh", fast)] {
            let with = [Attribute::Text("approximate", approximate)];
            let sample = Sample::default().input("x", DataType::F32, &[3]).output("y");
            let sample = sample.node("Cast", &["x"], &["d"], &[Attribute::Int("to", 11)]);
            let model = sample.node("Gelu", &["d"], &["y"], &with).model();
            let answer = model.session().run(&[&Tensor::f32(&[3], vec![-2.5, 1.0, 7.0])]).unwrap();
            let Data::F64(ours) = &answer[0].data else { panic!("{answer:?}") };
            assert!(ours.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-14), "{approximate}: {ours:?}");
        }
    }

    #[test]
    fn the_error_function_of_f64_has_its_digits() {
        // Python, math.erf.
        for (x, right) in [
            (0.0, 0.0),
            (1e-300, 1.128_379_167_095_512_6e-300),
            (0.5, 0.520_499_877_813_046_5),
            (-1.999, -0.995_301_556_651_370_5),
            (2.0, 0.995_322_265_018_952_7),
            (3.3, 0.999_996_942_290_203_5),
            (-7.0, -1.0),
            (f64::INFINITY, 1.0),
        ] {
            let answer = super::error_function(x);
            assert!((answer - right).abs() <= 2e-15 * right.abs(), "{x}: {answer}, not {right}");
        }
        assert!(super::error_function(f64::NAN).is_nan());
    }
}
