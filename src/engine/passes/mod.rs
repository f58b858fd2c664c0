//! Rewrites of the typed graph, around decluttering and before optimisation.
//!
//! A new pass is one file beside this one, with its own test of equivalence, and one line in
//! [`apply`]. The model's golden cases hold for what comes out.

mod fence;
mod stateless;
mod univariate_gru;

use tract_core::prelude::{TractResult, TypedModel};

pub(super) use stateless::carries_state;

/// Runs every pass, in order; the graph comes out decluttered.
pub(super) fn apply(mut model: TypedModel) -> TractResult<TypedModel> {
    // First: what a run carries over decides which loops decluttering may unroll.
    stateless::apply(&mut model);
    univariate_gru::apply(&mut model)?;
    fence::apply(&mut model)?;
    // Passes to faster kernels go behind decluttering: they look for its normal forms.
    model.into_decluttered()
}
