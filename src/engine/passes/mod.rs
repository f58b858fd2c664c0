//! Rewrites of the typed graph, around decluttering and before optimisation.
//!
//! A new pass is one file beside this one, with its own test of equivalence, and one line in
//! [`apply`]. The model's golden cases hold for what comes out.

mod fence;
mod not_a_number;
mod stateless;
mod univariate_gru;
mod unmoved;

use tract_core::prelude::{TractResult, TypedModel};

pub(super) use not_a_number::apply as keep_nan;
pub(super) use stateless::carries_state;

/// Runs every pass, in order; the graph comes out decluttered.
pub(super) fn apply(model: TypedModel) -> TractResult<TypedModel> {
    // Passes to faster kernels go behind decluttering: they look for its normal forms.
    necessary(model)?.into_decluttered()
}

/// Runs only what a graph needs to give right answers at all; nothing is made faster.
pub(super) fn necessary(mut model: TypedModel) -> TractResult<TypedModel> {
    // First: what a run carries over decides which loops decluttering may unroll.
    stateless::apply(&mut model);
    univariate_gru::apply(&mut model)?;
    unmoved::apply(&mut model)?;
    fence::apply(&mut model)?;
    Ok(model)
}
