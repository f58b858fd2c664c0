//! Which numbers of an output tensor are the answer, and reading them.
//!
//! Promise: only two layouts are taken, and anything else is refused rather than guessed at:
//! exactly as many elements as the card names, in whatever shape (`[n]`, `[1, n]`, `[1, n, 1, 1]`);
//! or several steps of them, `[steps, 1, n]` or `[1, steps, n]`, of which the last one counts.
//! Not here: what the numbers mean.

use core::ops::Range;

use super::InterpretError;
use crate::base::{Data, Tensor};

/// The elements that hold the newest `n` numbers of a tensor of this shape; `None` when the shape
/// is neither `n` elements nor steps of `n`.
pub(super) fn last_row(shape: &[usize], n: usize) -> Option<Range<usize>> {
    let total = shape.iter().try_fold(1_usize, |product, &len| product.checked_mul(len))?;
    if total == n && n > 0 {
        return Some(0..n);
    }
    let (&last, leading) = shape.split_last()?;
    let steps_axes = leading.iter().filter(|&&len| len != 1).count();
    (last == n && n > 0 && total > n && steps_axes == 1).then(|| total - n..total)
}

/// The numbers in `range`.
///
/// # Errors
/// When the tensor holds text, ends before the range does, or one of the numbers is NaN.
pub(super) fn read(tensor: &Tensor, range: Range<usize>, name: &str) -> Result<Vec<f64>, InterpretError> {
    let start = range.start;
    let numbers = match &tensor.data {
        Data::F32(values) => convert(values, range, |v| f64::from(*v)),
        Data::F64(values) => convert(values, range, |v| *v),
        Data::F16(values) => convert(values, range, |v| half_to_f64(*v)),
        Data::I64(values) => convert(values, range, |v| *v as f64),
        Data::I32(values) => convert(values, range, |v| f64::from(*v)),
        Data::I16(values) => convert(values, range, |v| f64::from(*v)),
        Data::I8(values) => convert(values, range, |v| f64::from(*v)),
        Data::U64(values) => convert(values, range, |v| *v as f64),
        Data::U32(values) => convert(values, range, |v| f64::from(*v)),
        Data::U16(values) => convert(values, range, |v| f64::from(*v)),
        Data::U8(values) => convert(values, range, |v| f64::from(*v)),
        Data::Bool(values) => convert(values, range, |v| f64::from(u8::from(*v))),
        Data::Text(_) => return Err(InterpretError::Text { tensor: name.into() }),
    };
    // A shape that promises more than the data holds: the tensor's maker broke its own rule.
    let numbers = numbers.ok_or_else(|| InterpretError::Torn {
        tensor: name.into(),
        shape: tensor.shape.clone(),
        elements: tensor.len(),
    })?;
    match numbers.iter().position(|v| v.is_nan()) {
        Some(i) => Err(InterpretError::NotFinite { tensor: name.into(), index: start + i, value: f64::NAN }),
        None => Ok(numbers),
    }
}

/// Refuses infinities, where no activation makes numbers of them.
pub(super) fn finite(numbers: Vec<f64>, start: usize, name: &str) -> Result<Vec<f64>, InterpretError> {
    match numbers.iter().position(|v| !v.is_finite()) {
        Some(i) => {
            Err(InterpretError::NotFinite { tensor: name.into(), index: start + i, value: numbers[i] })
        }
        None => Ok(numbers),
    }
}

fn convert<T>(values: &[T], range: Range<usize>, f: impl Fn(&T) -> f64) -> Option<Vec<f64>> {
    Some(values.get(range)?.iter().map(f).collect())
}

/// IEEE 754 half precision, from its bits: 1 sign, 5 exponent (bias 15), 10 fraction.
fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_elements_as_named_are_taken_in_any_shape() {
        for shape in [&[3][..], &[1, 3], &[1, 3, 1, 1], &[1, 1, 3], &[3, 1]] {
            assert_eq!(last_row(shape, 3), Some(0..3), "{shape:?}");
        }
        assert_eq!(last_row(&[1, 1, 1], 1), Some(0..1));
        assert_eq!(last_row(&[], 1), Some(0..1));
    }

    #[test]
    fn of_several_steps_the_last_one_counts() {
        assert_eq!(last_row(&[5, 1, 3], 3), Some(12..15));
        assert_eq!(last_row(&[1, 5, 3], 3), Some(12..15));
        assert_eq!(last_row(&[24, 1], 1), Some(23..24));
    }

    #[test]
    fn a_shape_that_could_mean_something_else_is_refused() {
        assert_eq!(last_row(&[1, 24], 1), None); // 24 quantities, not 24 steps of one
        assert_eq!(last_row(&[1, 3, 4, 4], 3), None); // a map of classes
        assert_eq!(last_row(&[2, 5, 3], 3), None); // batch and steps
        assert_eq!(last_row(&[1, 4], 3), None);
        assert_eq!(last_row(&[0, 3], 3), None);
        assert_eq!(last_row(&[3], 0), None);
        assert_eq!(last_row(&[usize::MAX, 3], 3), None);
    }

    #[test]
    fn every_number_type_is_read() {
        let tensors = [
            Data::F32(vec![0.0, 1.0]),
            Data::F64(vec![0.0, 1.0]),
            Data::F16(vec![0, 0x3c00]),
            Data::I64(vec![0, 1]),
            Data::I32(vec![0, 1]),
            Data::I16(vec![0, 1]),
            Data::I8(vec![0, 1]),
            Data::U64(vec![0, 1]),
            Data::U32(vec![0, 1]),
            Data::U16(vec![0, 1]),
            Data::U8(vec![0, 1]),
            Data::Bool(vec![false, true]),
        ];
        for data in tensors {
            let tensor = Tensor { shape: vec![2], data };
            assert_eq!(read(&tensor, 0..2, "y").unwrap(), [0.0, 1.0], "{}", tensor.data_type());
        }
    }

    #[test]
    fn half_precision_has_its_subnormals_and_infinities() {
        assert_eq!(half_to_f64(0x0001), 2_f64.powi(-24));
        assert_eq!(half_to_f64(0x8400), -2_f64.powi(-14));
        assert_eq!(half_to_f64(0x3555), 0.333_251_953_125);
        assert_eq!(half_to_f64(0x7bff), 65_504.0);
        assert_eq!(half_to_f64(0xfc00), f64::NEG_INFINITY);
        assert!(half_to_f64(0x7e00).is_nan());
    }

    #[test]
    fn text_torn_tensors_and_nan_are_refused_with_the_place() {
        let text = Tensor { shape: vec![1], data: Data::Text(vec!["ok".into()]) };
        assert!(read(&text, 0..1, "label").unwrap_err().to_string().contains("label"));
        let torn = Tensor { shape: vec![4], data: Data::F32(vec![1.0]) };
        assert!(read(&torn, 0..4, "y").unwrap_err().to_string().contains("[4]"));
        let nan = Tensor::f32(&[3], vec![0.0, 1.0, f32::NAN]);
        assert_eq!(
            read(&nan, 1..3, "y").unwrap_err().to_string(),
            "scores `y` hold NaN at element 2; a verdict needs finite numbers"
        );
    }
}
