//! Fields of functions and calls that tract's reader (0.23.9) passes over: overloads and attributes with a
//! default. Field numbers: onnx.proto.

use prost::Message;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
    #[prost(string, tag = "8")]
    overload: String,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "6")]
    g: Option<Graph>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "11")]
    attribute_proto: Vec<AttributeProto>,
    #[prost(string, tag = "13")]
    overload: String,
}

/// The defaults of each function's attributes. Overloads are written behind names, `name:overload`, of
/// functions and of the nodes that call them.
pub(super) fn restore(proto: &mut ModelProto, bytes: &[u8]) -> Result<Vec<Vec<AttributeProto>>, String> {
    let read = Model::decode(bytes).map_err(|error| format!("its functions cannot be read ({error})"))?;
    if let (Some(graph), Some(read)) = (&mut proto.graph, &read.graph) {
        overloads(&mut graph.node, &read.node);
    }
    let mut defaults = Vec::with_capacity(read.functions.len());
    for (function, read) in proto.functions.iter_mut().zip(read.functions) {
        overloads(&mut function.node, &read.node);
        if !read.overload.is_empty() {
            function.name = Some(format!("{}:{}", function.name(), read.overload));
        }
        defaults.push(read.attribute_proto);
    }
    Ok(defaults)
}

fn overloads(nodes: &mut [NodeProto], read: &[Node]) {
    for (node, read) in nodes.iter_mut().zip(read) {
        if !read.overload.is_empty() {
            node.op_type = format!("{}:{}", node.op_type, read.overload);
        }
        for (held, read) in node.attribute.iter_mut().zip(&read.attribute) {
            let inner = held.g.iter_mut().chain(&mut held.graphs);
            for (graph, read) in inner.zip(read.g.iter().chain(&read.graphs)) {
                overloads(&mut graph.node, &read.node);
            }
        }
    }
}
