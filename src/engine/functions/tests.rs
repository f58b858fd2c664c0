use std::path::Path;
use std::time::Instant;

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};

use crate::base::{DataType, Tensor};
use crate::engine::sample::{Attribute, Sample};
use crate::engine::{ModelError, Verified, onnx};

fn node(op: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let (domain, op_type) = op.split_once('.').unwrap_or(("", op));
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        domain: domain.to_owned(),
        op_type: op_type.to_owned(),
        input: owned(input),
        output: owned(output),
        ..NodeProto::default()
    }
}

fn function(name: &str, input: &[&str], output: &[&str], body: Vec<NodeProto>) -> FunctionProto {
    let NodeProto { domain, op_type, input, output, .. } = node(name, input, output);
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    FunctionProto {
        name: Some(op_type),
        domain: Some(domain),
        input,
        output,
        node: body,
        opset_import,
        ..FunctionProto::default()
    }
}

/// A model that hands `x` to these nodes and `y` out.
fn model(nodes: Vec<NodeProto>, functions: Vec<FunctionProto>) -> ModelProto {
    let sample = Sample::default().input("x", DataType::F32, &[2, 2]).output("y");
    let mut proto = ModelProto::decode(&*sample.bytes()).unwrap();
    proto.graph.as_mut().unwrap().node = nodes;
    ModelProto { functions, ..proto }
}

fn read(proto: &ModelProto) -> Result<GraphProto, String> {
    let read = onnx::decode(Path::new("m.onnx"), &proto.encode_to_vec());
    read.map(|proto| proto.graph.unwrap()).map_err(|error| error.to_string())
}

fn answer(proto: &ModelProto) -> Result<Vec<f32>, ModelError> {
    let verified = Verified::of_bytes("m.onnx".into(), proto.encode_to_vec(), Instant::now());
    let model = verified.parse()?.prepare(&[])?;
    let x = Tensor::f32(&[2, 2], vec![-1.0, 2.0, -3.0, 4.0]);
    Ok(model.session().run(&[&x]).unwrap()[0].as_f32().unwrap().to_vec())
}

#[test]
fn a_node_of_a_function_is_called_by_its_caller_and_its_function() {
    let mut call = node("my.outer", &["x"], &["y"]);
    call.name = "layer".into();
    let mut inner = node("my.inner", &["a"], &["b"]);
    inner.name = "second".into();
    let functions = vec![
        function("my.outer", &["a"], &["b"], vec![inner]),
        function("my.inner", &["a"], &["b"], vec![node("Abs", &["a"], &["t"]), node("Neg", &["t"], &["b"])]),
    ];
    let graph = read(&model(vec![call], functions)).unwrap();
    let names: Vec<&str> = graph.node.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["layer/outer/second/inner/t", "layer/outer/second/inner/b"]);
    assert_eq!(graph.node[0].output, ["layer/outer/second/inner/t"]);
    assert_eq!(graph.node[1].output, ["y"]);
}

#[test]
fn names_that_are_taken_get_a_number() {
    let f = function("my.f", &["a"], &["b"], vec![node("Abs", &["a"], &["t"]), node("Neg", &["t"], &["b"])]);
    let nodes = vec![
        node("my.f", &["x"], &["u"]),
        node("Relu", &["u"], &["y/f/t"]),
        node("my.f", &["y/f/t"], &["y"]),
    ];
    let graph = read(&model(nodes, vec![f])).unwrap();
    let made: Vec<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    assert_eq!(made, ["u/f/t", "u", "y/f/t", "y/f/t_1", "y"]);
}

#[test]
fn a_function_without_an_end_is_refused_with_the_way_round() {
    let functions = vec![
        function("my.f", &["a"], &["b"], vec![node("my.g", &["a"], &["b"])]),
        function("my.g", &["a"], &["b"], vec![node("my.f", &["a"], &["b"])]),
    ];
    let told = read(&model(vec![node("my.f", &["x"], &["y"])], functions)).unwrap_err();
    assert!(told.contains("calls its function my:f: it calls itself (my:f → my:g → my:f)"), "{told}");
}

/// Each of `count` functions calls the next `times`.
fn tower(count: usize, times: usize) -> ModelProto {
    let functions = (0..count).map(|at| {
        let calls = (0..times).map(|i| node(&format!("my.f{}", at + 1), &["a"], &[&format!("t{i}")]));
        let end = node("Abs", &["a"], &["b"]);
        function(&format!("my.f{at}"), &["a"], &["b"], calls.chain([end]).collect())
    });
    let last = function(&format!("my.f{count}"), &["a"], &["b"], vec![]);
    model(vec![node("my.f0", &["x"], &["y"])], functions.chain([last]).collect())
}

#[test]
fn calls_that_grow_without_end_are_refused_before_they_do() {
    let begun = Instant::now();
    let told = read(&tower(60, 2)).unwrap_err();
    assert!(told.contains("calls its function my:f") && told.contains("more than 16384 nodes"), "{told}");
    let told = read(&tower(100, 1)).unwrap_err();
    assert!(told.contains("calls its function my:f64: calls nest deeper than 64"), "{told}");
    assert!(begun.elapsed().as_secs() < 5);
    read(&tower(60, 1)).unwrap();
}

#[test]
fn what_calls_would_copy_is_bounded() {
    let long = AttributeProto { name: "s".into(), s: vec![b'x'; 1 << 20], ..AttributeProto::default() };
    let told_of = |body: NodeProto, call: NodeProto| {
        let calls = (0..200).map(|i| NodeProto { output: vec![format!("t{i}")], ..call.clone() });
        let end = node("Abs", &["x"], &["y"]);
        read(&model(calls.chain([end]).collect(), vec![function("my.f", &["a"], &["b"], vec![body])]))
    };
    let held = NodeProto { attribute: vec![long], ..node("Abs", &["a"], &["b"]) };
    let told = told_of(held, node("my.f", &["x"], &["t"])).unwrap_err();
    assert!(
        told.contains("calls its function my:f: written out, the calls take more than 67108864 bytes"),
        "{told}"
    );
    let name = "n".repeat(1 << 20);
    told_of(node(&format!("Abs{name}"), &["a"], &["b"]), node("my.f", &["x"], &["t"])).unwrap_err();
    told_of(node("Abs", &["a", "a"], &["b"]), node("my.f", &[&name], &["t"])).unwrap_err();
}

#[test]
fn an_operator_that_another_version_reads_otherwise_is_refused_with_both() {
    let mut f = function("my.f", &["a"], &["b"], vec![node("Softmax", &["a"], &["b"])]);
    f.opset_import[0].version = 11;
    let told = read(&model(vec![node("my.f", &["x"], &["y"])], vec![f.clone()])).unwrap_err();
    assert!(
        told.contains("written for operator set 11, the model for 17, and Softmax is read otherwise"),
        "{told}"
    );
    f.opset_import[0].version = 13;
    read(&model(vec![node("my.f", &["x"], &["y"])], vec![f])).unwrap();
}

#[test]
fn a_call_that_does_not_fit_its_function_is_told() {
    let f = || function("my.f", &["a"], &["b"], vec![node("Abs", &["a"], &["b"])]);
    let told = read(&model(vec![node("my.f", &["x", "x"], &["y"])], vec![f()])).unwrap_err();
    assert!(told.contains(r#"node "y" calls its function my:f: it is given 2 inputs and has 1"#), "{told}");
    let told = read(&model(vec![node("my.f", &["x"], &["y", "z"])], vec![f()])).unwrap_err();
    assert!(told.contains("it is given 2 outputs and has 1"), "{told}");
    let told = read(&model(vec![node("my.f", &["x"], &["y"])], vec![f(), f()])).unwrap_err();
    assert!(told.contains("two of its functions are called my:f"), "{told}");
}

#[test]
fn a_body_sees_nothing_of_its_caller() {
    let f = function("my.f", &["a"], &["b"], vec![node("Add", &["a", "x"], &["b"])]);
    let told = answer(&model(vec![node("my.f", &["x"], &["y"])], vec![f])).unwrap_err().to_string();
    assert!(told.contains(r#"reads the tensor "y/f/x", which nothing makes"#), "{told}");
}

#[test]
fn an_input_may_be_an_output_and_an_output_may_stand_twice() {
    let f = function("my.f", &["a"], &["a", "b", "b"], vec![node("Abs", &["a"], &["b"])]);
    let nodes = vec![
        node("my.f", &["x"], &["p", "q", "r"]),
        node("Sub", &["p", "q"], &["s"]),
        node("Sub", &["s", "r"], &["y"]),
    ];
    assert_eq!(answer(&model(nodes, vec![f])).unwrap(), [-3.0, -2.0, -9.0, -4.0]);
}

#[test]
fn a_graph_may_be_an_attribute_of_a_call() {
    let branch = |operator: &str| {
        let graph = GraphProto {
            node: vec![node(operator, &["x"], &["r"])],
            output: vec![tract_onnx::pb::ValueInfoProto { name: "r".into(), ..Default::default() }],
            ..GraphProto::default()
        };
        Some(graph)
    };
    let refers = |name: &str, to: &str| AttributeProto {
        name: name.into(),
        ref_attr_name: to.into(),
        r#type: AttributeType::Graph as i32,
        ..AttributeProto::default()
    };
    let one = NodeProto {
        attribute: vec![refers("then_branch", "first"), refers("else_branch", "second")],
        ..node("If", &["c"], &["x"])
    };
    let f = function("my.f", &["c"], &["x"], vec![one]);
    let graph = |name: &str, g| AttributeProto { name: name.into(), g, ..refers("", "") };
    let call = NodeProto {
        attribute: vec![graph("first", branch("Abs")), graph("second", branch("my.neg"))],
        ..node("my.f", &["c"], &["y"])
    };
    let neg = function("my.neg", &["x"], &["r"], vec![node("Neg", &["x"], &["r"])]);
    let sample =
        Sample::default().integer("zero", 0).node("Cast", &["zero"], &["c"], &[Attribute::Int("to", 9)]);
    let proto = ModelProto::decode(&*sample.bytes()).unwrap().graph.unwrap();
    let mut model = model([proto.node, vec![call]].concat(), vec![f, neg]);
    model.graph.as_mut().unwrap().initializer = proto.initializer;
    assert_eq!(answer(&model).unwrap(), [1.0, -2.0, 3.0, -4.0]);
}
