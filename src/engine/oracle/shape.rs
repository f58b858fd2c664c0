//! What moves elements and changes none: shapes, slices, padding, gathering.

use super::Operator;
use super::call::Call;
use super::value::{Elements, Value, axis, broadcast, count, indices, of_proto, place, places, strides};
use crate::base::DataType;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "Reshape" => reshape,
        "Flatten" => flatten,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Transpose" => transpose,
        "Concat" => concat,
        "Split" => split,
        "Slice" => slice,
        "Pad" => pad,
        "Expand" => expand,
        "Tile" => tile,
        "Gather" => gather,
        "GatherElements" => gather_elements,
        "GatherND" => gather_nd,
        "ScatterElements" => scatter_elements,
        "ScatterND" => scatter_nd,
        "DepthToSpace" => depth_to_space,
        "SpaceToDepth" => space_to_depth,
        "Shape" => shape,
        "Size" => |call| Ok(vec![Value::whole(DataType::I64, &[], vec![call.input(0)?.len() as i128])]),
        "ConstantOfShape" => constant_of_shape,
        "Range" => range,
        "OneHot" => one_hot,
        "Trilu" => trilu,
        "EyeLike" => eye_like,
        "NonZero" => non_zero,
        "ReverseSequence" => reverse_sequence,
        _ => return None,
    })
}

fn length(length: i64) -> Result<usize, String> {
    usize::try_from(length).map_err(|_| format!("length {length}"))
}

/// 0 keeps the length of the same axis, one −1 takes what is left.
fn reshape(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let wanted = call.axes(1, "shape")?.ok_or("no shape")?;
    let mut shape = Vec::new();
    let mut open = None;
    for (axis, length) in wanted.iter().enumerate() {
        shape.push(match length {
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            0 if !call.flag("allowzero") => {
                *x.shape.get(axis).ok_or("0 stands for an axis that is not there")?
            }
            other => self::length(*other)?,
        });
    }
    if let Some(open) = open {
        let rest = count(&shape)?;
        if rest == 0 || x.len() % rest != 0 {
            return Err(format!("{:?} cannot become {wanted:?}", x.shape));
        }
        shape[open] = x.len() / rest;
    }
    Ok(vec![x.reshaped(&shape)?])
}

fn flatten(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let axis = call.int("axis", 1);
    let at = if axis < 0 { axis + x.shape.len() as i64 } else { axis };
    let at = usize::try_from(at).ok().filter(|at| *at <= x.shape.len()).ok_or("axis")?;
    let (rows, columns) = x.shape.split_at(at);
    Ok(vec![x.reshaped(&[rows.iter().product(), columns.iter().product()])?])
}

fn squeeze(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let axes = match call.axes(1, "axes")? {
        Some(axes) => axes.into_iter().map(|a| axis(a, x.shape.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..x.shape.len()).filter(|a| x.shape[*a] == 1).collect(),
    };
    let shape: Vec<usize> = (0..x.shape.len()).filter(|a| !axes.contains(a)).map(|a| x.shape[a]).collect();
    Ok(vec![x.reshaped(&shape)?])
}

fn unsqueeze(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let axes = call.axes(1, "axes")?.ok_or("no axes")?;
    let rank = x.shape.len() + axes.len();
    let axes = axes.into_iter().map(|a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut lengths = x.shape.iter();
    let shape: Vec<usize> = (0..rank)
        .map(|a| if axes.contains(&a) { Some(1) } else { lengths.next().copied() })
        .collect::<Option<_>>()
        .ok_or("axes")?;
    Ok(vec![x.reshaped(&shape)?])
}

fn transpose(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let rank = x.shape.len();
    let order = match call.ints("perm") {
        Some(order) => order.into_iter().map(|a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let own = strides(&x.shape);
    let shape: Vec<usize> = order.iter().map(|a| x.shape[*a]).collect();
    let step: Vec<usize> = order.iter().map(|a| own[*a]).collect();
    Ok(vec![x.pick(&shape, &super::value::walk(&shape, &step, 0))])
}

/// The elements of several tensors, one behind the other.
fn chained(parts: &[&Value]) -> Result<Value, String> {
    let first = parts.first().ok_or("nothing is given")?;
    let mut elements = first.elements.clone();
    for part in &parts[1..] {
        match (&mut elements, &part.elements) {
            (Elements::Real(all), Elements::Real(more)) => all.extend(more),
            (Elements::Whole(all), Elements::Whole(more)) => all.extend(more),
            (Elements::Text(all), Elements::Text(more)) => all.extend(more.iter().cloned()),
            _ => return Err("its inputs have different types".to_owned()),
        }
    }
    let total = parts.iter().map(|part| part.len()).sum();
    Ok(Value { data_type: first.data_type, shape: vec![total], elements })
}

fn concat(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let parts: Vec<&Value> = (0..call.inputs.len()).map(|i| call.input(i)).collect::<Result<_, _>>()?;
    let all = chained(&parts)?;
    let along = axis(call.int("axis", 0), parts[0].shape.len())?;
    let mut shape = parts[0].shape.clone();
    shape[along] = parts.iter().map(|part| part.shape[along]).sum();
    let rows: usize = shape[..along].iter().product();
    let mut order = Vec::new();
    for row in 0..rows {
        let mut start = 0;
        for part in &parts {
            let width = part.shape[along..].iter().product::<usize>();
            order.extend((0..width).map(|i| start + row * width + i));
            start += part.len();
        }
    }
    if order.len() != count(&shape)? {
        return Err("its inputs have different shapes".to_owned());
    }
    Ok(vec![all.pick(&shape, &order)])
}

fn split(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let along = axis(call.int("axis", 0), x.shape.len())?;
    let total = x.shape[along];
    let lengths: Vec<usize> = match call.axes(1, "split")? {
        Some(lengths) => lengths.into_iter().map(length).collect::<Result<_, _>>()?,
        None => {
            // The last part is smaller where it does not come out.
            let parts = match call.int("num_outputs", 0) {
                0 => call.node.output.len(),
                parts => length(parts)?,
            };
            let each = total.div_ceil(parts.max(1));
            (0..parts).map(|i| each.min(total.saturating_sub(i * each))).collect()
        }
    };
    if lengths.iter().sum::<usize>() != total {
        return Err(format!("{lengths:?} do not make {total}"));
    }
    let mut from = 0;
    let mut parts = Vec::new();
    for length in lengths {
        let mut shape = x.shape.clone();
        shape[along] = length;
        let own = strides(&x.shape);
        parts.push(x.pick(&shape, &super::value::walk(&shape, &own, from * own[along])));
        from += length;
    }
    Ok(parts)
}

/// Python's slices: begin and end count from the end where negative, and are cut to the axis.
fn slice(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let starts = call.axes(1, "starts")?.ok_or("no starts")?;
    let ends = call.axes(2, "ends")?.ok_or("no ends")?;
    let axes = call.axes(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = match call.optional(4) {
        Some(steps) => steps.ints()?,
        None => vec![1; starts.len()],
    };
    let mut kept: Vec<Vec<usize>> = x.shape.iter().map(|length| (0..*length).collect()).collect();
    for (((start, end), a), step) in starts.iter().zip(&ends).zip(axes).zip(steps) {
        let a = axis(a, x.shape.len())?;
        let length = x.shape[a] as i64;
        let counted = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let begin = counted(*start).clamp(0, high.max(0));
        let to_the_end = *end == i64::MAX || *end == i64::from(i32::MAX);
        let end = if to_the_end && step < 0 { low } else { counted(*end).clamp(low, high) };
        let mut at = begin;
        kept[a] = Vec::new();
        match step {
            0 => return Err("a step of 0".to_owned()),
            1.. => {
                while at < end {
                    kept[a].push(at as usize);
                    at = at.saturating_add(step);
                }
            }
            _ => {
                while at > end {
                    kept[a].push(at as usize);
                    at = at.saturating_add(step);
                }
            }
        }
    }
    Ok(vec![chosen(x, &kept)])
}

/// The elements at every combination of these indices along the axes.
fn chosen(x: &Value, kept: &[Vec<usize>]) -> Value {
    let own = strides(&x.shape);
    let shape: Vec<usize> = kept.iter().map(Vec::len).collect();
    let order: Vec<usize> = indices(&shape)
        .map(|index| index.iter().enumerate().map(|(axis, i)| kept[axis][*i] * own[axis]).sum())
        .collect();
    x.pick(&shape, &order)
}

/// Negative pads cut. `reflect` mirrors without the edge, `edge` repeats it, `wrap` goes round.
fn pad(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let rank = x.shape.len();
    let given = call.axes(1, "pads")?.ok_or("no pads")?;
    let axes = match call.optional(3) {
        Some(axes) => axes.ints()?.into_iter().map(|a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if given.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", given.len(), axes.len()));
    }
    let (mut before, mut shape) = (vec![0; rank], x.shape.clone());
    for (i, a) in axes.iter().enumerate() {
        before[*a] = given[i];
        shape[*a] = length(x.shape[*a] as i64 + given[i] + given[axes.len() + i])?;
    }
    let total = count(&shape)?;
    let mode = call.text("mode", "constant");
    let own = strides(&x.shape);
    let inside = |at: i64, length: i64| -> Option<i64> {
        if (0..length).contains(&at) {
            return Some(at);
        }
        match mode.as_str() {
            "edge" => Some(at.clamp(0, length - 1)),
            "wrap" => Some(at.rem_euclid(length)),
            "reflect" if length == 1 => Some(0),
            "reflect" => {
                let period = 2 * (length - 1);
                let at = at.rem_euclid(period);
                Some(if at < length { at } else { period - at })
            }
            _ => None,
        }
    };
    let filler = match call.optional(2) {
        Some(value) => value.cast(x.data_type)?.reshaped(&[1])?,
        None => Value::real(x.data_type, &[1], vec![call.float("value", 0.0)]),
    };
    // The filler stands behind all elements.
    let all = chained(&[x, &filler])?;
    let mut order = Vec::with_capacity(total);
    for index in indices(&shape) {
        let at: Option<usize> = index.iter().enumerate().try_fold(0, |sum, (axis, i)| {
            let at = inside(*i as i64 - before[axis], x.shape[axis] as i64)?;
            Some(sum + usize::try_from(at).ok()? * own[axis])
        });
        order.push(at.unwrap_or(x.len()));
    }
    Ok(vec![all.pick(&shape, &order)])
}

fn expand(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let wanted = call.input(1)?.ints()?.into_iter().map(length).collect::<Result<Vec<_>, _>>()?;
    let shape = broadcast(&x.shape, &wanted)?;
    Ok(vec![x.pick(&shape, &places(&x.shape, &shape))])
}

fn tile(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let repeats = call.input(1)?.ints()?.into_iter().map(length).collect::<Result<Vec<_>, _>>()?;
    let shape: Vec<usize> = x.shape.iter().zip(&repeats).map(|(length, times)| length * times).collect();
    count(&shape)?;
    let own = strides(&x.shape);
    let order: Vec<usize> = indices(&shape)
        .map(|index| {
            index.iter().zip(&x.shape).zip(&own).map(|((i, length), stride)| i % length * stride).sum()
        })
        .collect();
    Ok(vec![x.pick(&shape, &order)])
}

/// An index that may count from the end.
fn counted(index: i64, length: usize) -> Result<usize, String> {
    let at = if index < 0 { index + length as i64 } else { index };
    usize::try_from(at).ok().filter(|at| *at < length).ok_or_else(|| format!("index {index} of {length}"))
}

fn gather(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, wanted) = (call.input(0)?, call.input(1)?);
    let along = axis(call.int("axis", 0), x.shape.len())?;
    let found =
        wanted.ints()?.into_iter().map(|i| counted(i, x.shape[along])).collect::<Result<Vec<_>, _>>()?;
    let mut kept: Vec<Vec<usize>> = x.shape.iter().map(|length| (0..*length).collect()).collect();
    kept[along] = found;
    let shape = [&x.shape[..along], &wanted.shape, &x.shape[along + 1..]].concat();
    Ok(vec![chosen(x, &kept).reshaped(&shape)?])
}

fn gather_elements(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, wanted) = (call.input(0)?, call.input(1)?);
    let along = axis(call.int("axis", 0), x.shape.len())?;
    let own = strides(&x.shape);
    let mut order = Vec::new();
    for (mut index, i) in indices(&wanted.shape).zip(wanted.ints()?) {
        index[along] = counted(i, x.shape[along])?;
        order.push(place(&index, &own));
    }
    Ok(vec![x.pick(&wanted.shape, &order)])
}

/// For each index tuple, where the block that it names begins, and a block's shape.
fn blocks(x: &Value, wanted: &Value, batch: usize) -> Result<(Vec<usize>, Vec<usize>), String> {
    let (width, outer) = wanted.shape.split_last().ok_or("the indices are a scalar")?;
    let own = strides(&x.shape);
    let mut starts = Vec::new();
    for (outer, tuple) in indices(outer).zip(wanted.ints()?.chunks((*width).max(1))) {
        let mut at = (0..batch).map(|a| outer[a] * own[a]).sum::<usize>();
        for (k, i) in tuple.iter().enumerate() {
            let a = batch + k;
            at += counted(*i, *x.shape.get(a).ok_or("an index tuple is too long")?)? * own[a];
        }
        starts.push(at);
    }
    Ok((starts, x.shape[batch + width..].to_vec()))
}

fn gather_nd(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, wanted) = (call.input(0)?, call.input(1)?);
    let batch = length(call.int("batch_dims", 0))?;
    let (starts, block) = blocks(x, wanted, batch)?;
    let size: usize = block.iter().product();
    let order: Vec<usize> = starts.iter().flat_map(|start| (0..size).map(move |i| start + i)).collect();
    let shape = [&wanted.shape[..wanted.shape.len() - 1], &block].concat();
    Ok(vec![x.pick(&shape, &order)])
}

/// Writes `updates` over, or into, the elements at these places.
fn scattered(call: &Call<'_>, x: &Value, order: &[usize], updates: &Value) -> Result<Value, String> {
    let how = call.text("reduction", "none");
    if how == "none" {
        let all = chained(&[x, updates])?;
        let mut from: Vec<usize> = (0..x.len()).collect();
        for (i, at) in order.iter().enumerate() {
            from[*at] = x.len() + i;
        }
        return Ok(all.pick(&x.shape, &from));
    }
    if let (Elements::Whole(numbers), Elements::Whole(updates)) = (&x.elements, &updates.elements) {
        let mut numbers = numbers.clone();
        for (at, update) in order.iter().zip(updates) {
            let number = Value::whole(x.data_type, &[1], vec![numbers[*at]]).wholes()?[0];
            numbers[*at] = match how.as_str() {
                "add" => number + update,
                "mul" => number * update,
                "max" => number.max(*update),
                "min" => number.min(*update),
                other => return Err(format!("reduction {other:?}")),
            };
        }
        return Ok(Value::whole(x.data_type, &x.shape, numbers));
    }
    let mut numbers = x.reals()?;
    for (at, update) in order.iter().zip(updates.reals()?) {
        numbers[*at] = match how.as_str() {
            "add" => numbers[*at] + update,
            "mul" => numbers[*at] * update,
            "max" => numbers[*at].max(update),
            "min" => numbers[*at].min(update),
            other => return Err(format!("reduction {other:?}")),
        };
    }
    Ok(Value::real(x.data_type, &x.shape, numbers))
}

fn scatter_elements(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, wanted, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let along = axis(call.int("axis", 0), x.shape.len())?;
    let own = strides(&x.shape);
    let mut order = Vec::new();
    for (mut index, i) in indices(&wanted.shape).zip(wanted.ints()?) {
        index[along] = counted(i, x.shape[along])?;
        order.push(place(&index, &own));
    }
    Ok(vec![scattered(call, x, &order, updates)?])
}

fn scatter_nd(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, wanted, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (starts, block) = blocks(x, wanted, 0)?;
    let size: usize = block.iter().product();
    let order: Vec<usize> = starts.iter().flat_map(|start| (0..size).map(move |i| start + i)).collect();
    Ok(vec![scattered(call, x, &order, updates)?])
}

/// `[n, c, h, w]` and the block's side.
fn picture(call: &Call<'_>) -> Result<([usize; 4], usize), String> {
    let shape = call.input(0)?.shape.clone();
    let block = length(call.int("blocksize", 0))?;
    let four: [usize; 4] = shape.try_into().map_err(|_| "four axes are wanted")?;
    if block == 0 { Err("a block of 0".to_owned()) } else { Ok((four, block)) }
}

fn depth_to_space(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let ([n, c, h, w], b) = picture(call)?;
    let depth = c / (b * b);
    let shape = [n, depth, h * b, w * b];
    let own = strides(&x.shape);
    let columns_first = call.text("mode", "DCR") == "CRD";
    let order: Vec<usize> = indices(&shape)
        .map(|at| {
            let (row, column) = (at[2] % b, at[3] % b);
            let channel = if columns_first {
                (at[1] * b + row) * b + column
            } else {
                (row * b + column) * depth + at[1]
            };
            place(&[at[0], channel, at[2] / b, at[3] / b], &own)
        })
        .collect();
    Ok(vec![x.pick(&shape, &order)])
}

fn space_to_depth(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let ([n, c, h, w], b) = picture(call)?;
    let shape = [n, c * b * b, h / b, w / b];
    let own = strides(&x.shape);
    let order: Vec<usize> = indices(&shape)
        .map(|at| {
            // Operator set 13 knows one order: block row, block column, channel.
            let (block, channel) = (at[1] / c, at[1] % c);
            place(&[at[0], channel, at[2] * b + block / b, at[3] * b + block % b], &own)
        })
        .collect();
    Ok(vec![x.pick(&shape, &order)])
}

fn shape(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let rank = x.shape.len() as i64;
    let counted = |at: i64| usize::try_from(if at < 0 { at + rank } else { at }.clamp(0, rank)).unwrap_or(0);
    let (start, end) = (counted(call.int("start", 0)), counted(call.int("end", rank)));
    Ok(vec![Value::list(x.shape.get(start..end).unwrap_or_default())])
}

fn constant_of_shape(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let shape = call.input(0)?.ints()?.into_iter().map(length).collect::<Result<Vec<_>, _>>()?;
    let value = match call.tensor("value") {
        Some(tensor) => of_proto(tensor)?.reshaped(&[1])?,
        None => Value::real(DataType::F32, &[1], vec![0.0]),
    };
    Ok(vec![value.pick(&shape, &vec![0; count(&shape)?])])
}

fn range(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let first = call.input(0)?;
    if let Elements::Whole(_) = first.elements {
        let (start, limit) = (first.whole_scalar()?, call.input(1)?.whole_scalar()?);
        let delta = call.input(2)?.whole_scalar()?;
        let way = limit - start;
        let steps = way.checked_div(delta).ok_or("a step of 0")?;
        // What is left over is a step more.
        let steps = steps + i128::from(way % delta != 0 && (way > 0) == (delta > 0));
        let steps = count(&[usize::try_from(steps.max(0)).unwrap_or(usize::MAX)])?;
        let numbers = (0..steps).map(|i| start + i as i128 * delta).collect();
        return Ok(vec![Value::whole(first.data_type, &[steps], numbers)]);
    }
    let (start, limit, delta) = (first.scalar()?, call.input(1)?.scalar()?, call.input(2)?.scalar()?);
    let steps = ((limit - start) / delta).ceil().max(0.0);
    let steps = count(&[if steps.is_finite() { steps as usize } else { usize::MAX }])?;
    Ok(vec![Value::real(first.data_type, &[steps], (0..steps).map(|i| start + i as f64 * delta).collect())])
}

/// An index out of range gives a row without a one.
fn one_hot(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, depth, values) = (call.input(0)?, call.input(1)?.scalar()?, call.input(2)?);
    let depth = count(&[depth as usize])?;
    let rank = x.shape.len() + 1;
    let along = axis(call.int("axis", -1), rank)?;
    let mut shape = x.shape.clone();
    shape.insert(along, depth);
    let own = strides(&x.shape);
    let wanted = x.reals()?;
    let order: Vec<usize> = indices(&shape)
        .map(|mut index| {
            let at = index.remove(along) as f64;
            let wanted = wanted[place(&index, &own)];
            let wanted = if wanted < 0.0 { wanted + depth as f64 } else { wanted };
            usize::from(wanted == at)
        })
        .collect();
    Ok(vec![values.pick(&shape, &order)])
}

fn trilu(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let k = match call.optional(1) {
        Some(k) => k.ints()?.first().copied().unwrap_or(0),
        None => 0,
    };
    let upper = call.int("upper", 1) != 0;
    let zero = Value::real(x.data_type, &[1], vec![0.0]);
    let all = chained(&[x, &zero])?;
    let order: Vec<usize> = indices(&x.shape)
        .enumerate()
        .map(|(at, index)| {
            let (row, column) = (index[index.len() - 2] as i64, index[index.len() - 1] as i64);
            let kept = if upper { column - row >= k } else { column - row <= k };
            if kept { at } else { x.len() }
        })
        .collect();
    Ok(vec![all.pick(&x.shape, &order)])
}

fn eye_like(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let to = match call.int("dtype", 0) {
        0 => x.data_type,
        given => super::value::of_onnx(given)?,
    };
    let k = call.int("k", 0);
    let ones = indices(&x.shape).map(|index| f64::from(u8::from(index[1] as i64 - index[0] as i64 == k)));
    Ok(vec![Value::real(to, &x.shape, ones.collect())])
}

fn non_zero(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let found: Vec<Vec<usize>> = indices(&x.shape)
        .zip(x.reals()?)
        .filter(|(_, number)| *number != 0.0)
        .map(|(index, _)| index)
        .collect();
    let values =
        (0..x.shape.len()).flat_map(|axis| found.iter().map(move |index| index[axis] as i128)).collect();
    Ok(vec![Value::whole(DataType::I64, &[x.shape.len(), found.len()], values)])
}

fn reverse_sequence(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, lengths) = (call.input(0)?, call.input(1)?.ints()?);
    let rank = x.shape.len();
    let (batch, time) = (axis(call.int("batch_axis", 1), rank)?, axis(call.int("time_axis", 0), rank)?);
    let own = strides(&x.shape);
    let order: Vec<usize> = indices(&x.shape)
        .map(|mut index| {
            let length = usize::try_from(lengths[index[batch]]).unwrap_or(0);
            if index[time] < length {
                index[time] = length - 1 - index[time];
            }
            place(&index, &own)
        })
        .collect();
    Ok(vec![x.pick(&x.shape, &order)])
}
