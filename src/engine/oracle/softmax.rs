//! Softmax, LogSoftmax, Hardmax.
//!
//! From operator set 13 on along one axis; before, over everything from the axis on, as one row.

use super::Operator;
use super::call::Call;
use super::norm::lines;
use super::value::{Value, axis};

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "Softmax" => |call| rows(call, softmax),
        "LogSoftmax" => |call| {
            rows(call, |row| {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
                row.iter().map(|x| x - largest - sum.ln()).collect()
            })
        },
        "Hardmax" => |call| {
            rows(call, |row| {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let first = row.iter().position(|x| *x == largest);
                (0..row.len()).map(|i| if Some(i) == first { 1.0 } else { 0.0 }).collect()
            })
        },
        _ => return None,
    })
}

pub(super) fn softmax(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

fn rows(call: &Call<'_>, f: fn(&[f64]) -> Vec<f64>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let mut numbers = x.reals()?;
    let rows: Vec<Vec<usize>> = if x.shape.is_empty() {
        vec![vec![0]]
    } else if call.opset >= 13 {
        lines(&x.shape, axis(call.int("axis", -1), x.shape.len())?)
    } else {
        let from = axis(call.int("axis", 1), x.shape.len())?;
        let length: usize = x.shape[from..].iter().product();
        (0..x.len()).collect::<Vec<_>>().chunks(length.max(1)).map(<[usize]>::to_vec).collect()
    };
    for row in rows {
        let values: Vec<f64> = row.iter().map(|at| numbers[*at]).collect();
        for (at, value) in row.into_iter().zip(f(&values)) {
            numbers[at] = value;
        }
    }
    Ok(vec![Value::real(x.data_type, &x.shape, numbers)])
}
