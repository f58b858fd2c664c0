//! ONNX bytes to a graph that may be handed to the engine.
//!
//! Promise: whatever the bytes are, nothing but these bytes is looked at (no external data), and
//! what the engine lacks or would answer wrongly is named before it starts.
//! Not here: shapes and types inside the graph (`load`).

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::LazyLock;

use tract_core::prelude::Framework;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType as OnnxType};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto::Dimension, tensor_shape_proto::dimension::Value, type_proto,
};

use super::port::{Dim, Port};
use super::refused::{for_each_graph, name_of, refusals};
use super::{ModelError, dense, functions, operators, plain, untrusted};
use crate::base::{Data, DataType, Tensor};

/// Parses the bytes and looks at what stands in them. `path` is for messages only.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<ModelProto, ModelError> {
    let not_a_model = |why: String| ModelError::NotAModel { path: path.to_owned(), why };
    if let Some(what) = known_as(bytes) {
        return Err(not_a_model(format!("{what}; give an .onnx or .nnef.tgz file")));
    }
    untrusted::protobuf::look(bytes)
        .map_err(|why| not_a_model(format!("its {} bytes are no whole ONNX file ({why})", bytes.len())))?;
    let mut proto = operators::framework().proto_model_for_read(&mut &*bytes).map_err(|error| {
        not_a_model(format!("its {} bytes are no whole ONNX file ({})", bytes.len(), error.root_cause()))
    })?;
    functions::inline(&mut proto, bytes).map_err(not_a_model)?;
    if let Some(graph) = &mut proto.graph {
        dense::write(graph).map_err(not_a_model)?;
        plain::write(graph);
        dictionaries_as_rows(graph);
    }
    match &proto.graph {
        None => Err(not_a_model("it holds no ONNX graph".to_owned())),
        Some(graph) if graph.output.is_empty() => Err(not_a_model("its graph has no output".to_owned())),
        Some(_) => Ok(proto),
    }
}

/// A dictionary that the graph takes from outside becomes a row: one `f32` column for each word of the
/// vocabulary of the DictVectorizer that reads it (`operators/ml/maps`).
fn dictionaries_as_rows(graph: &mut GraphProto) {
    let GraphProto { input, node, .. } = graph;
    for input in input {
        let reader = node.iter().find(|node| {
            node.op_type == "DictVectorizer"
                && node.domain == operators::ml::DOMAIN
                && node.input.first() == Some(&input.name)
        });
        let untyped = input.r#type.as_ref().is_none_or(|r#type| r#type.value.is_none());
        let Some(reader) = reader.filter(|_| untyped) else { continue };
        let vocabulary = reader.attribute.iter().filter(|attribute| attribute.name.ends_with("_vocabulary"));
        let words: usize = vocabulary.map(|attribute| attribute.strings.len() + attribute.ints.len()).sum();
        let dim = |value| Dimension { value: Some(value), ..Dimension::default() };
        let dim = vec![dim(Value::DimParam("N".to_owned())), dim(Value::DimValue(words as i64))];
        let row =
            type_proto::Tensor { elem_type: OnnxType::Float as i32, shape: Some(TensorShapeProto { dim }) };
        input.r#type =
            Some(TypeProto { value: Some(type_proto::Value::TensorType(row)), ..TypeProto::default() });
    }
}

/// What a file is that people give by mistake, told from its first bytes.
fn known_as(bytes: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: &[(&[u8], &str)] = &[
        (b"PK\x03\x04", "it is a zip archive (a PyTorch checkpoint? export it with torch.onnx.export)"),
        (b"\x89HDF", "it is an HDF5 file (a Keras model? export it with tf2onnx)"),
        (b"\x80\x02", "it is a Python pickle (a checkpoint? export the model to ONNX)"),
        (b"\x80\x04", "it is a Python pickle (a scikit-learn model? export it with skl2onnx)"),
        (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself (git lfs pull)"),
        (b"<!DOCTYPE", "it is a web page"),
        (b"<html", "it is a web page"),
        (b"\x93NUMPY", "it is a NumPy array"),
    ];
    if bytes.is_empty() {
        return Some("it is empty");
    }
    if bytes.get(4..8) == Some(b"TFL3") {
        return Some("it is a TensorFlow Lite model (export it with tf2onnx --tflite)");
    }
    BEGINNINGS.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, what)| *what)
}

/// Refuses what the engine must not be given.
pub(super) fn vet(path: &Path, graph: &GraphProto) -> Result<(), ModelError> {
    external_data(path, graph)?;
    untrusted::graph::look(graph).map_err(|why| ModelError::NotAModel { path: path.to_owned(), why })?;
    let operators = unknown_operators(graph);
    if !operators.is_empty() {
        return Err(ModelError::UnknownOperators { path: path.to_owned(), operators });
    }
    if let Some(why) = unknown_elements(graph) {
        return Err(ModelError::Unable { path: path.to_owned(), why });
    }
    let refusals = refusals(graph);
    if !refusals.is_empty() {
        return Err(ModelError::WouldBeWrong { path: path.to_owned(), refusals });
    }
    dangling_outputs(path, graph)
}

fn external_data(path: &Path, graph: &GraphProto) -> Result<(), ModelError> {
    let mut found = None;
    for_each_graph(graph, &mut |graph| {
        let tensor = tensors(graph).find(|tensor| {
            tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty()
        });
        if let (None, Some(tensor)) = (&found, tensor) {
            let location = tensor.external_data.iter().find(|entry| entry.key == "location");
            let location = location.map(|entry| entry.value.clone()).unwrap_or_default();
            found = Some(ModelError::ExternalData {
                path: path.to_owned(),
                tensor: tensor.name.clone(),
                location,
            });
        }
    });
    found.map_or(Ok(()), Err)
}

/// Weights and constants of one graph.
fn tensors(graph: &GraphProto) -> impl Iterator<Item = &TensorProto> {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let held = |attribute: &'_ AttributeProto| attribute.t.is_some() || !attribute.tensors.is_empty();
    let sparse =
        graph.sparse_initializer.iter().flat_map(|sparse| sparse.values.iter().chain(&sparse.indices));
    graph
        .initializer
        .iter()
        .chain(sparse)
        .chain(attributes.filter(move |a| held(a)).flat_map(|a| a.t.iter().chain(&a.tensors)))
}

/// Weights of a type that the engine does not carry: the first, and how many there are.
fn unknown_elements(graph: &GraphProto) -> Option<String> {
    let mut found: Option<(String, OnnxType)> = None;
    let mut count = 0;
    for_each_graph(graph, &mut |graph| {
        for tensor in tensors(graph) {
            // A type that is no type at all is another matter (`untrusted`).
            let Ok(of) = OnnxType::try_from(tensor.data_type) else { continue };
            if of != OnnxType::Undefined && data_type(tensor.data_type).is_none() {
                count += 1;
                found.get_or_insert_with(|| (tensor.name.clone(), of));
            }
        }
    });
    let (name, of) = found?;
    let more = if count > 1 { format!(" (and {} more like it)", count - 1) } else { String::new() };
    Some(format!(
        "the tensor {name:?}{more}, whose elements are {}; export or quantise the model with weights of 8 bits, or as \
         f16 or f32",
        of.as_str_name().to_lowercase()
    ))
}

/// Operators that tract and we lack, each with the first node that has it.
pub(super) fn unknown_operators(graph: &GraphProto) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for_each_graph(graph, &mut |graph| {
        for node in &graph.node {
            if !has_operator(node) && seen.insert((node.domain.clone(), node.op_type.clone())) {
                let instead = match node.op_type.as_str() {
                    "Loop" => "; export the layer unrolled, in Keras with unroll=True",
                    "SequenceConstruct" => "; give each of its tensors an output of its own",
                    _ => "",
                };
                found.push(format!(
                    "{} (node {:?}{instead})",
                    operator_name(&node.domain, &node.op_type),
                    name_of(node)
                ));
            }
        }
    });
    found
}

/// Whether tract or we have an operator of that name; of domains other than the standard's, see `refused`.
pub(super) fn has_operator(node: &NodeProto) -> bool {
    static REGISTER: LazyLock<HashSet<String>> =
        LazyLock::new(|| operators::framework().op_register.0.into_keys().collect());
    let name = &node.op_type;
    // tract looks at names only: a standard `Scaler` would be taken for scikit-learn's.
    match node.domain.as_str() {
        operators::ml::DOMAIN => operators::ml::has(name),
        "" | "ai.onnx" => {
            REGISTER.contains(name) && !operators::ml::has(name) && !operators::contributed::has(name)
        }
        _ => REGISTER.contains(name),
    }
}

/// tract takes it for granted that someone makes each output.
fn dangling_outputs(path: &Path, graph: &GraphProto) -> Result<(), ModelError> {
    let made: HashSet<&str> = (graph.node.iter().flat_map(|node| &node.output))
        .chain(graph.input.iter().map(|input| &input.name))
        .chain(graph.initializer.iter().map(|tensor| &tensor.name))
        .map(String::as_str)
        .collect();
    match graph.output.iter().find(|output| !made.contains(output.name.as_str())) {
        None => Ok(()),
        Some(output) => Err(ModelError::NotAModel {
            path: path.to_owned(),
            why: format!("no node makes its output {:?}", output.name),
        }),
    }
}

/// `Conv`, `ai.onnx.ml:Scaler`.
pub(super) fn operator_name(domain: &str, operator: &str) -> String {
    match domain {
        "" | "ai.onnx" => operator.to_owned(),
        domain => format!("{domain}:{operator}"),
    }
}

/// The classes of each output that holds a score for each, in the scores' order, as ZipMap or the
/// classifier behind it names them.
pub(super) fn classes(graph: &GraphProto) -> Vec<(String, Vec<String>)> {
    let producer = |tensor: &str| {
        graph.node.iter().find_map(|node| Some((node, node.output.iter().position(|name| name == tensor)?)))
    };
    let of = |output: &str| {
        let mut tensor = output;
        // Longer ways between a classifier and its scores are not exported; a circle ends here.
        for _ in 0..16 {
            let (node, slot) = producer(tensor)?;
            if let Some(classes) = class_names(node) {
                // A classifier's first output is the label itself.
                return (node.op_type == "ZipMap" || slot == 1).then_some(classes);
            }
            tensor = node.input.first()?;
        }
        None
    };
    graph.output.iter().filter_map(|output| Some((output.name.clone(), of(&output.name)?))).collect()
}

fn class_names(node: &NodeProto) -> Option<Vec<String>> {
    let named = node.attribute.iter().filter(|attribute| attribute.name.starts_with("classlabels_"));
    let names: Vec<String> = named
        .flat_map(|attribute| {
            let texts = attribute.strings.iter().map(|text| String::from_utf8_lossy(text).into_owned());
            texts.chain(attribute.ints.iter().map(ToString::to_string))
        })
        .collect();
    Some(names).filter(|names| !names.is_empty())
}

/// How often each operator stands in the graph, inner graphs included.
pub(super) fn operator_counts(graph: &GraphProto) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for_each_graph(graph, &mut |graph| {
        for node in &graph.node {
            *counts.entry(operator_name(&node.domain, &node.op_type)).or_default() += 1;
        }
    });
    counts
}

/// Elements of all weights and constants.
pub(super) fn parameter_count(graph: &GraphProto) -> u64 {
    let mut count = 0_u64;
    for_each_graph(graph, &mut |graph| {
        for tensor in tensors(graph) {
            let elements = tensor.dims.iter().map(|length| u64::try_from(*length).unwrap_or(0));
            count = count.saturating_add(elements.fold(1, u64::saturating_mul));
        }
    });
    count
}

/// A value as the file holds its own constants.
pub(super) fn initializer(name: &str, value: &Tensor) -> TensorProto {
    let mut strings = Vec::new();
    let raw = |bytes: Vec<u8>| Some(bytes);
    macro_rules! little {
        ($values:expr) => {
            raw($values.iter().flat_map(|value| value.to_le_bytes()).collect())
        };
    }
    let raw_data = match &value.data {
        Data::F32(values) => little!(values),
        Data::F64(values) => little!(values),
        Data::F16(values) => little!(values),
        Data::I64(values) => little!(values),
        Data::I32(values) => little!(values),
        Data::I16(values) => little!(values),
        Data::I8(values) => little!(values),
        Data::U64(values) => little!(values),
        Data::U32(values) => little!(values),
        Data::U16(values) => little!(values),
        Data::U8(values) => raw(values.clone()),
        Data::Bool(values) => raw(values.iter().map(|value| u8::from(*value)).collect()),
        Data::Text(values) => {
            strings = values.iter().map(|text| text.clone().into_bytes()).collect();
            None
        }
    };
    TensorProto {
        name: name.to_owned(),
        dims: value.shape.iter().map(|length| *length as i64).collect(),
        data_type: onnx_type(value.data_type()) as i32,
        raw_data: raw_data.unwrap_or_default(),
        string_data: strings,
        ..TensorProto::default()
    }
}

fn onnx_type(data_type: DataType) -> OnnxType {
    match data_type {
        DataType::F32 => OnnxType::Float,
        DataType::F64 => OnnxType::Double,
        DataType::F16 => OnnxType::Float16,
        DataType::I64 => OnnxType::Int64,
        DataType::I32 => OnnxType::Int32,
        DataType::I16 => OnnxType::Int16,
        DataType::I8 => OnnxType::Int8,
        DataType::U64 => OnnxType::Uint64,
        DataType::U32 => OnnxType::Uint32,
        DataType::U16 => OnnxType::Uint16,
        DataType::U8 => OnnxType::Uint8,
        DataType::Bool => OnnxType::Bool,
        DataType::Text => OnnxType::String,
    }
}

/// The inputs that somebody must fill, in order: those without an initial value.
pub(super) fn inputs(graph: &GraphProto) -> Vec<Port> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let filled = graph.input.iter().filter(|input| !constants.contains(input.name.as_str()));
    let open_if_zero = |dim| if dim == Dim::Fixed(0) { Dim::Unknown } else { dim };
    filled
        .map(port)
        // Some exporters write 0 for an open axis; an input without elements makes no sense.
        .map(|port| Port { dims: port.dims.map(|dims| dims.into_iter().map(open_if_zero).collect()), ..port })
        .collect()
}

/// The outputs, in order, as exported.
pub(super) fn outputs(graph: &GraphProto) -> Vec<Port> {
    graph.output.iter().map(port).collect()
}

fn port(info: &ValueInfoProto) -> Port {
    let tensor = info.r#type.as_ref().and_then(|r#type| r#type.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = tensor else {
        return Port { name: info.name.clone(), data_type: None, dims: None };
    };
    let dims = tensor.shape.as_ref().map(|shape| {
        let lengths = shape.dim.iter().map(|dim| match &dim.value {
            Some(Value::DimValue(length)) => usize::try_from(*length).map_or(Dim::Unknown, Dim::Fixed),
            Some(Value::DimParam(name)) if !name.is_empty() && name != "?" => Dim::Symbol(name.clone()),
            Some(Value::DimParam(_)) | None => Dim::Unknown,
        });
        lengths.collect()
    });
    Port { name: info.name.clone(), data_type: data_type(tensor.elem_type), dims }
}

fn data_type(onnx: i32) -> Option<DataType> {
    Some(match OnnxType::try_from(onnx).ok()? {
        OnnxType::Float => DataType::F32,
        OnnxType::Double => DataType::F64,
        OnnxType::Float16 => DataType::F16,
        OnnxType::Int64 => DataType::I64,
        OnnxType::Int32 => DataType::I32,
        OnnxType::Int16 => DataType::I16,
        OnnxType::Int8 => DataType::I8,
        OnnxType::Uint64 => DataType::U64,
        OnnxType::Uint32 => DataType::U32,
        OnnxType::Uint16 => DataType::U16,
        OnnxType::Uint8 => DataType::U8,
        OnnxType::Bool => DataType::Bool,
        OnnxType::String => DataType::Text,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::StringStringEntryProto;

    fn refused(bytes: &[u8]) -> String {
        decode(Path::new("m.onnx"), bytes).unwrap_err().to_string()
    }

    #[test]
    fn files_that_people_give_by_mistake_are_called_by_their_name() {
        assert!(refused(b"").contains("it is empty"));
        assert!(refused(b"PK\x03\x04....").contains("zip archive"));
        assert!(refused(b"version https://git-lfs.github.com/spec/v1").contains("Git LFS"));
        assert!(refused(b"\x1c\0\0\0TFL3").contains("TensorFlow Lite"));
        assert!(refused(b"hello, world, this is no model").contains("no whole ONNX file"));
        assert!(refused(&[0; 64]).contains("no whole ONNX file"));
    }

    #[test]
    fn weights_of_a_type_that_is_not_carried_are_named_with_a_way_out() {
        let weights = |name: &str, of: OnnxType| TensorProto {
            name: name.into(),
            data_type: of as i32,
            dims: vec![2],
            ..TensorProto::default()
        };
        let told = |initializer: Vec<TensorProto>| {
            vet(Path::new("m.onnx"), &GraphProto { initializer, ..GraphProto::default() })
                .err()
                .map(|error| error.to_string())
        };
        let (four, eight) = (weights("w", OnnxType::Int4), weights("f", OnnxType::Float8e4m3fn));
        let one = told(vec![four.clone()]).unwrap();
        assert!(one.contains("\"w\"") && one.contains("int4") && one.contains("8 bits"), "{one}");
        assert!(!one.contains("more"), "{one}");
        let both = told(vec![four, eight]).unwrap();
        assert!(both.contains("\"w\" (and 1 more like it)"), "{both}");
        let held = TensorProto { int32_data: vec![1, 2], ..weights("b", OnnxType::Int8) };
        assert_eq!(told(vec![held]), None);
    }

    #[test]
    fn external_data_is_refused_wherever_it_is_referred_to() {
        let entry = StringStringEntryProto { key: "location".into(), value: "../../etc/passwd".into() };
        let weights = TensorProto {
            name: "w".into(),
            data_location: Some(DataLocation::External as i32),
            external_data: vec![entry],
            ..TensorProto::default()
        };
        let outside = GraphProto { initializer: vec![weights.clone()], ..GraphProto::default() };
        let constant = NodeProto {
            op_type: "Constant".into(),
            attribute: vec![AttributeProto { t: Some(weights), ..AttributeProto::default() }],
            ..NodeProto::default()
        };
        let inside = GraphProto { node: vec![constant], ..GraphProto::default() };
        for graph in [outside, inside] {
            let message = vet(Path::new("m.onnx"), &graph).unwrap_err().to_string();
            assert!(message.contains("../../etc/passwd") && message.contains("\"w\""), "{message}");
        }
    }

    #[test]
    fn every_unknown_operator_is_named_once_with_its_domain_and_node() {
        let node = |domain: &str, op: &str, name: &str| NodeProto {
            op_type: op.into(),
            domain: domain.into(),
            name: name.into(),
            ..NodeProto::default()
        };
        let graph = GraphProto {
            node: vec![
                node("ai.onnx.ml", "Scaler", "known"),
                // tract would run both: it looks at names only.
                node("", "Scaler", "first"),
                node("ai.onnx.ml", "Relu", "second"),
                node("", "Scaler", "third"),
                node("ai.onnx.ml", "CastMap", "fourth"),
            ],
            ..GraphProto::default()
        };
        assert_eq!(
            unknown_operators(&graph),
            [
                "Scaler (node \"first\")",
                "ai.onnx.ml:Relu (node \"second\")",
                "ai.onnx.ml:CastMap (node \"fourth\")"
            ]
        );
    }

    #[test]
    fn the_classes_of_scores_are_found_behind_whatever_stands_between() {
        let node = |op: &str, inputs: &[&str], outputs: &[&str]| NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: outputs.iter().map(ToString::to_string).collect(),
            ..NodeProto::default()
        };
        let strings = vec![b"ok".to_vec(), b"dent".to_vec()];
        let classifier = NodeProto {
            attribute: vec![AttributeProto {
                name: "classlabels_strings".into(),
                strings,
                ..AttributeProto::default()
            }],
            ..node("LinearClassifier", &["x"], &["label", "raw"])
        };
        let output = |name: &str| ValueInfoProto { name: name.into(), ..ValueInfoProto::default() };
        let graph = GraphProto {
            node: vec![classifier, node("Normalizer", &["raw"], &["scores"])],
            output: vec![output("label"), output("scores")],
            ..GraphProto::default()
        };
        assert_eq!(classes(&graph), [("scores".to_owned(), vec!["ok".to_owned(), "dent".to_owned()])]);
    }

    #[test]
    fn a_dictionary_is_a_row_with_a_column_for_each_word() {
        let reader = NodeProto {
            op_type: "DictVectorizer".into(),
            domain: "ai.onnx.ml".into(),
            input: vec!["readings".into()],
            attribute: vec![AttributeProto {
                name: "string_vocabulary".into(),
                strings: vec![b"torque".to_vec(), b"wear".to_vec()],
                ..AttributeProto::default()
            }],
            ..NodeProto::default()
        };
        let readings = ValueInfoProto { name: "readings".into(), ..ValueInfoProto::default() };
        let mut graph = GraphProto { node: vec![reader], input: vec![readings], ..GraphProto::default() };
        dictionaries_as_rows(&mut graph);
        assert_eq!(inputs(&graph)[0].to_string(), "readings f32 [N, 2]");
    }
}
