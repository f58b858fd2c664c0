//! A gate that is shut lets nothing through.
//!
//! tract's sigmoid ends at 4.8e-7 and never comes nearer to zero, so that its kernels stay within 0 and 1
//! (`tract_linalg::generic::sigmoid`, 0.23.9). As an activation that is a rounding of one. As the forget
//! gate of an LSTM it is multiplied with a cell of any size: of 10,000 that was to be forgotten 4.8e-3
//! stays, and tells in every later step. onnxruntime forgets it. Where a gate's sum lies beyond the end of that
//! sigmoid, this cell is computed as the standard writes it. Silero's network on extreme states.
//!
//! A GRU has no such cell: its state never leaves −1 to 1. Goes when tract's sigmoid falls to zero.

use tract_core::internal::*;
use tract_core::ops::lstm_cell::LstmEpilogue;

use super::within;

/// The end of tract's sigmoid.
const END: f32 = -14.5;

/// Wraps the cell of every LSTM, decluttered or optimised.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        within(model, id, &apply)?;
        let node = model.node_mut(id);
        if let Some(cell) = node.op_as::<LstmEpilogue>() {
            node.op = Box::new(Cell(cell.clone()));
        }
    }
    Ok(())
}

/// The units of an LSTM's cell, where it is one.
pub(super) fn hidden(op: &dyn TypedOp) -> Option<usize> {
    op.downcast_ref::<Cell>().map(|cell| cell.0.hidden)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell(LstmEpilogue);

impl Op for Cell {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    op_as_typed_op!();
}

impl EvalOp for Cell {
    op_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (sums, before) = (inputs[0].clone(), inputs[1].clone());
        let outputs = self.0.eval(context, inputs)?;
        if sums.datum_type() != DatumType::F32 {
            return Ok(outputs);
        }
        let (sums, before) = (sums.try_as_plain_ram()?, before.try_as_plain_ram()?);
        let (sums, before) = (sums.as_slice::<f32>()?, before.as_slice::<f32>()?);
        let hidden = self.0.hidden;
        let is_shut = |sum: &f32| *sum < END;
        // Without an early end, so that many are looked at at once.
        let gates = sums.chunks(4 * hidden).flat_map(|row| &row[..3 * hidden]);
        if !gates.fold(false, |any, sum| any | is_shut(sum)) {
            return Ok(outputs);
        }
        let mut outputs: TVec<Tensor> = outputs.into_iter().map(TValue::into_tensor).collect();
        let [state, cell] = &mut outputs[..] else { bail!("an LSTM's cell gives two outputs") };
        let (mut state, mut cell) = (state.try_as_plain_ram_mut()?, cell.try_as_plain_ram_mut()?);
        let (state, cell) = (state.as_slice_mut::<f32>()?, cell.as_slice_mut::<f32>()?);
        for (place, before) in before.iter().enumerate() {
            let row = place / hidden * 4 * hidden + place % hidden;
            let [i, o, f, c] = [0, 1, 2, 3].map(|gate| sums[row + gate * hidden]);
            if ![i, o, f].iter().any(is_shut) {
                continue;
            }
            let sigmoid = |x: f32| 1.0 / (1.0 + f64::from(-x).exp());
            let now = sigmoid(f) * f64::from(*before) + sigmoid(i) * f64::from(c).tanh();
            cell[place] = now as f32;
            state[place] = (sigmoid(o) * now.tanh()) as f32;
        }
        Ok(outputs.into_iter().map(IntoTValue::into_tvalue).collect())
    }
}

impl TypedOp for Cell {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::engine::sample;

    #[test]
    fn a_large_cell_that_is_forgotten_leaves_nothing() {
        let mut session = sample::lstm().model().session();
        let run = |session: &mut crate::engine::Session, x: f32, cell: f32| -> Vec<f32> {
            let samples = Tensor::f32(&[3, 1, 1], vec![x, 0.0, 0.0]);
            let (state, cell) =
                (Tensor::f32(&[1, 1, 2], vec![0.0; 2]), Tensor::f32(&[1, 1, 2], vec![cell; 2]));
            session.run(&[&samples, &state, &cell]).unwrap()[0].as_f32().unwrap().to_vec()
        };
        // Gates i, o, f, c have the weights -0.7 … 0: 1,000 shuts the forget gates of the first step.
        let (large, none) = (run(&mut session, 1e3, 1e4), run(&mut session, 1e3, 0.0));
        assert_eq!(large, none);
        // Open, it is kept: the same network, the other sign.
        assert!(run(&mut session, -1e3, 1e4)[0] > 0.9);
    }
}
