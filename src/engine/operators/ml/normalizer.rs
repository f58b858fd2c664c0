//! `ai.onnx.ml.Normalizer`: each row is divided by its norm; a row whose norm is 0 stays as it is.
//!
//! Standard: ai.onnx.ml 1. `MAX` is the largest element, not the largest magnitude. The output is
//! `f32`. `L2` follows onnxruntime: squares and their sum in `f32`, then the root of the quotient.

use tract_core::internal::*;

use super::attributes::Attributes;
use super::kernel::{Fact, Kernel, matrix, tensor};

#[derive(Clone, Copy, Debug)]
enum Normalizer {
    Max,
    L1,
    L2,
}

pub(super) fn build(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    Ok(Arc::new(match attributes.text("norm")?.as_deref().unwrap_or("MAX") {
        "MAX" => Normalizer::Max,
        "L1" => Normalizer::L1,
        "L2" => Normalizer::L2,
        other => bail!("norm is {other:?}; it must be MAX, L1 or L2"),
    }))
}

impl Normalizer {
    fn row(self, row: &mut [f32], squares: &[f32]) {
        let norm = match self {
            Self::Max => row.iter().copied().fold(f32::MIN, |max, x| if max < x { x } else { max }),
            Self::L1 => row.iter().map(|x| x.abs()).sum(),
            Self::L2 => squares.iter().sum(),
        };
        if norm == 0.0 {
            return;
        }
        match self {
            Self::Max | Self::L1 => row.iter_mut().for_each(|x| *x /= norm),
            Self::L2 => row.iter_mut().zip(squares).for_each(|(x, square)| {
                let root = (square / norm).sqrt();
                *x = if *x < 0.0 { -root } else { root };
            }),
        }
    }
}

impl Kernel for Normalizer {
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("it takes one input") };
        ensure!(
            input.datum_type.is_number(),
            "its input is {:?}; only numbers have a norm",
            input.datum_type
        );
        input.matrix()?;
        Ok(tvec!(input.with_type(DatumType::F32)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let (_, columns) = matrix(input)?;
        let mut values = input.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        let mut squares: Vec<f32> = match input.datum_type() {
            DatumType::F32 => values.iter().map(|x| x * x).collect(),
            // Squared before they are rounded, so that large integers and fine fractions count.
            _ => {
                let wide = input.cast_to::<f64>()?;
                wide.try_as_plain_ram()?.as_slice::<f64>()?.iter().map(|x| (x * x) as f32).collect()
            }
        };
        if columns > 0 {
            for (row, squares) in values.chunks_exact_mut(columns).zip(squares.chunks_exact_mut(columns)) {
                self.row(row, squares);
            }
        }
        Ok(tvec!(tensor(input.shape(), values)?))
    }
}
