//! What a body's tensors and nodes are called where it is called: `caller/function/name`, with a number
//! behind it where that is taken.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{FunctionProto, GraphProto, NodeProto};

use super::Room;
use crate::engine::refused::{for_each_graph, name_of};

/// Longer ways from the model to a node are cut in front: names must not grow with each call inside a call.
const MAX_PREFIX_BYTES: usize = 200;

/// Names that are taken.
pub(super) struct Names {
    tensors: Taken,
    nodes: Taken,
}

#[derive(Default)]
struct Taken {
    names: HashSet<String>,
    /// The number behind the last name that had to be told from another.
    last: usize,
}

impl Taken {
    fn fresh(&mut self, wanted: String) -> String {
        let mut name = wanted.clone();
        while !self.names.insert(name.clone()) {
            self.last += 1;
            name = format!("{wanted}_{}", self.last);
        }
        name
    }
}

impl Names {
    pub(super) fn of(graph: &GraphProto) -> Self {
        let (mut tensors, mut nodes) = (Taken::default(), Taken::default());
        for_each_graph(graph, &mut |graph| {
            let made = made_in(graph).chain(graph.output.iter().map(|output| &output.name));
            let read = graph.node.iter().flat_map(|node| &node.input);
            tensors.names.extend(made.chain(read).cloned());
            nodes.names.extend(graph.node.iter().map(|node| node.name.clone()));
        });
        Self { tensors, nodes }
    }
}

/// Everything that a graph gives a name to.
fn made_in(graph: &GraphProto) -> impl Iterator<Item = &String> {
    let weights = graph.initializer.iter().map(|tensor| &tensor.name);
    let sparse = graph.sparse_initializer.iter().flat_map(|sparse| &sparse.values).map(|values| &values.name);
    let inputs = graph.input.iter().map(|input| &input.name);
    inputs.chain(weights).chain(sparse).chain(graph.node.iter().flat_map(|node| &node.output))
}

/// The names of one body at one call.
pub(super) struct Body<'n> {
    prefix: String,
    names: &'n mut Names,
    room: &'n mut Room,
    /// A body's own name to the one that it has here; graphs inside the body have a scope each.
    scopes: Vec<HashMap<String, String>>,
    /// Nodes for outputs that the body does not make: inputs, and tensors that are an output already.
    handed_through: Vec<NodeProto>,
}

impl<'n> Body<'n> {
    /// Formal names stand for the call's; what it leaves out is "" as an input, and nobody's as an output.
    pub(super) fn of(
        call: &NodeProto,
        function: &FunctionProto,
        names: &'n mut Names,
        room: &'n mut Room,
    ) -> Result<Self, String> {
        let prefix = format!("{}/{}", name_of(call), function.name());
        let cut = prefix.len().saturating_sub(MAX_PREFIX_BYTES);
        let prefix = match (cut..prefix.len()).find(|at| prefix.is_char_boundary(*at)) {
            Some(at) if cut > 0 => format!("…{}", &prefix[at..]),
            _ => prefix,
        };
        let given = |names: &[String], at: usize| names.get(at).cloned().unwrap_or_default();
        let inputs = function.input.iter().enumerate();
        let scope = inputs.map(|(at, formal)| (formal.clone(), given(&call.input, at))).collect();
        let mut body = Self { prefix, names, room, scopes: vec![scope], handed_through: Vec::new() };
        for (at, formal) in function.output.iter().enumerate() {
            let actual = given(&call.output, at);
            if actual.is_empty() {
                continue;
            }
            match body.scopes[0].get(formal) {
                Some(known) if known.is_empty() => {
                    return Err(format!("its output {formal:?} is an input that the call leaves out"));
                }
                Some(known) => {
                    let identity = NodeProto {
                        op_type: "Identity".to_owned(),
                        input: vec![known.clone()],
                        output: vec![actual],
                        ..NodeProto::default()
                    };
                    body.handed_through.push(identity);
                }
                None => {
                    body.scopes[0].insert(formal.clone(), actual);
                }
            }
        }
        Ok(body)
    }

    /// Gives everything in the body's nodes its name here, and adds nodes for what the body hands through.
    pub(super) fn rename(mut self, nodes: &mut Vec<NodeProto>) -> Result<(), String> {
        self.nodes(nodes)?;
        nodes.append(&mut self.handed_through);
        Ok(())
    }

    fn nodes(&mut self, nodes: &mut [NodeProto]) -> Result<(), String> {
        for node in nodes {
            node.name = self.names.nodes.fresh(format!("{}/{}", self.prefix, name_of(node)));
            self.room.take_bytes(node.name.len())?;
            for name in node.input.iter_mut().chain(&mut node.output) {
                self.tensor(name)?;
            }
            // An input that the call left out at the end is not there, rather than there without a name.
            while node.input.last().is_some_and(String::is_empty) {
                node.input.pop();
            }
            for held in &mut node.attribute {
                for inner in held.g.iter_mut().chain(&mut held.graphs) {
                    self.graph(inner)?;
                }
            }
        }
        Ok(())
    }

    /// A graph inside of a node: what it makes is its own, the rest is looked up around it.
    fn graph(&mut self, graph: &mut GraphProto) -> Result<(), String> {
        let made: HashSet<String> = made_in(graph).filter(|name| !name.is_empty()).cloned().collect();
        let scope = made.into_iter().map(|name| {
            let here = self.names.tensors.fresh(format!("{}/{name}", self.prefix));
            (name, here)
        });
        let scope = scope.collect();
        self.scopes.push(scope);
        for input in &mut graph.input {
            self.tensor(&mut input.name)?;
        }
        for weights in &mut graph.initializer {
            self.tensor(&mut weights.name)?;
        }
        for values in graph.sparse_initializer.iter_mut().flat_map(|sparse| &mut sparse.values) {
            self.tensor(&mut values.name)?;
        }
        self.nodes(&mut graph.node)?;
        for output in &mut graph.output {
            self.tensor(&mut output.name)?;
        }
        // Said of tensors by their old names.
        graph.value_info.clear();
        graph.quantization_annotation.clear();
        self.scopes.pop();
        Ok(())
    }

    fn tensor(&mut self, name: &mut String) -> Result<(), String> {
        if name.is_empty() {
            return Ok(());
        }
        let here = match self.scopes.iter().rev().find_map(|scope| scope.get(name)) {
            Some(here) => here.clone(),
            None => {
                // Made in the body, before or behind this place; it cannot be a tensor of the caller's.
                let here = self.names.tensors.fresh(format!("{}/{name}", self.prefix));
                self.scopes[0].insert(name.clone(), here.clone());
                here
            }
        };
        self.room.take_bytes(here.len())?;
        *name = here;
        Ok(())
    }
}
