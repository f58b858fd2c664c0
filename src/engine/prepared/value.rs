//! Types and tensors as a prepared graph writes them: every number little-endian, as on all our targets.

use serde::{Deserialize, Serialize};
use tract_core::internal::*;

#[cfg(target_endian = "big")]
compile_error!("prepared graphs hold tensors as they lie in memory, little-endian");

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Type {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
    /// Zero point and scale.
    QI8(i32, f32),
    QU8(i32, f32),
    QI32(i32, f32),
}

impl Type {
    /// None for texts, dimensions and what is quantised by its range.
    pub(super) fn of(datum_type: DatumType) -> Option<Self> {
        use QParams::ZpScale;
        Some(match datum_type {
            DatumType::Bool => Self::Bool,
            DatumType::U8 => Self::U8,
            DatumType::U16 => Self::U16,
            DatumType::U32 => Self::U32,
            DatumType::U64 => Self::U64,
            DatumType::I8 => Self::I8,
            DatumType::I16 => Self::I16,
            DatumType::I32 => Self::I32,
            DatumType::I64 => Self::I64,
            DatumType::F16 => Self::F16,
            DatumType::F32 => Self::F32,
            DatumType::F64 => Self::F64,
            DatumType::QI8(ZpScale { zero_point, scale }) => Self::QI8(zero_point, scale),
            DatumType::QU8(ZpScale { zero_point, scale }) => Self::QU8(zero_point, scale),
            DatumType::QI32(ZpScale { zero_point, scale }) => Self::QI32(zero_point, scale),
            _ => return None,
        })
    }

    pub(super) fn datum_type(self) -> DatumType {
        let quantised = |zero_point, scale| QParams::ZpScale { zero_point, scale };
        match self {
            Self::Bool => DatumType::Bool,
            Self::U8 => DatumType::U8,
            Self::U16 => DatumType::U16,
            Self::U32 => DatumType::U32,
            Self::U64 => DatumType::U64,
            Self::I8 => DatumType::I8,
            Self::I16 => DatumType::I16,
            Self::I32 => DatumType::I32,
            Self::I64 => DatumType::I64,
            Self::F16 => DatumType::F16,
            Self::F32 => DatumType::F32,
            Self::F64 => DatumType::F64,
            Self::QI8(zero_point, scale) => DatumType::QI8(quantised(zero_point, scale)),
            Self::QU8(zero_point, scale) => DatumType::QU8(quantised(zero_point, scale)),
            Self::QI32(zero_point, scale) => DatumType::QI32(quantised(zero_point, scale)),
        }
    }
}

/// A tensor: its elements lie in the file as they will in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Value<'a> {
    element: Type,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// None for what [`Type::of`] has none for.
    pub(super) fn of(tensor: &'a Tensor) -> Option<Self> {
        let element = Type::of(tensor.datum_type())?;
        let bytes = tensor.try_as_plain_ram().ok()?.as_bytes();
        Some(Self { element, shape: tensor.shape().to_vec(), bytes })
    }

    pub(super) fn tensor(&self) -> TractResult<Arc<Tensor>> {
        let datum_type = self.element.datum_type();
        let elements =
            self.shape.iter().try_fold(datum_type.size_of(), |all, length| all.checked_mul(*length));
        let bytes = self.bytes.len();
        ensure!(elements == Some(bytes), "{bytes} bytes for a tensor of shape {:?}", self.shape);
        ensure!(
            self.element != Type::Bool || self.bytes.iter().all(|byte| *byte < 2),
            "a byte is no boolean"
        );
        let mut tensor = Tensor::zero_dt(datum_type, &self.shape)?;
        tensor.try_as_plain_ram_mut()?.as_bytes_mut().copy_from_slice(self.bytes);
        Ok(tensor.into_arc_tensor())
    }
}
