//! Tensors of the oracle: numbers as f64 or whole, each rounded to its declared type.

use tract_core::prelude::f16;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;

use crate::base::{Data, DataType, Tensor};

/// Elements that one tensor may have here.
const MAX_ELEMENTS: usize = 1 << 26;

/// A tensor. Row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) data_type: DataType,
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements,
}

/// Numbers with a point, whole numbers (and truth, as 0 and 1), text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Elements {
    Real(Vec<f64>),
    Whole(Vec<i128>),
    Text(Vec<String>),
}

/// Number of elements of a shape, within the cap.
pub(super) fn count(shape: &[usize]) -> Result<usize, String> {
    let count = shape.iter().try_fold(1_usize, |all, length| all.checked_mul(*length));
    count
        .filter(|count| *count <= MAX_ELEMENTS)
        .ok_or_else(|| format!("shape {shape:?} has more than {MAX_ELEMENTS} elements"))
}

impl Value {
    /// Numbers of a floating type, rounded to it; of a whole type, towards zero.
    pub(super) fn real(data_type: DataType, shape: &[usize], values: Vec<f64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let shape = shape.to_vec();
        if !is_real(data_type) {
            let whole = values.iter().map(|value| *value as i128).collect();
            return Self::whole(data_type, &shape, whole);
        }
        let values = values.into_iter().map(|value| rounded(data_type, value)).collect();
        Self { data_type, shape, elements: Elements::Real(values) }
    }

    /// Whole numbers, wrapped to their type as two's complement does.
    pub(super) fn whole(data_type: DataType, shape: &[usize], values: Vec<i128>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let values = values.into_iter().map(|value| wrapped(data_type, value)).collect();
        Self { data_type, shape: shape.to_vec(), elements: Elements::Whole(values) }
    }

    pub(super) fn truth(shape: &[usize], values: Vec<bool>) -> Self {
        Self::whole(DataType::Bool, shape, values.into_iter().map(i128::from).collect())
    }

    /// A list of `i64`.
    pub(super) fn list(values: &[usize]) -> Self {
        Self::whole(DataType::I64, &[values.len()], values.iter().map(|value| *value as i128).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The numbers as f64.
    pub(super) fn reals(&self) -> Result<Vec<f64>, String> {
        match &self.elements {
            Elements::Real(values) => Ok(values.clone()),
            Elements::Whole(values) => Ok(values.iter().map(|value| *value as f64).collect()),
            Elements::Text(_) => Err("text where numbers are wanted".to_owned()),
        }
    }

    /// The whole numbers.
    pub(super) fn wholes(&self) -> Result<Vec<i128>, String> {
        match &self.elements {
            Elements::Whole(values) => Ok(values.clone()),
            Elements::Real(_) | Elements::Text(_) => Err("whole numbers are wanted".to_owned()),
        }
    }

    /// Whole numbers as `i64`: axes, shapes, indices.
    pub(super) fn ints(&self) -> Result<Vec<i64>, String> {
        Ok(self.wholes()?.into_iter().map(|value| value as i64).collect())
    }

    /// The only number.
    pub(super) fn scalar(&self) -> Result<f64, String> {
        match self.reals()?.as_slice() {
            [value] => Ok(*value),
            values => Err(format!("{} elements where one is wanted", values.len())),
        }
    }

    /// The only whole number.
    pub(super) fn whole_scalar(&self) -> Result<i128, String> {
        match self.wholes()?.as_slice() {
            [value] => Ok(*value),
            values => Err(format!("{} elements where one is wanted", values.len())),
        }
    }

    /// The elements at these places, in another shape.
    pub(super) fn pick(&self, shape: &[usize], places: &[usize]) -> Self {
        fn taken<T: Clone>(values: &[T], places: &[usize]) -> Vec<T> {
            places.iter().map(|place| values[*place].clone()).collect()
        }
        let elements = match &self.elements {
            Elements::Real(values) => Elements::Real(taken(values, places)),
            Elements::Whole(values) => Elements::Whole(taken(values, places)),
            Elements::Text(values) => Elements::Text(taken(values, places)),
        };
        Self { data_type: self.data_type, shape: shape.to_vec(), elements }
    }

    pub(super) fn reshaped(&self, shape: &[usize]) -> Result<Self, String> {
        if count(shape)? != self.len() {
            return Err(format!("{:?} cannot take the shape {shape:?}", self.shape));
        }
        Ok(Self { shape: shape.to_vec(), ..self.clone() })
    }

    /// The same numbers in another type: whole from real towards zero, truth as not zero.
    pub(super) fn cast(&self, to: DataType) -> Result<Self, String> {
        if self.data_type == to {
            return Ok(self.clone());
        }
        Ok(match (&self.elements, to) {
            (Elements::Text(_), _) | (_, DataType::Text) => return Err("text is not cast here".to_owned()),
            (_, DataType::Bool) => {
                Self::truth(&self.shape, self.reals()?.into_iter().map(|value| value != 0.0).collect())
            }
            (Elements::Whole(values), to) if !is_real(to) => Self::whole(to, &self.shape, values.clone()),
            // Beyond the type the standard leaves the answer open: the nearest number there is, and 0 for NaN.
            (_, to) => {
                let (low, high) = limits(to);
                let nearest = |x: f64| (x as i128).clamp(low, high);
                match is_real(to) {
                    true => Self::real(to, &self.shape, self.reals()?),
                    false => Self::whole(to, &self.shape, self.reals()?.into_iter().map(nearest).collect()),
                }
            }
        })
    }

    pub(super) fn of_tensor(tensor: &Tensor) -> Self {
        let elements = match &tensor.data {
            Data::F32(values) => Elements::Real(values.iter().map(|v| f64::from(*v)).collect()),
            Data::F64(values) => Elements::Real(values.clone()),
            Data::F16(bits) => {
                Elements::Real(bits.iter().map(|bits| f16::from_bits(*bits).to_f64()).collect())
            }
            Data::I64(values) => Elements::Whole(values.iter().map(|v| i128::from(*v)).collect()),
            Data::I32(values) => Elements::Whole(values.iter().map(|v| i128::from(*v)).collect()),
            Data::I16(values) => Elements::Whole(values.iter().map(|v| i128::from(*v)).collect()),
            Data::I8(values) => Elements::Whole(values.iter().map(|v| i128::from(*v)).collect()),
            Data::U64(values) => Elements::Whole(values.iter().map(|v| i128::from(*v)).collect()),
            Data::U32(values) => Elements::Whole(values.iter().map(|v| i128::from(*v)).collect()),
            Data::U16(values) => Elements::Whole(values.iter().map(|v| i128::from(*v)).collect()),
            Data::U8(values) => Elements::Whole(values.iter().map(|v| i128::from(*v)).collect()),
            Data::Bool(values) => Elements::Whole(values.iter().map(|v| i128::from(*v)).collect()),
            Data::Text(values) => Elements::Text(values.clone()),
        };
        Self { data_type: tensor.data_type(), shape: tensor.shape.clone(), elements }
    }

    pub(super) fn to_tensor(&self) -> Tensor {
        let data = match &self.elements {
            Elements::Text(values) => Data::Text(values.clone()),
            Elements::Real(values) => match self.data_type {
                DataType::F64 => Data::F64(values.clone()),
                DataType::F16 => Data::F16(values.iter().map(|v| f16::from_f64(*v).to_bits()).collect()),
                _ => Data::F32(values.iter().map(|v| *v as f32).collect()),
            },
            Elements::Whole(values) => match self.data_type {
                DataType::I32 => Data::I32(values.iter().map(|v| *v as i32).collect()),
                DataType::I16 => Data::I16(values.iter().map(|v| *v as i16).collect()),
                DataType::I8 => Data::I8(values.iter().map(|v| *v as i8).collect()),
                DataType::U64 => Data::U64(values.iter().map(|v| *v as u64).collect()),
                DataType::U32 => Data::U32(values.iter().map(|v| *v as u32).collect()),
                DataType::U16 => Data::U16(values.iter().map(|v| *v as u16).collect()),
                DataType::U8 => Data::U8(values.iter().map(|v| *v as u8).collect()),
                DataType::Bool => Data::Bool(values.iter().map(|v| *v != 0).collect()),
                _ => Data::I64(values.iter().map(|v| *v as i64).collect()),
            },
        };
        Tensor { shape: self.shape.clone(), data }
    }
}

pub(super) fn is_real(data_type: DataType) -> bool {
    matches!(data_type, DataType::F32 | DataType::F64 | DataType::F16)
}

fn rounded(data_type: DataType, value: f64) -> f64 {
    match data_type {
        DataType::F64 => value,
        DataType::F16 => f16::from_f64(value).to_f64(),
        _ => f64::from(value as f32),
    }
}

/// Lowest and highest value of a whole type.
pub(super) fn limits(data_type: DataType) -> (i128, i128) {
    match data_type {
        DataType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::I16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::U8 => (0, u8::MAX.into()),
        DataType::U16 => (0, u16::MAX.into()),
        DataType::U32 => (0, u32::MAX.into()),
        DataType::U64 => (0, u64::MAX.into()),
        DataType::Bool => (0, 1),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

fn wrapped(data_type: DataType, value: i128) -> i128 {
    let (low, high) = limits(data_type);
    (value - low).rem_euclid(high - low + 1) + low
}

/// ONNX's number of a type, where we carry it.
pub(super) fn of_onnx(data_type: i64) -> Result<DataType, String> {
    let known = i32::try_from(data_type).ok().and_then(|number| OnnxType::try_from(number).ok());
    Ok(match known {
        Some(OnnxType::Float) => DataType::F32,
        Some(OnnxType::Double) => DataType::F64,
        Some(OnnxType::Float16) => DataType::F16,
        Some(OnnxType::Int64) => DataType::I64,
        Some(OnnxType::Int32) => DataType::I32,
        Some(OnnxType::Int16) => DataType::I16,
        Some(OnnxType::Int8) => DataType::I8,
        Some(OnnxType::Uint64) => DataType::U64,
        Some(OnnxType::Uint32) => DataType::U32,
        Some(OnnxType::Uint16) => DataType::U16,
        Some(OnnxType::Uint8) => DataType::U8,
        Some(OnnxType::Bool) => DataType::Bool,
        Some(OnnxType::String) => DataType::Text,
        _ => return Err(format!("element type {data_type} is not known here")),
    })
}

/// Weights as they stand in the file.
pub(super) fn of_proto(tensor: &TensorProto) -> Result<Value, String> {
    let data_type = of_onnx(tensor.data_type.into())?;
    let shape: Vec<usize> = tensor
        .dims
        .iter()
        .map(|length| usize::try_from(*length).map_err(|_| format!("length {length}")))
        .collect::<Result<_, _>>()?;
    let wanted = count(&shape)?;
    let raw = &tensor.raw_data;
    macro_rules! little {
        ($type:ty) => {{
            let (values, rest) = raw.as_chunks::<{ size_of::<$type>() }>();
            if !rest.is_empty() {
                return Err("the raw data breaks off".to_owned());
            }
            values.iter().map(|bytes| <$type>::from_le_bytes(*bytes))
        }};
    }
    let whole = |values: Vec<i128>| Elements::Whole(values);
    let elements = if data_type == DataType::Text {
        let texts = tensor.string_data.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Elements::Text(texts.collect())
    } else if raw.is_empty() {
        match data_type {
            DataType::F32 => Elements::Real(tensor.float_data.iter().map(|v| f64::from(*v)).collect()),
            DataType::F64 => Elements::Real(tensor.double_data.clone()),
            DataType::F16 => Elements::Real(
                tensor.int32_data.iter().map(|bits| f16::from_bits(*bits as u16).to_f64()).collect(),
            ),
            DataType::I64 => whole(tensor.int64_data.iter().map(|v| i128::from(*v)).collect()),
            DataType::U64 | DataType::U32 => {
                whole(tensor.uint64_data.iter().map(|v| i128::from(*v)).collect())
            }
            _ => whole(tensor.int32_data.iter().map(|v| i128::from(*v)).collect()),
        }
    } else {
        match data_type {
            DataType::F32 => Elements::Real(little!(f32).map(f64::from).collect()),
            DataType::F64 => Elements::Real(little!(f64).collect()),
            DataType::F16 => Elements::Real(little!(u16).map(|bits| f16::from_bits(bits).to_f64()).collect()),
            DataType::I64 => whole(little!(i64).map(i128::from).collect()),
            DataType::I32 => whole(little!(i32).map(i128::from).collect()),
            DataType::I16 => whole(little!(i16).map(i128::from).collect()),
            DataType::I8 => whole(little!(i8).map(i128::from).collect()),
            DataType::U64 => whole(little!(u64).map(i128::from).collect()),
            DataType::U32 => whole(little!(u32).map(i128::from).collect()),
            DataType::U16 => whole(little!(u16).map(i128::from).collect()),
            _ => whole(little!(u8).map(i128::from).collect()),
        }
    };
    let seen = match &elements {
        Elements::Real(values) => values.len(),
        Elements::Whole(values) => values.len(),
        Elements::Text(values) => values.len(),
    };
    if seen != wanted {
        return Err(format!("{seen} elements for the shape {shape:?}"));
    }
    Ok(Value { data_type, shape, elements })
}

/// How far apart neighbours along each axis lie.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The shape that both broadcast to (ONNX's multidirectional broadcasting, NumPy's).
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let length = |shape: &[usize], axis: usize| {
        if axis + shape.len() < rank { 1 } else { shape[axis + shape.len() - rank] }
    };
    let shape: Vec<usize> = (0..rank)
        .map(|axis| match (length(a, axis), length(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(format!("{a:?} and {b:?} do not broadcast")),
        })
        .collect::<Result<_, _>>()?;
    count(&shape)?;
    Ok(shape)
}

/// For each element of `to`, its place in a tensor of shape `from` that is broadcast to it.
pub(super) fn places(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let skipped = to.len() - from.len();
    let step: Vec<usize> = (0..to.len())
        .map(|axis| if axis < skipped || from[axis - skipped] == 1 { 0 } else { own[axis - skipped] })
        .collect();
    walk(to, &step, 0)
}

/// The places that an index over `shape` visits in row-major order, `step` apart along each axis.
pub(super) fn walk(shape: &[usize], step: &[usize], start: usize) -> Vec<usize> {
    let mut places = vec![start];
    for (length, step) in shape.iter().zip(step) {
        places = places.iter().flat_map(|place| (0..*length).map(move |i| place + i * step)).collect();
    }
    places
}

/// Every index of a shape, in row-major order.
pub(super) fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let shape = shape.to_vec();
    let total: usize = shape.iter().product();
    (0..total).map(move |flat| {
        let mut rest = flat;
        let mut index = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            index[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        index
    })
}

/// The place of an index.
pub(super) fn place(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(i, stride)| i * stride).sum()
}

/// An axis that may count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(counted)
        .ok()
        .filter(|axis| *axis < rank.max(1))
        .ok_or_else(|| format!("axis {axis} of {rank}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_whole_type_cannot_hold_becomes_its_nearest() {
        let reals = Value::real(DataType::F64, &[4], vec![-3.0, 300.7, f64::NAN, 1e30]);
        assert_eq!(reals.cast(DataType::U8).unwrap().wholes().unwrap(), [0, 255, 0, 255]);
        assert_eq!(reals.cast(DataType::I64).unwrap().wholes().unwrap()[3], i64::MAX.into());
        let wholes = Value::whole(DataType::I64, &[1], vec![257]);
        assert_eq!(wholes.cast(DataType::U8).unwrap().wholes().unwrap(), [1]);
    }
}
