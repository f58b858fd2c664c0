//! `compile --batch 1,8`: a graph for each size, each with its golden cases; `infer` takes the one that its
//! arrays have and answers as onnxruntime does; a size that nobody compiled is refused by name.

use std::path::Path;
use std::process::{Command, Output};

use lineside::engine::npy;
use serde_json::Value;

use super::cases::{Case, compare, written_by};

fn lineside(arguments: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.args(arguments).args(files).output().expect("the binary runs")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn infer(model: &Path, case: &Case, out: &Path) -> Output {
    let files = case.inputs.iter().map(|(name, file)| format!("{name}={}", file.display()));
    Command::new(env!("CARGO_BIN_EXE_lineside"))
        .args(["infer", "--out"])
        .arg(out)
        .arg("--npy")
        .args(files)
        .arg("--")
        .arg(model)
        .output()
        .expect("the binary runs")
}

fn answers(model: &Path, case: &Case, out: &Path) {
    let said = infer(model, case, out);
    assert!(said.status.success(), "{}: {}", case.name, words(&said));
    for (name, file) in &case.outputs {
        let ours = npy::read(&out.join(format!("{name}.npy"))).expect("it was written");
        let theirs = npy::read(file).expect("onnxruntime's");
        if let Err(what) = compare(&ours, &theirs, case.tolerance) {
            panic!("{}: output {name}: {what}", case.name);
        }
    }
}

#[test]
fn every_batch_size_is_compiled_and_no_other_runs() {
    let work = tempfile::tempdir().expect("a folder for temporary files");
    let cases = written_by("batches/batches.py", work.path(), &[]);
    assert_eq!(cases.len(), 9);
    for group in cases.chunks(3) {
        let [one, eight, three] = group else { panic!("three counts of rows each") };
        let name = one.name.strip_suffix("-1").expect("rows stand behind the name");
        let folder = work.path().join("made").join(name);
        let golden = work.path().join(name).join("golden");
        let compiled = lineside(
            &["compile", "--json", "--batch", "1,8", "--golden"],
            &[&golden, Path::new("-o"), &folder, Path::new("--"), &one.model],
        );
        assert!(compiled.status.success(), "{name}: {}", words(&compiled));
        let told: Value = serde_json::from_slice(&compiled.stdout).expect("one JSON object");
        assert_eq!(told["golden_cases"], 2, "{name}: {told}");
        assert_eq!(told["batches"][0]["shapes"][0][0], 8, "{name}: {told}");
        assert_eq!(told["kept_as_onnx"].is_string(), name == "scaled", "{name}: {told}");

        let out = work.path().join("answers").join(name);
        answers(&folder, one, &out);
        answers(&folder, eight, &out);
        let refused = infer(&folder, three, &out);
        assert_eq!(refused.status.code(), Some(65), "{name}: {}", words(&refused));
        let why = words(&refused);
        for said in ["there is no graph for x [3, ", "compiled for x [1, ", " or x [8, ", "--batch"] {
            assert!(why.contains(said), "{name}: {why}");
        }

        let page = lineside(&["inspect", "--json"], &[&folder]);
        let page: Value = serde_json::from_slice(&page.stdout).expect("one JSON object");
        assert_eq!(page["golden"]["cases"], 1, "{name}: {page}");
        assert_eq!(page["runs"]["batches"][0]["golden_cases"], 1, "{name}: {page}");

        // A golden case of the further size holds as much as one of the first.
        let wrong = npy::read(&three.outputs[0].1).expect("onnxruntime's");
        let kept = folder.join("golden/eight/output-0.npy");
        npy::write(&kept, &wrong).expect("a writable folder");
        let page = lineside(&["inspect"], &[&folder]);
        assert_eq!(page.status.code(), Some(65), "{name}: {}", words(&page));
        assert!(words(&page).contains("output-0.npy"), "{name}: {}", words(&page));

        // With one size again, nothing of the other is left.
        let again = lineside(&["compile", "--batch", "1", "-o"], &[&folder, Path::new("--"), &one.model]);
        assert!(again.status.success(), "{name}: {}", words(&again));
        assert!(!folder.join("model-batch-8.nnef.tar").exists(), "{name}");
        let card = std::fs::read_to_string(folder.join("model.toml")).expect("a card");
        assert!(!card.contains("[[graph.batch]]"), "{name}: {card}");
    }
}
