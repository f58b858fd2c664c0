//! A decluttered graph as a prepared file holds it: operators in the order in which they run, and who reads whom.
//!
//! Types and shapes between them are not in it: each operator is asked again, so that no file can claim
//! others. What is written is read again and held against the graph, node by node, before it counts.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use tract_core::internal::*;
use tract_core::ops::konst::Const;
use tract_core::ops::source::TypedSource;

use super::operator::Operator;
use crate::engine::load::has_few_elements;
use crate::engine::untrusted::graph::MAX_NODES;

/// The graph.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Graph<'a> {
    #[serde(borrow)]
    nodes: Vec<Node<'a>>,
    inputs: Vec<Wire>,
    outputs: Vec<Wire>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Node<'a> {
    name: &'a str,
    #[serde(borrow)]
    operator: Operator<'a>,
    inputs: Vec<Wire>,
}

/// One of the outputs of a node further up, by the node's place.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Wire(usize, usize);

impl From<&OutletId> for Wire {
    fn from(outlet: &OutletId) -> Self {
        Self(outlet.node, outlet.slot)
    }
}

impl<'a> Graph<'a> {
    /// Fails in words.
    pub(super) fn of(model: &'a TypedModel) -> Result<Self, String> {
        let node = |(place, node): (usize, &'a TypedNode)| {
            let operator = Operator::of(&*node.op).ok_or_else(|| {
                format!("there is no word for {} (node {:?}) yet", node.op.name(), node.name)
            })?;
            if node.inputs.iter().any(|input| input.node >= place) {
                return Err(format!("node {:?} reads from below", node.name));
            }
            Ok(Node { name: &node.name, operator, inputs: node.inputs.iter().map(Wire::from).collect() })
        };
        let nodes = model.nodes().iter().enumerate().map(node).collect::<Result<Vec<_>, _>>()?;
        if nodes.len() > MAX_NODES {
            return Err(format!("{} nodes; at most {MAX_NODES} are taken", nodes.len()));
        }
        let wires = |outlets: &[OutletId]| outlets.iter().map(Wire::from).collect();
        let graph = Self { nodes, inputs: wires(&model.inputs), outputs: wires(&model.outputs) };
        let again = graph.model().map_err(|error| format!("read again: {error:#}"))?;
        match difference(model, &again) {
            None => Ok(graph),
            Some(what) => Err(format!("read again, {what} is another one")),
        }
    }

    /// The graph itself.
    pub(super) fn model(&self) -> TractResult<TypedModel> {
        let nodes = self.nodes.len();
        ensure!(nodes <= MAX_NODES, "{nodes} nodes; at most {MAX_NODES} are taken");
        let mut model = TypedModel::default();
        let mut known: Vec<TVec<OutletId>> = Vec::with_capacity(nodes);
        let outlet = |known: &[TVec<OutletId>], Wire(node, slot): Wire| -> TractResult<OutletId> {
            let outlets = known.get(node).with_context(|| format!("no node {node} stands further up"))?;
            outlets.get(slot).copied().with_context(|| format!("node {node} has no output {slot}"))
        };
        for Node { name, operator, inputs } in &self.nodes {
            let operator = operator.theirs().with_context(|| format!("node {name:?}"))?;
            let outlets = if let Some(source) = operator.downcast_ref::<TypedSource>() {
                tvec!(model.add_source(*name, source.fact.clone())?)
            } else if operator.is::<Const>() {
                // Wired, equal ones would fall together.
                let fact = operator.output_facts(&[])?;
                tvec!(OutletId::new(model.add_node(*name, operator, fact)?, 0))
            } else {
                let inputs: TVec<OutletId> =
                    inputs.iter().map(|wire| outlet(&known, *wire)).collect::<TractResult<_>>()?;
                model.wire_node(*name, operator, &inputs)?
            };
            for outlet in &outlets {
                let shape = &model.outlet_fact(*outlet)?.shape;
                ensure!(has_few_elements(shape), "node {name:?} makes a tensor of shape {shape:?}");
            }
            known.push(outlets);
        }
        let outlets = |wires: &[Wire]| -> TractResult<Vec<OutletId>> {
            wires.iter().map(|wire| outlet(&known, *wire)).collect()
        };
        model.set_input_outlets(&outlets(&self.inputs)?)?;
        model.select_output_outlets(&outlets(&self.outputs)?)?;
        Ok(model)
    }
}

/// Gives names to nodes in the order in which they run: where tract has told several of one name apart by a number
/// behind it, it may count otherwise the next time. Inputs keep theirs.
pub(super) fn settle_names(model: &mut TypedModel) {
    let mut taken: HashSet<String> =
        model.inputs.iter().map(|input| model.node(input.node).name.clone()).collect();
    for id in 0..model.nodes().len() {
        if model.inputs.iter().any(|input| input.node == id) {
            continue;
        }
        let mut name = model.node(id).name.clone();
        while let Some((base, number)) = name.rsplit_once('.')
            && !number.is_empty()
            && number.bytes().all(|digit| digit.is_ascii_digit())
        {
            name.truncate(base.len());
        }
        let counted = (1..).map(|nth| format!("{name}.{nth}"));
        let settled = std::iter::once(name.clone()).chain(counted).find(|name| taken.insert(name.clone()));
        model.node_mut(id).name = settled.unwrap_or(name);
    }
}

/// What is not the same in two graphs.
fn difference(one: &TypedModel, other: &TypedModel) -> Option<String> {
    if one.nodes().len() != other.nodes().len() {
        return Some("the number of nodes".to_owned());
    }
    for (node, again) in one.nodes().iter().zip(other.nodes()) {
        let facts = |node: &TypedNode| -> TVec<TypedFact> {
            node.outputs.iter().map(|output| output.fact.clone()).collect()
        };
        let same = node.name == again.name
            && node.op == again.op
            && node.inputs == again.inputs
            && facts(node) == facts(again);
        if !same {
            return Some(format!("node {:?} ({})", node.name, node.op.name()));
        }
    }
    (one.inputs != other.inputs || one.outputs != other.outputs).then(|| "an input or an output".to_owned())
}
