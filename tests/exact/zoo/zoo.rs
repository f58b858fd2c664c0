//! A zoo of pipelines that `train.py` trains with scikit-learn, LightGBM and XGBoost and exports as a
//! notebook would: each answers as onnxruntime does.

use super::cases::{all_answer, written_by};

/// Fewer would mean that the script lost some.
const AT_LEAST: usize = 290;

#[test]
fn a_trained_zoo_answers_as_onnxruntime_does() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let cases = written_by("zoo/train.py", folder.path(), &[]);
    assert!(cases.len() >= AT_LEAST, "{} models were trained", cases.len());
    all_answer(&cases);
}
