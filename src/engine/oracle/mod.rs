//! The oracle: what the ONNX standard says a graph answers, in plain arithmetic.
//!
//! Every operator is written from its page of the standard, literally, in f64, one family a file;
//! each tensor is rounded to its declared type, as the standard types it. It shares no arithmetic
//! with the engine, only the reading of protobuf. Slow on purpose, used by `compile` and by tests.
//! Not here: speed, and operators that the engine neither fuses nor rewrites.
//!
//! | file | operators |
//! |---|---|
//! | `elementwise` | arithmetic, comparisons, logic, activations, Cast, Where, Clip |
//! | `matmul`, `conv`, `pool` | products, convolutions, pools |
//! | `norm`, `softmax`, `reduce` | statistics over axes |
//! | `shape` | what moves elements and changes none |
//! | `quantize` | QDQ, QOperator and dynamic quantisation |
//! | `recurrent` | LSTM, GRU, RNN |
//! | `resize` | Resize, Upsample |

mod call;
mod conv;
mod elementwise;
mod matmul;
mod norm;
mod pool;
mod quantize;
#[cfg(test)]
mod random;
mod recurrent;
mod reduce;
mod resize;
mod shape;
mod softmax;
#[cfg(test)]
mod tests;
mod value;

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use self::call::Call;
use self::value::Value;
use super::onnx::operator_name;
use super::refused::name_of;
use crate::base::Tensor;

/// One operator: what its node is given to what it gives, or why that is not defined.
type Operator = fn(&Call<'_>) -> Result<Vec<Value>, String>;

/// Operators of a graph that the oracle does not know, each once.
#[derive(Debug)]
pub(super) struct NotCovered(pub(super) Vec<String>);

/// Why one answer could not be had: the node, and what it met.
#[derive(Debug, thiserror::Error)]
#[error("node {node:?} ({operator}): {why}")]
pub(super) struct OracleError {
    node: String,
    operator: String,
    why: String,
}

/// A graph that the oracle covers.
pub(super) struct Oracle<'g> {
    graph: &'g GraphProto,
    nodes: Vec<(&'g NodeProto, Operator)>,
    opset: i64,
}

/// Every tensor of one run.
pub(super) struct Values(HashMap<String, Value>);

impl Values {
    /// A tensor of the graph by name.
    pub(super) fn tensor(&self, name: &str) -> Option<Tensor> {
        Some(self.0.get(name)?.to_tensor())
    }
}

fn find(operator: &str) -> Option<Operator> {
    elementwise::find(operator)
        .or_else(|| matmul::find(operator))
        .or_else(|| conv::find(operator))
        .or_else(|| pool::find(operator))
        .or_else(|| norm::find(operator))
        .or_else(|| softmax::find(operator))
        .or_else(|| reduce::find(operator))
        .or_else(|| shape::find(operator))
        .or_else(|| quantize::find(operator))
        .or_else(|| recurrent::find(operator))
        .or_else(|| resize::find(operator))
}

impl<'g> Oracle<'g> {
    /// Looks every operator up.
    pub(super) fn new(proto: &'g ModelProto) -> Result<Self, NotCovered> {
        let graph = proto.graph.as_ref().ok_or(NotCovered(Vec::new()))?;
        let mut unknown: Vec<String> = Vec::new();
        let mut nodes = Vec::new();
        for node in &graph.node {
            let standard = matches!(node.domain.as_str(), "" | "ai.onnx");
            match find(&node.op_type).filter(|_| standard) {
                Some(operator) => nodes.push((node, operator)),
                None => {
                    let name = operator_name(&node.domain, &node.op_type);
                    if !unknown.contains(&name) {
                        unknown.push(name);
                    }
                }
            }
        }
        if !graph.sparse_initializer.is_empty() {
            unknown.push("sparse weights".to_owned());
        }
        if !unknown.is_empty() {
            return Err(NotCovered(unknown));
        }
        let standard = proto.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        Ok(Self { graph, nodes, opset: standard.map_or(1, |set| set.version) })
    }

    /// Evaluates the graph on these inputs, by name.
    pub(super) fn answer(&self, inputs: &[(&str, &Tensor)]) -> Result<Values, OracleError> {
        let mut values: HashMap<String, Value> = HashMap::new();
        for tensor in &self.graph.initializer {
            let value = value::of_proto(tensor).map_err(|why| OracleError {
                node: tensor.name.clone(),
                operator: "weights".to_owned(),
                why,
            })?;
            values.insert(tensor.name.clone(), value);
        }
        values.extend(inputs.iter().map(|(name, tensor)| ((*name).to_owned(), Value::of_tensor(tensor))));
        // Files need not be sorted: go round until nothing is left that can be computed.
        let mut open: Vec<&(&NodeProto, Operator)> = self.nodes.iter().collect();
        while !open.is_empty() {
            let mut waiting = Vec::new();
            for entry @ (node, operator) in open.iter().copied() {
                if node.input.iter().any(|name| !name.is_empty() && !values.contains_key(name)) {
                    waiting.push(entry);
                    continue;
                }
                let given = node.input.iter().map(|name| values.get(name)).collect();
                let outputs = operator(&Call { node, opset: self.opset, inputs: given });
                let outputs = outputs.map_err(|why| failed(node, why))?;
                values.extend(node.output.iter().cloned().zip(outputs).filter(|(name, _)| !name.is_empty()));
            }
            if waiting.len() == open.len() {
                return Err(failed(open[0].0, "what it reads is made by no node".to_owned()));
            }
            open = waiting;
        }
        Ok(Values(values))
    }
}

/// A random graph, as a file that mutations begin with.
#[cfg(test)]
pub(super) fn grown_for_fuzzing(seed: u64) -> ModelProto {
    random::grow(seed).proto
}

/// The nodes that make much of little by what constants of the graph say, with the number of
/// elements that they would make. Only small constants are followed: shapes, and what is computed
/// of shapes.
pub(super) fn claimed_elements(graph: &GraphProto) -> Vec<(&NodeProto, f64)> {
    const SMALL: usize = 64;
    let small = |value: &Value| value.len() <= SMALL;
    let weights =
        graph.initializer.iter().filter(|tensor| tensor.dims.iter().all(|length| *length <= SMALL as i64));
    let mut known: HashMap<&str, Value> = weights
        .filter_map(|tensor| Some((tensor.name.as_str(), value::of_proto(tensor).ok().filter(small)?)))
        .collect();
    let mut found = Vec::new();
    for node in &graph.node {
        let given: Vec<Option<&Value>> = node.input.iter().map(|name| known.get(name.as_str())).collect();
        let product = |at: usize| -> Option<f64> {
            Some(
                given
                    .get(at)
                    .copied()
                    .flatten()?
                    .reals()
                    .ok()?
                    .into_iter()
                    .map(|length| length.max(1.0))
                    .product(),
            )
        };
        let number = |at: usize| given.get(at).copied().flatten().and_then(|value| value.scalar().ok());
        let elements = match node.op_type.as_str() {
            "ConstantOfShape" => product(0),
            "Expand" | "Tile" => product(1),
            "Resize" => product(3).or_else(|| product(2)),
            "OneHot" => number(1),
            "Range" => match (number(0), number(1), number(2)) {
                (Some(start), Some(limit), Some(delta)) => Some(((limit - start) / delta).max(0.0)),
                _ => None,
            },
            "Pad" => given
                .get(1)
                .copied()
                .flatten()
                .and_then(|pads| Some(pads.reals().ok()?.into_iter().fold(0.0, f64::max))),
            _ => None,
        };
        found.extend(elements.map(|elements| (node, elements)));
        let whole = node.input.iter().zip(&given).all(|(name, value)| name.is_empty() || value.is_some());
        let bounded = elements.is_none_or(|elements| elements <= SMALL as f64);
        // Convolutions and loops over constants are no arithmetic of shapes.
        let plain = elementwise::find(&node.op_type).or_else(|| shape::find(&node.op_type));
        if let Some(operator) =
            plain.filter(|_| whole && bounded && node.attribute.iter().all(|a| a.g.is_none()))
            && let Ok(outputs) = operator(&Call { node, opset: 17, inputs: given })
        {
            known.extend(
                node.output.iter().map(String::as_str).zip(outputs).filter(|(_, value)| small(value)),
            );
        }
    }
    found
}

fn failed(node: &NodeProto, why: String) -> OracleError {
    OracleError { node: name_of(node).to_owned(), operator: node.op_type.clone(), why }
}
