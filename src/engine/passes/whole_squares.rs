//! Whole numbers times themselves.
//!
//! tract makes `x · x` a square, and has squares of floats only (0.23.9): a run of a graph with whole numbers fails.
//! Here they become products again. Goes when tract squares whole numbers.

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Mul, Square};

/// Turns each square of whole numbers into a product.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let squares = node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<Square>());
        if !squares || model.outlet_fact(node.inputs[0])?.datum_type.is_float() {
            continue;
        }
        let product = TypedBinOp(Box::new(Mul), None);
        let twice = [node.inputs[0], node.inputs[0]];
        TypedModelPatch::replace_single_op(model, node, &twice, product)?.apply(model)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::base::{Data, DataType, Tensor};
    use crate::engine::sample::Sample;

    #[test]
    fn whole_numbers_are_squared() {
        let sample = Sample::default().input("x", DataType::I64, &[3]).node("Mul", &["x", "x"], &["y"], &[]);
        let numbers = |numbers: [i64; 3]| Tensor { shape: vec![3], data: Data::I64(numbers.to_vec()) };
        let answer = sample.output("y").model().session().run(&[&numbers([3, -7, 1 << 31])]).unwrap();
        assert_eq!(answer, [numbers([9, 49, 1 << 62])]);
    }
}
