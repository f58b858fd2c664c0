//! `ai.onnx.ml.Imputer`: one value, the mark of a missing reading, is replaced column by column.
//!
//! Standard: ai.onnx.ml 1. The mark may be NaN, which then stands for every NaN. Integers are
//! replaced by `imputed_value_int64s`, floats by `imputed_value_floats`; one value for each column,
//! or one for all.

use tract_core::internal::*;

use super::attributes::Attributes;
use super::kernel::{Fact, Kernel, tensor};

#[derive(Debug)]
enum Imputer {
    Floats { mark: f32, values: Vec<f32> },
    Integers { mark: i64, values: Vec<i64> },
}

pub(super) fn build(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let floats = attributes.floats("imputed_value_floats")?;
    let integers = attributes.ints("imputed_value_int64s")?;
    Ok(Arc::new(match (floats.is_empty(), integers.is_empty()) {
        (false, true) => {
            let mark = attributes.float("replaced_value_float")?.unwrap_or(0.0);
            Imputer::Floats { mark, values: floats }
        }
        (true, false) => {
            let mark = attributes.int("replaced_value_int64")?.unwrap_or(0);
            Imputer::Integers { mark, values: integers }
        }
        _ => bail!("exactly one of imputed_value_floats and imputed_value_int64s must be given"),
    }))
}

impl Imputer {
    fn count(&self) -> usize {
        match self {
            Self::Floats { values, .. } => values.len(),
            Self::Integers { values, .. } => values.len(),
        }
    }
}

impl Kernel for Imputer {
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("it takes one input") };
        let fits = match self {
            Self::Floats { .. } => matches!(input.datum_type, DatumType::F32 | DatumType::F64),
            Self::Integers { .. } => matches!(input.datum_type, DatumType::I32 | DatumType::I64),
        };
        ensure!(
            fits,
            "its input is {:?}, its values are for {}",
            input.datum_type,
            match self {
                Self::Floats { .. } => "floats",
                Self::Integers { .. } => "integers",
            }
        );
        if let Some(columns) = input.shape.last().and_then(|columns| columns.to_usize().ok()) {
            ensure!(
                self.count() == 1 || self.count() == columns,
                "the input has {columns} columns, {} values are given to impute",
                self.count()
            );
        }
        Ok(tvec!(input.clone()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let plain = input.try_as_plain_ram()?;
        macro_rules! replaced {
            ($type:ty, $values:expr, $missing:expr) => {{
                let values = $values.iter().map(|value| *value as $type).collect::<Vec<$type>>();
                let pairs = plain.as_slice::<$type>()?.iter().zip(values.iter().cycle());
                let missing = $missing;
                tensor(input.shape(), pairs.map(|(&x, &value)| if missing(x) { value } else { x }).collect())?
            }};
        }
        Ok(tvec!(match (self, input.datum_type()) {
            (Self::Floats { mark, values }, DatumType::F32) if mark.is_nan() =>
                replaced!(f32, values, |x: f32| x.is_nan()),
            (Self::Floats { mark, values }, DatumType::F32) => replaced!(f32, values, |x: f32| x == *mark),
            (Self::Floats { mark, values }, DatumType::F64) if mark.is_nan() =>
                replaced!(f64, values, |x: f64| x.is_nan()),
            (Self::Floats { mark, values }, DatumType::F64) =>
                replaced!(f64, values, |x: f64| x == f64::from(*mark)),
            (Self::Integers { mark, values }, DatumType::I64) => replaced!(i64, values, |x: i64| x == *mark),
            (Self::Integers { mark, values }, DatumType::I32) =>
                replaced!(i32, values, |x: i32| i64::from(x) == *mark),
            (_, other) => bail!("its input is {other:?}"),
        }))
    }
}
