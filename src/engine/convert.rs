//! Our tensors to the engine's and back: one copy each way.

use tract_core::prelude::tract_ndarray::{ArrayD, IxDyn};
use tract_core::prelude::{Datum, DatumType, Tensor as TractTensor, TractResult, f16};

use crate::base::{Data, DataType, Tensor};

/// The engine's name for a type.
pub(super) fn datum_type(data_type: DataType) -> DatumType {
    match data_type {
        DataType::F32 => DatumType::F32,
        DataType::F64 => DatumType::F64,
        DataType::F16 => DatumType::F16,
        DataType::I64 => DatumType::I64,
        DataType::I32 => DatumType::I32,
        DataType::I16 => DatumType::I16,
        DataType::I8 => DatumType::I8,
        DataType::U64 => DatumType::U64,
        DataType::U32 => DatumType::U32,
        DataType::U16 => DatumType::U16,
        DataType::U8 => DatumType::U8,
        DataType::Bool => DatumType::Bool,
        DataType::Text => DatumType::String,
    }
}

/// Our name for the engine's type, as its values come out of [`from_engine`].
pub(super) fn data_type(datum_type: DatumType) -> Option<DataType> {
    Some(match datum_type.unquantized() {
        DatumType::F32 => DataType::F32,
        DatumType::F64 => DataType::F64,
        DatumType::F16 => DataType::F16,
        // Shapes that tract computed with: whole numbers to everyone else.
        DatumType::I64 | DatumType::TDim => DataType::I64,
        DatumType::I32 => DataType::I32,
        DatumType::I16 => DataType::I16,
        DatumType::I8 => DataType::I8,
        DatumType::U64 => DataType::U64,
        DatumType::U32 => DataType::U32,
        DatumType::U16 => DataType::U16,
        DatumType::U8 => DataType::U8,
        DatumType::Bool => DataType::Bool,
        DatumType::String => DataType::Text,
        _ => return None,
    })
}

/// Fails when shape and number of elements disagree.
pub(super) fn to_engine(tensor: &Tensor) -> TractResult<TractTensor> {
    let shape = &tensor.shape;
    match &tensor.data {
        Data::F32(values) => TractTensor::from_shape(shape, values),
        Data::F64(values) => TractTensor::from_shape(shape, values),
        Data::F16(bits) => boxed(shape, bits.iter().map(|bits| f16::from_bits(*bits)).collect()),
        Data::I64(values) => TractTensor::from_shape(shape, values),
        Data::I32(values) => TractTensor::from_shape(shape, values),
        Data::I16(values) => TractTensor::from_shape(shape, values),
        Data::I8(values) => TractTensor::from_shape(shape, values),
        Data::U64(values) => TractTensor::from_shape(shape, values),
        Data::U32(values) => TractTensor::from_shape(shape, values),
        Data::U16(values) => TractTensor::from_shape(shape, values),
        Data::U8(values) => TractTensor::from_shape(shape, values),
        Data::Bool(values) => TractTensor::from_shape(shape, values),
        Data::Text(values) => boxed(shape, values.clone()),
    }
}

fn boxed<T: Datum>(shape: &[usize], values: Vec<T>) -> TractResult<TractTensor> {
    Ok(ArrayD::from_shape_vec(IxDyn(shape), values)?.into())
}

/// Fails for types that we do not carry.
pub(super) fn from_engine(tensor: &TractTensor) -> TractResult<Tensor> {
    let whole;
    let tensor = match tensor.datum_type() {
        DatumType::TDim => {
            whole = tensor.cast_to::<i64>()?;
            whole.as_ref()
        }
        _ => tensor,
    };
    let plain = tensor.try_as_plain_ram()?;
    let data = match tensor.datum_type().unquantized() {
        DatumType::F32 => Data::F32(plain.as_slice::<f32>()?.to_vec()),
        DatumType::F64 => Data::F64(plain.as_slice::<f64>()?.to_vec()),
        DatumType::F16 => Data::F16(plain.as_slice::<f16>()?.iter().map(|half| half.to_bits()).collect()),
        DatumType::I64 => Data::I64(plain.as_slice::<i64>()?.to_vec()),
        DatumType::I32 => Data::I32(plain.as_slice::<i32>()?.to_vec()),
        DatumType::I16 => Data::I16(plain.as_slice::<i16>()?.to_vec()),
        DatumType::I8 => Data::I8(plain.as_slice::<i8>()?.to_vec()),
        DatumType::U64 => Data::U64(plain.as_slice::<u64>()?.to_vec()),
        DatumType::U32 => Data::U32(plain.as_slice::<u32>()?.to_vec()),
        DatumType::U16 => Data::U16(plain.as_slice::<u16>()?.to_vec()),
        DatumType::U8 => Data::U8(plain.as_slice::<u8>()?.to_vec()),
        DatumType::Bool => Data::Bool(plain.as_slice::<bool>()?.to_vec()),
        DatumType::String => Data::Text(plain.as_slice::<String>()?.to_vec()),
        other => return Err(tract_core::internal::format_err!("an output is of type {other:?}")),
    };
    Ok(Tensor { shape: tensor.shape().to_vec(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_comes_back_as_it_went() {
        let all = [
            Data::F32(vec![1.5, f32::INFINITY]),
            Data::F64(vec![-2.25, 0.0]),
            Data::F16(vec![0x3c00, 0xfbff]),
            Data::I64(vec![i64::MIN, 1]),
            Data::I32(vec![i32::MIN, 1]),
            Data::I16(vec![i16::MIN, 1]),
            Data::I8(vec![i8::MIN, 1]),
            Data::U64(vec![u64::MAX, 1]),
            Data::U32(vec![u32::MAX, 1]),
            Data::U16(vec![u16::MAX, 1]),
            Data::U8(vec![u8::MAX, 1]),
            Data::Bool(vec![true, false]),
            Data::Text(vec!["größer".into(), String::new()]),
        ];
        for data in all {
            let ours = Tensor { shape: vec![2, 1], data };
            let theirs = to_engine(&ours).unwrap();
            assert_eq!(theirs.datum_type(), datum_type(ours.data_type()));
            assert_eq!(data_type(theirs.datum_type()), Some(ours.data_type()));
            assert_eq!(from_engine(&theirs).unwrap(), ours);
        }
    }

    #[test]
    fn a_shape_that_its_elements_do_not_fill_is_an_error() {
        let torn = Tensor { shape: vec![3], data: Data::F32(vec![0.0; 2]) };
        assert!(to_engine(&torn).is_err());
        let torn = Tensor { shape: vec![3], data: Data::Text(vec![]) };
        assert!(to_engine(&torn).is_err());
    }

    #[test]
    fn an_empty_tensor_is_a_tensor() {
        let empty = Tensor { shape: vec![0, 4], data: Data::F32(vec![]) };
        assert_eq!(from_engine(&to_engine(&empty).unwrap()).unwrap(), empty);
    }
}
