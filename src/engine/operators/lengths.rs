//! Shape (opset 1 to 25) and Size (opset 1), as whole numbers where they are known.
//!
//! Source: ONNX, Operators.md. tract gives lengths a type of their own, takes on it whatever they are joined
//! with, and counts in 32 bits on the way there (0.23.9): `Concat(Shape(x), [2^31])` ends in −2^31. Lengths
//! that only a run can tell keep that type.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::Built;

#[derive(Clone, Debug)]
enum Lengths {
    /// From one axis to before another; negative ones are counted from the end.
    Shape {
        start: i64,
        end: Option<i64>,
    },
    Size,
}

pub(super) fn shape(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let start = node.get_attr_opt("start")?.unwrap_or(0);
    Ok((expand(Lengths::Shape { start, end: node.get_attr_opt("end")? }), vec![]))
}

pub(super) fn size(_context: &ParsingContext<'_>, _node: &NodeProto) -> Built {
    Ok((expand(Lengths::Size), vec![]))
}

impl Lengths {
    fn of(&self, shape: &[TDim]) -> TractResult<Tensor> {
        let lengths = match *self {
            Self::Size => tensor0(shape.iter().product::<TDim>()),
            Self::Shape { start, end } => {
                let rank = i64::try_from(shape.len())?;
                let place = |axis: i64| (if axis < 0 { axis + rank } else { axis }).clamp(0, rank);
                let (start, end) = (place(start), end.map_or(rank, place));
                tensor1(&shape[usize::try_from(start)?..usize::try_from(end.max(start))?])
            }
        };
        // Fails where there is a symbol.
        let whole = lengths.cast_to::<i64>().map(Cow::into_owned);
        Ok(whole.unwrap_or(lengths))
    }
}

impl Expansion for Lengths {
    fn name(&self) -> StaticName {
        match self {
            Self::Shape { .. } => "Shape".into(),
            Self::Size => "Size".into(),
        }
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].rank, if matches!(self, Self::Size) { 0 } else { 1 })?;
        s.given(&inputs[0].shape, move |s, shape| {
            let lengths = self.of(&shape)?;
            s.equals(&outputs[0].datum_type, lengths.datum_type())?;
            s.equals(&outputs[0].value, lengths.into_arc_tensor())
        })
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let lengths = self.of(&model.outlet_fact(inputs[0])?.shape.to_tvec())?;
        Ok(tvec!(model.add_const(name, lengths)?))
    }
}
