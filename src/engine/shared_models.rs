//! The engine against real models and the answers of onnxruntime, from `../shared/models`
//! (`LINESIDE_SHARED` says otherwise). Absent, one line says so; with `CI=true` that is a failure.

use std::path::{Path, PathBuf};

use super::{ModelError, Parsed, Verified, compile, npy};
use crate::base::{Data, Tensor};
use crate::config::card::PortSpec;

/// The models; `None`, said aloud, where there are none.
pub(crate) fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("LINESIDE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let models = shared.join("models");
    if models.is_dir() {
        return Some(models);
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{} is not there", models.display());
    eprintln!("left out: real models against onnxruntime, because {} is not there", models.display());
    None
}

pub(crate) fn tensors(folder: &Path, kind: &str) -> Vec<Tensor> {
    let files = (0..).map(|i| folder.join(format!("{kind}_{i}.npy"))).take_while(|file| file.exists());
    files.map(|file| npy::read(&file).unwrap()).collect()
}

fn parsed(folder: &Path) -> Result<Parsed, ModelError> {
    Verified::read(&folder.join("model.onnx"))?.parse()
}

pub(crate) fn specs(parsed: &Parsed, tensors: &[Tensor]) -> Vec<PortSpec> {
    let pairs = parsed.inputs().iter().zip(tensors);
    pairs
        .map(|(port, tensor)| PortSpec {
            name: port.name.clone(),
            data_type: tensor.data_type(),
            shape: tensor.shape.clone(),
        })
        .collect()
}

/// Largest |ours − theirs| ÷ largest |theirs|; anything but floats must be equal.
fn distance(ours: &Tensor, theirs: &Tensor) -> f32 {
    assert_eq!((ours.data_type(), &ours.shape), (theirs.data_type(), &theirs.shape));
    match (&ours.data, &theirs.data) {
        (Data::F32(ours), Data::F32(theirs)) => {
            let largest = theirs.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
            let off = ours.iter().zip(theirs).fold(0_f32, |off, (a, b)| off.max((a - b).abs()));
            assert!(ours.iter().all(|value| value.is_finite()));
            if off == 0.0 { 0.0 } else { off / largest }
        }
        (ours, theirs) => {
            assert_eq!(ours, theirs);
            0.0
        }
    }
}

/// Runs what runs, twice in one session, and gives the names of what does not.
fn compare_all(models: &Path) -> Vec<(String, ModelError)> {
    let mut refused = Vec::new();
    let mut folders: Vec<PathBuf> = models.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.join("out_0.npy").exists()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let inputs = tensors(folder, "in");
        let theirs = tensors(folder, "out");
        let graph = parsed(folder).unwrap();
        let specs = specs(&graph, &inputs);
        let model = match graph.prepare(&specs) {
            Ok(model) => model,
            Err(error) => {
                refused.push((name, error));
                continue;
            }
        };
        let tolerance = if name.contains("int8") { 2e-2 } else { 1e-4 };
        let mut session = model.session();
        for run in 0..2 {
            let ours = session.run(&inputs.iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(ours.len(), theirs.len(), "{name}");
            for (output, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                let distance = distance(ours, theirs);
                assert!(distance <= tolerance, "{name}, run {run}, output {output}: off by {distance:e}");
            }
        }
    }
    refused
}

#[test]
fn every_model_that_runs_gives_onnxruntimes_answers_twice_in_a_row() {
    let Some(models) = folder() else { return };
    let refused = compare_all(&models);
    assert!(refused.is_empty(), "{refused:?}");
}

/// `LINESIDE_ONLY=yolox_nano,mnist_cntk` leaves out the others.
#[test]
#[ignore = "minutes; tests/run --long"]
fn every_model_compiles_and_the_folder_answers_as_onnxruntime_did() {
    let Some(models) = folder() else { return };
    let mut refused = Vec::new();
    let mut folders: Vec<PathBuf> = models.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let wanted = std::env::var("LINESIDE_ONLY").unwrap_or_default();
    for folder in folders.iter().filter(|folder| folder.join("out_0.npy").exists()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !wanted.is_empty() && !wanted.split(',').any(|wanted| wanted == name) {
            continue;
        }
        let place = tempfile::tempdir().unwrap();
        let case = place.path().join("golden/onnxruntime");
        std::fs::create_dir_all(&case).unwrap();
        for (ours, theirs) in [("input", "in"), ("output", "out")] {
            for (i, tensor) in tensors(folder, theirs).iter().enumerate() {
                npy::write(&case.join(format!("{ours}-{i}.npy")), tensor).unwrap();
            }
        }
        let branches = name == "silero_vad_if_fails";
        let order = compile::Order {
            model: folder.join("model.onnx"),
            folder: place.path().join(&name),
            golden: Some(place.path().join("golden")),
            fixed: branches.then(|| ("sr".to_owned(), "16000".to_owned())).into_iter().collect(),
            ..compile::Order::default()
        };
        let compiled = match compile::compile(&order) {
            Ok(compiled) => compiled,
            Err(error) => {
                refused.push(format!("{name}: {error}"));
                continue;
            }
        };
        assert_eq!(compiled.golden_cases, 1, "{name}: {:?}", compiled.left_out);
        // The graph alone: a card of many rows at once is not one that a frame can fill.
        let graph = Verified::read(&compiled.file).unwrap().parse().unwrap();
        let mut inputs = tensors(folder, "in");
        inputs.truncate(graph.inputs().len());
        let specs = specs(&graph, &inputs);
        let model = graph.prepare(&specs).unwrap_or_else(|error| panic!("{name}: {error}"));
        let answers = model.session().run(&inputs.iter().collect::<Vec<_>>()).unwrap();
        let tolerance = if name.contains("int8") { 2e-2 } else { 1e-4 };
        for (ours, theirs) in answers.iter().zip(&tensors(folder, "out")) {
            assert!(distance(ours, theirs) <= tolerance, "{name}: off by {:e}", distance(ours, theirs));
        }
        println!(
            "{name}: {:?} bytes, {:?}, {:?}",
            compiled.file_bytes,
            compiled.kept_as_onnx,
            model.memory()
        );
        // Trees keep their weights in an operator of ours, which counts as well.
        assert!(
            model.memory().is_none_or(|memory| memory.weights_bytes > 100),
            "{name}: {:?}",
            model.memory()
        );
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn a_branch_that_a_fixed_input_decides_runs() {
    let Some(models) = folder() else { return };
    let case = models.join("silero_vad_if_fails");
    let mut inputs = tensors(&case, "in");
    let mut graph = parsed(&case).unwrap();
    graph.fix("sr", &inputs.pop().unwrap()).unwrap();
    let specs = specs(&graph, &inputs);
    let ours = graph.prepare(&specs).unwrap().session().run(&inputs.iter().collect::<Vec<_>>()).unwrap();
    for (ours, theirs) in ours.iter().zip(&tensors(&case, "out")) {
        assert!(distance(ours, theirs) <= 1e-4);
    }
}

#[test]
fn a_softmax_between_quantised_tensors_is_no_look_up_table() {
    let Some(models) = folder() else { return };
    let path = models.join("bsd_pitting_int8_softmax_wrong_in_tract.onnx");
    let graph = Verified::read(&path).unwrap().parse().unwrap();
    let case = models.join("bsd_pitting_fp32");
    let inputs = tensors(&case, "in");
    let specs = specs(&graph, &inputs);
    let ours = graph.prepare(&specs).unwrap().session().run(&inputs.iter().collect::<Vec<_>>()).unwrap();
    // One step of its quantised output is 1 ÷ 256; the network itself is int8.
    assert!(distance(&ours[0], &tensors(&case, "out")[0]) <= 2e-2);
}

#[test]
fn a_model_cut_anywhere_is_refused_and_never_a_panic() {
    let Some(models) = folder() else { return };
    let whole = std::fs::read(models.join("hydraulic_pump_cnn1d/model.onnx")).unwrap();
    let inputs = tensors(&models.join("hydraulic_pump_cnn1d"), "in");
    let path = tempfile::NamedTempFile::new().unwrap();
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        std::fs::write(path.path(), &whole[..length]).unwrap();
        let opened = Verified::read(path.path()).unwrap().parse();
        let refused = opened.and_then(|graph| {
            let specs = specs(&graph, &inputs);
            graph.prepare(&specs)
        });
        assert!(refused.is_err(), "cut at {length}");
    }
}

#[test]
fn open_axes_are_named_and_their_shape_shown() {
    let Some(models) = folder() else { return };
    let error = parsed(&models.join("bsd_pitting_fp32")).unwrap().prepare(&[]).unwrap_err();
    assert!(matches!(error, ModelError::OpenShape { .. }), "{error}");
    assert!(error.to_string().contains("input \"input\" is f32 ["), "{error}");
}
