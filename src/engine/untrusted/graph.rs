//! A decoded graph: whether every tensor is made once and before it is read, and holds what it claims.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::{DataLocation, DataType as OnnxType};
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use crate::engine::oracle;
use crate::engine::refused::{for_each_graph, name_of};

/// Elements that one tensor may have: 1 GiB of f32.
pub(in crate::engine) const MAX_ELEMENTS: u64 = 1 << 28;

/// Nodes of a graph and of those inside it. The engine's rewrites compare each with each: 5,000 take it
/// a second, 10,000 four. The largest exports have some ten thousand.
pub(in crate::engine) const MAX_NODES: usize = 1 << 14;
/// Weights, which are compared with each other as well.
const MAX_WEIGHTS: usize = 1 << 15;

/// Refuses a graph that is none, or whose tensors are not what they claim.
pub(in crate::engine) fn look(graph: &GraphProto) -> Result<(), String> {
    counts(graph)?;
    scope(graph, &HashSet::new())?;
    growth(graph)
}

fn counts(graph: &GraphProto) -> Result<(), String> {
    let (mut nodes, mut weights) = (0, 0);
    for_each_graph(graph, &mut |graph| {
        nodes += graph.node.len();
        weights += graph.initializer.len();
    });
    for (seen, of, most) in [(nodes, "nodes", MAX_NODES), (weights, "weights", MAX_WEIGHTS)] {
        if seen > most {
            return Err(format!("its graph has {seen} {of}; at most {most} are taken"));
        }
    }
    Ok(())
}

/// One graph, and those inside it, which see what is made around them.
fn scope(graph: &GraphProto, outer: &HashSet<&str>) -> Result<(), String> {
    let mut known: HashSet<&str> = HashSet::new();
    for input in &graph.input {
        if !known.insert(&input.name) {
            return Err(format!("two of its inputs are called {:?}", input.name));
        }
    }
    let mut weights: HashSet<&str> = HashSet::new();
    for tensor in &graph.initializer {
        holds_what_it_claims(tensor)?;
        if !weights.insert(&tensor.name) {
            return Err(format!("two of its weights are called {:?}", tensor.name));
        }
    }
    // A weight may be an input's default.
    known.extend(&weights);
    known.extend(graph.sparse_initializer.iter().flat_map(|sparse| &sparse.values).map(|t| t.name.as_str()));
    let mut maker: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if known.contains(output.as_str()) || maker.insert(output, index).is_some() {
                return Err(format!(
                    "node {:?} ({}) makes the tensor {output:?}, which is there already",
                    name_of(node),
                    node.op_type
                ));
            }
        }
        for tensor in node.attribute.iter().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors))
        {
            holds_what_it_claims(tensor)?;
        }
    }
    let all: HashSet<&str> = outer.iter().chain(&known).copied().chain(maker.keys().copied()).collect();
    for node in &graph.node {
        if let Some(missing) = node.input.iter().find(|name| !name.is_empty() && !all.contains(name.as_str()))
        {
            return Err(format!(
                "node {:?} ({}) reads the tensor {missing:?}, which nothing makes",
                name_of(node),
                node.op_type
            ));
        }
        moves_each_axis_once(node)?;
        for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
            scope(inner, &all)?;
        }
    }
    circle(graph, &maker)
}

/// tract takes a permutation apart into moves, and never ends with what is none.
fn moves_each_axis_once(node: &NodeProto) -> Result<(), String> {
    let perm =
        node.attribute.iter().find(|attribute| attribute.name == "perm").map(|attribute| &attribute.ints);
    match perm {
        Some(perm) if node.op_type == "Transpose" && !is_permutation(perm) => Err(format!(
            "node {:?} (Transpose) has the perm {perm:?}, which does not name each axis once",
            name_of(node)
        )),
        _ => Ok(()),
    }
}

/// Whether each of 0 to the list's length is in it once.
pub(in crate::engine) fn is_permutation<T: Copy + TryInto<usize>>(axes: &[T]) -> bool {
    let mut there = vec![false; axes.len()];
    axes.iter().all(|axis| {
        let slot = (*axis).try_into().ok().and_then(|axis| there.get_mut(axis));
        slot.is_some_and(|slot| !std::mem::replace(slot, true))
    })
}

/// Whatever cannot be put in order goes round in a circle.
fn circle(graph: &GraphProto, maker: &HashMap<&str, usize>) -> Result<(), String> {
    let mut waits: Vec<usize> = vec![0; graph.node.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (index, node) in graph.node.iter().enumerate() {
        for made_by in read(node).filter_map(|name| maker.get(name)) {
            waits[index] += 1;
            readers[*made_by].push(index);
        }
    }
    let mut ready: Vec<usize> = (0..waits.len()).filter(|index| waits[*index] == 0).collect();
    let mut done = 0;
    while let Some(index) = ready.pop() {
        done += 1;
        for reader in &readers[index] {
            waits[*reader] -= 1;
            if waits[*reader] == 0 {
                ready.push(*reader);
            }
        }
    }
    if done == waits.len() {
        return Ok(());
    }
    let at = waits.iter().position(|waits| *waits > 0).unwrap_or(0);
    let node = &graph.node[at];
    Err(format!(
        "its nodes go round in a circle; node {:?} ({}) waits for itself",
        name_of(node),
        node.op_type
    ))
}

/// What a node reads; graphs inside it may read what stands around them.
fn read(node: &NodeProto) -> Box<dyn Iterator<Item = &str> + '_> {
    let inner = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    Box::new(
        node.input.iter().map(String::as_str).chain(inner.flat_map(|graph| graph.node.iter().flat_map(read))),
    )
}

/// A tensor has as many elements as its shape says, and no shape that no memory could hold.
fn holds_what_it_claims(tensor: &TensorProto) -> Result<(), String> {
    let name = &tensor.name;
    let claimed =
        tensor.dims.iter().try_fold(1_u64, |all, length| all.checked_mul(u64::try_from(*length).ok()?));
    let claimed = claimed.filter(|claimed| *claimed <= MAX_ELEMENTS).ok_or_else(|| {
        format!(
            "the tensor {name:?} claims the shape {:?}; at most {MAX_ELEMENTS} elements are taken",
            tensor.dims
        )
    })?;
    // Refused elsewhere, with its own words.
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        return Ok(());
    }
    use OnnxType::{
        Bfloat16, Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, String, Uint8, Uint16, Uint32,
        Uint64,
    };
    let (bytes, typed) = match OnnxType::try_from(tensor.data_type) {
        Ok(Float) => (4, tensor.float_data.len()),
        Ok(Double) => (8, tensor.double_data.len()),
        Ok(Int64) => (8, tensor.int64_data.len()),
        Ok(Uint64) => (8, tensor.uint64_data.len()),
        Ok(Uint32) => (4, tensor.uint64_data.len()),
        Ok(Int32) => (4, tensor.int32_data.len()),
        Ok(Int16 | Uint16 | Float16 | Bfloat16) => (2, tensor.int32_data.len()),
        Ok(Int8 | Uint8 | Bool) => (1, tensor.int32_data.len()),
        Ok(String) => (0, tensor.string_data.len()),
        // Packed and complex types: the engine has the last word.
        _ => return Ok(()),
    };
    let seen =
        if tensor.raw_data.is_empty() || bytes == 0 { typed * bytes.max(1) } else { tensor.raw_data.len() };
    let wanted = claimed * bytes.max(1) as u64;
    if seen as u64 == wanted {
        return Ok(());
    }
    let unit = if bytes == 0 { "strings" } else { "bytes" };
    Err(format!("the tensor {name:?} claims the shape {:?}, {wanted} {unit}, and holds {seen}", tensor.dims))
}

/// Operators that make much of little, held against the constants that say how much: the engine
/// computes them while it reads the file.
fn growth(graph: &GraphProto) -> Result<(), String> {
    for (node, elements) in oracle::claimed_elements(graph) {
        if elements > MAX_ELEMENTS as f64 {
            return Err(format!(
                "node {:?} ({}) would make a tensor of {elements:.0} elements; at most {MAX_ELEMENTS} are taken",
                name_of(node),
                node.op_type
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DataType;
    use crate::engine::sample::{Attribute, Sample};
    use prost::Message;
    use tract_onnx::pb::ModelProto;

    fn told(sample: &Sample) -> String {
        let proto = ModelProto::decode(&*sample.bytes()).unwrap();
        look(&proto.graph.unwrap()).map_or_else(|why| why, |()| "well".to_owned())
    }

    fn input() -> Sample {
        Sample::default().input("x", DataType::F32, &[1, 2]).output("y")
    }

    #[test]
    fn a_claimed_shape_that_no_memory_holds_is_refused() {
        let huge = input().weights("w", &[1_000_000, 1_000_000], &[]).node("Add", &["x", "w"], &["y"], &[]);
        assert!(told(&huge).contains("claims the shape [1000000, 1000000]; at most"), "{}", told(&huge));
        let overflow = input().weights("w", &[1 << 62, 1 << 62], &[]).node("Add", &["x", "w"], &["y"], &[]);
        assert!(told(&overflow).contains("at most"), "{}", told(&overflow));
        let short = input().weights("w", &[2, 2], &[1.0]).node("Add", &["x", "w"], &["y"], &[]);
        assert!(told(&short).contains("[2, 2], 16 bytes, and holds 4"), "{}", told(&short));
    }

    #[test]
    fn a_circle_a_double_and_a_missing_tensor_are_named() {
        let circle = input().node("Add", &["x", "y"], &["a"], &[]).node("Relu", &["a"], &["y"], &[]);
        assert!(
            told(&circle).contains("circle") && told(&circle).contains("waits for itself"),
            "{}",
            told(&circle)
        );
        let double = input().node("Relu", &["x"], &["y"], &[]).node("Abs", &["x"], &["y"], &[]);
        assert!(told(&double).contains("\"y\", which is there already"), "{}", told(&double));
        let missing = input().node("Add", &["x", "nowhere"], &["y"], &[]);
        assert!(told(&missing).contains("\"nowhere\", which nothing makes"), "{}", told(&missing));
        assert_eq!(told(&input().node("Relu", &["x"], &["y"], &[])), "well");
    }

    #[test]
    fn a_transpose_that_names_an_axis_twice_or_never_is_refused() {
        let with =
            |perm: &[i64]| told(&input().node("Transpose", &["x"], &["y"], &[Attribute::Ints("perm", perm)]));
        for perm in [&[1, 1][..], &[0, 2], &[-1, 0], &[i64::MAX, 0], &[2, 0, 0]] {
            assert!(with(perm).contains("does not name each axis once"), "{}", with(perm));
        }
        assert_eq!(with(&[1, 0]), "well");
    }

    #[test]
    fn more_nodes_than_are_taken_within_seconds_are_refused_with_both_numbers() {
        let node = |i: usize| NodeProto {
            op_type: "Relu".into(),
            input: vec![format!("t{i}")],
            output: vec![format!("t{}", i + 1)],
            ..NodeProto::default()
        };
        let input = tract_onnx::pb::ValueInfoProto { name: "t0".into(), ..Default::default() };
        let mut graph = GraphProto {
            node: (0..MAX_NODES).map(node).collect(),
            input: vec![input],
            ..GraphProto::default()
        };
        assert_eq!(look(&graph), Ok(()));
        graph.node.push(node(MAX_NODES));
        assert_eq!(look(&graph), Err("its graph has 16385 nodes; at most 16384 are taken".to_owned()));
    }

    #[test]
    fn nodes_out_of_order_are_no_circle() {
        let unsorted = input().node("Relu", &["a"], &["y"], &[]).node("Abs", &["x"], &["a"], &[]);
        assert_eq!(told(&unsorted), "well");
    }

    #[test]
    fn a_constant_that_would_grow_beyond_memory_is_refused_before_it_does() {
        let huge = input()
            .integers("s", &[1_000_000, 1_000_000])
            .node("ConstantOfShape", &["s"], &["z"], &[])
            .node("Add", &["x", "z"], &["y"], &[]);
        assert!(told(&huge).contains("would make a tensor of 1000000000000 elements"), "{}", told(&huge));
        let computed = input().integers("a", &[1_000_000]).node("Mul", &["a", "a"], &["s"], &[]).node(
            "Expand",
            &["x", "s"],
            &["y"],
            &[],
        );
        assert!(told(&computed).contains("1000000000000 elements"), "{}", told(&computed));
        let small = input().integers("s", &[1, 2]).node("ConstantOfShape", &["s"], &["z"], &[]).node(
            "Add",
            &["x", "z"],
            &["y"],
            &[],
        );
        assert_eq!(told(&small), "well");
    }
}
