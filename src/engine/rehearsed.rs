//! Whether operators have an arithmetic for the types that a graph gives them, found before a run.
//!
//! Some of tract's find out only when they run (0.23.9: Erf of f64, say). So those that go element by
//! element are tried on a single one; products of matrices are known by their types.
//! Not here: whether the answer is right (`golden`).

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::scan::Scan;

use super::caught::caught;

/// The first node that could not run, and why.
pub(super) fn unable(model: &TypedModel) -> Option<String> {
    model.nodes().iter().find_map(|node| {
        if let Some(scan) = node.op_as::<Scan>() {
            return unable(&scan.body);
        }
        let why = match node.op_as::<EinSum>() {
            Some(product) => no_product(product),
            None => refused(model, node),
        };
        why.map(|why| format!("node {:?} ({}): {why}", node.name, node.op.name()))
    })
}

fn no_product(product: &EinSum) -> Option<String> {
    use DatumType::{F16, F32, F64, I8, I32, U8};
    let known = product.q_params.is_some() || [F16, F32, F64, I8, I32, U8].contains(&product.operating_dt);
    (!known).then(|| format!("the engine has no product of {:?}", product.operating_dt))
}

fn refused(model: &TypedModel, node: &TypedNode) -> Option<String> {
    if !(node.op_is::<ElementWiseOp>() || node.op_is::<TypedBinOp>() || node.op_is::<Cast>()) {
        return None;
    }
    let facts = model.node_input_facts(node.id).ok()?;
    let ones: TVec<TValue> = facts.into_iter().map(one).collect::<Option<_>>()?;
    match caught(|| node.op.eval_out_of_plan(ones)) {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.root_cause().to_string()),
        Err(panic) => Some(panic),
    }
}

/// One element of a fact's type and rank; `None` where it is none of the standard's.
fn one(fact: &TypedFact) -> Option<TValue> {
    let datum_type = fact.datum_type;
    let number = datum_type.is_number() && !datum_type.is_quantized();
    let one = match datum_type {
        DatumType::Bool => tensor0(true),
        DatumType::String => tensor0("1".to_owned()),
        _ if number && fact.exotic_fact.is_none() => tensor0(1_i32).cast_to_dt(datum_type).ok()?.into_owned(),
        _ => return None,
    };
    Some(one.into_shape(&vec![1; fact.rank()]).ok()?.into_tvalue())
}
