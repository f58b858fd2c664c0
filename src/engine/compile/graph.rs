//! Cutting an ONNX graph short, and turning an input into a constant.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

use crate::engine::refused::for_each_graph;

/// An input that became a constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fixed {
    /// Its place among the inputs of the file.
    pub(super) position: usize,
    pub(super) name: String,
    /// What it was fixed to.
    pub(super) values: Vec<f64>,
}

/// Turns inputs into constants. Each comes with its number, or numbers with commas between them.
pub(super) fn fix(proto: &mut ModelProto, orders: &[(String, String)]) -> Result<Vec<Fixed>, String> {
    let Some(graph) = proto.graph.as_mut() else { return Ok(Vec::new()) };
    let filled: Vec<String> = crate::engine::onnx::inputs(graph).into_iter().map(|port| port.name).collect();
    let mut fixed = Vec::new();
    for (name, written) in orders {
        let Some(position) = filled.iter().position(|filled| filled == name) else {
            return Err(format!("--fix {name}: there is no such input; the graph has {}", filled.join(", ")));
        };
        let at = graph.input.iter().position(|input| input.name == *name);
        let Some(at) = at else { return Err(format!("--fix {name}: it is fixed already")) };
        let (tensor, values) = constant(&graph.input[at], written)?;
        graph.input.remove(at);
        graph.initializer.push(tensor);
        fixed.push(Fixed { position, name: name.clone(), values });
    }
    fixed.sort_by_key(|fixed| fixed.position);
    Ok(fixed)
}

/// The tensor that an input becomes.
fn constant(input: &ValueInfoProto, written: &str) -> Result<(TensorProto, Vec<f64>), String> {
    let name = &input.name;
    let wrong = |why: String| format!("--fix {name}={written}: {why}");
    let values: Vec<f64> = written
        .split(',')
        .map(|number| match number.trim() {
            "true" => Ok(1.0),
            "false" => Ok(0.0),
            number => number.parse().map_err(|_| wrong(format!("{number:?} is no number"))),
        })
        .collect::<Result<_, _>>()?;
    let tensor_type = match input.r#type.as_ref().and_then(|r#type| r#type.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        _ => return Err(wrong("the input is no tensor".to_owned())),
    };
    // An axis whose length is open has as many elements as were given, where that is one axis.
    let declared = tensor_type.shape.as_ref().map(|shape| shape.dim.len());
    let dims: Vec<i64> = match (declared, values.len()) {
        (Some(0) | None, 1) => Vec::new(),
        (Some(axes), 1) => vec![1; axes],
        (Some(1) | None, count) => vec![count as i64],
        (Some(axes), count) => {
            return Err(wrong(format!("{count} numbers for an input with {axes} axes; give one number")));
        }
    };
    let whole = |low: f64, high: f64| -> Result<(), String> {
        match values.iter().find(|value| value.fract() != 0.0 || **value < low || **value > high) {
            Some(value) => Err(wrong(format!("{value} does not fit the input's type"))),
            None => Ok(()),
        }
    };
    let raw: Vec<u8> = match OnnxType::try_from(tensor_type.elem_type) {
        Ok(OnnxType::Float) => values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect(),
        Ok(OnnxType::Double) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Ok(OnnxType::Int64) => {
            // 2^53: further whole numbers cannot be written as f64.
            whole(-9e15, 9e15)?;
            values.iter().flat_map(|value| (*value as i64).to_le_bytes()).collect()
        }
        Ok(OnnxType::Int32) => {
            whole(f64::from(i32::MIN), f64::from(i32::MAX))?;
            values.iter().flat_map(|value| (*value as i32).to_le_bytes()).collect()
        }
        Ok(OnnxType::Uint8) => {
            whole(0.0, 255.0)?;
            values.iter().map(|value| *value as u8).collect()
        }
        Ok(OnnxType::Bool) => {
            whole(0.0, 1.0)?;
            values.iter().map(|value| u8::from(*value != 0.0)).collect()
        }
        _ => return Err(wrong("inputs of f32, f64, i64, i32, u8 and bool can be fixed".to_owned())),
    };
    let tensor = TensorProto {
        name: name.clone(),
        dims,
        data_type: tensor_type.elem_type,
        raw_data: raw,
        ..TensorProto::default()
    };
    Ok((tensor, values))
}

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

fn proto_without_graph(proto: &ModelProto) -> ModelProto {
    ModelProto {
        ir_version: proto.ir_version,
        opset_import: proto.opset_import.clone(),
        metadata_props: proto.metadata_props.clone(),
        functions: proto.functions.clone(),
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
                node.op_type.contains("QuantizeLinear")
                    || node.op_type.starts_with("QLinear")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DataType;
    use crate::engine::sample;
    use prost::Message;

    fn relu_layer() -> ModelProto {
        ModelProto::decode(&*sample::relu_layer().bytes()).unwrap()
    }

    /// One whole number, and its negative.
    fn whole() -> sample::Sample {
        sample::Sample::default().input("x", DataType::I64, &[1]).node("Neg", &["x"], &["y"], &[]).output("y")
    }

    #[test]
    fn a_cut_graph_holds_what_its_end_needs_and_no_more() {
        let graph = cut(&relu_layer(), &["xw"]).graph.unwrap();
        assert_eq!(graph.node.iter().map(|node| node.op_type.as_str()).collect::<Vec<_>>(), ["MatMul"]);
        assert_eq!(graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), ["w"]);
        assert_eq!(graph.output[0].name, "xw");
    }

    #[test]
    fn a_fixed_input_is_an_input_no_more() {
        let mut proto = ModelProto::decode(&*whole().bytes()).unwrap();
        let fixed = fix(&mut proto, &[("x".to_owned(), "2".to_owned())]).unwrap();
        assert_eq!(fixed, [Fixed { position: 0, name: "x".into(), values: vec![2.0] }]);
        let graph = proto.graph.unwrap();
        assert!(graph.input.is_empty());
        let tensor = graph.initializer.last().unwrap();
        assert_eq!(
            (tensor.dims.as_slice(), tensor.raw_data.as_slice()),
            (&[1][..], &2_i64.to_le_bytes()[..])
        );
    }

    #[test]
    fn a_fix_that_does_not_fit_is_told_with_its_value() {
        let told = |name: &str, value: &str| {
            let mut proto = ModelProto::decode(&*whole().bytes()).unwrap();
            fix(&mut proto, &[(name.to_owned(), value.to_owned())]).unwrap_err()
        };
        assert!(told("y", "2").contains("no such input; the graph has x"));
        assert!(told("x", "2.5").contains("2.5 does not fit the input's type"));
        assert!(told("x", "two").contains("\"two\" is no number"));
    }
}
