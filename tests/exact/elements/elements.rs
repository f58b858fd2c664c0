//! Every element type, in and out, through `lineside infer`: what its `.npy` files hold is what
//! onnxruntime answers.

use std::path::Path;
use std::process::Command;

use lineside::engine::npy;
use serde_json::Value;

use super::cases::{Case, compare, written_by};

/// What `infer` says of a case, and its exit code.
fn infer(case: &Case, out: &Path) -> (Option<i32>, Value, String) {
    let files = case.inputs.iter().map(|(name, file)| format!("{name}={}", file.display()));
    let output = Command::new(env!("CARGO_BIN_EXE_lineside"))
        .args(["infer", "--json", "--out"])
        .arg(out)
        .arg("--npy")
        .args(files)
        .arg("--")
        .arg(&case.model)
        .output()
        .expect("the binary runs");
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn complaint(case: &Case, out: &Path) -> Option<String> {
    let (code, said, error) = infer(case, out);
    if code != Some(0) {
        return Some(format!("{}: exit {code:?}: {error}", case.name));
    }
    let outputs = said["outputs"].as_array().expect("a list of outputs");
    let found = case.outputs.iter().zip(outputs).find_map(|((name, file), said)| {
        let expected = npy::read(file).expect("the script's file");
        let ours = Path::new(said["file"].as_str().expect("a file was written"));
        let ours = npy::read(ours).expect("a file that NumPy reads as well");
        let differs = compare(&ours, &expected, case.tolerance).err();
        let differs =
            differs.or_else(|| (said["name"] != **name).then(|| format!("is called {}", said["name"])));
        differs.map(|what| format!("{}: output {name}: {what}", case.name))
    });
    found.or_else(|| (outputs.len() != case.outputs.len()).then(|| format!("{}: {said}", case.name)))
}

#[test]
fn every_element_type_goes_in_and_comes_out() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let cases = written_by("elements/elements.py", folder.path(), &[]);
    assert!(cases.len() >= 30, "{} models", cases.len());
    let out = folder.path().join("answers");
    let complaints: Vec<String> = cases.iter().filter_map(|case| complaint(case, &out)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));

    // An array of another type or shape: seen and expected, and not a guess.
    let of = |name: &str| cases.iter().find(|case| case.name == name).expect("the script writes it");
    let (picture, words) = (of("u8-picture"), of("i64-words"));
    let mixed =
        Case { inputs: words.inputs.clone(), model: picture.model.clone(), ..of("u8-picture").clone() };
    let (code, _, error) = infer(&mixed, &out);
    assert_eq!(code, Some(65), "{error}");
    assert!(error.contains("i64") && error.contains("u8"), "{error}");
    let mixed = Case { inputs: of("u8-moved").inputs.clone(), ..mixed };
    let (code, _, error) = infer(&mixed, &out);
    assert_eq!(code, Some(65), "{error}");
    assert!(error.contains("[2, 3]") && error.contains("[1, 3, 6, 6]"), "{error}");
}
