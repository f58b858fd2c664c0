//! Just enough of a writer for ONNX files: protobuf by hand, so that the tests' models come from
//! another source than the engine's own types.
//!
//! Field numbers are those of `onnx.proto3`.

/// Element types by their number in `TensorProto.DataType`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Type {
    /// 32-bit float.
    F32 = 1,
    /// 64-bit integer.
    I64 = 7,
}

/// A named port with a concrete shape.
pub(crate) struct Port {
    /// Name in the graph.
    pub(crate) name: &'static str,
    /// Shape, batch included.
    pub(crate) shape: Vec<usize>,
}

/// Attribute of a node.
#[derive(Clone, Debug)]
pub(crate) enum Attribute {
    /// One integer.
    Int(i64),
    /// Several integers.
    Ints(Vec<i64>),
}

/// A graph under construction; nodes are added in the order in which they run.
#[derive(Default)]
pub(crate) struct Graph {
    body: Vec<u8>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    nodes: usize,
}

impl Graph {
    /// Adds an input of 32-bit floats.
    pub(crate) fn input(mut self, name: &'static str, shape: &[usize]) -> Self {
        self.inputs.push(Port { name, shape: shape.to_vec() });
        self
    }

    /// Adds an output of 32-bit floats.
    pub(crate) fn output(mut self, name: &'static str, shape: &[usize]) -> Self {
        self.outputs.push(Port { name, shape: shape.to_vec() });
        self
    }

    /// Adds constant floats.
    pub(crate) fn floats(mut self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        bytes_field(&mut self.body, 5, &tensor(name, shape, Type::F32, &bytes));
        self
    }

    /// Adds constant integers.
    pub(crate) fn integers(mut self, name: &str, shape: &[usize], values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        bytes_field(&mut self.body, 5, &tensor(name, shape, Type::I64, &bytes));
        self
    }

    /// Adds a node with one output.
    pub(crate) fn node(
        mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, Attribute)],
    ) -> Self {
        let mut node = Vec::new();
        for input in inputs {
            bytes_field(&mut node, 1, input.as_bytes());
        }
        bytes_field(&mut node, 2, output.as_bytes());
        bytes_field(&mut node, 3, format!("{operator}_{}", self.nodes).as_bytes());
        bytes_field(&mut node, 4, operator.as_bytes());
        for (name, value) in attributes {
            let mut attribute = Vec::new();
            bytes_field(&mut attribute, 1, name.as_bytes());
            match value {
                Attribute::Int(value) => {
                    number_field(&mut attribute, 3, *value);
                    number_field(&mut attribute, 20, 2);
                }
                Attribute::Ints(values) => {
                    for value in values {
                        number_field(&mut attribute, 8, *value);
                    }
                    number_field(&mut attribute, 20, 7);
                }
            }
            bytes_field(&mut node, 5, &attribute);
        }
        bytes_field(&mut self.body, 1, &node);
        self.nodes += 1;
        self
    }

    /// The inputs, for the card.
    pub(crate) fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The file: opset 13, IR version 8.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut graph = self.body.clone();
        bytes_field(&mut graph, 2, b"test");
        for (field, ports) in [(11, &self.inputs), (12, &self.outputs)] {
            for port in ports {
                bytes_field(&mut graph, field, &value_info(port));
            }
        }
        let mut opset = Vec::new();
        bytes_field(&mut opset, 1, b"");
        number_field(&mut opset, 2, 13);
        let mut model = Vec::new();
        number_field(&mut model, 1, 8);
        bytes_field(&mut model, 7, &graph);
        bytes_field(&mut model, 8, &opset);
        model
    }
}

fn value_info(port: &Port) -> Vec<u8> {
    let mut shape = Vec::new();
    for length in &port.shape {
        let mut dimension = Vec::new();
        number_field(&mut dimension, 1, *length as i64);
        bytes_field(&mut shape, 1, &dimension);
    }
    let mut tensor = Vec::new();
    number_field(&mut tensor, 1, Type::F32 as i64);
    bytes_field(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    bytes_field(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    bytes_field(&mut info, 1, port.name.as_bytes());
    bytes_field(&mut info, 2, &kind);
    info
}

fn tensor(name: &str, shape: &[usize], kind: Type, bytes: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    for length in shape {
        number_field(&mut tensor, 1, *length as i64);
    }
    number_field(&mut tensor, 2, kind as i64);
    bytes_field(&mut tensor, 8, name.as_bytes());
    bytes_field(&mut tensor, 9, bytes);
    tensor
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number_field(out: &mut Vec<u8>, field: u64, value: i64) {
    varint(out, field << 3);
    varint(out, value as u64);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
