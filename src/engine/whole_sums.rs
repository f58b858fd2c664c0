//! Quantised layers add up whole numbers.
//!
//! Exporters of int8 write DequantizeLinear → Conv → QuantizeLinear. Read literally, scaled numbers are
//! added, and on which side of a half a sum falls turns on their order; one step of one element grows
//! through the layers behind it (efficientnet_lite0: 5 % of the largest probability). Runtimes with
//! integer kernels add whole numbers and scale once, and models are judged by their answers. So here the
//! scales are taken out of the layer: its sums of whole numbers are exact in f32 below 2^24, whatever
//! their order, and one operator of ours scales, clips and rounds (`operators::requantized`). Sums of two
//! quantised tensors likewise.
//!
//! Conv, Gemm and MatMul with constant weights, and Add; what is not of this form stays as it is.
//! Not here: layers that computed scales decide, and inner graphs.

use std::collections::{HashMap, HashSet};

use tract_core::prelude::{DatumType, Tensor, TractResult};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};
use tract_onnx::{Onnx, tensor};

use super::operators::requantized::{QUANTIZED_SUM, REQUANTIZED};
use super::refused::for_each_graph;
use crate::base;
use crate::engine::onnx::initializer;

/// Rewrites every such layer of the outer graph; whether there was one.
pub(super) fn rewrite(onnx: &Onnx, graph: &mut GraphProto) -> TractResult<bool> {
    let reading = Reading::of(onnx, graph);
    let mut made: HashMap<usize, Vec<NodeProto>> = HashMap::new();
    let mut constants = Vec::new();
    let mut gone: HashSet<usize> = HashSet::new();
    for index in 0..graph.node.len() {
        let Some(layer) = reading.layer(index).or_else(|| reading.sum(index)) else { continue };
        gone.extend(layer.gone);
        made.insert(index, layer.nodes);
        constants.extend(layer.constants);
    }
    if made.is_empty() {
        return Ok(false);
    }
    let nodes = std::mem::take(&mut graph.node).into_iter().enumerate();
    graph.node = nodes
        .flat_map(|(index, node)| match made.remove(&index) {
            Some(nodes) => nodes,
            None if gone.contains(&index) => Vec::new(),
            None => vec![node],
        })
        .collect();
    graph.initializer.extend(constants);
    graph.initializer.push(initializer(ONE, &base::Tensor::f32(&[], vec![1.0])));
    // What only the layers read, integer weights most of all, goes.
    let read = readers(graph);
    graph.node.retain(|node| {
        node.op_type != "DequantizeLinear" || node.output.iter().any(|output| read.contains_key(output))
    });
    let read = readers(graph);
    graph.initializer.retain(|tensor| read.contains_key(&tensor.name));
    Ok(true)
}

/// The scale of a tensor of whole numbers.
const ONE: &str = "lineside one";

/// Who reads a tensor; the graph's outputs and inner graphs count as [`SOMEONE`].
fn readers(graph: &GraphProto) -> HashMap<String, Vec<usize>> {
    const SOMEONE: usize = usize::MAX;
    let mut readers: HashMap<String, Vec<usize>> = HashMap::new();
    let mut note = |name: &str, who: usize| readers.entry(name.to_owned()).or_default().push(who);
    graph.output.iter().for_each(|output| note(&output.name, SOMEONE));
    for (index, node) in graph.node.iter().enumerate() {
        node.input.iter().for_each(|name| note(name, index));
        for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
            for_each_graph(inner, &mut |inner| {
                let inputs = inner.node.iter().flat_map(|node| &node.input);
                inputs
                    .chain(inner.output.iter().map(|output| &output.name))
                    .for_each(|name| note(name, SOMEONE));
            });
        }
    }
    readers
}

/// A graph with what is asked of it again and again.
struct Reading<'g> {
    onnx: &'g Onnx,
    nodes: &'g [NodeProto],
    constants: HashMap<&'g str, &'g TensorProto>,
    makers: HashMap<&'g str, usize>,
    readers: HashMap<String, Vec<usize>>,
}

/// What comes in place of a layer.
struct Layer {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// Nodes that are part of it now.
    gone: Vec<usize>,
}

/// A tensor behind a DequantizeLinear.
struct Dequantised<'g> {
    of: &'g str,
    scale: Vec<f32>,
    axis: i64,
    /// As many as scales, or none.
    zero: Vec<f32>,
    zero_name: Option<&'g str>,
}

/// What follows a layer up to its QuantizeLinear.
struct End<'g> {
    scale: f32,
    zero: f32,
    zero_type: i64,
    /// Of a Relu or Clip between, in the layer's own numbers.
    clip: (f32, f32),
    nodes: Vec<usize>,
    output: &'g str,
}

fn is_standard(node: &NodeProto, operator: &str) -> bool {
    node.op_type == operator && matches!(node.domain.as_str(), "" | "ai.onnx")
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

impl<'g> Reading<'g> {
    fn of(onnx: &'g Onnx, graph: &'g GraphProto) -> Self {
        let made = graph.node.iter().enumerate();
        Self {
            onnx,
            nodes: &graph.node,
            constants: graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            makers: made
                .flat_map(|(index, node)| node.output.iter().map(move |output| (output.as_str(), index)))
                .collect(),
            readers: readers(graph),
        }
    }

    fn constant(&self, name: &str) -> Option<Tensor> {
        tensor::load_tensor(&*self.onnx.provider, self.constants.get(name)?, None).ok()
    }

    fn numbers(&self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.constant(name)?;
        Some(tensor.cast_to::<f32>().ok()?.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec())
    }

    fn is_byte(&self, name: &str) -> bool {
        self.constant(name).is_some_and(|tensor| matches!(tensor.datum_type(), DatumType::U8 | DatumType::I8))
    }

    fn dequantised(&self, name: &str) -> Option<Dequantised<'g>> {
        let node = &self.nodes[*self.makers.get(name)?];
        let blocked = attribute(node, "block_size").is_some_and(|size| size.i != 0);
        if !is_standard(node, "DequantizeLinear") || blocked {
            return None;
        }
        let scale = self.numbers(node.input.get(1)?)?;
        let zero_name = node.input.get(2).map(String::as_str).filter(|name| !name.is_empty());
        let zero = zero_name.map_or(Some(Vec::new()), |name| self.numbers(name))?;
        let sound = scale.iter().all(|scale| scale.is_finite() && *scale > 0.0);
        let axis = attribute(node, "axis").map_or(1, |axis| axis.i);
        sound.then_some(Dequantised { of: node.input.first()?, scale, axis, zero, zero_name })
    }

    /// The same, with one scale and a zero point, of bytes.
    fn bytes(&self, name: &str) -> Option<(Dequantised<'g>, f32, f32)> {
        let bytes = self.dequantised(name)?;
        let (&[scale], &[zero]) = (&*bytes.scale, &*bytes.zero) else { return None };
        self.is_byte(bytes.zero_name?).then_some((bytes, scale, zero))
    }

    fn only_reader(&self, name: &str) -> Option<usize> {
        let readers = self.readers.get(name)?;
        (readers.len() == 1).then(|| readers[0]).filter(|reader| *reader < self.nodes.len())
    }

    /// From a layer's answer to its QuantizeLinear, where nobody else looks between.
    fn end(&self, name: &'g str) -> Option<End<'g>> {
        let mut clip = (f32::NEG_INFINITY, f32::INFINITY);
        let mut nodes = vec![self.only_reader(name)?];
        let mut node = &self.nodes[nodes[0]];
        if is_standard(node, "Relu") || is_standard(node, "Clip") {
            let bound = |position: usize, name: &str, none: f32| match node.input.get(position) {
                Some(input) if !input.is_empty() => self.numbers(input)?.first().copied(),
                _ => Some(attribute(node, name).map_or(none, |bound| bound.f)),
            };
            clip = match node.op_type.as_str() {
                "Relu" => (0.0, clip.1),
                _ => (bound(1, "min", clip.0)?, bound(2, "max", clip.1)?),
            };
            nodes.push(self.only_reader(node.output.first()?)?);
            node = &self.nodes[nodes[1]];
        }
        let special = node.attribute.iter().any(|attribute| attribute.name != "axis" && attribute.i != 0);
        if !is_standard(node, "QuantizeLinear") || special || clip.0 > clip.1 {
            return None;
        }
        let zero_name = node.input.get(2)?;
        let (scale, zero) = (self.numbers(node.input.get(1)?)?, self.numbers(zero_name)?);
        let (&[scale], &[zero]) = (&*scale, &*zero) else { return None };
        let sound = self.is_byte(zero_name) && scale.is_finite() && scale > 0.0;
        let zero_type = self.constants.get(zero_name.as_str())?.data_type.into();
        let output = node.output.first()?;
        sound.then_some(End { scale, zero, zero_type, clip, nodes, output })
    }

    fn layer(&self, index: usize) -> Option<Layer> {
        let node = &self.nodes[index];
        let is = |operator| is_standard(node, operator);
        let integer = |name: &str| attribute(node, name).map_or(0, |attribute| attribute.i);
        let plain = |name: &str| attribute(node, name).is_none_or(|attribute| attribute.f == 1.0);
        if !(is("Conv")
            || is("MatMul")
            || is("Gemm") && plain("alpha") && plain("beta") && integer("transA") == 0)
        {
            return None;
        }
        let (x, x_scale, _) = self.bytes(node.input.first()?)?;
        let w = self.dequantised(node.input.get(1)?)?;
        let dims = &self.constants.get(w.of)?.dims;
        // The axis of the weights along which the answer's channels lie, and theirs in the answer.
        let (of_weights, of_answer) = match (is("Conv"), dims.len()) {
            (true, 3..) => (0, 1),
            (false, 2) if integer("transB") != 0 => (0, -1),
            (false, 2) => (1, -1),
            _ => return None,
        };
        let channels = usize::try_from(*dims.get(of_weights)?).ok()?;
        let axis = if w.axis < 0 { w.axis + dims.len() as i64 } else { w.axis };
        let each = w.scale.len() == channels && axis == of_weights as i64;
        if w.scale.len() != 1 && !each || w.zero.iter().any(|zero| *zero != w.zero[0]) {
            return None;
        }
        let end = self.end(node.output.first()?)?;
        let name = |of: &str| format!("{} {of}", end.output);
        let zero = w.zero.first().copied().unwrap_or(0.0);
        let weights: Vec<f32> = self.numbers(w.of)?.into_iter().map(|weight| weight - zero).collect();
        let lengths = |name: &str| -> Option<Vec<usize>> {
            self.constants.get(name)?.dims.iter().map(|length| usize::try_from(*length).ok()).collect()
        };
        let mut constants = vec![initializer(&name("weights"), &base::Tensor::f32(&lengths(w.of)?, weights))];
        let mut inputs = vec![name("input"), name("weights")];
        if let Some(bias) = node.input.get(2).filter(|bias| !bias.is_empty()) {
            let bias = self.dequantised(bias)?;
            let expected = |at: usize| x_scale * w.scale[if w.scale.len() == 1 { 0 } else { at }];
            let fits = (bias.scale.iter().enumerate())
                .all(|(at, scale)| (scale - expected(at)).abs() <= 1e-3 * expected(at));
            let shifted = bias.zero.iter().any(|zero| *zero != 0.0);
            if shifted || !fits || ![1, w.scale.len()].contains(&bias.scale.len()) {
                return None;
            }
            let values = base::Tensor::f32(&lengths(bias.of)?, self.numbers(bias.of)?);
            constants.push(initializer(&name("bias"), &values));
            inputs.push(name("bias"));
        }
        let factors: Vec<f32> = w.scale.iter().map(|scale| x_scale * scale / end.scale).collect();
        let whole = NodeProto {
            name: name("input"),
            op_type: "DequantizeLinear".to_owned(),
            input: vec![x.of.to_owned(), ONE.to_owned(), x.zero_name?.to_owned()],
            output: vec![name("input")],
            ..NodeProto::default()
        };
        let sums =
            NodeProto { name: name("sums"), input: inputs, output: vec![name("sums")], ..node.clone() };
        let attributes = vec![floats("factors", factors), int("axis", of_answer)];
        let last = end.node(REQUANTIZED, vec![name("sums")], attributes, &node.name, end.zero);
        Some(Layer { nodes: vec![whole, sums, last], constants, gone: end.nodes })
    }

    fn sum(&self, index: usize) -> Option<Layer> {
        let node = &self.nodes[index];
        if !is_standard(node, "Add") {
            return None;
        }
        let (a, a_scale, a_zero) = self.bytes(node.input.first()?)?;
        let (b, b_scale, b_zero) = self.bytes(node.input.get(1)?)?;
        let end = self.end(node.output.first()?)?;
        let ratios = [a_scale / end.scale, b_scale / end.scale];
        // The answer's zero point is added before the rounding here: halves go to the even sum.
        let fixed = end.zero - (ratios[0] * a_zero + ratios[1] * b_zero);
        let attributes = vec![floats("ratios", ratios.to_vec()), float("fixed", fixed)];
        let last =
            end.node(QUANTIZED_SUM, vec![a.of.to_owned(), b.of.to_owned()], attributes, &node.name, 0.0);
        Some(Layer { nodes: vec![last], constants: Vec::new(), gone: end.nodes })
    }
}

impl End<'_> {
    /// The node that ends a layer, in the place of all that it was. `zero` is what it adds when it has
    /// rounded, of its zero point; the rest is in the number already.
    fn node(
        &self,
        operator: &str,
        input: Vec<String>,
        mut attribute: Vec<AttributeProto>,
        name: &str,
        zero: f32,
    ) -> NodeProto {
        let before = self.zero - zero;
        attribute.extend([
            float("least", self.clip.0 / self.scale + before),
            float("most", self.clip.1 / self.scale + before),
            int("zero", zero as i64),
            int("to", self.zero_type),
        ]);
        NodeProto {
            name: name.to_owned(),
            op_type: operator.to_owned(),
            input,
            output: vec![self.output.to_owned()],
            attribute,
            ..NodeProto::default()
        }
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        i,
        r#type: AttributeType::Int as i32,
        ..AttributeProto::default()
    }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        f,
        r#type: AttributeType::Float as i32,
        ..AttributeProto::default()
    }
}

fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    let r#type = AttributeType::Floats as i32;
    AttributeProto { name: name.to_owned(), floats, r#type, ..AttributeProto::default() }
}
