//! Tiny models for tests, written byte by byte: ONNX is protobuf, and a test that builds its own
//! file needs neither a network nor a Python.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::{Model, Verified, digest};
use crate::base::DataType;
use crate::config::Card;
use crate::config::card::{
    Activation, Channel, Features, Gap, Golden, Graph, Output, OutputKind, PortSpec, TableFeatures,
};

/// A graph under construction, in protobuf's wire format.
#[derive(Clone, Default)]
pub(crate) struct Sample {
    graph: Vec<u8>,
    inputs: Vec<PortSpec>,
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Field with a length: text, bytes, an inner message.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// An attribute of a node: a float, an int, a string, several, or a graph.
#[derive(Clone, Copy)]
pub(crate) enum Attribute<'a> {
    Float(&'a str, f32),
    Floats(&'a str, &'a [f32]),
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Graph(&'a str, &'a Sample),
    Text(&'a str, &'a str),
    Texts(&'a str, &'a [&'a str]),
}

impl Sample {
    /// `onnx.ValueInfoProto`; a length below zero is the symbol `N`.
    fn info(name: &str, elem_type: u64, shape: &[i64]) -> Vec<u8> {
        let dims: Vec<u8> = shape
            .iter()
            .flat_map(|length| match u64::try_from(*length) {
                Ok(length) => field(1, &number(1, length)),
                Err(_) => field(1, &field(2, b"N")),
            })
            .collect();
        let tensor = [number(1, elem_type), field(2, &dims)].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    }

    pub(crate) fn input(mut self, name: &str, data_type: DataType, shape: &[i64]) -> Self {
        let elem_type = if data_type == DataType::I64 { 7 } else { 1 };
        self.graph.extend(field(11, &Self::info(name, elem_type, shape)));
        let shape = shape.iter().map(|length| usize::try_from(*length).unwrap_or(1)).collect();
        self.inputs.push(PortSpec { name: name.to_owned(), data_type, shape });
        self
    }

    pub(crate) fn output(mut self, name: &str) -> Self {
        self.graph.extend(field(12, &Self::info(name, 1, &[])));
        self
    }

    /// A constant of `f32`.
    pub(crate) fn weights(mut self, name: &str, shape: &[u64], values: &[f32]) -> Self {
        let dims: Vec<u8> = shape.iter().flat_map(|length| number(1, *length)).collect();
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = [dims, number(2, 1), field(8, name.as_bytes()), field(9, &raw)].concat();
        self.graph.extend(field(5, &tensor));
        self
    }

    /// A constant of one `i64`, without axes.
    pub(crate) fn integer(mut self, name: &str, value: i64) -> Self {
        let tensor = [number(2, 7), field(8, name.as_bytes()), field(9, &value.to_le_bytes())].concat();
        self.graph.extend(field(5, &tensor));
        self
    }

    /// A constant list of `i64`.
    pub(crate) fn integers(mut self, name: &str, values: &[i64]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor =
            [number(1, values.len() as u64), number(2, 7), field(8, name.as_bytes()), field(9, &raw)]
                .concat();
        self.graph.extend(field(5, &tensor));
        self
    }

    /// The same of `i32`.
    pub(crate) fn small_integers(mut self, name: &str, values: &[i32]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor =
            [number(1, values.len() as u64), number(2, 6), field(8, name.as_bytes()), field(9, &raw)]
                .concat();
        self.graph.extend(field(5, &tensor));
        self
    }

    pub(crate) fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        with: &[Attribute<'_>],
    ) -> Self {
        let mut node: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
        node.extend(outputs.iter().flat_map(|name| field(2, name.as_bytes())));
        node.extend(field(4, op.as_bytes()));
        for attribute in with {
            node.extend(field(
                5,
                &match attribute {
                    Attribute::Float(name, value) => {
                        let value = [varint(2 << 3 | 5), value.to_le_bytes().to_vec()].concat();
                        [field(1, name.as_bytes()), value, number(20, 1)].concat()
                    }
                    Attribute::Floats(name, values) => {
                        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
                        [field(1, name.as_bytes()), field(7, &raw), number(20, 6)].concat()
                    }
                    Attribute::Int(name, value) => {
                        [field(1, name.as_bytes()), number(3, *value as u64), number(20, 2)].concat()
                    }
                    Attribute::Ints(name, values) => {
                        let values = values.iter().flat_map(|value| number(8, *value as u64));
                        [field(1, name.as_bytes()), values.collect(), number(20, 7)].concat()
                    }
                    Attribute::Graph(name, sample) => {
                        [field(1, name.as_bytes()), field(6, &sample.graph), number(20, 5)].concat()
                    }
                    Attribute::Text(name, value) => {
                        [field(1, name.as_bytes()), field(4, value.as_bytes()), number(20, 3)].concat()
                    }
                    Attribute::Texts(name, values) => {
                        let values = values.iter().flat_map(|value| field(9, value.as_bytes()));
                        [field(1, name.as_bytes()), values.collect(), number(20, 8)].concat()
                    }
                },
            ));
        }
        self.graph.extend(field(1, &node));
        self
    }

    /// The whole file, operator set 17.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let label = [field(1, b"names"), field(2, b"{0: 'ok'}")].concat();
        [
            number(1, 8),
            field(2, b"sample"),
            field(7, &self.graph),
            field(8, &number(2, 17)),
            field(14, &label),
        ]
        .concat()
    }

    /// Loaded from a file that is gone again.
    pub(crate) fn model(&self) -> Model {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let path = folder.path().join("model.onnx");
        fs::write(&path, self.bytes()).expect("a file in it");
        let parsed = Verified::read(&path).and_then(Verified::parse).expect("the sample parses");
        parsed.prepare(&self.inputs).expect("the sample runs")
    }

    /// The same through the file that a board gets.
    pub(crate) fn saved_model(&self) -> Model {
        let verified = |name: &str, bytes| Verified::of_bytes(name.into(), bytes, Instant::now()).parse();
        let typed = verified("model.onnx", self.bytes()).and_then(|parsed| parsed.typed(&self.inputs));
        let mut typed = typed.and_then(|typed| typed.decluttered()).expect("the sample can be saved");
        typed.properties.clear();
        let file = super::nnef::framework().write_to_tar_with_config(&typed, Vec::new(), false, true);
        let parsed =
            verified("model.nnef.tar", file.expect("NNEF carries the sample")).expect("the file parses");
        parsed.prepare(&self.inputs).expect("the file runs")
    }

    /// Why it does not run.
    pub(crate) fn refusal(&self) -> String {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let path = folder.path().join("model.onnx");
        fs::write(&path, self.bytes()).expect("a file in it");
        let parsed = Verified::read(&path).and_then(Verified::parse);
        match parsed.and_then(|parsed| parsed.prepare(&self.inputs)) {
            Ok(_) => "nothing: it runs".to_owned(),
            Err(error) => {
                let chain =
                    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
            }
        }
    }

    /// Written into `folder`, with a card: a table of the first input's columns, scores in the first
    /// output named `y`.
    pub(crate) fn card(&self, folder: &Path) -> Card {
        let bytes = self.bytes();
        fs::write(folder.join("model.onnx"), &bytes).expect("a writable folder");
        let column = |i| Channel {
            name: format!("c{i}"),
            unit: String::new(),
            impute: None,
            mean: 0.0,
            std: 1.0,
            allow_nan: false,
            words: Vec::new(),
            input: None,
            whole: false,
        };
        let columns = self.inputs[0].shape.iter().product::<usize>();
        Card {
            folder: folder.to_owned(),
            name: "sample".into(),
            version: "1".into(),
            draft: false,
            summary: "for tests".into(),
            licence: "CC0-1.0".into(),
            graph: Graph {
                fixed: Vec::new(),
                file: "model.onnx".into(),
                sha256: digest::hex(&bytes),
                writer: None,
                source_sha256: None,
                inputs: self.inputs.clone(),
                batches: Vec::new(),
            },
            features: Features::Table(TableFeatures {
                input: Some(self.inputs[0].name.clone()),
                columns: (0..columns).map(column).collect(),
                derived: Vec::new(),
                gap: Gap::Ignore,
            }),
            packets: Vec::new(),
            states: Vec::new(),
            output: Output {
                tensor: "y".into(),
                kind: OutputKind::Classification {
                    labels: vec!["ok".into(), "bad".into()],
                    pass: vec!["ok".into()],
                    activation: Activation::None,
                },
                threshold: None,
                uncertain: None,
            },
            golden: Golden { tolerance: 1e-4, verified: None },
        }
    }
}

/// `y = relu(x · [[1, 2], [3, 4]] + [-5, 1])`
pub(crate) fn relu_layer() -> Sample {
    Sample::default()
        .input("x", DataType::F32, &[-1, 2])
        .weights("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])
        .weights("b", &[2], &[-5.0, 1.0])
        .node("MatMul", &["x", "w"], &["xw"], &[])
        .node("Add", &["xw", "b"], &["sum"], &[])
        .node("Relu", &["sum"], &["y"], &[])
        .output("y")
}

/// 6 at the place `x` of three: the engine's operator panics where there is no such place.
pub(crate) fn placed() -> Sample {
    Sample::default()
        .input("x", DataType::I64, &[1])
        .integers("none", &[0, 0, 0])
        .integers("six", &[6])
        .node("ScatterElements", &["none", "x", "six"], &["y"], &[])
        .output("y")
}

/// A forward LSTM with two units over three samples, its state in and out.
pub(crate) fn lstm() -> Sample {
    recurrent("forward")
}

/// [`lstm`], in this direction.
pub(crate) fn recurrent(direction: &str) -> Sample {
    let ramp = |count: usize| (0..count).map(|i| (i as f32 - 7.0) / 10.0).collect::<Vec<_>>();
    Sample::default()
        .input("x", DataType::F32, &[3, 1, 1])
        .input("h_in", DataType::F32, &[1, 1, 2])
        .input("c_in", DataType::F32, &[1, 1, 2])
        .weights("w", &[1, 8, 1], &ramp(8))
        .weights("r", &[1, 8, 2], &ramp(16))
        .weights("b", &[1, 16], &ramp(16))
        .node(
            "LSTM",
            &["x", "w", "r", "b", "", "h_in", "c_in"],
            &["y", "h_out", "c_out"],
            &[Attribute::Int("hidden_size", 2), Attribute::Text("direction", direction)],
        )
        .output("y")
        .output("h_out")
        .output("c_out")
}

/// A GRU with two units over four samples of one or two channels: tract fuses it into an operator of
/// its own. The first channel's weights do not depend on how many there are.
pub(crate) fn gru(channels: usize) -> Sample {
    let ramp = |count: usize| (0..count).map(|i| (i as f32 - 5.0) / 10.0).collect::<Vec<_>>();
    let rows = ramp(6).into_iter().flat_map(|first| [first, 0.4].into_iter().take(channels));
    Sample::default()
        .input("x", DataType::F32, &[4, 1, channels as i64])
        .input("h_in", DataType::F32, &[1, 1, 2])
        .weights("w", &[1, 6, channels as u64], &rows.collect::<Vec<_>>())
        .weights("r", &[1, 6, 2], &ramp(12))
        .weights("b", &[1, 12], &ramp(12))
        .node(
            "GRU",
            &["x", "w", "r", "b", "", "h_in"],
            &["y", "h_out"],
            &[Attribute::Int("hidden_size", 2), Attribute::Int("linear_before_reset", 1)],
        )
        .output("y")
        .output("h_out")
}
