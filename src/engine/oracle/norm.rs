//! Normalisations over statistics: Batch, Instance, Layer, Group, RMS, Lp, LRN, MeanVariance.

use super::Operator;
use super::call::Call;
use super::value::{Value, axis, broadcast, places};
use crate::base::DataType;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "BatchNormalization" => batch,
        "InstanceNormalization" => instance,
        "LayerNormalization" => layer,
        "RMSNormalization" => rms,
        "GroupNormalization" => group,
        "LpNormalization" => lp,
        "LRN" => local_response,
        "MeanVarianceNormalization" => mean_variance,
        _ => return None,
    })
}

fn epsilon(call: &Call<'_>) -> f64 {
    call.float("epsilon", f64::from(1e-5_f32))
}

/// Mean and variance (of the whole population).
fn statistics(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count)
}

fn batch(call: &Call<'_>) -> Result<Vec<Value>, String> {
    if call.flag("training_mode") {
        return Err("training_mode".to_owned());
    }
    let x = call.input(0)?;
    let parameter = |position| call.input(position).and_then(Value::reals);
    let (scale, bias, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
    let channels = x.shape.get(1).copied().unwrap_or(1);
    if [&scale, &bias, &mean, &variance].iter().any(|list| list.len() != channels) {
        return Err(format!("its parameters are not for {channels} channels"));
    }
    let area: usize = x.shape.iter().skip(2).product();
    let values = x.reals()?.into_iter().enumerate().map(|(i, x)| {
        let c = i / area.max(1) % channels;
        scale[c] * (x - mean[c]) / (variance[c] + epsilon(call)).sqrt() + bias[c]
    });
    Ok(vec![Value::real(x.data_type, &x.shape, values.collect())])
}

fn instance(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let (scale, bias) = (call.input(1)?.reals()?, call.input(2)?.reals()?);
    let area: usize = x.shape.iter().skip(2).product();
    let mut out = Vec::with_capacity(x.len());
    for (plane, values) in x.reals()?.chunks(area.max(1)).enumerate() {
        let (mean, variance) = statistics(values);
        let c = plane % scale.len();
        out.extend(
            values.iter().map(|x| scale[c] * (x - mean) / (variance + epsilon(call)).sqrt() + bias[c]),
        );
    }
    Ok(vec![Value::real(x.data_type, &x.shape, out)])
}

/// `scale` and `bias`, broadcast to the tensor.
fn scaled(
    x: &Value,
    numbers: Vec<f64>,
    scale: Option<&Value>,
    bias: Option<&Value>,
) -> Result<Value, String> {
    let mut numbers = numbers;
    for (parameter, is_scale) in [(scale, true), (bias, false)] {
        let Some(parameter) = parameter else { continue };
        if broadcast(&parameter.shape, &x.shape)? != x.shape {
            return Err(format!("{:?} does not broadcast to {:?}", parameter.shape, x.shape));
        }
        let values = parameter.reals()?;
        for (number, place) in numbers.iter_mut().zip(places(&parameter.shape, &x.shape)) {
            if is_scale { *number *= values[place] } else { *number += values[place] }
        }
    }
    Ok(Value::real(x.data_type, &x.shape, numbers))
}

fn layer(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let from = axis(call.int("axis", -1), x.shape.len())?;
    let row: usize = x.shape[from..].iter().product();
    let (mut numbers, mut means, mut inverses) = (Vec::new(), Vec::new(), Vec::new());
    for values in x.reals()?.chunks(row.max(1)) {
        let (mean, variance) = statistics(values);
        let inverse = 1.0 / (variance + epsilon(call)).sqrt();
        numbers.extend(values.iter().map(|x| (x - mean) * inverse));
        means.push(mean);
        inverses.push(inverse);
    }
    let kept: Vec<usize> =
        x.shape.iter().enumerate().map(|(i, length)| if i < from { *length } else { 1 }).collect();
    let y = scaled(x, numbers, call.optional(1), call.optional(2))?;
    Ok(vec![y, Value::real(x.data_type, &kept, means), Value::real(x.data_type, &kept, inverses)])
}

fn rms(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let from = axis(call.int("axis", -1), x.shape.len())?;
    let row: usize = x.shape[from..].iter().product();
    let mut numbers = Vec::new();
    for values in x.reals()?.chunks(row.max(1)) {
        let square = values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64;
        numbers.extend(values.iter().map(|x| x / (square + epsilon(call)).sqrt()));
    }
    Ok(vec![scaled(x, numbers, call.optional(1), None)?])
}

fn group(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let groups = usize::try_from(call.int("num_groups", 1)).map_err(|_| "num_groups")?;
    let (scale, bias) = (call.input(1)?.reals()?, call.input(2)?.reals()?);
    let channels = x.shape.get(1).copied().unwrap_or(1);
    if groups == 0 || channels % groups != 0 {
        return Err(format!("{groups} groups of {channels} channels"));
    }
    let area: usize = x.shape.iter().skip(2).product();
    // Before operator set 21, scale and bias are one a group; then one a channel.
    let per = if call.opset < 21 { channels / groups } else { 1 };
    let mut out = Vec::new();
    for (index, values) in x.reals()?.chunks((channels / groups * area).max(1)).enumerate() {
        let (mean, variance) = statistics(values);
        for (i, x) in values.iter().enumerate() {
            let channel = index % groups * (channels / groups) + i / area.max(1);
            let parameter = channel / per;
            out.push(scale[parameter] * (x - mean) / (variance + epsilon(call)).sqrt() + bias[parameter]);
        }
    }
    Ok(vec![Value::real(x.data_type, &x.shape, out)])
}

/// For each line of numbers along an axis, the places of its elements.
pub(super) fn lines(shape: &[usize], along: usize) -> Vec<Vec<usize>> {
    let length = shape[along];
    let stride: usize = shape[along + 1..].iter().product();
    let outer: usize = shape[..along].iter().product();
    (0..outer)
        .flat_map(|o| (0..stride).map(move |i| (0..length).map(|k| (o * length + k) * stride + i).collect()))
        .collect()
}

fn lp(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let along = axis(call.int("axis", -1), x.shape.len())?;
    let p = call.int("p", 2);
    let mut numbers = x.reals()?;
    let x_is_f32 = x.data_type != DataType::F64;
    // Squares that are nothing in f32 make a norm of nothing, and so an answer: every engine's reading.
    let square = |x: f64| if x.abs() < f64::from(f32::MIN_POSITIVE).sqrt() && x_is_f32 { 0.0 } else { x * x };
    for line in lines(&x.shape, along) {
        let norm = match p {
            1 => line.iter().map(|at| numbers[*at].abs()).sum::<f64>(),
            _ => line.iter().map(|at| square(numbers[*at])).sum::<f64>().sqrt(),
        };
        for at in line {
            numbers[at] = if norm == 0.0 { 0.0 } else { numbers[at] / norm };
        }
    }
    Ok(vec![Value::real(x.data_type, &x.shape, numbers)])
}

fn local_response(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let size = usize::try_from(call.int("size", 0)).ok().filter(|size| *size > 0).ok_or("size")?;
    let (alpha, beta) = (call.float("alpha", f64::from(1e-4_f32)), call.float("beta", 0.75));
    let bias = call.float("bias", 1.0);
    let numbers = x.reals()?;
    let mut out = numbers.clone();
    for line in lines(&x.shape, 1) {
        for c in 0..line.len() {
            let from = c.saturating_sub((size - 1) / 2);
            let to = (c + size / 2).min(line.len() - 1);
            let square: f64 = line[from..=to].iter().map(|at| numbers[*at] * numbers[*at]).sum();
            out[line[c]] = numbers[line[c]] / (bias + alpha / size as f64 * square).powf(beta);
        }
    }
    Ok(vec![Value::real(x.data_type, &x.shape, out)])
}

fn mean_variance(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let axes = call.ints("axes").unwrap_or_else(|| vec![0, 2, 3]);
    let axes = axes.into_iter().map(|a| axis(a, x.shape.len())).collect::<Result<Vec<_>, _>>()?;
    let mut numbers = x.reals()?;
    for group in super::reduce::groups(&x.shape, &axes) {
        let values: Vec<f64> = group.iter().map(|at| numbers[*at]).collect();
        let (mean, variance) = statistics(&values);
        for at in group {
            // The standard's own body adds 1e-9 to the deviation.
            numbers[at] = (numbers[at] - mean) / (variance.sqrt() + 1e-9);
        }
    }
    Ok(vec![Value::real(x.data_type, &x.shape, numbers)])
}
