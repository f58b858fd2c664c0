//! Loops whose body is given what it was made for.
//!
//! While a graph is decluttered, tract moves axes through a loop (LSTM, GRU, RNN, Scan) from outside, and
//! may change the body without the tensor that fills it, or the other way round (0.23.9). Such a
//! loop ends every run with "Clashing resolution". It can be told from the shapes alone; then each
//! loop is fenced, and decluttered as it stands. Random graphs, seeds 1000557 and 1000697 (19 of 10,000). Goes when tract's
//! `Scan::change_axes` keeps both together.

use tract_core::ops::logic::IfThenElse;
use tract_core::ops::scan::{InputMapping, OptScan, Scan};
use tract_core::prelude::{TractResult, TypedModel};

use super::fence;

/// The name of a loop of an optimised graph whose body wants another shape than it gets.
pub(super) fn misfit(model: &TypedModel) -> TractResult<Option<String>> {
    for node in model.nodes() {
        if let Some(branches) = node.op_as::<IfThenElse>() {
            for body in [&branches.then_body, &branches.else_body] {
                if let Some(name) = misfit(body)? {
                    return Ok(Some(name));
                }
            }
        }
        let Some(scan) = node.op_as::<OptScan>() else { continue };
        let body = scan.plan.model();
        for (slot, mapping) in scan.input_mapping.iter().enumerate() {
            let mut given = model.outlet_fact(node.inputs[slot])?.shape.clone();
            if let InputMapping::Scan(info) = mapping {
                given.set(info.axis, info.chunk.unsigned_abs().into());
            }
            if given != body.outlet_fact(body.inputs[slot])?.shape {
                return Ok(Some(node.name.clone()));
            }
        }
        if let Some(name) = misfit(body)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether there is a loop at all.
pub(super) fn has_one(model: &TypedModel) -> bool {
    model.nodes().iter().any(|node| node.op_is::<Scan>())
}

/// Fences every loop of the outer graph on all sides.
pub(super) fn fence(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        if model.node(id).op_is::<Scan>() {
            fence::around(model, id)?;
        }
    }
    Ok(())
}
