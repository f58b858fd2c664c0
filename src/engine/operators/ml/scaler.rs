//! `ai.onnx.ml.Scaler`: `y = (x - offset) * scale` for each column.
//!
//! Standard: ai.onnx.ml 1. `offset` and `scale` have one value for each column, or one for all.
//! Arithmetic as onnxruntime's: in `f64` for an `f64` input, in `f32` otherwise; the output is `f32`.

use tract_core::internal::*;

use super::attributes::Attributes;
use super::kernel::{Fact, Kernel, tensor};

#[derive(Debug)]
struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

pub(super) fn build(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let (offset, scale) = (attributes.floats("offset")?, attributes.floats("scale")?);
    ensure!(
        offset.len() == scale.len() && !scale.is_empty(),
        "offset has {} values, scale has {}; both need one for each column, or one",
        offset.len(),
        scale.len()
    );
    Ok(Arc::new(Scaler { offset, scale }))
}

impl Kernel for Scaler {
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("it takes one input") };
        ensure!(
            input.datum_type.is_number(),
            "its input is {:?}; only numbers can be scaled",
            input.datum_type
        );
        if let Some(columns) = input.shape.last().and_then(|columns| columns.to_usize().ok()) {
            ensure!(
                self.scale.len() == 1 || self.scale.len() == columns,
                "the input has {columns} columns, offset and scale have {} values",
                self.scale.len()
            );
        }
        Ok(tvec!(input.with_type(DatumType::F32)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let columns = self.scale.len();
        let weights = || self.offset.iter().zip(&self.scale).cycle();
        ensure!(columns == 1 || input.shape().last() == Some(&columns), "the input's columns have changed");
        let scaled: Vec<f32> = if input.datum_type() == DatumType::F64 {
            let values = input.try_as_plain_ram()?;
            let values = values.as_slice::<f64>()?.iter();
            values
                .zip(weights())
                .map(|(x, (offset, scale))| ((x - f64::from(*offset)) * f64::from(*scale)) as f32)
                .collect()
        } else {
            let values = input.cast_to::<f32>()?;
            let values = values.try_as_plain_ram()?;
            let values = values.as_slice::<f32>()?.iter();
            values.zip(weights()).map(|(x, (offset, scale))| (x - offset) * scale).collect()
        };
        Ok(tvec!(tensor(input.shape(), scaled)?))
    }
}
