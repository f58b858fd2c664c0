//! Many numbers to one: the Reduce family, ArgMax, ArgMin, CumSum, TopK.

use std::cmp::Ordering;

use super::Operator;
use super::call::Call;
use super::norm::lines;
use super::value::{Elements, Value, axis, is_real, limits, strides, walk};
use crate::base::DataType;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "ReduceSum" => |call| reduce(call, |v| v.iter().sum(), Some(|v| v.iter().sum())),
        "ReduceMean" => |call| {
            // A mean of whole numbers is divided towards zero.
            reduce(call, |v| v.iter().sum::<f64>() / v.len() as f64, None)
        },
        "ReduceProd" => |call| reduce(call, |v| v.iter().product(), Some(|v| v.iter().product())),
        "ReduceMax" => |call| reduce(call, |v| v.iter().copied().fold(f64::NEG_INFINITY, largest), None),
        "ReduceMin" => |call| reduce(call, |v| -v.iter().map(|x| -x).fold(f64::NEG_INFINITY, largest), None),
        "ReduceL1" => |call| reduce(call, |v| v.iter().map(|x| x.abs()).sum(), None),
        "ReduceL2" => |call| reduce(call, |v| v.iter().map(|x| x * x).sum::<f64>().sqrt(), None),
        "ReduceSumSquare" => |call| reduce(call, |v| v.iter().map(|x| x * x).sum(), None),
        "ReduceLogSum" => |call| reduce(call, |v| v.iter().sum::<f64>().ln(), None),
        "ReduceLogSumExp" => |call| {
            reduce(
                call,
                |v| {
                    let most = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    if most.is_infinite() {
                        most
                    } else {
                        v.iter().map(|x| (x - most).exp()).sum::<f64>().ln() + most
                    }
                },
                None,
            )
        },
        "ArgMax" => |call| extreme(call, |a, b| a.partial_cmp(&b)),
        "ArgMin" => |call| extreme(call, |a, b| b.partial_cmp(&a)),
        "CumSum" => cumulative,
        "TopK" => top,
        _ => return None,
    })
}

fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// For each combination of the other axes, the places of the elements along `axes`.
pub(super) fn groups(shape: &[usize], axes: &[usize]) -> Vec<Vec<usize>> {
    let own = strides(shape);
    let pick = |inside: bool| -> (Vec<usize>, Vec<usize>) {
        (0..shape.len()).filter(|a| axes.contains(a) == inside).map(|a| (shape[a], own[a])).unzip()
    };
    let ((outer, outer_step), (inner, inner_step)) = (pick(false), pick(true));
    walk(&outer, &outer_step, 0).into_iter().map(|start| walk(&inner, &inner_step, start)).collect()
}

fn reduce(
    call: &Call<'_>,
    real: fn(&[f64]) -> f64,
    whole: Option<fn(&[i128]) -> i128>,
) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let rank = x.shape.len();
    let named = call.axes(1, "axes")?.filter(|axes| !axes.is_empty());
    if named.is_none() && call.flag("noop_with_empty_axes") {
        // One element a group: nothing is summed, but squares and roots still apply.
        let numbers = x.reals()?.into_iter().map(|number| real(&[number])).collect();
        return Ok(vec![Value::real(x.data_type, &x.shape, numbers)]);
    }
    let axes: Vec<usize> = match named {
        Some(axes) => axes.into_iter().map(|a| axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    let keep = call.int("keepdims", 1) != 0;
    let shape: Vec<usize> = (0..rank)
        .filter(|a| keep || !axes.contains(a))
        .map(|a| if axes.contains(&a) { 1 } else { x.shape[a] })
        .collect();
    let groups = groups(&x.shape, &axes);
    if let (Elements::Whole(values), Some(whole)) = (&x.elements, whole) {
        let numbers =
            groups.iter().map(|group| whole(&group.iter().map(|at| values[*at]).collect::<Vec<_>>()));
        return Ok(vec![Value::whole(x.data_type, &shape, numbers.collect())]);
    }
    let values = x.reals()?;
    let numbers: Vec<f64> =
        groups.iter().map(|group| real(&group.iter().map(|at| values[*at]).collect::<Vec<_>>())).collect();
    if !is_real(x.data_type) {
        // The largest of nothing is the type's lowest value.
        let (low, high) = limits(x.data_type);
        let numbers = numbers.into_iter().map(|number| number.clamp(low as f64, high as f64) as i128);
        return Ok(vec![Value::whole(x.data_type, &shape, numbers.collect())]);
    }
    Ok(vec![Value::real(x.data_type, &shape, numbers)])
}

/// The first that is no less than any, or the last where `select_last_index` says so.
fn extreme(call: &Call<'_>, compare: fn(f64, f64) -> Option<Ordering>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let along = axis(call.int("axis", 0), x.shape.len())?;
    let last = call.flag("select_last_index");
    let values = x.reals()?;
    let mut found = Vec::new();
    for line in groups(&x.shape, &[along]) {
        let mut best = 0;
        for (i, at) in line.iter().enumerate() {
            let order = compare(values[*at], values[line[best]]);
            if order == Some(Ordering::Greater) || (last && order == Some(Ordering::Equal)) {
                best = i;
            }
        }
        found.push(best as i128);
    }
    let mut shape = x.shape.clone();
    if call.int("keepdims", 1) != 0 {
        shape[along] = 1;
    } else {
        shape.remove(along);
    }
    Ok(vec![Value::whole(DataType::I64, &shape, found)])
}

fn cumulative(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let along = call.input(1)?.ints()?.first().copied().ok_or("its axis is empty")?;
    let mut values = x.reals()?;
    for mut line in lines(&x.shape, axis(along, x.shape.len())?) {
        if call.flag("reverse") {
            line.reverse();
        }
        let mut sum = 0.0;
        for at in line {
            let number = values[at];
            values[at] = if call.flag("exclusive") { sum } else { sum + number };
            sum += number;
        }
    }
    Ok(vec![Value::real(x.data_type, &x.shape, values)])
}

/// Equal numbers keep their order.
fn top(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let along = axis(call.int("axis", -1), x.shape.len())?;
    let k = match call.optional(1) {
        Some(k) => k.ints()?.first().copied().unwrap_or(0),
        None => call.int("k", 0),
    };
    let k = usize::try_from(k).ok().filter(|k| *k <= x.shape[along]).ok_or_else(|| format!("k is {k}"))?;
    let values = x.reals()?;
    let mut shape = x.shape.clone();
    shape[along] = k;
    let out = lines(&shape, along);
    let (mut places, mut indices) = (vec![0; shape.iter().product()], vec![0; shape.iter().product()]);
    for (line, to) in lines(&x.shape, along).into_iter().zip(out) {
        let mut order: Vec<usize> = (0..line.len()).collect();
        order.sort_by(|a, b| {
            let order = values[line[*a]].partial_cmp(&values[line[*b]]).unwrap_or(Ordering::Equal);
            if call.int("largest", 1) != 0 { order.reverse() } else { order }
        });
        for (i, at) in order.into_iter().take(k).zip(to) {
            places[at] = line[i];
            indices[at] = i as i128;
        }
    }
    Ok(vec![x.pick(&shape, &places), Value::whole(DataType::I64, &shape, indices)])
}
