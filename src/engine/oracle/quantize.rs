//! Numbers to 8 bits and back: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
//!
//! `y = saturate(round_half_even(x ÷ scale) + zero_point)`, `x = (y − zero_point) × scale`.

use super::Operator;
use super::call::Call;
use super::value::{Value, axis, is_real, limits, of_onnx, strides};
use crate::base::DataType;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "QuantizeLinear" => quantize,
        "DequantizeLinear" => dequantize,
        "DynamicQuantizeLinear" => dynamic,
        _ => return None,
    })
}

/// For each element of a tensor, its entry of a per-tensor, per-axis or blocked parameter.
fn spread(parameter: &Value, of: &Value, along: usize, block: usize) -> Result<Vec<f64>, String> {
    let numbers = parameter.reals()?;
    if numbers.len() == 1 && parameter.shape.len() <= 1 {
        return Ok(vec![numbers[0]; of.len()]);
    }
    if block > 0 {
        let own = strides(&parameter.shape);
        return Ok(super::value::indices(&of.shape)
            .map(|mut index| {
                index[along] /= block;
                numbers[super::value::place(&index, &own)]
            })
            .collect());
    }
    let length = of.shape.get(along).copied().unwrap_or(1);
    if numbers.len() != length {
        return Err(format!("{} parameters along an axis of {length}", numbers.len()));
    }
    let stride = strides(&of.shape)[along];
    Ok((0..of.len()).map(|i| numbers[i / stride % length]).collect())
}

/// Zero points for each element; none given: 0.
pub(super) fn zero_points(zero: Option<&Value>, of: &Value, along: usize) -> Result<Vec<f64>, String> {
    zero.map_or_else(|| Ok(vec![0.0; of.len()]), |zero| spread(zero, of, along, 0))
}

/// One number to a whole type.
fn stored(value: f64, scale: f64, zero: f64, data_type: DataType) -> i128 {
    let (low, high) = limits(data_type);
    // The division is one of f32, as the operator's inputs are; halves depend on it.
    let steps = f64::from((value / scale) as f32).round_ties_even() + zero;
    if steps.is_nan() { 0 } else { steps.clamp(low as f64, high as f64) as i128 }
}

/// Numbers to the type of a zero point, one scale for all.
pub(super) fn requantize(
    values: &[f64],
    shape: &[usize],
    scale: &Value,
    zero: &Value,
) -> Result<Value, String> {
    let (scale, to) = (scale.scalar()?, zero.data_type);
    let zero = zero.scalar()?;
    let stored = values.iter().map(|value| stored(*value, scale, zero, to)).collect();
    Ok(Value::whole(to, shape, stored))
}

fn along(call: &Call<'_>, input: &Value) -> Result<usize, String> {
    let rank = input.shape.len();
    // The default axis, 1, means nothing for a vector with one scale.
    axis(call.int("axis", 1), rank).or(if rank < 2 { Ok(0) } else { Err("axis".to_owned()) })
}

fn quantize(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let along = along(call, x)?;
    let block = usize::try_from(call.int("block_size", 0)).unwrap_or(0);
    let to = match (call.optional(2), call.int("output_dtype", 0)) {
        (Some(zero), _) => zero.data_type,
        (None, 0) => DataType::U8,
        (None, given) => of_onnx(given)?,
    };
    let scales = spread(scale, x, along, block)?;
    let zeros = match call.optional(2) {
        Some(zero) => spread(zero, x, along, block)?,
        None => vec![0.0; x.len()],
    };
    let numbers = x.reals()?;
    let values = (0..x.len()).map(|i| stored(numbers[i], scales[i], zeros[i], to)).collect();
    Ok(vec![Value::whole(to, &x.shape, values)])
}

fn dequantize(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let along = along(call, x)?;
    let block = usize::try_from(call.int("block_size", 0)).unwrap_or(0);
    let scales = spread(scale, x, along, block)?;
    let zeros = match call.optional(2) {
        Some(zero) => spread(zero, x, along, block)?,
        None => vec![0.0; x.len()],
    };
    let numbers = x.reals()?;
    let values = (0..x.len()).map(|i| (numbers[i] - zeros[i]) * scales[i]).collect();
    debug_assert!(is_real(scale.data_type));
    Ok(vec![Value::real(scale.data_type, &x.shape, values)])
}

fn dynamic(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let numbers = x.reals()?;
    // The range always holds 0.
    let low = numbers.iter().copied().fold(0.0, f64::min);
    let high = numbers.iter().copied().fold(0.0, f64::max);
    let scale = f64::from(((high - low) / 255.0) as f32);
    let zero =
        if scale == 0.0 { 0.0 } else { f64::from((-low / scale) as f32).round_ties_even().clamp(0.0, 255.0) };
    let values = numbers.iter().map(|value| match scale {
        0.0 => 0,
        scale => stored(*value, scale, zero, DataType::U8),
    });
    Ok(vec![
        Value::whole(DataType::U8, &x.shape, values.collect()),
        Value::real(DataType::F32, &[], vec![scale]),
        Value::whole(DataType::U8, &[], vec![zero as i128]),
    ])
}
