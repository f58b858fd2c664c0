//! What a person wants to know of a model before using it: its page, read from the file alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use tract_core::ops::konst::Const;
use tract_core::prelude::{Tensor as TractTensor, TypedModel};
use tract_onnx::pb::ModelProto;

use super::load::{Graph, Parsed};
use super::onnx;
use super::port::Port;

/// A model as it stands in its file, whether or not it can run.
#[derive(Clone, Debug)]
pub struct Page {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub file_bytes: u64,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
    /// `ONNX` or `NNEF`.
    pub format: &'static str,
    /// Program and version that wrote it.
    pub producer: Option<String>,
    /// Operator sets that it was written for: domain (empty for ONNX's own) and version.
    pub opsets: Vec<(String, i64)>,
    /// Inputs as exported.
    pub inputs: Vec<Port>,
    /// Outputs as exported.
    pub outputs: Vec<Port>,
    /// For each output with a score a class: the classes, in the scores' order.
    pub classes: Vec<(String, Vec<String>)>,
    /// Operators by name.
    pub operators: Vec<OperatorCount>,
    /// Those of them that the engine lacks, with their first node.
    pub unknown_operators: Vec<String>,
    /// Elements of all weights and constants.
    pub parameters: u64,
    /// Key and value of each entry that the exporter left (labels, strides …).
    pub metadata: Vec<(String, String)>,
}

/// How often an operator stands in a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorCount {
    /// `Conv`, `ai.onnx.ml:Scaler`.
    pub operator: String,
    /// Nodes.
    pub nodes: usize,
}

impl Parsed {
    /// The model's page.
    pub fn page(&self) -> Page {
        let page = Page {
            path: self.path.clone(),
            file_bytes: self.file_bytes,
            sha256: self.sha256.clone(),
            format: "NNEF",
            producer: None,
            opsets: Vec::new(),
            inputs: self.inputs().to_vec(),
            outputs: self.outputs().to_vec(),
            classes: Vec::new(),
            operators: Vec::new(),
            unknown_operators: Vec::new(),
            parameters: 0,
            metadata: Vec::new(),
        };
        match &self.graph {
            Graph::Onnx(proto) => onnx_page(page, proto),
            Graph::Nnef(model) => nnef_page(page, model),
        }
    }
}

fn onnx_page(page: Page, proto: &ModelProto) -> Page {
    let producer = format!("{} {}", proto.producer_name, proto.producer_version);
    let graph = proto.graph.as_ref();
    Page {
        format: "ONNX",
        producer: Some(producer.trim().to_owned()).filter(|text| !text.is_empty()),
        opsets: proto.opset_import.iter().map(|set| (set.domain.clone(), set.version)).collect(),
        classes: graph.map(onnx::classes).unwrap_or_default(),
        operators: counts(graph.map(onnx::operator_counts).unwrap_or_default()),
        unknown_operators: graph.map(onnx::unknown_operators).unwrap_or_default(),
        parameters: graph.map_or(0, onnx::parameter_count),
        metadata: proto.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect(),
        ..page
    }
}

fn nnef_page(page: Page, model: &TypedModel) -> Page {
    let mut by_name = BTreeMap::new();
    let mut parameters = 0;
    for node in model.nodes() {
        match node.op_as::<Const>() {
            Some(constant) => parameters += constant.val().len() as u64,
            None => *by_name.entry(node.op().name().into_owned()).or_default() += 1,
        }
    }
    by_name.remove("Source");
    let text = |tensor: &TractTensor| {
        let plain = tensor.as_plain_ram()?;
        plain.as_slice::<String>().ok()?.first().cloned()
    };
    let mut metadata: Vec<(String, String)> = (model.properties.iter())
        .filter_map(|(key, value)| {
            Some((key.trim_start_matches("onnx.metadata_props.").to_owned(), text(value)?))
        })
        .collect();
    metadata.sort();
    let producer = metadata.iter().find(|(key, _)| key == "onnx.producer_name").map(|(_, name)| name.clone());
    Page { producer, operators: counts(by_name), parameters, metadata, ..page }
}

/// Most frequent first.
fn counts(by_name: BTreeMap<String, usize>) -> Vec<OperatorCount> {
    let mut counts: Vec<_> =
        by_name.into_iter().map(|(operator, nodes)| OperatorCount { operator, nodes }).collect();
    counts.sort_by_key(|count| Reverse(count.nodes));
    counts
}
