//! BitShift (opset 11, edges as opset 28 states them) and BitCast (opset 26).
//!
//! Source: ONNX, Operators.md. A shift by a negative amount, or by the width of the type or more,
//! leaves what sign extension alone gives: −1 for a right shift of a negative value, else 0. A right
//! shift of a signed type is arithmetic. BitCast keeps the little-endian bytes and renames the type.
//! tract shifts by the amount modulo the width (0.23.9).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::tract_num_traits::ToBytes;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, seen, wrap};
use super::values::pairs;

#[derive(Debug)]
struct BitShift {
    left: bool,
}

pub(super) fn bit_shift(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let left = match node.get_attr::<&str>("direction")? {
        "LEFT" => true,
        "RIGHT" => false,
        other => bail!("direction {other:?}"),
    };
    wrap(context, node, BitShift { left })
}

impl Literal for BitShift {
    fn name(&self) -> &'static str {
        "BitShift"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, y) = (inputs.need(0)?, inputs.need(1)?);
        ensure!(x.datum_type() == y.datum_type(), "{:?} shifted by {:?}", x.datum_type(), y.datum_type());
        let (shape, pairs) = pairs(x.shape(), y.shape())?;
        macro_rules! shifted {
            ($($variant:ident $integer:ty),*) => {
                match x.datum_type() {
                    $(DatumType::$variant => {
                        let (a, b) = (x.try_as_plain_ram()?, y.try_as_plain_ram()?);
                        let (a, b) = (a.as_slice::<$integer>()?, b.as_slice::<$integer>()?);
                        let values: Vec<$integer> = pairs
                            .map(|(i, j)| {
                                let value = a[i];
                                let by = u32::try_from(b[j]).unwrap_or(u32::MAX);
                                let all_out = || if self.left { 0 } else { value >> (<$integer>::BITS - 1) };
                                let moved = if self.left { value.checked_shl(by) } else { value.checked_shr(by) };
                                moved.unwrap_or_else(|| if <$integer>::MIN == 0 { 0 } else { all_out() })
                            })
                            .collect();
                        Tensor::from_shape(&shape, &values)?
                    })*
                    other => bail!("bits of {other:?}"),
                }
            };
        }
        Ok(vec![shifted!(U8 u8, U16 u16, U32 u32, U64 u64, I8 i8, I16 i16, I32 i32, I64 i64)])
    }
}

#[derive(Debug)]
struct BitCast {
    to: DatumType,
}

pub(super) fn bit_cast(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, BitCast { to: node.get_attr("to")? })
}

impl Literal for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let size = self.to.size_of();
        ensure!(x.datum_type().size_of() == size, "{:?} and {:?} differ in size", x.datum_type(), self.to);
        let bytes = bytes(x)?;
        let groups = || bytes.chunks_exact(size);
        macro_rules! read {
            ($($variant:ident $number:ty),*) => {
                match self.to {
                    $(DatumType::$variant => {
                        let read = |bytes: &[u8]| Ok(<$number>::from_le_bytes(bytes.try_into()?));
                        Tensor::from_shape(x.shape(), &groups().map(read).collect::<TractResult<Vec<_>>>()?)?
                    })*
                    DatumType::F16 => {
                        let read = |bytes: &[u8]| Ok(f16::from_bits(u16::from_le_bytes(bytes.try_into()?)));
                        Tensor::from_shape(x.shape(), &groups().map(read).collect::<TractResult<Vec<_>>>()?)?
                    }
                    DatumType::Bool => {
                        Tensor::from_shape(x.shape(), &bytes.iter().map(|byte| *byte != 0).collect::<Vec<_>>())?
                    }
                    other => bail!("bits of {other:?}"),
                }
            };
        }
        Ok(vec![read!(
            U8 u8, U16 u16, U32 u32, U64 u64, I8 i8, I16 i16, I32 i32, I64 i64, F32 f32, F64 f64
        )])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        Ok(Some(vec![Form::of(self.to, &seen(inputs, 0)?.shape)]))
    }
}

fn bytes(tensor: &Tensor) -> TractResult<Vec<u8>> {
    fn of<T: Datum + ToBytes>(tensor: &Tensor) -> TractResult<Vec<u8>> {
        let plain = tensor.try_as_plain_ram()?;
        Ok(plain.as_slice::<T>()?.iter().flat_map(|value| value.to_le_bytes().as_ref().to_vec()).collect())
    }
    if tensor.datum_type() == bool::datum_type() {
        return Ok(tensor.try_as_plain_ram()?.as_slice::<bool>()?.iter().map(|bit| u8::from(*bit)).collect());
    }
    dispatch_numbers!(of(tensor.datum_type())(tensor))
}
