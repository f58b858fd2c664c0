//! Products: MatMul, Gemm, MatMulInteger, QLinearMatMul.

use super::Operator;
use super::call::Call;
use super::quantize::{requantize, zero_points};
use super::value::{Elements, Value, broadcast, count, places};
use crate::base::DataType;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "MatMul" => matmul,
        "Gemm" => gemm,
        "MatMulInteger" => matmul_integer,
        "QLinearMatMul" => qlinear_matmul,
        _ => return None,
    })
}

/// `numpy.matmul`: the last two axes multiply, those before broadcast, a vector is a row on the left
/// and a column on the right.
fn product(a: (&[f64], &[usize]), b: (&[f64], &[usize])) -> Result<(Vec<f64>, Vec<usize>), String> {
    product_of(a, b, |sum, a, b| sum + a * b)
}

/// The same, of numbers of any kind.
fn product_of<T: Copy + Default>(
    a: (&[T], &[usize]),
    b: (&[T], &[usize]),
    add: fn(T, T, T) -> T,
) -> Result<(Vec<T>, Vec<usize>), String> {
    let ((a, a_shape), (b, b_shape)) = (a, b);
    if a_shape.is_empty() || b_shape.is_empty() {
        return Err("a scalar has no product here".to_owned());
    }
    let left = if a_shape.len() == 1 { vec![1, a_shape[0]] } else { a_shape.to_vec() };
    let right = if b_shape.len() == 1 { vec![b_shape[0], 1] } else { b_shape.to_vec() };
    let (a_batch, [m, k]) = left.split_last_chunk().ok_or("too few axes")?;
    let (b_batch, [k_right, n]) = right.split_last_chunk().ok_or("too few axes")?;
    let (m, k, n) = (*m, *k, *n);
    if k != *k_right {
        return Err(format!("{a_shape:?} and {b_shape:?} do not multiply"));
    }
    let batch = broadcast(a_batch, b_batch)?;
    let mut out = Vec::with_capacity(count(&batch)? * m * n);
    for (a_at, b_at) in places(a_batch, &batch).into_iter().zip(places(b_batch, &batch)) {
        let (a, b) = (&a[a_at * m * k..], &b[b_at * k * n..]);
        for row in 0..m {
            for column in 0..n {
                let sum = |sum, i| add(sum, a[row * k + i], b[i * n + column]);
                out.push((0..k).fold(T::default(), sum));
            }
        }
    }
    let mut shape = batch;
    if a_shape.len() > 1 {
        shape.push(m);
    }
    if b_shape.len() > 1 {
        shape.push(n);
    }
    Ok((out, shape))
}

fn matmul(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    if let (Elements::Whole(left), Elements::Whole(right)) = (&a.elements, &b.elements) {
        let add = |sum: i128, a, b| sum.wrapping_add(a * b);
        let (values, shape) = product_of((left, &a.shape), (right, &b.shape), add)?;
        return Ok(vec![Value::whole(a.data_type, &shape, values)]);
    }
    let (values, shape) = product((&a.reals()?, &a.shape), (&b.reals()?, &b.shape))?;
    Ok(vec![Value::real(a.data_type, &shape, values)])
}

/// `alpha · A' · B' + beta · C`
fn gemm(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let turned = |value: &Value, turn: bool| -> Result<Value, String> {
        let [rows, columns] = value.shape[..] else { return Err("a matrix is wanted".to_owned()) };
        if !turn {
            return Ok(value.clone());
        }
        let order: Vec<usize> = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c)).collect();
        Ok(value.pick(&[columns, rows], &order))
    };
    let a = turned(call.input(0)?, call.flag("transA"))?;
    let b = turned(call.input(1)?, call.flag("transB"))?;
    let (mut values, shape) = product((&a.reals()?, &a.shape), (&b.reals()?, &b.shape))?;
    let (alpha, beta) = (call.float("alpha", 1.0), call.float("beta", 1.0));
    for value in &mut values {
        *value *= alpha;
    }
    if let Some(c) = call.optional(2) {
        if broadcast(&c.shape, &shape)? != shape {
            return Err(format!("C is {:?}, the product {shape:?}", c.shape));
        }
        let numbers = c.reals()?;
        for (value, place) in values.iter_mut().zip(places(&c.shape, &shape)) {
            *value += beta * numbers[place];
        }
    }
    Ok(vec![Value::real(a.data_type, &shape, values)])
}

/// A quantised matrix less its zero points: one for all, or one a row on the left and one a column on
/// the right.
fn centred(matrix: &Value, zero: Option<&Value>, left: bool) -> Result<Vec<f64>, String> {
    let rank = matrix.shape.len();
    let axis = if left { rank.saturating_sub(2) } else { rank.saturating_sub(1) };
    let zeros = zero_points(zero, matrix, axis)?;
    Ok(matrix.reals()?.into_iter().zip(zeros).map(|(value, zero)| value - zero).collect())
}

fn matmul_integer(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let left = centred(a, call.optional(2), true)?;
    let right = centred(b, call.optional(3), false)?;
    let (values, shape) = product((&left, &a.shape), (&right, &b.shape))?;
    Ok(vec![Value::whole(DataType::I32, &shape, values.into_iter().map(|v| v as i128).collect())])
}

fn qlinear_matmul(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (a, b) = (call.input(0)?, call.input(3)?);
    let left = centred(a, call.optional(2), true)?;
    let right = centred(b, call.optional(5), false)?;
    let (values, shape) = product((&left, &a.shape), (&right, &b.shape))?;
    let n = *b.shape.last().ok_or("B is a scalar")?;
    let m = if a.shape.len() > 1 { a.shape[a.shape.len() - 2] } else { 1 };
    let (a_scale, b_scale) = (call.input(1)?.reals()?, call.input(4)?.reals()?);
    let scaled = values.into_iter().enumerate().map(|(i, value)| {
        let (row, column) = (i / n % m, i % n);
        value * a_scale[row % a_scale.len()] * b_scale[column % b_scale.len()]
    });
    let scaled: Vec<f64> = scaled.collect();
    Ok(vec![requantize(&scaled, &shape, call.input(6)?, call.input(7)?)?])
}
