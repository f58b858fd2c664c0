//! Recurrent layers forget between two runs, as ONNX says they do.
//!
//! tract keeps the hidden state of LSTM, GRU, RNN and Scan from one run of a state to the next
//! (`reset_every_turn` is false after import, in 0.23.9), so that the same input gives another
//! answer the second time, and one origin's samples colour the next one's. Whatever is to be
//! carried has an input and an output of its own in ONNX.

use tract_core::ops::gru_seq::GruSeq;
use tract_core::ops::logic::IfThenElse;
use tract_core::ops::scan::{OptScan, Scan};
use tract_core::prelude::TypedModel;

use super::not_a_number::unwrapped;

/// Sets every loop to start from its initial state, inner graphs included.
pub(super) fn apply(model: &mut TypedModel) {
    for node in model.nodes_mut() {
        if let Some(scan) = node.op_as_mut::<Scan>() {
            scan.reset_every_turn = true;
            apply(&mut scan.body);
        } else if let Some(gru) = node.op_as_mut::<GruSeq>() {
            gru.reset_every_turn = true;
        } else if let Some(branches) = node.op_as_mut::<IfThenElse>() {
            apply(&mut branches.then_body);
            apply(&mut branches.else_body);
        }
    }
}

/// Whether an optimised graph still has an operator that may remember its last run. A session then
/// starts each run from a fresh state.
pub(in crate::engine) fn carries_state(model: &TypedModel) -> bool {
    model.nodes().iter().any(|node| {
        if let Some(scan) = node.op_as::<OptScan>() {
            return !scan.reset_every_turn || carries_state(scan.plan.model());
        }
        if let Some(gru) = unwrapped(&*node.op).downcast_ref::<GruSeq>() {
            return !gru.reset_every_turn;
        }
        let context = tract_core::internal::EvalContext::out_of_plan();
        // An operator that cannot say is taken for one that remembers.
        !matches!(node.op().state(&context), Ok(None))
    })
}
