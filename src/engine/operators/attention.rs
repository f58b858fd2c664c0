//! Attention (opset 23 to 25): scaled dot products, every variant.
//!
//! Source: ONNX, Operators.md. For query i and key j of one head:
//! score = cap(scale · q·k) + bias, weight = softmax over j, output = Σ weight · v. The bias collects
//! `attn_mask`, the causal frontier j ≤ i + offset, the window |…| and the padding of
//! `nonpad_kv_seqlen`; a row without any key gives zeros. tract answers local windows and the fourth
//! output with a past wrongly, and knows neither of opset 24's additions (0.23.9).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_ndarray::{Array4, ArrayD, Axis, Ix4, concatenate};

use super::literal::{Built, Inputs, Literal, wrap};
use super::values::{array, broadcast_at, floats, from_array, ints};

#[derive(Debug)]
struct Attention {
    scale: Option<f32>,
    causal: bool,
    softcap: f64,
    query_heads: Option<usize>,
    key_heads: Option<usize>,
    left: Option<i64>,
    right: Option<i64>,
    /// What the fourth output shows.
    shows: i64,
}

pub(super) fn attention(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let window = |name| -> TractResult<Option<i64>> {
        Ok(node.get_attr_opt::<i64>(name)?.filter(|length| *length >= 0))
    };
    let attention = Attention {
        scale: node.get_attr_opt("scale")?,
        causal: node.get_attr_opt::<i64>("is_causal")?.unwrap_or(0) != 0,
        softcap: node.get_attr_opt::<f32>("softcap")?.unwrap_or(0.0).into(),
        query_heads: node.get_attr_opt("q_num_heads")?,
        key_heads: node.get_attr_opt("kv_num_heads")?,
        left: window("left_window_size")?,
        right: window("right_window_size")?,
        shows: node.get_attr_opt("qk_matmul_output_mode")?.unwrap_or(0),
    };
    wrap(context, node, attention)
}

impl Literal for Attention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (q, k, v) = (inputs.need(0)?, inputs.need(1)?, inputs.need(2)?);
        let flat = q.rank() == 3;
        let query = by_head(array(q)?, self.query_heads)?;
        let with_past = |new: Array4<f64>, past: Option<&Tensor>| -> TractResult<Array4<f64>> {
            let Some(past) = past else { return Ok(new) };
            let past = array(past)?.into_dimensionality::<Ix4>()?;
            Ok(concatenate(Axis(2), &[past.view(), new.view()])?)
        };
        let key = with_past(by_head(array(k)?, self.key_heads)?, inputs.get(4))?;
        let value = with_past(by_head(array(v)?, self.key_heads)?, inputs.get(5))?;
        let past = inputs.get(4).map_or(0, |past| past.shape()[2]);
        let (batches, heads, rows, width) = query.dim();
        let (_, key_heads, columns, _) = key.dim();
        ensure!(
            key_heads > 0 && heads % key_heads == 0,
            "{heads} query heads do not share {key_heads} key heads"
        );

        let valid = inputs.get(6).map(ints).transpose()?;
        let mask = inputs.get(3).map(|mask| Mask::of(mask, columns)).transpose()?;
        let scale = self.scale.map_or(1.0 / (width as f64).sqrt(), f64::from);
        let mut output = Array4::<f64>::zeros((batches, heads, rows, value.dim().3));
        let mut shown = Array4::<f64>::zeros((batches, heads, rows, columns));
        for batch in 0..batches {
            // Keys that stand before the first query.
            let offset = match &valid {
                Some(valid) if inputs.get(4).is_none() => valid[batch] - rows as i64,
                _ => past as i64,
            };
            for head in 0..heads {
                let of_keys = head * key_heads / heads;
                for row in 0..rows {
                    let position = row as i64 + offset;
                    let mut scores = Vec::with_capacity(columns);
                    let mut biases = Vec::with_capacity(columns);
                    for column in 0..columns {
                        let key_at = column as i64;
                        let hidden = (self.causal && key_at > position)
                            || self.left.is_some_and(|left| key_at < position - left)
                            || self.right.is_some_and(|right| key_at > position + right)
                            || valid.as_ref().is_some_and(|valid| key_at >= valid[batch]);
                        let masked = mask.as_ref().map_or(0.0, |mask| mask.bias(&[batch, head, row, column]));
                        biases.push(if hidden { f64::NEG_INFINITY } else { masked });
                        let product: f64 = (0..width)
                            .map(|at| query[[batch, head, row, at]] * key[[batch, of_keys, column, at]])
                            .sum();
                        scores.push(product * scale);
                    }
                    let raw = scores.clone();
                    if self.softcap > 0.0 {
                        scores
                            .iter_mut()
                            .for_each(|score| *score = self.softcap * (*score / self.softcap).tanh());
                    }
                    let capped = scores.clone();
                    scores.iter_mut().zip(&biases).for_each(|(score, bias)| *score += bias);
                    let biased = scores.clone();
                    softmax(&mut scores, &biases);
                    let show = match self.shows {
                        0 => &raw,
                        1 => &capped,
                        2 => &biased,
                        _ => &scores,
                    };
                    for column in 0..columns {
                        shown[[batch, head, row, column]] = show[column];
                        for at in 0..value.dim().3 {
                            // A hidden key counts nothing, whatever its value.
                            if scores[column] != 0.0 {
                                output[[batch, head, row, at]] +=
                                    scores[column] * value[[batch, of_keys, column, at]];
                            }
                        }
                    }
                }
            }
        }
        let output = if flat { by_row(output)? } else { output.into_dyn() };
        Ok(vec![
            from_array(q.datum_type(), &output)?,
            from_array(k.datum_type(), &key.into_dyn())?,
            from_array(v.datum_type(), &value.into_dyn())?,
            from_array(q.datum_type(), &shown.into_dyn())?,
        ])
    }
}

/// `[batch, row, head × width]` to `[batch, head, row, width]`; four axes stay.
fn by_head(tensor: ArrayD<f64>, heads: Option<usize>) -> TractResult<Array4<f64>> {
    if tensor.ndim() == 4 {
        return Ok(tensor.into_dimensionality()?);
    }
    let (shape, heads) = (tensor.shape().to_vec(), heads.context("three axes need the number of heads")?);
    ensure!(shape.len() == 3 && heads > 0 && shape[2] % heads == 0, "shape {shape:?} for {heads} heads");
    let split = tensor.to_shape((shape[0], shape[1], heads, shape[2] / heads))?.to_owned();
    Ok(split.permuted_axes([0, 2, 1, 3]).as_standard_layout().to_owned())
}

fn by_row(tensor: Array4<f64>) -> TractResult<ArrayD<f64>> {
    let (batches, heads, rows, width) = tensor.dim();
    let rows_first = tensor.permuted_axes([0, 2, 1, 3]).as_standard_layout().to_owned();
    Ok(rows_first.to_shape((batches, rows, heads * width))?.to_owned().into_dyn())
}

/// Softmax of one row; a row whose keys are all hidden becomes zeros.
fn softmax(scores: &mut [f64], biases: &[f64]) {
    if biases.iter().all(|bias| *bias == f64::NEG_INFINITY) {
        return scores.fill(0.0);
    }
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// `attn_mask` as numbers that are added to scores; columns that it lacks are hidden.
struct Mask {
    biases: Vec<f64>,
    shape: Vec<usize>,
}

impl Mask {
    fn of(mask: &Tensor, columns: usize) -> TractResult<Self> {
        let mut biases = floats(mask)?;
        if mask.datum_type() == bool::datum_type() {
            biases.iter_mut().for_each(|seen| *seen = if *seen == 0.0 { f64::NEG_INFINITY } else { 0.0 });
        }
        let mut shape = mask.shape().to_vec();
        if let Some(last) = shape.last_mut().filter(|last| **last < columns && **last > 0) {
            let row = *last;
            let padded = |row: &[f64]| [row, &vec![f64::NEG_INFINITY; columns - row.len()]].concat();
            biases = biases.chunks(row).flat_map(padded).collect();
            *last = columns;
        }
        ensure!(shape.len() <= 4, "a mask of shape {shape:?}");
        Ok(Self { biases, shape })
    }

    fn bias(&self, coordinate: &[usize]) -> f64 {
        self.biases[broadcast_at(&self.shape, coordinate)]
    }
}
