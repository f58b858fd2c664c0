//! A second opinion: what onnxruntime answers, with NumPy and Pillow in front of it.
//!
//! `tests/oracle.py` reads a model's card and does what the card says in other libraries. It writes
//! frames as a sensor or camera would send them, and the answers that they must get.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::root;

/// One frame with its right answer.
pub(crate) struct Case {
    /// Bytes to publish.
    pub(crate) payload: Vec<u8>,
    /// What must come back; its keys are those of the oracle's answer kind.
    pub(crate) answer: Value,
}

/// Runs the oracle: `kind` is its subcommand, `arguments` follow the model folder.
pub(crate) fn ask(kind: &str, model: &Path, out: &Path, arguments: &[&Path]) -> Vec<Case> {
    let output = Command::new(python())
        .arg(root().join("tests/oracle.py"))
        .args([kind.as_ref(), model, out])
        .args(arguments)
        .output()
        .expect("the interpreter was found");
    assert!(output.status.success(), "oracle.py {kind}: {}", String::from_utf8_lossy(&output.stderr));
    let cases = std::fs::read_to_string(out.join("cases.jsonl")).expect("the oracle wrote its cases");
    let cases: Vec<Case> = cases
        .lines()
        .map(|line| {
            let mut case: Value = serde_json::from_str(line).expect("the oracle writes JSON lines");
            let payload = match (case.get("file"), case.get("text")) {
                (Some(file), _) => std::fs::read(out.join(file.as_str().expect("a file name")))
                    .expect("the oracle wrote the file that it names"),
                (None, Some(text)) => text.as_str().expect("a text").as_bytes().to_vec(),
                (None, None) => panic!("oracle.py {kind}: a case without payload: {case}"),
            };
            Case { payload, answer: case["answer"].take() }
        })
        .collect();
    assert!(!cases.is_empty(), "oracle.py {kind} gave no cases");
    cases
}

/// Whether onnxruntime gives a model folder's own golden outputs; panics with the difference.
pub(crate) fn agrees_with_golden(model: &Path) {
    let script = root().join("tests/oracle.py");
    let output = Command::new(python())
        .arg(script)
        .arg("golden")
        .arg(model)
        .arg(model)
        .output()
        .expect("the interpreter was found");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The interpreter of the tests' own environment, which `tests/run` sets up.
pub(crate) fn python() -> PathBuf {
    let python = std::env::var_os("LINESIDE_TEST_PYTHON")
        .map_or_else(|| root().join("target/test-venv/bin/python"), PathBuf::from);
    assert!(
        python.is_file(),
        "no {}; set it up with: python3 -m venv target/test-venv && \
         target/test-venv/bin/pip install -r tests/requirements.txt (tests/run does this)",
        python.display()
    );
    python
}
