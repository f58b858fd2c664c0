//! `ai.onnx.ml.FeatureVectorizer`: tensors side by side, as one matrix of `f32`.
//!
//! Standard: ai.onnx.ml 1. `inputdimensions` gives each input's width: what is wider is cut, what is
//! narrower is filled with zeros, as in onnxruntime. Without it every input keeps its own.

use tract_core::internal::*;

use super::attributes::Attributes;
use super::kernel::{Fact, Kernel, matrix, tensor};

#[derive(Debug)]
struct FeatureVectorizer {
    /// Of each input; `None`: its own.
    widths: Option<Vec<usize>>,
}

pub(super) fn build(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let widths = attributes.ints("inputdimensions")?;
    let widths: Vec<usize> =
        (widths.iter().map(|&width| usize::try_from(width)))
            .collect::<Result<_, _>>()
            .with_context(|| format!("inputdimensions are {widths:?}; none may be negative"))?;
    ensure!(
        widths.is_empty() || widths.len() == attributes.input_count(),
        "there are {} inputs and {} inputdimensions",
        attributes.input_count(),
        widths.len()
    );
    Ok(Arc::new(FeatureVectorizer { widths: Some(widths).filter(|widths| !widths.is_empty()) }))
}

impl Kernel for FeatureVectorizer {
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let Some(first) = inputs.first() else { bail!("it takes at least one input") };
        let (rows, _) = first.matrix()?;
        let mut total = 0.to_dim();
        for (i, input) in inputs.iter().enumerate() {
            ensure!(input.datum_type.is_number(), "input {i} is {:?}; it must be numbers", input.datum_type);
            let (own_rows, columns) = input.matrix()?;
            ensure!(own_rows == rows, "input {i} has {own_rows} rows, the first has {rows}");
            total += self.widths.as_ref().map_or(columns, |widths| widths[i].to_dim());
        }
        Ok(tvec!(Fact::new(DatumType::F32, &[rows, total])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut parts = Vec::new();
        for (i, input) in inputs.iter().enumerate() {
            let (_, columns) = matrix(input)?;
            let width = self.widths.as_ref().map_or(columns, |widths| widths[i]);
            parts.push((columns, width, input.cast_to::<f32>()?));
        }
        let (rows, _) = matrix(&inputs[0])?;
        let total = parts.iter().map(|(_, width, _)| width).sum::<usize>();
        let mut joined = vec![0.0_f32; rows * total];
        let mut start = 0;
        for (columns, width, part) in &parts {
            let part = part.try_as_plain_ram()?;
            let part = part.as_slice::<f32>()?;
            let taken = *columns.min(width);
            for row in 0..rows {
                joined[row * total + start..][..taken].copy_from_slice(&part[row * columns..][..taken]);
            }
            start += width;
        }
        Ok(tvec!(tensor(&[rows, total], joined)?))
    }
}
