//! Element by element, with broadcasting: arithmetic, comparisons, logic, activations.
//!
//! ONNX operators: <https://onnx.ai/onnx/operators/>, each by its name.

use super::call::Call;
use super::value::{Elements, Value, broadcast, is_real, of_onnx, of_proto, places};
use super::{Operator, value};
use crate::base::DataType;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "Add" => |call| arithmetic(call, |a, b| a + b, |a, b| Ok(a + b)),
        "Sub" => |call| arithmetic(call, |a, b| a - b, |a, b| Ok(a - b)),
        "Mul" => |call| arithmetic(call, |a, b| a * b, |a, b| Ok(a * b)),
        "Div" => |call| {
            // Whole numbers are divided towards zero.
            arithmetic(call, |a, b| a / b, |a, b| a.checked_div(b).ok_or_else(|| "division by 0".to_owned()))
        },
        "Pow" => pow,
        "Mod" => modulo,
        "Max" => {
            |call| fold(call, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }, i128::max)
        }
        "Min" => {
            |call| fold(call, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }, i128::min)
        }
        "Sum" => |call| fold(call, |a, b| a + b, |a, b| a + b),
        "Mean" => mean,
        "Equal" => equal,
        "Greater" => |call| comparison(call, |order| order == Some(std::cmp::Ordering::Greater)),
        "Less" => |call| comparison(call, |order| order == Some(std::cmp::Ordering::Less)),
        "GreaterOrEqual" => |call| comparison(call, |order| order.is_some_and(std::cmp::Ordering::is_ge)),
        "LessOrEqual" => |call| comparison(call, |order| order.is_some_and(std::cmp::Ordering::is_le)),
        "And" => |call| logic(call, |a, b| a && b),
        "Or" => |call| logic(call, |a, b| a || b),
        "Xor" => |call| logic(call, |a, b| a != b),
        "Not" => |call| {
            let input = call.input(0)?;
            Ok(vec![Value::truth(&input.shape, input.wholes()?.into_iter().map(|v| v == 0).collect())])
        },
        "BitwiseAnd" => |call| bits(call, |a, b| a & b),
        "BitwiseOr" => |call| bits(call, |a, b| a | b),
        "BitwiseXor" => |call| bits(call, |a, b| a ^ b),
        "Where" => choose,
        "Cast" => cast,
        "CastLike" => |call| Ok(vec![call.input(0)?.cast(call.input(1)?.data_type)?]),
        "Clip" => clip,
        "PRelu" => |call| {
            arithmetic(
                call,
                |x, slope| if x < 0.0 { slope * x } else { x },
                |x, slope| Ok(if x < 0 { slope * x } else { x }),
            )
        },
        "IsNaN" => |call| predicate(call, |_, x| x.is_nan()),
        "IsInf" => |call| {
            predicate(call, |call, x| {
                (x == f64::INFINITY && call.int("detect_positive", 1) != 0)
                    || (x == f64::NEG_INFINITY && call.int("detect_negative", 1) != 0)
            })
        },
        "Abs" => |call| whole_too(call, f64::abs, i128::abs),
        "Neg" => |call| whole_too(call, |x| -x, |x| -x),
        "Sign" => {
            |call| whole_too(call, |x| if x.is_nan() || x == 0.0 { x } else { x.signum() }, i128::signum)
        }
        "Relu" => |call| whole_too(call, relu, |x| x.max(0)),
        "Sqrt" => |call| map(call, |_, x| x.sqrt()),
        "Exp" => |call| map(call, |_, x| x.exp()),
        "Log" => |call| map(call, |_, x| x.ln()),
        "Reciprocal" => |call| map(call, |_, x| 1.0 / x),
        "Ceil" => |call| map(call, |_, x| x.ceil()),
        "Floor" => |call| map(call, |_, x| x.floor()),
        // Halves go to the even neighbour.
        "Round" => |call| map(call, |_, x| x.round_ties_even()),
        "Sin" => |call| map(call, |_, x| x.sin()),
        "Cos" => |call| map(call, |_, x| x.cos()),
        "Tan" => |call| map(call, |_, x| x.tan()),
        "Asin" => |call| map(call, |_, x| x.asin()),
        "Acos" => |call| map(call, |_, x| x.acos()),
        "Atan" => |call| map(call, |_, x| x.atan()),
        "Sinh" => |call| map(call, |_, x| x.sinh()),
        "Cosh" => |call| map(call, |_, x| x.cosh()),
        "Tanh" => |call| map(call, |_, x| x.tanh()),
        "Asinh" => |call| map(call, |_, x| x.asinh()),
        "Acosh" => |call| map(call, |_, x| x.acosh()),
        "Atanh" => |call| map(call, |_, x| x.atanh()),
        "Erf" => |call| map(call, |_, x| erf(x)),
        "Sigmoid" => |call| map(call, |_, x| sigmoid(x)),
        "HardSigmoid" => |call| {
            map(call, |call, x| {
                // The defaults are f32 numbers in the standard's attribute.
                (call.float("alpha", f64::from(0.2_f32)) * x + call.float("beta", 0.5)).clamp(0.0, 1.0)
            })
        },
        "HardSwish" => |call| map(call, |_, x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "LeakyRelu" => {
            |call| map(call, |call, x| if x < 0.0 { call.float("alpha", f64::from(0.01_f32)) * x } else { x })
        }
        "ThresholdedRelu" => |call| map(call, |call, x| if x > call.float("alpha", 1.0) { x } else { 0.0 }),
        "Elu" => |call| map(call, |call, x| if x < 0.0 { call.float("alpha", 1.0) * x.exp_m1() } else { x }),
        "Celu" => |call| {
            map(call, |call, x| {
                let alpha = call.float("alpha", 1.0);
                if x < 0.0 { alpha * (x / alpha).exp_m1() } else { x }
            })
        },
        "Selu" => |call| {
            map(call, |call, x| {
                let alpha = call.float("alpha", f64::from(1.673_263_2_f32));
                let gamma = call.float("gamma", f64::from(1.050_701_f32));
                gamma * if x > 0.0 { x } else { alpha * x.exp_m1() }
            })
        },
        "Softplus" => |call| map(call, |_, x| if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }),
        "Softsign" => |call| map(call, |_, x| x / (1.0 + x.abs())),
        "Mish" => |call| {
            map(call, |_, x| x * (if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }).tanh())
        },
        "Gelu" => |call| {
            map(call, |call, x| match call.text("approximate", "none").as_str() {
                "tanh" => {
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                    0.5 * x * (1.0 + inner.tanh())
                }
                _ => 0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt())),
            })
        },
        "Swish" => |call| map(call, |call, x| x * sigmoid(call.float("alpha", 1.0) * x)),
        "Shrink" => |call| {
            map(call, |call, x| {
                let (lambda, bias) = (call.float("lambd", 0.5), call.float("bias", 0.0));
                if x < -lambda {
                    x + bias
                } else if x > lambda {
                    x - bias
                } else {
                    0.0
                }
            })
        },
        "Identity" => |call| Ok(vec![call.input(0)?.clone()]),
        "Dropout" => |call| {
            // Without training, which no exported graph is in, everything passes.
            let input = call.input(0)?;
            Ok(vec![input.clone(), Value::truth(&input.shape, vec![true; input.len()])])
        },
        "Constant" => constant,
        _ => return None,
    })
}

pub(super) fn relu(x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(0.0) }
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function, by its series near zero and its continued fraction far from it (DLMF 7.6.2,
/// 7.9.1), to the last bits of an f64.
pub(super) fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z.is_nan() {
        return x;
    } else if z > 6.0 {
        1.0
    } else if z < 2.5 {
        // 2/√π · e^(−z²) · Σ 2ⁿ z^(2n+1) / (1·3·…·(2n+1))
        let (mut term, mut sum) = (z, z);
        for n in 1..120 {
            term *= 2.0 * z * z / f64::from(2 * n + 1);
            sum += term;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-z * z).exp() * sum
    } else {
        // √π e^(z²) erfc(z) = 1 / (z + (1/2) / (z + 1 / (z + (3/2) / (z + …
        let fraction = (1..200).rev().fold(z, |below, k| z + f64::from(k) / 2.0 / below);
        1.0 - (-z * z).exp() / (std::f64::consts::PI.sqrt() * fraction)
    };
    value.copysign(x)
}

fn map(call: &Call<'_>, f: impl Fn(&Call<'_>, f64) -> f64) -> Result<Vec<Value>, String> {
    let input = call.input(0)?;
    let values = input.reals()?.into_iter().map(|x| f(call, x)).collect();
    Ok(vec![Value::real(input.data_type, &input.shape, values)])
}

fn predicate(call: &Call<'_>, f: impl Fn(&Call<'_>, f64) -> bool) -> Result<Vec<Value>, String> {
    let input = call.input(0)?;
    Ok(vec![Value::truth(&input.shape, input.reals()?.into_iter().map(|x| f(call, x)).collect())])
}

fn whole_too(call: &Call<'_>, real: fn(f64) -> f64, whole: fn(i128) -> i128) -> Result<Vec<Value>, String> {
    let input = call.input(0)?;
    Ok(vec![match &input.elements {
        Elements::Whole(values) => {
            Value::whole(input.data_type, &input.shape, values.iter().map(|v| whole(*v)).collect())
        }
        _ => Value::real(input.data_type, &input.shape, input.reals()?.into_iter().map(real).collect()),
    }])
}

/// Both inputs, spread to their common shape.
fn pair<'v>(a: &'v Value, b: &'v Value) -> Result<(Vec<usize>, Value, Value), String> {
    let shape = broadcast(&a.shape, &b.shape)?;
    let a = a.pick(&shape, &places(&a.shape, &shape));
    let b = b.pick(&shape, &places(&b.shape, &shape));
    Ok((shape, a, b))
}

fn two(
    a: &Value,
    b: &Value,
    real: impl Fn(f64, f64) -> f64,
    whole: impl Fn(i128, i128) -> Result<i128, String>,
) -> Result<Value, String> {
    let data_type = a.data_type;
    let (shape, a, b) = pair(a, b)?;
    Ok(match (&a.elements, &b.elements) {
        (Elements::Whole(a), Elements::Whole(b)) => {
            let values = a.iter().zip(b).map(|(a, b)| whole(*a, *b)).collect::<Result<_, _>>()?;
            Value::whole(data_type, &shape, values)
        }
        _ => {
            let values = a.reals()?.into_iter().zip(b.reals()?).map(|(a, b)| real(a, b)).collect();
            Value::real(data_type, &shape, values)
        }
    })
}

fn arithmetic(
    call: &Call<'_>,
    real: fn(f64, f64) -> f64,
    whole: fn(i128, i128) -> Result<i128, String>,
) -> Result<Vec<Value>, String> {
    Ok(vec![two(call.input(0)?, call.input(1)?, real, whole)?])
}

fn pow(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (base, exponent) = (call.input(0)?, call.input(1)?);
    let (shape, a, b) = pair(base, exponent)?;
    if let (Elements::Whole(a), Elements::Whole(b)) = (&a.elements, &b.elements) {
        let values = a
            .iter()
            .zip(b)
            .map(|(a, b)| {
                let exponent = u32::try_from(*b).map_err(|_| format!("{a} to the power of {b}"))?;
                Ok(a.wrapping_pow(exponent))
            })
            .collect::<Result<_, String>>()?;
        return Ok(vec![Value::whole(base.data_type, &shape, values)]);
    }
    let values = a.reals()?.into_iter().zip(b.reals()?).map(|(a, b)| a.powf(b)).collect();
    Ok(vec![Value::real(base.data_type, &shape, values)])
}

/// `fmod = 0`: the sign of the divisor, as Python's `%`; 1: of the dividend, as C's.
fn modulo(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let c = call.flag("fmod");
    let whole = move |a: i128, b: i128| match (b, c) {
        (0, _) => Err("division by 0".to_owned()),
        (b, true) => Ok(a % b),
        (b, false) => Ok(((a % b) + b) % b),
    };
    Ok(vec![two(call.input(0)?, call.input(1)?, |a, b| a % b, whole)?])
}

fn fold(
    call: &Call<'_>,
    real: fn(f64, f64) -> f64,
    whole: fn(i128, i128) -> i128,
) -> Result<Vec<Value>, String> {
    let mut all = call.input(0)?.clone();
    for position in 1..call.inputs.len() {
        all = two(&all, call.input(position)?, real, |a, b| Ok(whole(a, b)))?;
    }
    Ok(vec![all])
}

fn mean(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let first = call.input(0)?;
    let mut shape = first.shape.clone();
    for position in 1..call.inputs.len() {
        shape = broadcast(&shape, &call.input(position)?.shape)?;
    }
    let mut sums = vec![0.0; value::count(&shape)?];
    for position in 0..call.inputs.len() {
        let input = call.input(position)?;
        let numbers = input.reals()?;
        for (sum, place) in sums.iter_mut().zip(places(&input.shape, &shape)) {
            *sum += numbers[place];
        }
    }
    let count = call.inputs.len() as f64;
    Ok(vec![Value::real(first.data_type, &shape, sums.into_iter().map(|sum| sum / count).collect())])
}

fn equal(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (shape, a, b) = pair(call.input(0)?, call.input(1)?)?;
    let values = match (&a.elements, &b.elements) {
        (Elements::Whole(a), Elements::Whole(b)) => a.iter().zip(b).map(|(a, b)| a == b).collect(),
        (Elements::Text(a), Elements::Text(b)) => a.iter().zip(b).map(|(a, b)| a == b).collect(),
        _ => a.reals()?.into_iter().zip(b.reals()?).map(|(a, b)| a == b).collect(),
    };
    Ok(vec![Value::truth(&shape, values)])
}

fn comparison(call: &Call<'_>, holds: fn(Option<std::cmp::Ordering>) -> bool) -> Result<Vec<Value>, String> {
    let (shape, a, b) = pair(call.input(0)?, call.input(1)?)?;
    let values = match (&a.elements, &b.elements) {
        (Elements::Whole(a), Elements::Whole(b)) => {
            a.iter().zip(b).map(|(a, b)| holds(Some(a.cmp(b)))).collect()
        }
        _ => a.reals()?.iter().zip(&b.reals()?).map(|(a, b)| holds(a.partial_cmp(b))).collect(),
    };
    Ok(vec![Value::truth(&shape, values)])
}

fn logic(call: &Call<'_>, f: fn(bool, bool) -> bool) -> Result<Vec<Value>, String> {
    let (shape, a, b) = pair(call.input(0)?, call.input(1)?)?;
    let values = a.wholes()?.into_iter().zip(b.wholes()?).map(|(a, b)| f(a != 0, b != 0)).collect();
    Ok(vec![Value::truth(&shape, values)])
}

fn bits(call: &Call<'_>, f: fn(i128, i128) -> i128) -> Result<Vec<Value>, String> {
    let first = call.input(0)?;
    let (shape, a, b) = pair(first, call.input(1)?)?;
    let values = a.wholes()?.into_iter().zip(b.wholes()?).map(|(a, b)| f(a, b)).collect();
    Ok(vec![Value::whole(first.data_type, &shape, values)])
}

fn choose(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (condition, a, b) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let shape = broadcast(&broadcast(&condition.shape, &a.shape)?, &b.shape)?;
    let truth = condition.pick(&shape, &places(&condition.shape, &shape)).wholes()?;
    let a = a.pick(&shape, &places(&a.shape, &shape));
    let b = b.pick(&shape, &places(&b.shape, &shape));
    fn mixed<T: Clone>(truth: &[i128], a: &[T], b: &[T]) -> Vec<T> {
        truth
            .iter()
            .zip(a.iter().zip(b))
            .map(|(t, (a, b))| if *t != 0 { a.clone() } else { b.clone() })
            .collect()
    }
    let elements = match (&a.elements, &b.elements) {
        (Elements::Real(a), Elements::Real(b)) => Elements::Real(mixed(&truth, a, b)),
        (Elements::Whole(a), Elements::Whole(b)) => Elements::Whole(mixed(&truth, a, b)),
        (Elements::Text(a), Elements::Text(b)) => Elements::Text(mixed(&truth, a, b)),
        _ => return Err("its two sides have different types".to_owned()),
    };
    Ok(vec![Value { data_type: a.data_type, shape, elements }])
}

fn cast(call: &Call<'_>) -> Result<Vec<Value>, String> {
    Ok(vec![call.input(0)?.cast(of_onnx(call.int("to", 0))?)?])
}

fn clip(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let input = call.input(0)?;
    if let Elements::Whole(values) = &input.elements {
        let bound = |position| call.optional(position).map(Value::whole_scalar).transpose();
        let (low, high) = (bound(1)?.unwrap_or(i128::MIN), bound(2)?.unwrap_or(i128::MAX));
        let values = values.iter().map(|x| (*x).max(low).min(high)).collect();
        return Ok(vec![Value::whole(input.data_type, &input.shape, values)]);
    }
    let bound = |position: usize, name: &str| match call.optional(position) {
        Some(value) => value.scalar().map(Some),
        None => Ok(call.has(name).then(|| call.float(name, 0.0))),
    };
    let (low, high) = (bound(1, "min")?, bound(2, "max")?);
    let values = input.reals()?.into_iter().map(|x| {
        let x = low.map_or(x, |low| if x < low { low } else { x });
        high.map_or(x, |high| if x > high { high } else { x })
    });
    let values = values.collect();
    debug_assert!(is_real(input.data_type) || input.data_type != DataType::Text);
    Ok(vec![Value::real(input.data_type, &input.shape, values)])
}

fn constant(call: &Call<'_>) -> Result<Vec<Value>, String> {
    if let Some(tensor) = call.tensor("value") {
        return Ok(vec![of_proto(tensor)?]);
    }
    let value = if call.has("value_float") {
        Value::real(DataType::F32, &[], vec![call.float("value_float", 0.0)])
    } else if call.has("value_int") {
        Value::whole(DataType::I64, &[], vec![call.int("value_int", 0).into()])
    } else if let Some(values) = call.floats("value_floats") {
        Value::real(DataType::F32, &[values.len()], values)
    } else if let Some(values) = call.ints("value_ints") {
        Value::whole(DataType::I64, &[values.len()], values.into_iter().map(i128::from).collect())
    } else {
        return Err("its value is of a kind that is not known here".to_owned());
    };
    Ok(vec![value])
}
