//! What the engine would answer wrongly without a word, told from the graph alone.
//!
//! One table: operator, condition, reason, remedy; each entry was seen with tract 0.23.9 and goes
//! when an operator of ours or a newer tract answers right. Faults that only values can show are
//! the golden cases' work.

use std::collections::HashMap;

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

/// One entry of the table.
struct Rule {
    operator: &'static str,
    /// Whether this node meets the fault.
    meets: fn(&NodeProto, &Surroundings<'_>) -> bool,
    because: &'static str,
    instead: &'static str,
}

const RECURRENT: &str = "export it with the default activations, without clip and input_forget";

const RULES: &[Rule] = &[
    Rule {
        operator: "LSTM",
        meets: reversed,
        because: "direction=reverse runs forward",
        instead: "reverse the sequence before and after the layer, or export it bidirectional",
    },
    Rule {
        operator: "GRU",
        meets: reversed,
        because: "direction=reverse runs forward",
        instead: "reverse the sequence before and after the layer, or export it bidirectional",
    },
    Rule {
        operator: "RNN",
        meets: reversed,
        because: "direction=reverse runs forward",
        instead: "reverse the sequence before and after the layer, or export it bidirectional",
    },
    Rule {
        operator: "LSTM",
        meets: |node, _| other_activations(node, &["sigmoid", "tanh", "tanh"]),
        because: "its activations, clip or input_forget are ignored",
        instead: RECURRENT,
    },
    Rule {
        operator: "GRU",
        meets: |node, _| other_activations(node, &["sigmoid", "tanh"]),
        because: "its activations or clip are ignored",
        instead: RECURRENT,
    },
    Rule {
        operator: "RNN",
        meets: |node, _| other_activations(node, &["tanh"]),
        because: "its activations or clip are ignored",
        instead: RECURRENT,
    },
    Rule {
        operator: "Softmax",
        meets: |node, around| {
            around.producer(node.input.first()) == Some("DequantizeLinear")
                && around.consumers(node.output.first()).any(|op| op == "QuantizeLinear")
        },
        because: "a Softmax between DequantizeLinear and QuantizeLinear saturates once optimised",
        instead: "leave Softmax out of quantisation (op_types_to_quantize)",
    },
    Rule {
        operator: "SpaceToDepth",
        meets: |node, _| text(node, "mode").is_some_and(|mode| mode != "DCR"),
        because: "mode=CRD is answered as DCR",
        instead: "export it as Reshape, Transpose, Reshape",
    },
    Rule {
        operator: "Attention",
        meets: |node, _| node.domain == "com.microsoft",
        because: "com.microsoft:Attention is taken for ONNX's operator of the same name",
        instead: "export without onnxruntime's graph optimisation",
    },
];

/// Operators outside the ONNX domains that tract implements as onnxruntime defines them.
const CONTRIBUTED: &[&str] = &[
    "BiasGelu",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuantizeLinear",
    "QuickGelu",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// Everything in `graph` that would be answered wrongly; empty when nothing is known against it.
pub(super) fn refusals(graph: &GraphProto) -> Vec<String> {
    let mut found = Vec::new();
    for_each_graph(graph, &mut |graph| {
        let around = Surroundings::of(graph);
        for node in &graph.node {
            let rules = RULES.iter().filter(|rule| rule.operator == node.op_type);
            found.extend(rules.filter(|rule| (rule.meets)(node, &around)).map(|rule| {
                format!("node {:?} ({}): {}; {}", name_of(node), node.op_type, rule.because, rule.instead)
            }));
            if foreign(node) {
                found.push(format!(
                    "node {:?}: {}:{} is not ONNX's {}; export with standard operators only",
                    name_of(node),
                    node.domain,
                    node.op_type,
                    node.op_type
                ));
            }
        }
    });
    found
}

/// Whether tract, which reads names only, would take this node for another domain's operator.
fn foreign(node: &NodeProto) -> bool {
    match node.domain.as_str() {
        "" | "ai.onnx" | "ai.onnx.ml" => false,
        "com.microsoft" => !CONTRIBUTED.contains(&node.op_type.as_str()) && node.op_type != "Attention",
        _ => true,
    }
}

/// The graph and every graph inside its nodes (If, Loop, Scan).
pub(super) fn for_each_graph(graph: &GraphProto, visit: &mut dyn FnMut(&GraphProto)) {
    visit(graph);
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        for inner in attribute.g.iter().chain(&attribute.graphs) {
            for_each_graph(inner, visit);
        }
    }
}

/// What a person finds the node by.
pub(super) fn name_of(node: &NodeProto) -> &str {
    match node.name.as_str() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn text(node: &NodeProto, name: &str) -> Option<String> {
    attribute(node, name).map(|attribute| String::from_utf8_lossy(&attribute.s).into_owned())
}

fn reversed(node: &NodeProto, _: &Surroundings<'_>) -> bool {
    text(node, "direction").is_some_and(|direction| direction == "reverse")
}

fn other_activations(node: &NodeProto, default: &[&str]) -> bool {
    let named = attribute(node, "activations").map_or(&[][..], |attribute| &attribute.strings);
    let differ = named
        .iter()
        .zip(default.iter().cycle())
        .any(|(name, default)| !name.eq_ignore_ascii_case(default.as_bytes()));
    let clipped = attribute(node, "clip").is_some_and(|attribute| attribute.f > 0.0);
    let coupled = attribute(node, "input_forget").is_some_and(|attribute| attribute.i != 0);
    differ || clipped || coupled
}

/// Who makes and who reads each tensor of a graph.
struct Surroundings<'g> {
    producers: HashMap<&'g str, &'g NodeProto>,
    consumers: HashMap<&'g str, Vec<&'g str>>,
}

impl<'g> Surroundings<'g> {
    fn of(graph: &'g GraphProto) -> Self {
        let mut consumers: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut producers = HashMap::new();
        for node in &graph.node {
            for input in &node.input {
                consumers.entry(input).or_default().push(&node.op_type);
            }
            producers.extend(node.output.iter().map(|output| (output.as_str(), node)));
        }
        Self { producers, consumers }
    }

    fn producer(&self, tensor: Option<&String>) -> Option<&str> {
        Some(self.producers.get(tensor?.as_str())?.op_type.as_str())
    }

    fn consumers(&self, tensor: Option<&String>) -> impl Iterator<Item = &'g str> {
        let found = tensor.and_then(|name| self.consumers.get(name.as_str()));
        found.cloned().unwrap_or_default().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            name: op.to_lowercase(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: outputs.iter().map(ToString::to_string).collect(),
            attribute,
            ..NodeProto::default()
        }
    }

    fn string(name: &str, value: &str) -> AttributeProto {
        AttributeProto { name: name.into(), s: value.into(), ..AttributeProto::default() }
    }

    fn refused(nodes: Vec<NodeProto>) -> Vec<String> {
        refusals(&GraphProto { node: nodes, ..GraphProto::default() })
    }

    #[test]
    fn only_a_reversed_recurrence_is_refused() {
        for op in ["LSTM", "GRU", "RNN"] {
            let of =
                |direction| refused(vec![node(op, &["x"], &["y"], vec![string("direction", direction)])]);
            assert_eq!(of("forward").len() + of("bidirectional").len(), 0);
            assert!(of("reverse")[0].contains("runs forward"), "{op}");
        }
    }

    #[test]
    fn activations_that_would_be_ignored_are_refused_and_the_default_is_not() {
        let of = |names: &[&str]| {
            let strings = names.iter().map(|name| name.as_bytes().to_vec()).collect();
            let activations =
                AttributeProto { name: "activations".into(), strings, ..AttributeProto::default() };
            refused(vec![node("LSTM", &["x"], &["y"], vec![activations])]).len()
        };
        assert_eq!(of(&["Sigmoid", "Tanh", "Tanh"]), 0);
        assert_eq!(of(&["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Tanh", "Tanh"]), 0);
        assert_eq!(of(&["Sigmoid", "Relu", "Relu"]), 1);
    }

    #[test]
    fn a_quantised_softmax_is_refused_and_a_plain_one_is_not() {
        let quantised = vec![
            node("DequantizeLinear", &["q"], &["x"], vec![]),
            node("Softmax", &["x"], &["y"], vec![]),
            node("QuantizeLinear", &["y"], &["z"], vec![]),
        ];
        assert_eq!(refused(quantised.clone()).len(), 1);
        assert_eq!(refused(quantised[..2].to_vec()).len(), 0);
    }

    #[test]
    fn an_operator_of_another_domain_is_not_taken_for_its_namesake() {
        let of = |domain: &str, op: &str| {
            let foreign = NodeProto { domain: domain.into(), ..node(op, &["x"], &["y"], vec![]) };
            refused(vec![foreign]).len()
        };
        assert_eq!(of("my.company", "Relu"), 1);
        assert_eq!(of("com.microsoft", "Attention"), 1);
        assert_eq!(of("com.microsoft", "Pad"), 1);
        assert_eq!(of("com.microsoft", "FastGelu") + of("ai.onnx", "Relu"), 0);
    }

    #[test]
    fn a_fault_inside_a_branch_is_found() {
        let inner = GraphProto {
            node: vec![node("RNN", &["x"], &["y"], vec![string("direction", "reverse")])],
            ..GraphProto::default()
        };
        let branch =
            AttributeProto { name: "then_branch".into(), g: Some(inner), ..AttributeProto::default() };
        assert_eq!(refused(vec![node("If", &["c"], &["y"], vec![branch])]).len(), 1);
    }
}
