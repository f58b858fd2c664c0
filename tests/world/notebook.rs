//! From a notebook to the line: a scikit-learn pipeline over a table of numbers, integers and strings,
//! exported as it is, answers JSON frames over MQTT as onnxruntime answers the table.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lineside::base::{Data, Tensor};
use lineside::engine::npy;
use rumqttc::QoS::AtLeastOnce;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::support::site::{Site, error, pipeline_with_ids, result};
use crate::support::{SOON, oracle, root};

/// Trains and exports one model of the zoo; its case.
fn trained(name: &str, out: &Path) -> Value {
    let output = Command::new(oracle::python())
        .arg(root().join("tests/exact/zoo/train.py"))
        .arg(out)
        .arg(name)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cases = fs::read_to_string(out.join("cases.jsonl")).unwrap();
    let mut cases = cases.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    cases.find(|case| case["name"] == name).unwrap()
}

fn read(port: &Value) -> Tensor {
    npy::read(Path::new(port["file"].as_str().unwrap())).unwrap()
}

/// One element, as a frame would carry it.
fn element(tensor: &Tensor, row: usize) -> Value {
    match &tensor.data {
        Data::F32(values) if values[row].is_nan() => Value::Null,
        Data::F32(values) => json!(values[row]),
        Data::I64(values) => json!(values[row]),
        Data::Text(values) => json!(values[row]),
        other => panic!("{other:?}"),
    }
}

/// The same element alone, as the device's one row has it.
fn alone(tensor: &Tensor, row: usize, width: usize) -> Tensor {
    let from = row * width;
    let data = match &tensor.data {
        Data::F32(values) => Data::F32(values[from..][..width].to_vec()),
        Data::I64(values) => Data::I64(values[from..][..width].to_vec()),
        Data::Text(values) => Data::Text(values[from..][..width].to_vec()),
        other => panic!("{other:?}"),
    };
    Tensor { shape: [&[1], &tensor.shape[1..]].concat(), data }
}

/// A model folder as a data scientist would write it.
fn write_model(folder: &Path, case: &Value, classes: &[&str]) {
    let golden = folder.join("golden/first");
    fs::create_dir_all(&golden).unwrap();
    let graph = fs::read(case["model"].as_str().unwrap()).unwrap();
    let mut card = format!(
        "schema = \"lineside.card/1\"\nname = \"press\"\nversion = \"1\"\nsummary = \"Will this part fail?\"\n\
         licence = \"CC0-1.0\"\n[graph]\nfile = \"model.onnx\"\nsha256 = \"{:x}\"\n",
        Sha256::digest(&graph)
    );
    fs::write(folder.join("model.onnx"), graph).unwrap();
    let mut columns = String::new();
    for (i, port) in case["inputs"].as_array().unwrap().iter().enumerate() {
        let (name, tensor) = (&port["name"], read(port));
        writeln!(card, "[[graph.input]]\nname = {name}\ntype = \"{}\"\nshape = [1, 1]", tensor.data_type())
            .unwrap();
        writeln!(columns, "[[features.column]]\nname = {name}\ninput = {name}").unwrap();
        match &tensor.data {
            Data::Text(texts) => {
                let mut words = texts.clone();
                words.sort();
                words.dedup();
                writeln!(columns, "words = {words:?}").unwrap();
            }
            Data::F32(_) => writeln!(columns, "allow_nan = true").unwrap(),
            _ => {}
        }
        npy::write(&golden.join(format!("input-{i}.npy")), &alone(&tensor, 0, 1)).unwrap();
    }
    for (i, port) in case["outputs"].as_array().unwrap().iter().enumerate() {
        let tensor = read(port);
        let width = tensor.shape.get(1).copied().unwrap_or(1);
        npy::write(&golden.join(format!("output-{i}.npy")), &alone(&tensor, 0, width)).unwrap();
    }
    let scores = &case["outputs"][1]["name"];
    write!(
        card,
        "[features]\nkind = \"table\"\n{columns}[output]\nkind = \"classification\"\ntensor = {scores}\n\
         labels = {classes:?}\npass = [\"pass\"]\n"
    )
    .unwrap();
    fs::write(folder.join("model.toml"), card).unwrap();
}

#[test]
fn a_table_with_strings_goes_from_the_notebook_to_the_line() {
    let work = tempfile::tempdir().unwrap();
    let case = trained("table_forest", work.path());
    let mut site = Site::new(&[]);
    let folder: PathBuf = site.models().join("press");
    let classes: Vec<&str> = case["outputs"][1]["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class.as_str().unwrap())
        .collect();
    write_model(&folder, &case, &classes);
    let _daemon = site.run(&pipeline_with_ids("press", "press", "press/frame"));

    let inputs: Vec<(String, Tensor)> = (case["inputs"].as_array().unwrap().iter())
        .map(|port| (port["name"].as_str().unwrap().to_owned(), read(port)))
        .collect();
    let rows = inputs[0].1.shape[0];
    for row in 0..rows {
        let mut frame: Map<String, Value> =
            inputs.iter().map(|(name, tensor)| (name.clone(), element(tensor, row))).collect();
        frame.insert("id".into(), row.to_string().into());
        site.client.publish("press/frame", AtLeastOnce, Value::Object(frame).to_string());
    }
    let said = site.client.wait_count(&result("press"), rows, SOON);
    assert_eq!(said.len(), rows);
    let (labels, scores) = (read(&case["outputs"][0]), read(&case["outputs"][1]));
    for message in said {
        let said = message.json();
        let row: usize = said["source"]["frame_id"].as_str().unwrap().parse().unwrap();
        assert_eq!(said["label"], element(&labels, row), "{said}");
        assert_eq!(said["verdict"], said["label"], "{said}");
        for (place, class) in classes.iter().enumerate() {
            let right = scores.as_f32().unwrap()[row * classes.len() + place];
            let ours = said["scores"][class].as_f64().unwrap();
            assert!((ours - f64::from(right)).abs() < 1e-5, "{class}: {ours}, onnxruntime {right}: {said}");
        }
    }

    // What the model has never seen is an error that names it, not a guess.
    let frame = r#"{"id": "x", "torque": 0.1, "speed": 0.2, "wear": 1, "type": "Q", "line": "north"}"#;
    site.client.publish("press/frame", AtLeastOnce, frame);
    let refused = site.client.wait_for(&error("press"), SOON, |_| true).text();
    assert!(refused.contains("`type`") && refused.contains("one of"), "{refused}");
    let frame = r#"{"id": "y", "torque": 0.1, "speed": 0.2, "wear": 1.5, "type": "L", "line": "north"}"#;
    site.client.publish("press/frame", AtLeastOnce, frame);
    site.client.wait_for(&error("press"), SOON, |message| message.text().contains("takes integers"));
}
