//! Tensors as plain numbers and back, for operators that are evaluated literally.
//!
//! Floats are computed in f64 and rounded once, at the end. Element types that are only moved never
//! pass through numbers: [`pick`] takes them as they are, strings included.

use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_ndarray::{ArrayD, IxDyn};

/// The elements as f64.
pub(super) fn floats(tensor: &Tensor) -> TractResult<Vec<f64>> {
    Ok(tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
}

/// The elements as f64, with their axes.
pub(super) fn array(tensor: &Tensor) -> TractResult<ArrayD<f64>> {
    Ok(ArrayD::from_shape_vec(IxDyn(tensor.shape()), floats(tensor)?)?)
}

/// The elements as i64.
pub(super) fn ints(tensor: &Tensor) -> TractResult<Vec<i64>> {
    Ok(tensor.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// The elements of a whole type, to the end of each.
pub(super) fn wholes(x: &Tensor) -> TractResult<Vec<i128>> {
    if x.datum_type() == DatumType::U64 {
        return Ok(x.try_as_plain_ram()?.as_slice::<u64>()?.iter().map(|whole| (*whole).into()).collect());
    }
    Ok(ints(x)?.into_iter().map(i128::from).collect())
}

/// A tensor of a whole type; what does not fit wraps.
pub(super) fn from_wholes(datum_type: DatumType, shape: &[usize], values: &[i128]) -> TractResult<Tensor> {
    let values: Vec<u64> = values.iter().map(|whole| *whole as u64).collect();
    Ok(Tensor::from_shape(shape, &values)?.cast_to_dt(datum_type)?.into_owned())
}

/// A tensor of `datum_type` from f64.
pub(super) fn from_floats(datum_type: DatumType, shape: &[usize], values: &[f64]) -> TractResult<Tensor> {
    Ok(Tensor::from_shape(shape, values)?.cast_to_dt(datum_type)?.into_owned())
}

/// A tensor of `datum_type` from f64, with its axes.
pub(super) fn from_array(datum_type: DatumType, values: &ArrayD<f64>) -> TractResult<Tensor> {
    from_floats(datum_type, values.shape(), &values.iter().copied().collect::<Vec<_>>())
}

/// An axis counted from either end.
pub(super) fn axis(axis: i64, rank: usize) -> TractResult<usize> {
    let count = i64::try_from(rank)?;
    ensure!((-count..count).contains(&axis), "axis {axis} of a tensor with {rank} axes");
    Ok(usize::try_from(axis.rem_euclid(count))?)
}

/// Number of elements in front of, along, and behind an axis.
pub(super) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Flat distance of neighbours along each axis, rows last.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Every coordinate of `shape`, in order.
pub(super) fn coordinates(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let count = shape.iter().product::<usize>();
    let strides = strides(shape);
    let shape = shape.to_vec();
    (0..count)
        .map(move |flat| shape.iter().zip(&strides).map(|(length, stride)| flat / stride % length).collect())
}

/// The shape that NumPy broadcasting gives.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> TractResult<Vec<usize>> {
    let rank = a.len().max(b.len());
    let length =
        |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|axis| match (length(a, axis), length(b, axis)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => bail!("shapes {a:?} and {b:?} cannot be broadcast"),
        })
        .collect()
}

/// Where the element of `coordinate` stands in a tensor of `shape` that is broadcast to it.
pub(super) fn broadcast_at(shape: &[usize], coordinate: &[usize]) -> usize {
    let behind = &coordinate[coordinate.len() - shape.len()..];
    shape.iter().zip(behind).fold(0, |flat, (length, at)| flat * length + if *length == 1 { 0 } else { *at })
}

/// The shape of two that are broadcast to each other, and for each of its elements where the two of it stand.
pub(super) fn pairs(
    a: &[usize],
    b: &[usize],
) -> TractResult<(Vec<usize>, impl Iterator<Item = (usize, usize)>)> {
    let shape = broadcast(a, b)?;
    let pairs = coordinates(&shape).map(move |at| (broadcast_at(a, &at), broadcast_at(b, &at)));
    Ok((shape, pairs))
}

/// The larger one; NaN wins, as NumPy and onnxruntime have it. Of equals `b`.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// A constant of a type and a rank, so that it meets a tensor that has them.
pub(super) fn constant(
    model: &mut TypedModel,
    name: String,
    value: f32,
    datum_type: DatumType,
    rank: usize,
) -> TractResult<OutletId> {
    let value = tensor0(value).cast_to_dt(datum_type)?.into_owned();
    model.add_const(name, value.broadcast_into_rank(rank)?)
}

/// A tensor of the elements of `tensor` at flat positions `at`; `None` is the type's zero.
pub(super) fn pick(tensor: &Tensor, shape: &[usize], at: &[Option<usize>]) -> TractResult<Tensor> {
    fn typed<T: Datum + Default>(
        tensor: &Tensor,
        shape: &[usize],
        at: &[Option<usize>],
    ) -> TractResult<Tensor> {
        let plain = tensor.try_as_plain_ram()?;
        let from = plain.as_slice::<T>()?;
        let picked = at.iter().map(|at| at.map_or_else(T::default, |at| from[at].clone())).collect();
        Ok(ArrayD::from_shape_vec(IxDyn(shape), picked)?.into())
    }
    dispatch_datum!(typed(tensor.datum_type())(tensor, shape, at))
}
