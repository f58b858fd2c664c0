//! One-node models over grids of attributes, types and shapes, against onnxruntime: what the engine
//! accepts, it answers rightly. `sweep.py` draws them by a seed; `LINESIDE_SWEEP="SEED EACH"` asks for
//! another or a longer one.

use std::path::Path;

use super::cases::{Case, none_is_wrong, written_by};

/// Of the models that onnxruntime runs, at least so many parts in a hundred must run.
const RUN_PERCENT: usize = 90;

fn swept(seed: &str, each: &str) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let cases = written_by("sweep/sweep.py", folder.path(), &[Path::new(seed), Path::new(each)]);
    none_is_wrong(&cases, Case::fault, RUN_PERCENT);
}

#[test]
fn a_short_sweep_over_single_operators_answers_as_onnxruntime_does() {
    let asked = std::env::var("LINESIDE_SWEEP").unwrap_or_else(|_| "1 30".to_owned());
    let (seed, each) = asked.split_once(' ').expect("LINESIDE_SWEEP is SEED EACH");
    swept(seed, each);
}

#[test]
#[ignore = "minutes; tests/run --long"]
fn a_long_sweep_over_single_operators_answers_as_onnxruntime_does() {
    for seed in ["2", "3", "4", "5"] {
        swept(seed, "150");
    }
}
