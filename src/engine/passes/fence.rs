//! tract makes no look-up table of what is none.
//!
//! Between a DequantizeLinear and a QuantizeLinear tract folds operators into a table of 256 answers
//! (`DequantizeLinearF32::declutter`, 0.23.9). It takes any operator whose axes map one to one for
//! one that answers element by element, so that Softmax becomes a table and saturates; and it
//! reads an int8 input as uint8 when the output is uint8. A fence behind the DequantizeLinear of
//! every such chain stops it; real chains of elements keep their table. Goes when tract asks for an
//! element-wise operator and takes the table's index from the input's type.

use tract_core::internal::*;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::quant::{DequantizeLinearF32, QuantizeLinearI8, QuantizeLinearU8};

use super::within;

/// Gives its input on, untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Fence {
    /// A constant behind it is none to whoever looks.
    pub(in crate::engine) hides: bool,
}

const FENCE: Fence = Fence { hides: false };

impl Op for Fence {
    fn name(&self) -> StaticName {
        "Fence".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Fence {
    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        Ok((!self.hides).then_some(inputs))
    }

    fn forwards_input(&self) -> Option<usize> {
        Some(0)
    }
}

impl TypedOp for Fence {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}

/// Fences every chain that would become a wrong table, in loops and branches too.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        within(model, id, &apply)?;
        let node = model.node(id);
        if !node.op_is::<DequantizeLinearF32>() || becomes_a_right_table(model, node)? {
            continue;
        }
        behind(model, id)?;
    }
    Ok(())
}

/// Puts a fence behind a node's first output.
pub(super) fn behind(model: &mut TypedModel, id: usize) -> TractResult<()> {
    let mut patch = TypedModelPatch::new("fence");
    let output = patch.tap_model(model, OutletId::new(id, 0))?;
    let fenced = patch.wire_node(format!("{}.fence", model.node(id).name), FENCE, &[output])?[0];
    patch.shunt_outside(model, OutletId::new(id, 0), fenced)?;
    patch.apply(model)
}

/// Puts a fence in front of one of a node's inputs; the node has one output.
pub(super) fn before(model: &mut TypedModel, id: usize, slot: usize) -> TractResult<()> {
    put_before(model, id, slot, FENCE)
}

/// Hides that one of a node's inputs is a constant; the node has one output.
pub(super) fn hide(model: &mut TypedModel, id: usize, slot: usize) -> TractResult<()> {
    put_before(model, id, slot, Fence { hides: true })
}

fn put_before(model: &mut TypedModel, id: usize, slot: usize, fence: Fence) -> TractResult<()> {
    let node = model.node(id);
    let mut patch = TypedModelPatch::new("fence");
    let mut inputs = patch.taps(model, &node.inputs)?;
    inputs[slot] = patch.wire_node(format!("{}.fence", node.name), fence, &[inputs[slot]])?[0];
    let output = patch.wire_node(&node.name, node.op.clone(), &inputs)?[0];
    patch.shunt_outside(model, OutletId::new(id, 0), output)?;
    patch.apply(model)
}

/// Puts fences around a node: at every input and every output.
pub(super) fn around(model: &mut TypedModel, id: usize) -> TractResult<()> {
    let node = model.node(id);
    let mut patch = TypedModelPatch::new("fence");
    let mut inputs = patch.taps(model, &node.inputs)?;
    for (slot, input) in inputs.iter_mut().enumerate() {
        *input = patch.wire_node(format!("{}.fence-{slot}", node.name), FENCE, &[*input])?[0];
    }
    let outputs = patch.wire_node(&node.name, node.op.clone(), &inputs)?;
    for (slot, output) in outputs.iter().enumerate() {
        let fenced = patch.wire_node(format!("{}.fenced-{slot}", node.name), FENCE, &[*output])?[0];
        patch.shunt_outside(model, OutletId::new(id, slot), fenced)?;
    }
    patch.apply(model)
}

/// Takes every fence off: a file has no word for one. Whoever reads it puts them up again.
pub(super) fn take_down(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        within(model, id, &take_down)?;
        let node = model.node(id);
        if !node.op_is::<Fence>() {
            continue;
        }
        // Outputs that a fence alone told apart would fall together.
        let Some(patch) = TypedModelPatch::shunt_one_op(model, node)? else {
            bail!("output {:?} is another output as well", node.name)
        };
        patch.apply(model)?;
    }
    model.compact()
}

/// Whether the chain behind a dequantisation is of elements only, and ends in the type that it came from.
fn becomes_a_right_table(model: &TypedModel, dequantised: &TypedNode) -> TractResult<bool> {
    let from = model.outlet_fact(dequantised.inputs[0])?.datum_type.unquantized();
    let mut at = dequantised;
    while let Some(next) = model.single_succ(at.id)? {
        let Some(op) = next.op_as::<ElementWiseOp>() else { return Ok(false) };
        if op.0.is::<QuantizeLinearU8>() {
            return Ok(from == DatumType::U8);
        }
        if op.0.is::<QuantizeLinearI8>() {
            return Ok(from == DatumType::I8);
        }
        at = next;
    }
    // It goes to several readers, or out. Decluttering may leave one of them (a pad of nothing goes), so
    // this is no promise that no table is made.
    Ok(false)
}
