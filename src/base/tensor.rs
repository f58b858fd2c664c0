//! Numbers with a shape: features on their way into a model, scores on their way out.
//!
//! Row-major. Not here: arithmetic; the engine converts to its own tensors at its door.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use half::f16;

/// A dense row-major array.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Length of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements; as many as the product of `shape`.
    pub data: Data,
}

/// The elements of a [`Tensor`], named as in ONNX.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the element type that it holds")]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// Bits of IEEE 754 half precision.
    F16(Vec<u16>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    I16(Vec<i16>),
    I8(Vec<i8>),
    U64(Vec<u64>),
    U32(Vec<u32>),
    U16(Vec<u16>),
    U8(Vec<u8>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named after the element type")]
pub enum DataType {
    F32,
    F64,
    F16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    Text,
}

impl DataType {
    /// The name used in cards, messages and `inspect`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
            Self::Text => "string",
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Tensor {
    /// A tensor of `f32`. The caller keeps `data.len()` equal to the product of `shape`.
    pub fn f32(shape: &[usize], data: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape: shape.to_vec(), data: Data::F32(data) }
    }

    /// `f32` zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self::f32(shape, alloc::vec![0.0; shape.iter().product()])
    }

    /// Element type.
    pub fn data_type(&self) -> DataType {
        match self.data {
            Data::F32(_) => DataType::F32,
            Data::F64(_) => DataType::F64,
            Data::F16(_) => DataType::F16,
            Data::I64(_) => DataType::I64,
            Data::I32(_) => DataType::I32,
            Data::I16(_) => DataType::I16,
            Data::I8(_) => DataType::I8,
            Data::U64(_) => DataType::U64,
            Data::U32(_) => DataType::U32,
            Data::U16(_) => DataType::U16,
            Data::U8(_) => DataType::U8,
            Data::Bool(_) => DataType::Bool,
            Data::Text(_) => DataType::Text,
        }
    }

    /// Every element is `value`; `None` where the type has no such number.
    pub fn uniform(data_type: DataType, shape: &[usize], value: f64) -> Option<Self> {
        Self::of_numbers(data_type, shape, &vec![value; shape.iter().product()])
    }

    /// These numbers; `None` where the type has no such number. There must be as many as the shape says.
    pub fn of_numbers(data_type: DataType, shape: &[usize], numbers: &[f64]) -> Option<Self> {
        // A cast saturates and cuts: what comes back otherwise did not fit.
        macro_rules! whole {
            ($variant:ident, $number:ty) => {{
                let cast = |value: &f64| (*value as $number as f64 == *value).then_some(*value as $number);
                Data::$variant(numbers.iter().map(cast).collect::<Option<_>>()?)
            }};
        }
        // Rounded, and never to infinity.
        macro_rules! near {
            ($cast:expr) => {{
                let cast =
                    |value: &f64| Some($cast(*value)).filter(|near| near.is_finite() == value.is_finite());
                numbers.iter().map(cast).collect::<Option<Vec<_>>>()?
            }};
        }
        let data = match data_type {
            DataType::F16 => Data::F16(near!(f16::from_f64).into_iter().map(f16::to_bits).collect()),
            DataType::F32 => Data::F32(near!(|value| value as f32)),
            DataType::F64 => Data::F64(numbers.to_vec()),
            DataType::I64 => whole!(I64, i64),
            DataType::I32 => whole!(I32, i32),
            DataType::I16 => whole!(I16, i16),
            DataType::I8 => whole!(I8, i8),
            DataType::U64 => whole!(U64, u64),
            DataType::U32 => whole!(U32, u32),
            DataType::U16 => whole!(U16, u16),
            DataType::U8 => whole!(U8, u8),
            DataType::Bool if numbers.iter().all(|value| *value == 0.0 || *value == 1.0) => {
                Data::Bool(numbers.iter().map(|value| *value == 1.0).collect())
            }
            DataType::Bool | DataType::Text => return None,
        };
        Some(Self { shape: shape.to_vec(), data })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::F32(v) => v.len(),
            Data::F64(v) => v.len(),
            Data::F16(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::I16(v) => v.len(),
            Data::I8(v) => v.len(),
            Data::U64(v) => v.len(),
            Data::U32(v) => v.len(),
            Data::U16(v) => v.len(),
            Data::U8(v) => v.len(),
            Data::Bool(v) => v.len(),
            Data::Text(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, when they are `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The elements to write to, when they are `f32`.
    pub fn as_f32_mut(&mut self) -> Option<&mut [f32]> {
        match &mut self.data {
            Data::F32(values) => Some(values),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_of_every_type_that_has_it_and_of_no_other() {
        let of = |data_type, number| Tensor::of_numbers(data_type, &[1], &[number]).map(|tensor| tensor.data);
        assert_eq!(of(DataType::F16, 1.5), Some(Data::F16(vec![0x3e00])));
        assert_eq!(of(DataType::F16, f64::INFINITY), Some(Data::F16(vec![0x7c00])));
        assert_eq!(of(DataType::F16, 70_000.0), None, "beyond the largest, 65504");
        assert_eq!(of(DataType::F32, 0.1), Some(Data::F32(vec![0.1])));
        assert_eq!(of(DataType::F32, 1e300), None);
        assert_eq!(of(DataType::I8, -128.0), Some(Data::I8(vec![-128])));
        assert_eq!(of(DataType::I8, 128.0), None);
        assert_eq!(of(DataType::I64, 2.5), None);
        assert_eq!(of(DataType::Bool, 1.0), Some(Data::Bool(vec![true])));
        assert_eq!(of(DataType::Bool, 2.0), None);
        assert_eq!(of(DataType::Text, 1.0), None);
    }
}
