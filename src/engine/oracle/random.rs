//! Random small graphs over the operators that the oracle knows, and the engine held against it.
//!
//! A graph grows node by node; the oracle evaluates each as it is added. A node stays only where its
//! answer is finite, of a sane size, and does not turn on a rounding: what is left must come out of
//! any right engine. One seed is one graph for ever.

mod growths;

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::type_proto::{self, Tensor as TensorType};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto,
};

use super::call::Call;
use super::find;
use super::value::{Elements, Value, of_proto};
use crate::base::DataType;
use crate::engine::compile::Random;

/// The operator set that graphs are written for.
const OPSET: i64 = 17;
const MAX_ELEMENTS: usize = 2000;

/// A graph with inputs for it.
pub(super) struct Grown {
    pub(super) proto: ModelProto,
    pub(super) inputs: Vec<(String, Value)>,
}

/// The graph of a seed.
pub(super) fn grow(seed: u64) -> Grown {
    let mut grower = Grower::new(seed);
    for _ in 0..1 + grower.below(2) {
        grower.input();
    }
    let nodes = 2 + grower.below(9);
    let mut tries = 0;
    while grower.graph.node.len() < nodes && tries < 60 {
        tries += 1;
        let kind = growths::GROWTHS[grower.below(growths::GROWTHS.len())];
        let (nodes, weights) = (grower.graph.node.len(), grower.graph.initializer.len());
        if kind(&mut grower).is_none() {
            // Half a motif, and weights that nobody reads, go again.
            for node in grower.graph.node.drain(nodes..) {
                for output in node.output {
                    grower.values.remove(&output);
                    grower.order.retain(|known| *known != output);
                }
            }
            grower.graph.initializer.truncate(weights);
        }
    }
    grower.finish()
}

/// Adds a motif; `None` where it does not fit.
type Growth = fn(&mut Grower) -> Option<()>;

struct Grower {
    random: Random,
    graph: GraphProto,
    /// Every tensor's numbers for the inputs at hand.
    values: HashMap<String, Value>,
    /// Tensors that a node may read, oldest first.
    order: Vec<String>,
    inputs: Vec<String>,
    names: usize,
}

impl Grower {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)),
            graph: GraphProto { name: format!("random-{seed}"), ..GraphProto::default() },
            values: HashMap::new(),
            order: Vec::new(),
            inputs: Vec::new(),
            names: 0,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.next() % limit.max(1) as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn name(&mut self, stem: &str) -> String {
        self.names += 1;
        format!("{stem}_{}", self.names)
    }

    fn numbers(&mut self, count: usize, size: f64) -> Vec<f64> {
        // Rounded, so that a graph can be read, and away from halves.
        (0..count).map(|_| (self.random.normal() * size * 1024.0).round() / 1024.0).collect()
    }

    fn input(&mut self) {
        let shape = match self.below(6) {
            0 => vec![1 + self.below(6)],
            1 => vec![1 + self.below(3), 1 + self.below(7)],
            2 => vec![1 + self.below(2), 1 + self.below(4), 2 + self.below(7)],
            3 if !self.inputs.is_empty() => self.values[&self.inputs[0]].shape.clone(),
            _ => vec![1 + self.below(2), 1 + self.below(4), 2 + self.below(6), 2 + self.below(6)],
        };
        let name = self.name("x");
        let values = self.numbers(shape.iter().product(), 1.0);
        let value = Value::real(DataType::F32, &shape, values);
        let dim = |length: &usize| tensor_shape_proto::Dimension {
            value: Some(tensor_shape_proto::dimension::Value::DimValue(*length as i64)),
            ..Default::default()
        };
        let tensor = TensorType {
            elem_type: OnnxType::Float as i32,
            shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
        };
        self.graph.input.push(ValueInfoProto {
            name: name.clone(),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..TypeProto::default()
            }),
            ..ValueInfoProto::default()
        });
        self.values.insert(name.clone(), value);
        self.order.push(name.clone());
        self.inputs.push(name);
    }

    /// A constant of f32.
    fn weights(&mut self, shape: &[usize], size: f64) -> String {
        let values = self.numbers(shape.iter().product(), size);
        self.constant(shape, &values)
    }

    fn constant(&mut self, shape: &[usize], values: &[f64]) -> String {
        let raw = values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
        self.initializer(shape, OnnxType::Float, raw)
    }

    fn list(&mut self, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(&[values.len()], OnnxType::Int64, raw)
    }

    fn initializer(&mut self, shape: &[usize], data_type: OnnxType, raw_data: Vec<u8>) -> String {
        let name = self.name("w");
        let tensor = TensorProto {
            name: name.clone(),
            dims: shape.iter().map(|length| *length as i64).collect(),
            data_type: data_type as i32,
            raw_data,
            ..TensorProto::default()
        };
        let value = of_proto(&tensor).expect("a constant is well formed");
        self.values.insert(name.clone(), value);
        self.graph.initializer.push(tensor);
        name
    }

    /// A tensor of numbers with a point that fits, newer ones rather than older.
    fn pick(&mut self, fits: impl Fn(&[usize]) -> bool) -> Option<String> {
        let candidates: Vec<&String> = self
            .order
            .iter()
            .filter(|name| self.values[*name].data_type == DataType::F32 && fits(&self.values[*name].shape))
            .collect();
        let count = candidates.len();
        if count == 0 {
            return None;
        }
        let candidates: Vec<String> = candidates.into_iter().cloned().collect();
        let back = self.below(count).min(self.below(count));
        Some(candidates[count - 1 - back].clone())
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.values[name].shape.clone()
    }

    fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> Option<String> {
        Some(self.nodes(op, inputs, 1, attributes)?.remove(0))
    }

    /// Adds a node, where its answer is one that every right engine gives.
    fn nodes(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: usize,
        attribute: Vec<AttributeProto>,
    ) -> Option<Vec<String>> {
        let output: Vec<String> = (0..outputs).map(|_| self.name(&op.to_lowercase())).collect();
        let node = NodeProto {
            name: format!("n_{}", output[0]),
            op_type: op.to_owned(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: output.clone(),
            attribute,
            ..NodeProto::default()
        };
        let operator = find(op)?;
        let given: Vec<Option<&Value>> =
            inputs.iter().map(|name| if name.is_empty() { None } else { self.values.get(*name) }).collect();
        let answers = operator(&Call { node: &node, opset: OPSET, inputs: given.clone() }).ok()?;
        if answers.len() < outputs || !answers.iter().all(sane) {
            return None;
        }
        for up in [true, false] {
            let moved: Vec<Option<Value>> =
                given.iter().map(|value| value.map(|value| nudged(value, up))).collect();
            let given = moved.iter().map(Option::as_ref).collect();
            let again = operator(&Call { node: &node, opset: OPSET, inputs: given }).ok()?;
            if !answers.iter().zip(&again).all(|(a, b)| stands(a, b)) {
                return None;
            }
        }
        for (name, value) in output.iter().zip(answers) {
            self.values.insert(name.clone(), value);
            self.order.push(name.clone());
        }
        self.graph.node.push(node);
        Some(output)
    }

    fn finish(mut self) -> Grown {
        let read: Vec<&String> = self.graph.node.iter().flat_map(|node| &node.input).collect();
        let mut outputs: Vec<String> = self
            .graph
            .node
            .iter()
            .flat_map(|node| &node.output)
            .filter(|name| !read.contains(name))
            .cloned()
            .collect();
        // Sometimes a tensor in the middle is asked for as well: it must survive the rewriting.
        if self.chance(3) && !self.graph.node.is_empty() {
            let at = self.below(self.graph.node.len());
            let middle = self.graph.node[at].output[0].clone();
            if !outputs.contains(&middle) {
                outputs.push(middle);
            }
        }
        let output =
            outputs.iter().map(|name| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() });
        self.graph.output = output.collect();
        let inputs = self.inputs.iter().map(|name| (name.clone(), self.values[name].clone())).collect();
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        Grown { proto, inputs }
    }
}

/// Finite, and neither empty nor huge.
fn sane(value: &Value) -> bool {
    let (len, rank) = (value.len(), value.shape.len());
    let numbers = match &value.elements {
        Elements::Real(values) => values.iter().all(|v| v.is_finite() && v.abs() < 1e4),
        Elements::Whole(values) => values.iter().all(|v| v.abs() < 1 << 20),
        Elements::Text(_) => false,
    };
    numbers && (1..=MAX_ELEMENTS).contains(&len) && rank <= 5
}

/// Every number with a point moved by some roundings, neighbours apart: equal numbers are no longer.
fn nudged(value: &Value, up: bool) -> Value {
    match &value.elements {
        Elements::Real(values) => {
            let moved = values.iter().enumerate().map(|(i, v)| {
                // The golden ratio's multiples never repeat.
                let nudge = 1e-5 * (((i as f64 * 0.618_034).fract() - 0.5) * 2.0 + 0.01);
                let nudge = if up { nudge } else { -nudge };
                v * (1.0 + nudge) + nudge * 1e-2
            });
            Value::real(value.data_type, &value.shape, moved.collect())
        }
        _ => value.clone(),
    }
}

/// Whether an answer is the same, but for roundings, after its inputs were nudged.
fn stands(a: &Value, b: &Value) -> bool {
    if a.shape != b.shape {
        return false;
    }
    match (&a.elements, &b.elements) {
        (Elements::Real(a), Elements::Real(b)) => {
            let largest = a.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
            a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-3 * largest)
        }
        (a, b) => a == b,
    }
}
