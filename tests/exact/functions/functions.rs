//! Functions that a model brings along, against onnxruntime, and through the verbs.

use std::process::{Command, Output};

use lineside::engine::npy;
use serde_json::Value;

use super::cases::{all_answer, compare, written_by};

#[test]
fn functions_answer_as_in_onnxruntime() {
    let work = tempfile::tempdir().expect("a folder for temporary files");
    all_answer(&written_by("functions/functions.py", work.path(), &[]));
}

#[test]
fn a_model_with_functions_is_inspected_compiled_and_run() {
    let work = tempfile::tempdir().expect("a folder for temporary files");
    let cases = written_by("functions/functions.py", work.path(), &[]);
    let case = cases.iter().find(|case| case.name == "an_attribute_goes_through_two_functions");
    let case = case.expect("the script writes it");
    let lineside = |arguments: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
        let said = command.args(arguments).output().expect("the binary runs");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        said
    };
    let model = case.model.to_str().expect("a plain path");
    let page: Value = serde_json::from_slice(&lineside(&["inspect", "--json", model]).stdout).expect("JSON");
    assert_eq!(page["operators"]["ReduceSum"], 1, "{page}");
    assert_eq!(page["unknown_operators"], Value::Array(Vec::new()), "{page}");

    let folder = work.path().join("made");
    let folder = folder.to_str().expect("a plain path");
    lineside(&["compile", model, "-o", folder]);
    let out = work.path().join("out");
    let input = case.inputs[0].1.to_str().expect("a plain path");
    lineside(&["infer", folder, "--npy", input, "--out", out.to_str().expect("a plain path")]);
    let ours = npy::read(&out.join("y.npy")).expect("it was written");
    let theirs = npy::read(&case.outputs[0].1).expect("onnxruntime's");
    assert_eq!(compare(&ours, &theirs, case.tolerance), Ok(()));
}
