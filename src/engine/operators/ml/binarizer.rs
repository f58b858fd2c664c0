//! `ai.onnx.ml.Binarizer`: 1 where an element is greater than the threshold, else 0; NaN is not greater.
//!
//! Standard: ai.onnx.ml 1. The output has the input's type; the threshold is an `f32`, compared in
//! the wider of the two types.

use tract_core::internal::*;

use super::attributes::Attributes;
use super::kernel::{Fact, Kernel, tensor};

#[derive(Debug)]
struct Binarizer {
    threshold: f32,
}

pub(super) fn build(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    Ok(Arc::new(Binarizer { threshold: attributes.float("threshold")?.unwrap_or(0.0) }))
}

impl Kernel for Binarizer {
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("it takes one input") };
        ensure!(
            input.datum_type.is_number(),
            "its input is {:?}; only numbers have a threshold",
            input.datum_type
        );
        Ok(tvec!(input.clone()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        // Every type that the standard allows fits f64 well enough to be compared with an f32.
        let values = input.cast_to::<f64>()?;
        let values = values.try_as_plain_ram()?;
        let threshold = f64::from(self.threshold);
        let ones: Vec<u8> = values.as_slice::<f64>()?.iter().map(|x| u8::from(*x > threshold)).collect();
        Ok(tvec!(tensor(input.shape(), ones)?.cast_to_dt(input.datum_type())?.into_owned()))
    }
}
