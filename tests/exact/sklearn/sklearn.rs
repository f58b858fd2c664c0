//! Exports with the answers that onnxruntime gave when they were made: single estimators, and the AI4I
//! classifiers as exported beside the same ones rewritten in standard operators.

use std::path::{Path, PathBuf};

use super::cases::{all_answer, written_by};

/// The shared models; `None`, said in one line, where there are none and nobody insists.
fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("LINESIDE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
        .join("models");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "CI wants the shared models at {}", folder.display());
    eprintln!("left out: no shared models at {}", folder.display());
    None
}

#[test]
fn every_export_answers_as_onnxruntime_did() {
    let Some(models) = shared() else { return };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let cases = written_by("sklearn/unpack.py", folder.path(), &[&models]);
    assert!(cases.len() >= 46 + 6, "{} models are there", cases.len());
    all_answer(&cases);
}
