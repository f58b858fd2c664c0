//! Every operator of `ai.onnx.ml` alone, in each of its modes, on readings that include NaN and
//! infinities: each answers as onnxruntime does.

use super::cases::{all_answer, written_by};

/// Fewer would mean that the script lost some.
const AT_LEAST: usize = 250;

#[test]
fn every_mode_of_every_operator_answers_as_onnxruntime_does() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let cases = written_by("nodes_ml/nodes_ml.py", folder.path(), &[]);
    assert!(cases.len() >= AT_LEAST, "{} nodes were written", cases.len());
    all_answer(&cases);
}
