//! DynamicQuantizeLSTM (`com.microsoft`, version 1): an LSTM with weights of bytes, as onnxruntime's dynamic
//! quantiser writes it.
//!
//! Source: onnxruntime, docs/ContribOperators.md. X is quantised as DynamicQuantizeLinear does, all of it at once;
//! so is the hidden state, before each step, over the batch. Whole numbers are multiplied and added, and scaled
//! once; here the numbers that the bytes stand for are, in f64. W and R lie transposed: direction, input, gate.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_ndarray::{Array, Array3, Dimension};

use super::literal::{Built, Inputs, Literal, wrap};
use super::recurrent::{Kind, LSTM, Recurrent, parsed, three};
use super::values::floats;

#[derive(Debug)]
struct DynamicQuantizeLstm(Recurrent);

const NAME: &str = "DynamicQuantizeLSTM";

pub(super) fn dynamic_lstm(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let input_forget = node.get_attr_opt::<i64>("input_forget")?.unwrap_or(0) != 0;
    let plain = parsed(node, NAME, Kind::Lstm { input_forget }, LSTM)?;
    wrap(context, node, DynamicQuantizeLstm(plain))
}

/// The numbers that the bytes of `values` stand for: 0 to 255 over all of them, and 0 exactly.
fn coarse<D: Dimension>(values: Array<f64, D>) -> Array<f64, D> {
    let (least, most) =
        values.iter().fold((0.0_f64, 0.0_f64), |(least, most), x| (least.min(*x), most.max(*x)));
    // In f32, as onnxruntime finds them: another scale is another byte at a half.
    let scale = (most as f32 - least as f32) / 255.0;
    let scale = if scale == 0.0 { 1.0 } else { scale };
    let zero = (-(least as f32) / scale).clamp(0.0, 255.0).round_ties_even();
    values.mapv_into(|x| {
        let byte = ((x as f32 / scale).round_ties_even() + zero).clamp(0.0, 255.0);
        f64::from(byte - zero) * f64::from(scale)
    })
}

/// Weights at `position` by their scale at `scale` and the zero point behind it, gates first.
fn weights(inputs: &Inputs<'_>, position: usize, scale: usize) -> TractResult<Array3<f64>> {
    let bytes = three(inputs.need(position)?)?;
    let (directions, _, columns) = bytes.dim();
    let each = |position: usize, absent: f64| -> TractResult<Vec<f64>> {
        let values =
            inputs.get(position).map(floats).transpose()?.unwrap_or_else(|| vec![absent; directions]);
        let fits = [directions, directions * columns].contains(&values.len());
        ensure!(fits, "one number for each direction, or each of its columns, at {position}");
        let copies = directions * columns / values.len();
        Ok(values.into_iter().flat_map(|value| std::iter::repeat_n(value, copies)).collect())
    };
    let (scales, zeros) = (each(scale, 1.0)?, each(scale + 1, 0.0)?);
    let mut numbers = Array3::zeros(bytes.raw_dim());
    for ((direction, row, column), byte) in bytes.indexed_iter() {
        let at = direction * columns + column;
        numbers[(direction, row, column)] = (byte - zeros[at]) * scales[at];
    }
    Ok(numbers.permuted_axes([0, 2, 1]))
}

impl Literal for DynamicQuantizeLstm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = coarse(three(inputs.need(0)?)?);
        self.0.run(inputs, [x, weights(inputs, 1, 8)?, weights(inputs, 2, 10)?], coarse)
    }
}
