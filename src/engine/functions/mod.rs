//! Functions that a model brings along (`ModelProto.functions`; onnxscript and PyTorch's exporter write them):
//! each call becomes the function's nodes, before anything else looks at the graph.
//!
//! Promise: what comes out means what the file means, or the call is refused with the function's name; nodes
//! and tensors are called `caller/function/name`; time and memory stay within a small multiple of the file's.
//! Source: onnx.proto, FunctionProto and NodeProto, IR version 10. Where it leaves open whether a function or
//! an operator of the same name counts, it is the operator if we have it, as in onnxruntime.
//!
//! | file | answers |
//! |---|---|
//! | `fields` | what of it tract's reader passes over |
//! | `names` | what a body's tensors and nodes are called where it is called |
//! | `versions` | whether a body's operators mean the same under the model's operator sets |

mod fields;
mod names;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::HashMap;

use prost::Message;
use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

use super::onnx::{has_operator, operator_name};
use super::refused::{is_foreign, name_of};
use super::untrusted::graph::MAX_NODES;
use super::untrusted::protobuf::MAX_DEPTH;
use names::{Body, Names};
use versions::Versions;

/// Calls inside calls. Exports of module hierarchies have about ten.
const MAX_CALLS: usize = 64;
/// What the calls may copy beyond the file's own size: constants in bodies, names, attributes.
const MAX_COPIED_BYTES: usize = 1 << 26;

/// Domain, and name with the overload behind it.
type Key = (String, String);

struct Function {
    proto: FunctionProto,
    /// Values of attributes that a call leaves out.
    defaults: Vec<AttributeProto>,
}

/// Writes each call of a function of the model's out as the function's nodes. `bytes` is the file that
/// `proto` was read from.
///
/// # Errors
/// In words: a call that does not fit its function, one that never ends, one that would grow beyond the caps.
pub(super) fn inline(proto: &mut ModelProto, bytes: &[u8]) -> Result<(), String> {
    if proto.functions.is_empty() {
        return Ok(());
    }
    let defaults = fields::restore(proto, bytes)?;
    let Some(mut graph) = proto.graph.take() else { return Ok(()) };
    let mut functions: HashMap<Key, Function> = HashMap::new();
    for (proto, defaults) in std::mem::take(&mut proto.functions).into_iter().zip(defaults) {
        let key = (domain(proto.domain()).to_owned(), proto.name().to_owned());
        let name = operator_name(&key.0, &key.1);
        if functions.insert(key, Function { proto, defaults }).is_some() {
            return Err(format!("two of its functions are called {name}"));
        }
    }
    let mut inliner = Inliner {
        functions: &functions,
        names: Names::of(&graph),
        versions: Versions::of(&proto.opset_import),
        open: Vec::new(),
        room: Room { nodes: MAX_NODES, bytes: bytes.len() + MAX_COPIED_BYTES },
    };
    inliner.graph(&mut graph, 0)?;
    proto.opset_import.extend(inliner.versions.added());
    proto.graph = Some(graph);
    Ok(())
}

/// What the calls may still grow by.
struct Room {
    nodes: usize,
    bytes: usize,
}

impl Room {
    fn take_nodes(&mut self, nodes: usize) -> Result<(), String> {
        let left = self.nodes.checked_sub(nodes);
        self.nodes =
            left.ok_or_else(|| format!("written out, the calls have more than {MAX_NODES} nodes"))?;
        Ok(())
    }

    fn take_bytes(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| {
            format!("written out, the calls take more than {MAX_COPIED_BYTES} bytes beyond the file's own")
        })?;
        Ok(())
    }
}

struct Inliner<'f> {
    functions: &'f HashMap<Key, Function>,
    names: Names,
    versions: Versions,
    /// Functions whose bodies are being written out, the outermost first.
    open: Vec<&'f Key>,
    room: Room,
}

impl<'f> Inliner<'f> {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) -> Result<(), String> {
        let nodes = std::mem::take(&mut graph.node);
        graph.node = self.nodes(nodes, depth)?;
        Ok(())
    }

    fn nodes(&mut self, nodes: Vec<NodeProto>, depth: usize) -> Result<Vec<NodeProto>, String> {
        let mut written = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            for inner in node.attribute.iter_mut().flat_map(|held| held.g.iter_mut().chain(&mut held.graphs))
            {
                if depth == MAX_DEPTH {
                    return Err(format!(
                        "with its functions written out, graphs nest deeper than {MAX_DEPTH}"
                    ));
                }
                self.graph(inner, depth + 1)?;
            }
            let key = (domain(&node.domain).to_owned(), node.op_type.clone());
            match self.functions.get_key_value(&key) {
                Some((key, function)) if !has_operator(&node) || is_foreign(&node) => {
                    let body = self.called(&node, key, function).map_err(|why| {
                        format!("node {:?} calls its function {}: {why}", name_of(&node), name(key))
                    })?;
                    self.open.push(key);
                    written.extend(self.nodes(body, depth)?);
                    self.open.pop();
                }
                _ => written.push(node),
            }
        }
        Ok(written)
    }

    /// The function's nodes with the call's tensors, attributes and name in them.
    fn called(
        &mut self,
        call: &NodeProto,
        key: &'f Key,
        Function { proto, defaults }: &'f Function,
    ) -> Result<Vec<NodeProto>, String> {
        if self.open.contains(&key) {
            let way: Vec<String> = self.open.iter().chain([&key]).map(|key| name(key)).collect();
            return Err(format!("it calls itself ({})", way.join(" → ")));
        }
        if self.open.len() == MAX_CALLS {
            return Err(format!("calls nest deeper than {MAX_CALLS}"));
        }
        for (given, most, of) in [
            (call.input.len(), proto.input.len(), "inputs"),
            (call.output.len(), proto.output.len(), "outputs"),
        ] {
            if given > most {
                return Err(format!("it is given {given} {of} and has {most}"));
            }
        }
        self.versions.same_meaning(proto)?;
        // At least 1: calls of functions without nodes must come to an end as well.
        self.room.take_nodes(nodes_in(&proto.node).max(1))?;
        self.room.take_bytes(proto.node.iter().map(Message::encoded_len).sum())?;
        let mut nodes = proto.node.clone();
        Body::of(call, proto, &mut self.names, &mut self.room)?.rename(&mut nodes)?;
        bind(&mut nodes, &call.attribute, defaults, &mut self.room)?;
        Ok(nodes)
    }
}

/// Puts values where a body's attributes refer to its function's: the call's, else the default; without
/// either the attribute is not there.
fn bind(
    nodes: &mut [NodeProto],
    given: &[AttributeProto],
    defaults: &[AttributeProto],
    room: &mut Room,
) -> Result<(), String> {
    for node in nodes {
        for mut attribute in std::mem::take(&mut node.attribute) {
            if !attribute.ref_attr_name.is_empty() {
                let meant = |of: &&AttributeProto| of.name == attribute.ref_attr_name;
                let Some(value) = given.iter().find(meant).or(defaults.iter().find(meant)) else { continue };
                room.take_bytes(value.encoded_len())?;
                attribute = AttributeProto { name: attribute.name, ..value.clone() };
            } else {
                for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    bind(&mut inner.node, given, defaults, room)?;
                }
            }
            node.attribute.push(attribute);
        }
    }
    Ok(())
}

/// Nodes, with those of graphs inside them.
fn nodes_in(nodes: &[NodeProto]) -> usize {
    let held = nodes.iter().flat_map(|node| &node.attribute);
    let inner = held.flat_map(|held| held.g.iter().chain(&held.graphs));
    nodes.len() + inner.map(|graph| nodes_in(&graph.node)).sum::<usize>()
}

/// The standard's own domain has two names.
fn domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn name((domain, name): &Key) -> String {
    operator_name(domain, name)
}
