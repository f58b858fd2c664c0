//! Pools: MaxPool, AveragePool, LpPool, and the global ones.

use super::Operator;
use super::call::Call;
use super::conv::Windows;
use super::value::{Value, indices, place, strides};
use crate::base::DataType;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "MaxPool" => max_pool,
        "AveragePool" => |call| pooled(call, average),
        "LpPool" => |call| {
            pooled(call, |call, values, _| {
                let p = call.int("p", 2) as f64;
                values.iter().map(|x| x.abs().powf(p)).sum::<f64>().powf(1.0 / p)
            })
        },
        "GlobalAveragePool" => {
            |call| global(call, |_, values| values.iter().sum::<f64>() / values.len() as f64)
        }
        "GlobalMaxPool" => {
            |call| global(call, |_, values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        }
        "GlobalLpPool" => |call| {
            global(call, |call, values| {
                let p = call.int("p", 2) as f64;
                values.iter().map(|x| x.abs().powf(p)).sum::<f64>().powf(1.0 / p)
            })
        },
        _ => return None,
    })
}

fn windows(call: &Call<'_>, space: &[usize]) -> Result<Windows, String> {
    let kernel = call.lengths("kernel_shape", &[])?;
    Windows::of(call, kernel, space, call.flag("ceil_mode"))
}

/// `count_include_pad`: the padding counts as zeros, but what lies behind it (ceil_mode) never does.
fn average(call: &Call<'_>, values: &[f64], padded: usize) -> f64 {
    let divisor = if call.flag("count_include_pad") { padded } else { values.len() };
    values.iter().sum::<f64>() / divisor as f64
}

/// Each window's numbers, and how many places it has inside input and padding, become one number.
fn pooled(call: &Call<'_>, f: fn(&Call<'_>, &[f64], usize) -> f64) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let [batch, channels, space @ ..] = &x.shape[..] else { return Err("axes are missing".to_owned()) };
    let windows = windows(call, space)?;
    let numbers = x.reals()?;
    let (area, own) = (space.iter().product::<usize>(), strides(space));
    let mut out = Vec::new();
    for plane in 0..batch * channels {
        for window in indices(&windows.out) {
            let mut inside = Vec::new();
            let mut padded = 0;
            for tap in indices(&windows.kernel) {
                if let Some(at) = windows.at(&window, &tap, space) {
                    inside.push(numbers[plane * area + place(&at, &own)]);
                }
                let within_pads = (0..space.len()).all(|axis| {
                    let at = window[axis] * windows.strides[axis] + tap[axis] * windows.dilations[axis];
                    (at as i64) < space[axis] as i64 + windows.before[axis] + windows.after[axis]
                });
                padded += usize::from(within_pads);
            }
            out.push(f(call, &inside, padded));
        }
    }
    Ok(vec![Value::real(x.data_type, &[&[*batch, *channels], windows.out.as_slice()].concat(), out)])
}

fn max_pool(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let [batch, channels, space @ ..] = &x.shape[..] else { return Err("axes are missing".to_owned()) };
    let windows = windows(call, space)?;
    let numbers = x.reals()?;
    let (area, own) = (space.iter().product::<usize>(), strides(space));
    // `storage_order` 1 counts places column by column.
    let told = if call.flag("storage_order") {
        let mut reversed = strides(&space.iter().rev().copied().collect::<Vec<_>>());
        reversed.reverse();
        reversed
    } else {
        own.clone()
    };
    let (mut largest, mut places) = (Vec::new(), Vec::new());
    for plane in 0..batch * channels {
        for window in indices(&windows.out) {
            let mut best: Option<(f64, usize)> = None;
            for tap in indices(&windows.kernel) {
                let Some(at) = windows.at(&window, &tap, space) else { continue };
                let number = numbers[plane * area + place(&at, &own)];
                if best.is_none_or(|(seen, _)| number > seen || (number.is_nan() && !seen.is_nan())) {
                    best = Some((number, plane * area + place(&at, &told)));
                }
            }
            let (number, at) = best.ok_or("a window lies in the padding only")?;
            largest.push(number);
            places.push(at as i128);
        }
    }
    let shape = [&[*batch, *channels], windows.out.as_slice()].concat();
    Ok(vec![Value::real(x.data_type, &shape, largest), Value::whole(DataType::I64, &shape, places)])
}

fn global(call: &Call<'_>, f: fn(&Call<'_>, &[f64]) -> f64) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let [batch, channels, space @ ..] = &x.shape[..] else { return Err("axes are missing".to_owned()) };
    let area: usize = space.iter().product();
    let numbers = x.reals()?;
    let out =
        (0..batch * channels).map(|plane| f(call, &numbers[plane * area..(plane + 1) * area])).collect();
    let shape = [&[*batch, *channels], vec![1; space.len()].as_slice()].concat();
    Ok(vec![Value::real(x.data_type, &shape, out)])
}
