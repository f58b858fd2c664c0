//! Rewrites of the typed graph, between decluttering and optimisation.
//!
//! A new pass is one file beside this one, with its own test of equivalence, and one line in
//! [`apply`]. The model's golden cases hold for what comes out.

use tract_core::prelude::{TractResult, TypedModel};

/// Runs every pass, in order.
pub(super) fn apply(model: TypedModel) -> TractResult<TypedModel> {
    Ok(model)
}
