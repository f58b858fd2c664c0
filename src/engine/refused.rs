//! What the engine would answer wrongly without a word, told from the graph alone.
//!
//! One table: operator, condition, reason, remedy, and the place upstream that is to change before the
//! entry goes; each was seen with tract 0.23.9. It is short because a fault is first answered by an
//! operator of ours (`operators`) or a rewrite (`passes`). Faults that only values can show are the
//! golden cases' work.

use tract_onnx::pb::{GraphProto, NodeProto};

use super::operators::contributed;

/// One entry of the table.
struct Rule {
    operator: &'static str,
    /// Whether this node meets the fault.
    meets: fn(&NodeProto) -> bool,
    because: &'static str,
    instead: &'static str,
    /// Where tract has it.
    upstream: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        operator: "Attention",
        meets: |node| node.domain == "com.microsoft",
        because: "com.microsoft:Attention is taken for ONNX's operator of the same name",
        instead: "export without onnxruntime's graph optimisation",
        upstream: "tract-onnx/src/model.rs: operators are looked up by name, without the domain",
    },
    Rule {
        operator: "GridSample",
        meets: |node| {
            let says = |name: &str, values: &[&[u8]]| {
                node.attribute
                    .iter()
                    .any(|attribute| attribute.name == name && values.contains(&&*attribute.s))
            };
            says("mode", &[b"cubic", b"bicubic"]) && says("padding_mode", &[b"border"])
        },
        because: "cubic samples beside the border are wrong",
        instead: "use mode=linear, or padding_mode=zeros or reflection",
        upstream: "tract-core/src/ops/nn/grid_sample.rs",
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
        for node in &graph.node {
            let rules = RULES.iter().filter(|rule| rule.operator == node.op_type && (rule.meets)(node));
            found.extend(rules.map(|rule| {
                let Rule { because, instead, upstream, .. } = rule;
                format!(
                    "node {:?} ({}): {because}; {instead} (tract 0.23.9, {upstream})",
                    name_of(node),
                    node.op_type
                )
            }));
            if is_foreign(node) {
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
pub(super) fn is_foreign(node: &NodeProto) -> bool {
    match node.domain.as_str() {
        "" | "ai.onnx" | "ai.onnx.ml" => false,
        "com.microsoft" => {
            let name = node.op_type.as_str();
            !CONTRIBUTED.contains(&name) && !contributed::has(name) && name != "Attention"
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::AttributeProto;

    fn node(domain: &str, operator: &str) -> NodeProto {
        NodeProto {
            domain: domain.into(),
            op_type: operator.into(),
            name: operator.to_lowercase(),
            ..NodeProto::default()
        }
    }

    fn refused(nodes: Vec<NodeProto>) -> Vec<String> {
        refusals(&GraphProto { node: nodes, ..GraphProto::default() })
    }

    #[test]
    fn an_operator_of_another_domain_is_not_taken_for_its_namesake() {
        let of = |domain: &str, operator: &str| refused(vec![node(domain, operator)]).len();
        assert_eq!(of("my.company", "Relu"), 1);
        assert_eq!(of("com.microsoft", "Attention"), 1);
        assert_eq!(of("com.microsoft", "Pad"), 1);
        assert_eq!(of("com.microsoft", "FastGelu") + of("com.microsoft", "QGemm") + of("ai.onnx", "Relu"), 0);
    }

    #[test]
    fn a_fault_inside_a_branch_is_found() {
        let inner = GraphProto { node: vec![node("my.company", "Relu")], ..GraphProto::default() };
        let branch =
            AttributeProto { name: "then_branch".into(), g: Some(inner), ..AttributeProto::default() };
        assert_eq!(refused(vec![NodeProto { attribute: vec![branch], ..node("", "If") }]).len(), 1);
    }
}
