//! One node on its own: whether it is wrong, or only given other numbers.
//!
//! Where a node reads two scores that are all but equal, a rounding in front of it decides which is the larger; so it
//! is with a remainder, or a difference of like numbers. What the node makes then differs by far, and no
//! operator is at fault. So the oracle is asked once more: for this one node, given what the engine gave it.

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

use super::graph;
use crate::base::Tensor;
use crate::engine::oracle::Oracle;

/// What the standard says that `node` makes of these: the tensor of this name. `None` where that is not known.
pub(super) fn answer(
    proto: &ModelProto,
    node: &NodeProto,
    given: impl Fn(&str) -> Option<Tensor>,
    tensor: &str,
) -> Option<Tensor> {
    let whole = proto.graph.as_ref()?;
    let (weights, tensors): (Vec<&String>, Vec<&String>) = (node.input.iter())
        .filter(|name| !name.is_empty())
        .partition(|name| whole.initializer.iter().any(|weights| weights.name == **name));
    let named = |name: &&String| ValueInfoProto { name: (*name).clone(), ..ValueInfoProto::default() };
    let graph = GraphProto {
        node: vec![node.clone()],
        initializer: whole.initializer.iter().filter(|own| weights.contains(&&own.name)).cloned().collect(),
        input: tensors.iter().map(named).collect(),
        ..GraphProto::default()
    };
    let alone = ModelProto { graph: Some(graph), ..graph::proto_without_graph(proto) };
    let given: Vec<(&str, Tensor)> =
        tensors.into_iter().map(|name| Some((name.as_str(), given(name)?))).collect::<Option<_>>()?;
    let given: Vec<(&str, &Tensor)> = given.iter().map(|(name, tensor)| (*name, tensor)).collect();
    Oracle::new(&alone).ok()?.answer(&given).ok()?.tensor(tensor)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::engine::sample;

    #[test]
    fn a_node_is_answered_from_what_it_is_given_and_its_own_weights() {
        let proto = ModelProto::decode(&*sample::relu_layer().bytes()).unwrap();
        let graph = proto.graph.as_ref().unwrap();
        let product = graph.node.iter().find(|node| node.op_type == "MatMul").unwrap();
        let of = |x: [f32; 2]| {
            let given = |name: &str| (name == "x").then(|| Tensor::f32(&[1, 2], x.to_vec()));
            answer(&proto, product, given, &product.output[0])
        };
        let (first, second) = (of([1.0, 0.0]).unwrap(), of([2.0, 0.0]).unwrap());
        for (first, second) in first.as_f32().unwrap().iter().zip(second.as_f32().unwrap()) {
            assert_eq!(2.0 * first, *second);
        }
        assert_ne!(first.as_f32().unwrap(), &[0.0; 2][..]);
        assert_eq!(answer(&proto, product, |_| None, &product.output[0]), None);
    }
}
