//! Sparse constants, written out: the engine knows none.
//!
//! Source: onnx.proto, SparseTensorProto; a place is a number in the flat tensor, or one for each axis. Promise: what
//! comes out means what the file means, or it is refused by name; all of them together stay below [`MAX_BYTES`].

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType as OnnxType};
use tract_onnx::pb::{GraphProto, SparseTensorProto, TensorProto};

/// What the sparse tensors of a file may become: a few bytes can claim any shape.
const MAX_BYTES: usize = 1 << 28;

/// Writes the sparse constants of `graph`, and of every graph inside its nodes, as dense ones.
///
/// # Errors
/// In words: one that contradicts itself, or would grow beyond the cap.
pub(super) fn write(graph: &mut GraphProto) -> Result<(), String> {
    let mut left = MAX_BYTES;
    write_within(graph, &mut left)
}

fn write_within(graph: &mut GraphProto, left: &mut usize) -> Result<(), String> {
    let (external, here) = std::mem::take(&mut graph.sparse_initializer).into_iter().partition(is_external);
    // Refused elsewhere, with its own words.
    graph.sparse_initializer = external;
    let here: Vec<SparseTensorProto> = here;
    for sparse in &here {
        graph.initializer.push(dense(sparse, left)?);
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        if attribute.name == "sparse_value"
            && let Some(sparse) = attribute.sparse_tensor.take_if(|sparse| !is_external(sparse))
        {
            attribute.t = Some(dense(&sparse, left)?);
            attribute.name = "value".to_owned();
            attribute.r#type = AttributeType::Tensor as i32;
        }
        for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            write_within(inner, left)?;
        }
    }
    Ok(())
}

fn is_external(sparse: &SparseTensorProto) -> bool {
    sparse.values.iter().chain(&sparse.indices).any(|tensor| {
        tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty()
    })
}

fn dense(sparse: &SparseTensorProto, left: &mut usize) -> Result<TensorProto, String> {
    let named = |why: String| {
        let name = sparse.values.as_ref().map(|values| values.name.as_str()).unwrap_or_default();
        format!("the sparse tensor {name:?}: {why}")
    };
    let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else {
        return Err(named("it has no values, or no indices".to_owned()));
    };
    let (size, numbers) =
        bytes(values).ok_or_else(|| named(format!("element type {} is not taken", values.data_type)))?;
    let lengths: Option<Vec<usize>> =
        sparse.dims.iter().map(|length| usize::try_from(*length).ok()).collect();
    let whole = lengths.as_ref().and_then(|lengths| {
        lengths.iter().try_fold(size, |all, length| all.checked_mul(*length)).filter(|whole| whole <= left)
    });
    let (Some(lengths), Some(whole)) = (lengths, whole) else {
        let most = MAX_BYTES >> 20;
        return Err(named(format!("its shape is {:?}; at most {most} MiB are written out", sparse.dims)));
    };
    *left -= whole;
    let count = numbers.len() / size;
    let places = bytes(indices).filter(|_| indices.data_type == OnnxType::Int64 as i32);
    let (_, places) = places.ok_or_else(|| named("its indices are no i64".to_owned()))?;
    let (places, rest) = places.as_chunks::<8>();
    let places: Vec<i64> = places.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    // Flat ones, unless there is a column for each axis.
    let columns = if indices.dims.len() == 2 { lengths.len() } else { 1 };
    if places.len() != count * columns || !rest.is_empty() || numbers.len() % size != 0 {
        return Err(named(format!("{count} values at {} indices of {columns}", places.len())));
    }
    let mut raw_data = vec![0; whole];
    for (at, number) in numbers.chunks_exact(size).enumerate() {
        let place = &places[at * columns..][..columns];
        let flat = match (columns, place) {
            (1, [flat]) => usize::try_from(*flat).ok().filter(|flat| *flat < whole / size),
            _ => place.iter().zip(&lengths).try_fold(0, |flat, (at, length)| {
                Some(flat * length + usize::try_from(*at).ok().filter(|at| at < length)?)
            }),
        };
        let flat = flat.ok_or_else(|| named(format!("the index {place:?} lies outside of {lengths:?}")))?;
        raw_data[flat * size..][..size].copy_from_slice(number);
    }
    Ok(TensorProto {
        name: values.name.clone(),
        dims: sparse.dims.clone(),
        data_type: values.data_type,
        raw_data,
        ..TensorProto::default()
    })
}

/// Bytes of an element, and those of all; `None` for types whose elements are not whole bytes.
pub(super) fn bytes(tensor: &TensorProto) -> Option<(usize, Vec<u8>)> {
    use OnnxType::{
        Bfloat16, Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
    };
    let element = OnnxType::try_from(tensor.data_type).ok()?;
    let size = match element {
        Bool | Int8 | Uint8 => 1,
        Bfloat16 | Float16 | Int16 | Uint16 => 2,
        Float | Int32 | Uint32 => 4,
        Double | Int64 | Uint64 => 8,
        _ => return None,
    };
    if !tensor.raw_data.is_empty() {
        return Some((size, tensor.raw_data.clone()));
    }
    let bytes = match element {
        Float => tensor.float_data.iter().flat_map(|number| number.to_le_bytes()).collect(),
        Double => tensor.double_data.iter().flat_map(|number| number.to_le_bytes()).collect(),
        Int64 => tensor.int64_data.iter().flat_map(|number| number.to_le_bytes()).collect(),
        Uint32 | Uint64 => {
            tensor.uint64_data.iter().flat_map(|number| number.to_le_bytes().into_iter().take(size)).collect()
        }
        _ => {
            tensor.int32_data.iter().flat_map(|number| number.to_le_bytes().into_iter().take(size)).collect()
        }
    };
    Some((size, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(dims: &[i64], places: &[i64], columns: Option<i64>) -> SparseTensorProto {
        let count = places.len() as i64 / columns.unwrap_or(1);
        let values = TensorProto {
            name: "k".to_owned(),
            dims: vec![count],
            data_type: OnnxType::Float as i32,
            float_data: (1..=count).map(|number| number as f32).collect(),
            ..TensorProto::default()
        };
        let indices = TensorProto {
            dims: [count].into_iter().chain(columns).collect(),
            data_type: OnnxType::Int64 as i32,
            int64_data: places.to_vec(),
            ..TensorProto::default()
        };
        SparseTensorProto { values: Some(values), indices: Some(indices), dims: dims.to_vec() }
    }

    fn written(sparse: SparseTensorProto) -> Result<Vec<f32>, String> {
        let mut graph = GraphProto { sparse_initializer: vec![sparse], ..GraphProto::default() };
        write(&mut graph)?;
        let [tensor] = &*graph.initializer else { panic!("{graph:?}") };
        assert_eq!((tensor.name.as_str(), graph.sparse_initializer.len()), ("k", 0));
        Ok(tensor.raw_data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    #[test]
    fn numbers_stand_at_their_places_and_zeros_between() {
        assert_eq!(written(sparse(&[2, 3], &[1, 5], None)).unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 2.0]);
        assert_eq!(written(sparse(&[2, 3], &[0, 1, 1, 2], Some(2))).unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 2.0]);
        assert_eq!(written(sparse(&[3], &[2], Some(1))).unwrap(), [0.0, 0.0, 1.0]);
        assert_eq!(written(sparse(&[2, 0], &[], None)).unwrap(), [0.0; 0]);
    }

    #[test]
    fn what_contradicts_itself_or_grows_beyond_the_cap_is_refused_by_name() {
        for (sparse, told) in [
            (sparse(&[2, 3], &[6], None), "the index [6] lies outside of [2, 3]"),
            (sparse(&[2, 3], &[0, 3], Some(2)), "the index [0, 3] lies outside of [2, 3]"),
            (sparse(&[2, 3], &[-1], None), "the index [-1]"),
            (sparse(&[1 << 40, 1 << 40], &[0], None), "at most 256 MiB"),
            (sparse(&[-1], &[0], None), "its shape is [-1]"),
            (sparse(&[2, 3], &[0, 1, 2], Some(3)), "1 values at 3 indices of 2"),
        ] {
            let error = written(sparse).unwrap_err();
            assert!(error.starts_with("the sparse tensor \"k\": ") && error.contains(told), "{error}");
        }
    }
}
