//! How long do trees take, beside onnxruntime? The AI4I forest and boosted trees as scikit-learn
//! exported them, whole pipelines, 64 rows at once and one alone; one thread each, both in turn.
//!
//!     cargo bench --bench trees -- --runs 3000 --rounds 5

#[expect(dead_code, reason = "a bench uses its own part of what all share")]
mod common;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use common::support::{oracle::python, root, shared};
use common::{Bound, Figure, report, setting};
use lineside::base::{Data, Tensor};
use lineside::config::card::PortSpec;
use lineside::engine::{Model, npy};

/// The quickest of `runs`, in microseconds: what the code costs, not what the machine was busy with.
fn ours(path: &Path, rows: &Tensor, runs: usize) -> f64 {
    let spec = PortSpec { name: "X".into(), data_type: rows.data_type(), shape: rows.shape.clone() };
    let mut session = Model::open(path, &[spec]).expect("the shared model runs").session();
    let run = |_| {
        let begun = Instant::now();
        session.run(&[rows]).expect("it ran before");
        begun.elapsed().as_secs_f64() * 1e6
    };
    (0..runs).map(run).fold(f64::INFINITY, f64::min)
}

fn theirs(path: &Path, rows: &Path, runs: usize) -> f64 {
    let output = Command::new(python())
        .arg(root().join("benches/peers/onnxruntime_rows.py"))
        .args([path, rows])
        .arg(runs.to_string())
        .output()
        .expect("the interpreter was found");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("the peer prints a number")
}

fn main() -> ExitCode {
    let (runs, rounds): (usize, usize) = (setting("runs", 3000), setting("rounds", 5));
    let Some(shared) = shared("trees beside onnxruntime") else { return ExitCode::SUCCESS };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut figures = Vec::new();
    for (model, names) in [
        (
            "ai4i_forest_raw",
            ["forest_64_rows_ratio", "forest_64_rows_us", "forest_1_row_ratio", "forest_1_row_us"],
        ),
        (
            "ai4i_gbt_raw",
            ["boosted_64_rows_ratio", "boosted_64_rows_us", "boosted_1_row_ratio", "boosted_1_row_us"],
        ),
    ] {
        let path = shared.join("models").join(model).join("model.onnx");
        let all = npy::read(&path.with_file_name("in_0.npy")).expect("the shared input is there");
        let columns = all.shape[1];
        let first = all.as_f32().map(|values| values[..columns].to_vec()).expect("readings are f32");
        let one = Tensor { shape: vec![1, columns], data: Data::F32(first) };
        for (rows, [ratio, time]) in [(all, [names[0], names[1]]), (one, [names[2], names[3]])] {
            let file = folder.path().join("rows.npy");
            npy::write(&file, &rows).expect("the temporary folder is writable");
            let (mut ours_us, mut theirs_us) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..rounds {
                ours_us = ours_us.min(ours(&path, &rows, runs));
                theirs_us = theirs_us.min(theirs(&path, &file, runs));
            }
            figures.push(Figure { name: ratio, value: ours_us / theirs_us, bound: Bound::Most(2.0) });
            figures.push(Figure { name: time, value: ours_us, bound: Bound::None });
        }
    }
    report("trees", &figures)
}
