//! `ai.onnx.ml.ArrayFeatureExtractor`: columns of the last axis by their index.
//!
//! Standard: ai.onnx.ml 1. `[C]` gives `[1, indices]`, as in onnxruntime. An index outside the axis
//! is an error.

use tract_core::internal::*;

use super::attributes::{Attributes, picked};
use super::kernel::{Fact, Kernel};

#[derive(Debug)]
struct ArrayFeatureExtractor;

pub(super) fn build(_: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    Ok(Arc::new(ArrayFeatureExtractor))
}

fn shape<D: Clone>(input: &[D], one: D, indices: D) -> TractResult<TVec<D>> {
    Ok(match input {
        [] => bail!("its first input has no axis to take columns of"),
        [_] => tvec!(one, indices),
        [before @ .., _] => before.iter().cloned().chain([indices]).collect(),
    })
}

impl Kernel for ArrayFeatureExtractor {
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input, indices] = inputs else { bail!("it takes two inputs") };
        ensure!(
            matches!(indices.datum_type, DatumType::I64 | DatumType::I32 | DatumType::TDim),
            "its indices are {:?}; they must be integers",
            indices.datum_type
        );
        let count = indices.shape.iter().cloned().product::<TDim>();
        Ok(tvec!(Fact::new(input.datum_type, &shape(&input.shape, 1.to_dim(), count)?)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let columns = input.shape().last().copied().unwrap_or(0);
        let indices = inputs[1].cast_to::<i64>()?;
        let mut chosen = Vec::new();
        for index in indices.try_as_plain_ram()?.as_slice::<i64>()? {
            let inside = usize::try_from(*index).ok().filter(|index| *index < columns);
            chosen.push(inside.with_context(|| format!("index {index} is outside the {columns} columns"))?);
        }
        let rows = input.len().checked_div(columns).unwrap_or(0);
        let places: Vec<usize> =
            (0..rows).flat_map(|row| chosen.iter().map(move |column| row * columns + column)).collect();
        Ok(tvec!(picked(input, &places, &shape(input.shape(), 1, chosen.len())?)?))
    }
}
