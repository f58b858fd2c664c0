//! ONNX operators that tract lacks or answers wrongly, one file each, added to tract's own here.
//!
//! A new operator is one file beside this one and one line in [`framework`]; `ai.onnx.ml` has a folder
//! of its own. It registers under its
//! ONNX name and replaces tract's where there is one. Not here: operators that we refuse (`refused`).

pub(super) mod ml;

use tract_onnx::Onnx;

/// tract's ONNX reader with our operators, set to believe the graph's operators only: exported
/// `value_info` and output shapes contradict them in many real files ("Impossible to unify").
pub(super) fn framework() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    ml::register(&mut onnx.op_register);
    onnx.with_ignore_value_info(true).with_ignore_output_shapes(true).with_ignore_output_types(true)
}
