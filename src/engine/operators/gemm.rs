//! Gemm (opset 7 to 13) of any float: alpha · A · B + beta · C.
//!
//! Source: ONNX, Operators.md. tract writes alpha and beta as f32 whatever the matrices are, and then
//! refuses to multiply them with f16 and f64 (0.23.9). Here they have the matrices' type, and a one is left
//! out. The product is tract's own.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::math;
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;

use super::literal::Built;
use super::values::constant;

#[derive(Clone, Debug)]
struct Gemm {
    alpha: f32,
    beta: f32,
    transposed: [bool; 2],
}

pub(super) fn gemm(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let flag = |name: &str| -> TractResult<bool> { Ok(node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0) };
    let alpha = node.get_attr_opt("alpha")?.unwrap_or(1.0);
    let beta = node.get_attr_opt("beta")?.unwrap_or(1.0);
    Ok((expand(Gemm { alpha, beta, transposed: [flag("transA")?, flag("transB")?] }), vec![]))
}

/// `factor · outlet`, in the outlet's own type.
fn times(model: &mut TypedModel, name: &str, factor: f32, outlet: OutletId) -> TractResult<OutletId> {
    if factor == 1.0 {
        return Ok(outlet);
    }
    let fact = model.outlet_fact(outlet)?.clone();
    ensure!(fact.datum_type.is_float(), "{factor} times whole numbers");
    let factor = constant(model, format!("{name}.factor"), factor, fact.datum_type, fact.rank())?;
    Ok(model.wire_node(name, math::mul(), &[factor, outlet])?[0])
}

impl Expansion for Gemm {
    fn name(&self) -> StaticName {
        "Gemm".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!((2..=3).contains(&inputs.len()), "{} inputs", inputs.len());
        for input in inputs {
            s.equals(&input.datum_type, &outputs[0].datum_type)?;
        }
        for matrix in [&inputs[0], &inputs[1], &outputs[0]] {
            s.equals(&matrix.rank, 2)?;
        }
        let [a, b] = self.transposed.map(usize::from);
        s.equals(&inputs[0].shape[a], &outputs[0].shape[0])?;
        s.equals(&inputs[0].shape[1 - a], &inputs[1].shape[b])?;
        s.equals(&inputs[1].shape[1 - b], &outputs[0].shape[1])
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let axes = AxesMapping::for_numpy_matmul(2, self.transposed[0], self.transposed[1], false)?;
        let datum_type = model.outlet_fact(inputs[0])?.datum_type;
        let product = EinSum::new(axes, datum_type);
        let product = model.wire_node(format!("{name}.product"), product, &inputs[..2])?[0];
        let product = times(model, &format!("{name}.alpha"), self.alpha, product)?;
        // What is taken zero times is not added, be it infinite.
        let Some(mut c) = inputs.get(2).copied().filter(|_| self.beta != 0.0) else {
            return Ok(tvec!(product));
        };
        for axis in model.outlet_fact(c)?.rank()..2 {
            c = model.wire_node(format!("{name}.axis-{axis}"), AxisOp::Add(0), &[c])?[0];
        }
        let c = times(model, &format!("{name}.beta"), self.beta, c)?;
        model.wire_node(name, math::add(), &[product, c])
    }
}
