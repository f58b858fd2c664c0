//! Rewrites of the typed graph, around decluttering and before optimisation.
//!
//! A new pass is one file beside this one, with its own test of equivalence, and one line in
//! [`apply`]. The model's golden cases hold for what comes out.

mod columns;
mod eight_sums;
mod equal_on_paper;
mod fence;
mod foot;
mod loops;
mod lowering;
mod not_a_number;
mod quotients;
mod row_by_row;
mod shut_gates;
mod stateless;
mod univariate_gru;
mod unmoved;
mod whole_squares;

use std::sync::Arc;

use tract_core::internal::bail;
use tract_core::ops::logic::IfThenElse;
use tract_core::ops::scan::{OptScan, Scan};
use tract_core::prelude::{TractResult, TypedModel, TypedSimplePlan};

pub(super) use fence::Fence;
pub(super) use quotients::Quotient;
pub(super) use stateless::carries_state;

use super::model::weights_bytes;

/// Runs every pass, in order; the graph comes out decluttered.
pub(super) fn apply(model: TypedModel) -> TractResult<TypedModel> {
    // Passes to faster kernels go behind decluttering: they look for its normal forms.
    necessary(model)?.into_decluttered()
}

/// Runs every pass and takes down what only holds decluttering back: the form for a file. [`optimise`] puts
/// it up again when the file is read.
pub(super) fn to_save(model: TypedModel) -> TractResult<TypedModel> {
    let mut model = apply(model)?;
    quotients::take_down(&mut model)?;
    fence::take_down(&mut model)?;
    Ok(model)
}

/// Runs every pass and rewrites to the fastest operators; tells the bytes of the weights, which cannot be
/// seen behind that.
pub(super) fn optimise(model: TypedModel) -> TractResult<(TypedModel, u64)> {
    let optimised = |model| lower(apply(model)?);
    if !loops::has_one(&model) {
        return optimised(model);
    }
    let mut again = model.clone();
    let (model, weights_bytes) = optimised(model)?;
    if loops::misfit(&model)?.is_none() {
        return Ok((model, weights_bytes));
    }
    drop(model);
    loops::fence(&mut again)?;
    let (model, weights_bytes) = optimised(again)?;
    match loops::misfit(&model)? {
        None => Ok((model, weights_bytes)),
        Some(name) => bail!(
            "the loop of node {name:?} (LSTM, GRU, RNN or Scan) would get other shapes than its body takes; \
             export it with a batch of another size, or split the graph at this node"
        ),
    }
}

/// Fits a decluttered graph without loops to the processor; tells the bytes of its weights.
pub(super) fn lower(mut model: TypedModel) -> TractResult<(TypedModel, u64)> {
    let weights_bytes = weights_bytes(&model);
    columns::optimise(&mut model)?;
    row_by_row::apply(&mut model)?;
    in_place(&mut model)?;
    Ok((model, weights_bytes))
}

/// Puts right what operators answer, in the graph as it will run. Comes last: rewrites do not see
/// through it.
pub(super) fn in_place(model: &mut TypedModel) -> TractResult<()> {
    whole_squares::apply(model)?;
    shut_gates::apply(model)?;
    not_a_number::apply(model)
}

/// Runs only what a graph needs to give right answers at all; nothing is made faster.
pub(super) fn necessary(mut model: TypedModel) -> TractResult<TypedModel> {
    // First: what a run carries over decides which loops decluttering may unroll.
    stateless::apply(&mut model);
    univariate_gru::apply(&mut model)?;
    unmoved::apply(&mut model)?;
    fence::apply(&mut model)?;
    constants(&mut model)?;
    equal_on_paper::apply(&mut model)?;
    quotients::apply(&mut model)?;
    Ok(model)
}

/// Computes what is constant, in loops and branches too: constants stand behind axes that were added and types that
/// were changed.
fn constants(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        within(model, id, &constants)?;
    }
    model.prop_consts()
}

/// Does something to the graphs inside of a node: the body of a loop, optimised or not, and the branches of an `If`.
fn within(
    model: &mut TypedModel,
    id: usize,
    work: &dyn Fn(&mut TypedModel) -> TractResult<()>,
) -> TractResult<()> {
    let node = model.node_mut(id);
    if let Some(scan) = node.op_as_mut::<Scan>() {
        work(&mut scan.body)?;
    } else if let Some(scan) = node.op_as::<OptScan>() {
        let mut parts = (**scan).clone();
        let mut body = parts.plan.model().clone();
        work(&mut body)?;
        parts.plan = TypedSimplePlan::new(body)?;
        node.op = Box::new(OptScan::new(Arc::new(parts)));
    } else if let Some(branches) = node.op_as_mut::<IfThenElse>() {
        work(&mut branches.then_body)?;
        work(&mut branches.else_body)?;
    }
    Ok(())
}
