//! Whole numbers times themselves.
//!
//! tract makes `x · x` a square, and has squares of floats only (0.23.9): a run of a graph with whole numbers fails.
//! Here they become products again. Goes when tract squares whole numbers.

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Mul, Square};

use super::within;

/// Turns each square of whole numbers into a product, in loops and branches too.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        within(model, id, &apply)?;
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
    use crate::engine::sample::{Attribute, Sample};

    #[test]
    fn whole_numbers_are_squared() {
        let sample = Sample::default().input("x", DataType::I64, &[3]).node("Mul", &["x", "x"], &["y"], &[]);
        let numbers = |numbers: [i64; 3]| Tensor { shape: vec![3], data: Data::I64(numbers.to_vec()) };
        let answer = sample.output("y").model().session().run(&[&numbers([3, -7, 1 << 31])]).unwrap();
        assert_eq!(answer, [numbers([9, 49, 1 << 62])]);
    }

    #[test]
    fn whole_numbers_are_squared_in_a_loop() {
        // What it carries on keeps it a loop.
        let body = Sample::default().input("h", DataType::I64, &[1]).input("e", DataType::I64, &[1]);
        let body = body.node("Mul", &["e", "e"], &["s"], &[]).node("Add", &["h", "s"], &["next"], &[]);
        let body = body.node("Mul", &["next", "next"], &["t"], &[]).output("next").output("t");
        let each = [Attribute::Graph("body", &body), Attribute::Int("num_scan_inputs", 1)];
        let sample = Sample::default().input("x", DataType::I64, &[3, 1]).integers("zero", &[0]);
        let sample = sample.node("Scan", &["zero", "x"], &["last", "y"], &each).output("y").output("last");
        let numbers =
            |numbers: &[i64]| Tensor { shape: vec![numbers.len(), 1], data: Data::I64(numbers.to_vec()) };
        let answer = sample.model().session().run(&[&numbers(&[3, -7, 1 << 15])]).unwrap();
        let last = 58 + (1 << 30);
        assert_eq!(answer[0], numbers(&[81, 58 * 58, last * last]));
        assert_eq!(answer[1].data, Data::I64(vec![last]));
    }
}
