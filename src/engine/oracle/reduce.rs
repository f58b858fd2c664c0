//! Many numbers to one: the Reduce family, ArgMax, ArgMin, CumSum, TopK.

use std::cmp::Ordering;

use super::Operator;
use super::call::Call;
use super::norm::lines;
use super::value::{Elements, Value, axis, is_real, limits, strides, walk};
use crate::base::DataType;

/// One number of many, which are whole numbers within these limits.
type Whole = fn(&[i128], (i128, i128)) -> i128;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "ReduceSum" => |call| reduce(call, |v| v.iter().sum(), Some(|v, _| sum(v))),
        // A mean of whole numbers is divided towards zero.
        "ReduceMean" => |call| {
            let whole: Whole = |v, _| sum(v).checked_div(v.len() as i128).unwrap_or(0);
            reduce(call, |v| v.iter().sum::<f64>() / v.len() as f64, Some(whole))
        },
        "ReduceProd" => product,
        // The largest of nothing is the type's lowest value.
        "ReduceMax" => |call| {
            let whole: Whole = |v, (low, _)| v.iter().copied().max().unwrap_or(low);
            reduce(call, |v| v.iter().copied().fold(f64::NEG_INFINITY, largest), Some(whole))
        },
        "ReduceMin" => |call| {
            let whole: Whole = |v, (_, high)| v.iter().copied().min().unwrap_or(high);
            reduce(call, |v| -v.iter().map(|x| -x).fold(f64::NEG_INFINITY, largest), Some(whole))
        },
        "ReduceL1" => |call| {
            let whole: Whole = |v, _| v.iter().map(|x| x.abs()).sum();
            reduce(call, |v| v.iter().map(|x| x.abs()).sum(), Some(whole))
        },
        "ReduceL2" => |call| reduce(call, |v| v.iter().map(|x| x * x).sum::<f64>().sqrt(), None),
        "ReduceSumSquare" => |call| {
            let whole: Whole = |v, _| v.iter().fold(0, |sum, x| sum.wrapping_add(x * x));
            reduce(call, |v| v.iter().map(|x| x * x).sum(), Some(whole))
        },
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
        "ArgMax" => |call| extreme(call, |order| order),
        "ArgMin" => |call| extreme(call, Ordering::reverse),
        "CumSum" => cumulative,
        "TopK" => top,
        _ => return None,
    })
}

fn sum(values: &[i128]) -> i128 {
    values.iter().sum()
}

/// Beyond its type a product is infinite on the way: what follows, a 0 even, makes no number of it again.
fn product(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let whole: Whole = |v, _| v.iter().fold(1, |all, x| all.wrapping_mul(*x));
    match call.input(0)?.data_type {
        DataType::F64 => reduce(call, |v| v.iter().product(), Some(whole)),
        _ => reduce(call, |v| v.iter().fold(1.0_f32, |all, x| all * *x as f32).into(), Some(whole)),
    }
}

/// How the element at one place and that at another are ordered; NaN is not.
fn order(x: &Value) -> Result<impl Fn(usize, usize) -> Option<Ordering>, String> {
    if let Elements::Text(_) = x.elements {
        return Err("text where numbers are wanted".to_owned());
    }
    Ok(move |a: usize, b: usize| match &x.elements {
        Elements::Whole(values) => Some(values[a].cmp(&values[b])),
        Elements::Real(values) => values[a].partial_cmp(&values[b]),
        Elements::Text(_) => None,
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

fn reduce(call: &Call<'_>, real: fn(&[f64]) -> f64, whole: Option<Whole>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let rank = x.shape.len();
    let named = call.axes(1, "axes")?.filter(|axes| !axes.is_empty());
    if named.is_none() && call.flag("noop_with_empty_axes") {
        // One element a group: nothing is summed, but squares and roots still apply.
        return grouped(x, &x.shape, (0..x.len()).map(|at| vec![at]).collect(), real, whole);
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
    grouped(x, &shape, groups(&x.shape, &axes), real, whole)
}

fn grouped(
    x: &Value,
    shape: &[usize],
    groups: Vec<Vec<usize>>,
    real: fn(&[f64]) -> f64,
    whole: Option<Whole>,
) -> Result<Vec<Value>, String> {
    let (low, high) = limits(x.data_type);
    if let (Elements::Whole(values), Some(whole)) = (&x.elements, whole) {
        let of =
            |group: &Vec<usize>| whole(&group.iter().map(|at| values[*at]).collect::<Vec<_>>(), (low, high));
        return Ok(vec![Value::whole(x.data_type, shape, groups.iter().map(of).collect())]);
    }
    let values = x.reals()?;
    let of = |group: &Vec<usize>| real(&group.iter().map(|at| values[*at]).collect::<Vec<_>>());
    let numbers: Vec<f64> = groups.iter().map(of).collect();
    if !is_real(x.data_type) {
        let numbers = numbers.into_iter().map(|number| number.clamp(low as f64, high as f64) as i128);
        return Ok(vec![Value::whole(x.data_type, shape, numbers.collect())]);
    }
    Ok(vec![Value::real(x.data_type, shape, numbers)])
}

/// The first that is no less than any, or the last where `select_last_index` says so.
fn extreme(call: &Call<'_>, turned: fn(Ordering) -> Ordering) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let along = axis(call.int("axis", 0), x.shape.len())?;
    let last = call.flag("select_last_index");
    let compare = order(x)?;
    let mut found = Vec::new();
    for line in groups(&x.shape, &[along]) {
        let mut best = 0;
        for (i, at) in line.iter().enumerate() {
            let order = compare(*at, line[best]).map(turned);
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
    let mut lines = lines(&x.shape, axis(along, x.shape.len())?);
    if call.flag("reverse") {
        lines.iter_mut().for_each(|line| line.reverse());
    }
    let exclusive = call.flag("exclusive");
    Ok(vec![match &x.elements {
        Elements::Whole(values) => Value::whole(x.data_type, &x.shape, summed(values, &lines, exclusive)),
        _ => Value::real(x.data_type, &x.shape, summed(&x.reals()?, &lines, exclusive)),
    }])
}

fn summed<T: Copy + Default + std::ops::Add<Output = T>>(
    values: &[T],
    lines: &[Vec<usize>],
    exclusive: bool,
) -> Vec<T> {
    let mut sums = values.to_vec();
    for line in lines {
        let mut sum = T::default();
        for at in line {
            let with = sum + values[*at];
            sums[*at] = if exclusive { sum } else { with };
            sum = with;
        }
    }
    sums
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
    let compare = order(x)?;
    let mut shape = x.shape.clone();
    shape[along] = k;
    let out = lines(&shape, along);
    let (mut places, mut indices) = (vec![0; shape.iter().product()], vec![0; shape.iter().product()]);
    for (line, to) in lines(&x.shape, along).into_iter().zip(out) {
        let mut order: Vec<usize> = (0..line.len()).collect();
        order.sort_by(|a, b| {
            let order = compare(line[*a], line[*b]).unwrap_or(Ordering::Equal);
            if call.int("largest", 1) != 0 { order.reverse() } else { order }
        });
        for (i, at) in order.into_iter().take(k).zip(to) {
            places[at] = line[i];
            indices[at] = i as i128;
        }
    }
    Ok(vec![x.pick(&shape, &places), Value::whole(DataType::I64, &shape, indices)])
}
