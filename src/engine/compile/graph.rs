//! What a graph says about itself, and cutting it short.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

use crate::base::DataType;
use crate::engine::onnx;
use crate::engine::refused::for_each_graph;

/// The graph that ends in these tensors, with nothing in it that they do not need.
pub(in crate::engine) fn cut(proto: &ModelProto, tensors: &[&str]) -> ModelProto {
    let Some(graph) = &proto.graph else { return proto.clone() };
    let needed = ancestors(graph, tensors);
    let node: Vec<NodeProto> = (graph.node.iter().enumerate())
        .filter(|(index, _)| needed.contains(index))
        .map(|(_, node)| node.clone())
        .collect();
    let mut read: HashSet<&str> = tensors.iter().copied().collect();
    for node in &node {
        collect_inputs(node, &mut read);
    }
    let named = |name: &&str| ValueInfoProto { name: (*name).to_owned(), ..ValueInfoProto::default() };
    let cut = GraphProto {
        initializer: graph
            .initializer
            .iter()
            .filter(|tensor| read.contains(tensor.name.as_str()))
            .cloned()
            .collect(),
        output: tensors.iter().map(named).collect(),
        input: graph.input.clone(),
        name: graph.name.clone(),
        sparse_initializer: graph.sparse_initializer.clone(),
        node: node.clone(),
        ..GraphProto::default()
    };
    let mut whole = ModelProto { graph: None, ..proto_without_graph(proto) };
    whole.graph = Some(cut);
    whole
}

pub(super) fn proto_without_graph(proto: &ModelProto) -> ModelProto {
    ModelProto {
        ir_version: proto.ir_version,
        opset_import: proto.opset_import.clone(),
        metadata_props: proto.metadata_props.clone(),
        ..ModelProto::default()
    }
}

/// Positions of the nodes that make these tensors, and of all that make what they read.
pub(super) fn ancestors(graph: &GraphProto, tensors: &[&str]) -> HashSet<usize> {
    let mut maker: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        maker.extend(node.output.iter().map(|output| (output.as_str(), index)));
    }
    let mut found = HashSet::new();
    let mut open: Vec<usize> = tensors.iter().filter_map(|tensor| maker.get(tensor).copied()).collect();
    while let Some(index) = open.pop() {
        if found.insert(index) {
            let mut read = HashSet::new();
            collect_inputs(&graph.node[index], &mut read);
            open.extend(read.into_iter().filter_map(|tensor| maker.get(tensor).copied()));
        }
    }
    found
}

/// What a node reads, graphs inside it included.
fn collect_inputs<'g>(node: &'g NodeProto, read: &mut HashSet<&'g str>) {
    read.extend(node.input.iter().map(String::as_str));
    for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
        read.extend(inner.output.iter().map(|output| output.name.as_str()));
        for node in &inner.node {
            collect_inputs(node, read);
        }
    }
}

/// Whether some of it computes with 8 bits: then answers are as coarse as its steps.
pub(super) fn is_quantised(proto: &ModelProto) -> bool {
    let mut found = false;
    if let Some(graph) = &proto.graph {
        for_each_graph(graph, &mut |graph| {
            found |= graph.node.iter().any(|node| {
                node.op_type.contains("Quantize")
                    || node.op_type.starts_with("QLinear")
                    || node.op_type == "QGemm"
                    || node.op_type.ends_with("Integer")
            });
        });
    }
    found
}

/// What two right engines differ by: adding in another order, in half precision, in steps of a byte.
pub(super) fn usual_tolerance(proto: &ModelProto) -> f64 {
    let mut half = false;
    if let Some(graph) = &proto.graph {
        for_each_graph(graph, &mut |graph| {
            let float16 = OnnxType::Float16 as i32;
            half |= graph.initializer.iter().any(|tensor| tensor.data_type == float16);
            half |= onnx::inputs(graph).iter().any(|port| port.data_type == Some(DataType::F16));
            half |= graph.node.iter().any(|node| {
                node.op_type == "Cast"
                    && node.attribute.iter().any(|a| a.name == "to" && a.i == i64::from(float16))
            });
        });
    }
    match (is_quantised(proto), half) {
        (true, _) => 2e-2,
        (false, true) => 5e-3,
        (false, false) => 1e-4,
    }
}

/// The operator that makes a tensor.
pub(super) fn maker<'p>(proto: &'p ModelProto, tensor: &str) -> Option<&'p str> {
    let nodes = &proto.graph.as_ref()?.node;
    let node = nodes.iter().find(|node| node.output.iter().any(|output| output == tensor))?;
    Some(&node.op_type)
}

/// Class names that a classifier of `ai.onnx.ml` carries.
pub(super) fn class_labels(proto: &ModelProto) -> Option<Vec<String>> {
    let attributes = proto.graph.iter().flat_map(|graph| &graph.node).flat_map(|node| &node.attribute);
    attributes
        .filter(|attribute| attribute.name.starts_with("classlabels_"))
        .map(|attribute| {
            let texts = attribute.strings.iter().map(|text| String::from_utf8_lossy(text).into_owned());
            texts.chain(attribute.ints.iter().map(ToString::to_string)).collect::<Vec<_>>()
        })
        .find(|labels| !labels.is_empty())
}

/// Inputs that are nothing but the state of a GRU, an LSTM or an RNN, as they stand or in another shape. (An LSTM's
/// cell has no bounds.)
pub(super) fn states(proto: &ModelProto) -> HashSet<String> {
    const SAME_NUMBERS: &[&str] = &[
        "Concat",
        "Expand",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ];
    let Some(graph) = &proto.graph else { return HashSet::new() };
    let bounded = |node: &&NodeProto| {
        let usual = !node.attribute.iter().any(|attribute| attribute.name == "activations");
        usual && matches!(node.op_type.as_str(), "GRU" | "LSTM" | "RNN")
    };
    let mut wanted: Vec<&String> =
        graph.node.iter().filter(bounded).filter_map(|node| node.input.get(5)).collect();
    let mut states = HashSet::new();
    // The nodes stand in an order in which each comes before its readers.
    for node in graph.node.iter().rev().filter(|node| SAME_NUMBERS.contains(&node.op_type.as_str())) {
        if node.output.iter().any(|output| wanted.contains(&output)) {
            let all = node.op_type == "Concat";
            wanted.extend(node.input.iter().take(if all { usize::MAX } else { 1 }));
        }
    }
    for input in &graph.input {
        let reads = |node: &&NodeProto| node.input.contains(&input.name);
        let only = graph.node.iter().filter(reads).all(|node| {
            SAME_NUMBERS.contains(&node.op_type.as_str())
                || (bounded(&node) && node.input.get(5) == Some(&input.name))
        });
        if only && wanted.contains(&&input.name) {
            states.insert(input.name.clone());
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sample;
    use prost::Message;
    use tract_onnx::pb::type_proto::Value;

    fn relu_layer() -> ModelProto {
        ModelProto::decode(&*sample::relu_layer().bytes()).unwrap()
    }

    #[test]
    fn the_state_of_a_recurrent_layer_is_told_from_its_samples() {
        let states_of = |sample: sample::Sample| {
            let mut names: Vec<_> =
                states(&ModelProto::decode(&*sample.bytes()).unwrap()).into_iter().collect();
            names.sort();
            names
        };
        assert_eq!(states_of(sample::gru(2)), ["h_in"]);
        // Not its cell, which no activation bounds.
        assert_eq!(states_of(sample::lstm()), ["h_in"]);
        assert_eq!(states_of(sample::relu_layer()), [""; 0]);
        let read_twice = sample::gru(2).node("Neg", &["h_in"], &["n"], &[]).output("n");
        assert_eq!(states_of(read_twice), [""; 0]);
    }

    #[test]
    fn a_cut_graph_holds_what_its_end_needs_and_no_more() {
        let graph = cut(&relu_layer(), &["xw"]).graph.unwrap();
        assert_eq!(graph.node.iter().map(|node| node.op_type.as_str()).collect::<Vec<_>>(), ["MatMul"]);
        assert_eq!(graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), ["w"]);
        assert_eq!(graph.output[0].name, "xw");
    }

    #[test]
    fn a_graph_whose_input_is_f16_is_one_of_half_precision() {
        let mut proto = relu_layer();
        assert_eq!(usual_tolerance(&proto), 1e-4);
        let input = proto.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap();
        let Some(Value::TensorType(tensor)) = &mut input.value else { panic!("{input:?}") };
        tensor.elem_type = OnnxType::Float16 as i32;
        assert_eq!(usual_tolerance(&proto), 5e-3);
    }
}
