//! Golden cases: inputs with the answers of the framework that trained the model, run before the
//! first frame.
//!
//! `FOLDER/golden/CASE/input-I.npy` and `output-I.npy`, I in the graph's order from 0. Numbers are
//! equal when |ours − theirs| ≤ tolerance × largest |theirs| of the tensor: rounding grows with a
//! tensor's largest values, not with each element. Whole numbers, strings and booleans are equal or
//! not; NaN equals NaN.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tract_core::prelude::f16;

use super::{Model, ModelError, npy};
use crate::base::{Data, Tensor};
use crate::config::Card;
use crate::config::card::{Graph, PortSpec};

/// What the golden cases of one model came to. No case at all is not a failure; whoever asked
/// decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Each case, by name.
    pub cases: Vec<Case>,
}

/// One case that came out right.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Its folder's name.
    pub name: String,
    /// Largest |ours − theirs| ÷ largest |theirs| over its outputs.
    pub worst_relative: f64,
    /// Time of the run.
    pub took: Duration,
}

impl Report {
    /// Worst of all cases; zero without one.
    pub fn worst_relative(&self) -> f64 {
        self.cases.iter().map(|case| case.worst_relative).fold(0.0, f64::max)
    }
}

/// Runs every golden case of the card's folder that is of this batch size.
///
/// # Errors
/// The first case that does not come out, in words with its numbers; a file that is missing, cannot
/// be read, or contradicts the graph.
pub fn check(model: &Model, card: &Card) -> Result<Report, ModelError> {
    belongs(card)?;
    let mut session = model.session();
    let mut report = Report::default();
    for folder in folders(&card.folder)? {
        if is_of_another_size(model, card, &folder) {
            continue;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let inputs = inputs(model, &folder)?;
        let expected = outputs(model, &folder)?;
        let begun = Instant::now();
        let ours = session.run(&inputs.iter().collect::<Vec<_>>()).map_err(|source| {
            ModelError::GoldenRun { model: card.name.clone(), case: name.clone(), source: Box::new(source) }
        })?;
        let took = begun.elapsed();
        let mut worst_relative = 0.0_f64;
        for (output, (ours, (file, theirs))) in ours.iter().zip(&expected).enumerate() {
            same_kind(file, ours, theirs)?;
            let tolerance = f64::from(card.golden.tolerance);
            match compare(ours, theirs, model.least()[output]) {
                Some(worst) if worst.relative > tolerance || worst.relative.is_nan() => {
                    return Err(ModelError::Golden {
                        model: card.name.clone(),
                        case: name,
                        output,
                        index: worst.index,
                        ours: element(ours, worst.index).into(),
                        theirs: element(theirs, worst.index).into(),
                        relative: worst.relative,
                        tolerance,
                    });
                }
                Some(worst) => worst_relative = worst_relative.max(worst.relative),
                None => {}
            }
        }
        report.cases.push(Case { name, worst_relative, took });
    }
    Ok(report)
}

/// Cases that carry a hash were made with the card's graph, or with the file that it was compiled from.
fn belongs(card: &Card) -> Result<(), ModelError> {
    let golden = card.folder.join("golden");
    let Some(theirs) = hash_of(&golden)? else { return Ok(()) };
    let ours = card.graph.source_sha256.as_ref().unwrap_or(&card.graph.sha256);
    if theirs == *ours || theirs == card.graph.sha256 {
        return Ok(());
    }
    Err(ModelError::GoldenFile {
        file: golden.join(HASH_FILE),
        seen: format!("names the model with SHA-256 {theirs}"),
        expected: format!(
            "{ours}, which the card names; these cases belong to another model: write them anew with \
             models/golden.py"
        ),
    })
}

/// The inputs of the first golden case of this batch size, where there is one.
///
/// # Errors
/// As [`check`].
pub fn first_inputs(model: &Model, card: &Card) -> Result<Option<Vec<Tensor>>, ModelError> {
    let cases = folders(&card.folder)?;
    let first = cases.iter().find(|case| !is_of_another_size(model, card, case));
    first.map(|case| inputs(model, case)).transpose()
}

/// Whether a case has the shapes of another of the card's batch sizes.
fn is_of_another_size(model: &Model, card: &Card, case: &Path) -> bool {
    let Graph { inputs, batches, .. } = &card.graph;
    if batches.is_empty() {
        return false;
    }
    // The card's order may be another than the graph's, which is that of the files.
    let place = |name: &str| model.inputs().iter().position(|spec| spec.name == name);
    let shape = |port: &PortSpec| {
        let file = case.join(format!("input-{}.npy", place(&port.name)?));
        Some(npy::read(&file).ok()?.shape)
    };
    let seen: Option<Vec<Vec<usize>>> = inputs.iter().map(shape).collect();
    seen.is_some_and(|seen| batches.iter().any(|batch| batch.shapes == seen))
}

/// The folders of the cases, by name; none when there is no `golden/`.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    case_folders(&folder.join("golden"))
}

/// The folders of the cases in `golden`, by name.
pub(super) fn case_folders(golden: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let unreadable = |source| ModelError::Read { path: golden.to_owned(), source };
    let entries = match fs::read_dir(golden) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut cases = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            cases.push(path);
        }
    }
    cases.sort();
    Ok(cases)
}

/// The file beside the cases that names the graph that they were made with, as `sha256sum` prints.
pub(super) const HASH_FILE: &str = "model.sha256";

/// SHA-256 of the graph that the cases in `golden` were made with, where it is on file.
pub(super) fn hash_of(golden: &Path) -> Result<Option<String>, ModelError> {
    let file = golden.join(HASH_FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ModelError::Read { path: file, source }),
    };
    let hash = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(hash));
    }
    Err(ModelError::GoldenFile {
        file,
        seen: format!("begins with {:?}", hash.chars().take(20).collect::<String>()),
        expected: "the 64 hexadecimal digits that `sha256sum` prints".to_owned(),
    })
}

fn inputs(model: &Model, case: &Path) -> Result<Vec<Tensor>, ModelError> {
    let specs = model.inputs().iter().enumerate();
    let tensors = specs.map(|(i, spec)| {
        let file = case.join(format!("input-{i}.npy"));
        let tensor = npy::read(&file)?;
        if (tensor.data_type(), &tensor.shape) == (spec.data_type, &spec.shape) {
            return Ok(tensor);
        }
        Err(ModelError::GoldenFile {
            file,
            seen: format!("holds {} {:?}", tensor.data_type(), tensor.shape),
            expected: format!(
                "{} {:?} for input {:?}, as the card says",
                spec.data_type, spec.shape, spec.name
            ),
        })
    });
    let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
    none_beyond(case, "input", tensors.len())?;
    Ok(tensors)
}

fn outputs(model: &Model, case: &Path) -> Result<Vec<(PathBuf, Tensor)>, ModelError> {
    let files = (0..model.outputs().len()).map(|i| case.join(format!("output-{i}.npy")));
    let tensors = files.map(|file| npy::read(&file).map(|tensor| (file, tensor)));
    let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
    none_beyond(case, "output", tensors.len())?;
    Ok(tensors)
}

/// A file that no port belongs to is a case for another graph.
pub(super) fn none_beyond(case: &Path, kind: &str, count: usize) -> Result<(), ModelError> {
    let file = case.join(format!("{kind}-{count}.npy"));
    if !file.exists() {
        return Ok(());
    }
    Err(ModelError::GoldenFile {
        file,
        seen: "is there".to_owned(),
        expected: format!("no such file, because the graph has {count} {kind}s"),
    })
}

fn same_kind(file: &Path, ours: &Tensor, theirs: &Tensor) -> Result<(), ModelError> {
    if (ours.data_type(), &ours.shape) == (theirs.data_type(), &theirs.shape) {
        return Ok(());
    }
    Err(ModelError::GoldenFile {
        file: file.to_owned(),
        seen: format!("holds {} {:?}", theirs.data_type(), theirs.shape),
        expected: format!("{} {:?}, as the model answers", ours.data_type(), ours.shape),
    })
}

/// The element that is furthest off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Worst {
    pub(super) index: usize,
    /// |ours − theirs| ÷ largest |theirs| (or the least that it is measured against); infinite for what
    /// cannot be near: another label, a NaN on one side.
    pub(super) relative: f64,
}

/// Compares tensors of one type and shape; `None` when they are empty. `least` is what a difference is
/// measured against where all of theirs are smaller ([`super::range`]); 0 where nothing is known of them.
pub(super) fn compare(ours: &Tensor, theirs: &Tensor, least: f64) -> Option<Worst> {
    let half = |bits: &u16| f64::from(f16::from_bits(*bits).to_f32());
    match (&ours.data, &theirs.data) {
        (Data::F32(a), Data::F32(b)) => near(a, b, least, |value| f64::from(*value)),
        (Data::F64(a), Data::F64(b)) => near(a, b, least, |value| *value),
        (Data::F16(a), Data::F16(b)) => near(a, b, least, half),
        (Data::I64(a), Data::I64(b)) => equal(a, b),
        (Data::I32(a), Data::I32(b)) => equal(a, b),
        (Data::I16(a), Data::I16(b)) => equal(a, b),
        (Data::I8(a), Data::I8(b)) => equal(a, b),
        (Data::U64(a), Data::U64(b)) => equal(a, b),
        (Data::U32(a), Data::U32(b)) => equal(a, b),
        (Data::U16(a), Data::U16(b)) => equal(a, b),
        (Data::U8(a), Data::U8(b)) => equal(a, b),
        (Data::Bool(a), Data::Bool(b)) => equal(a, b),
        (Data::Text(a), Data::Text(b)) => equal(a, b),
        // `same_kind` has looked at the types.
        _ => Some(Worst { index: 0, relative: f64::INFINITY }),
    }
}

fn near<T>(ours: &[T], theirs: &[T], least: f64, value: impl Fn(&T) -> f64) -> Option<Worst> {
    let largest = theirs.iter().map(|t| value(t).abs()).filter(|size| size.is_finite()).fold(least, f64::max);
    let relative = |(ours, theirs): (f64, f64)| {
        if ours == theirs || (ours.is_nan() && theirs.is_nan()) {
            return 0.0;
        }
        let difference = (ours - theirs).abs() / largest;
        // NaN, an infinity on one side, or nothing but zeros to compare with.
        if difference.is_finite() { difference } else { f64::INFINITY }
    };
    let pairs = ours.iter().zip(theirs).map(|(ours, theirs)| relative((value(ours), value(theirs))));
    pairs
        .enumerate()
        .map(|(index, relative)| Worst { index, relative })
        .reduce(|worst, other| if other.relative > worst.relative { other } else { worst })
}

fn equal<T: PartialEq>(ours: &[T], theirs: &[T]) -> Option<Worst> {
    let differs = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
    match (differs, ours.is_empty()) {
        (Some(index), _) => Some(Worst { index, relative: f64::INFINITY }),
        (None, false) => Some(Worst { index: 0, relative: 0.0 }),
        (None, true) => None,
    }
}

/// One element in words.
pub fn element(tensor: &Tensor, index: usize) -> String {
    fn at<T: Display>(values: &[T], index: usize) -> String {
        values.get(index).map(T::to_string).unwrap_or_default()
    }
    match &tensor.data {
        Data::F32(values) => at(values, index),
        Data::F64(values) => at(values, index),
        Data::F16(bits) => {
            bits.get(index).map(|bits| f16::from_bits(*bits).to_f32().to_string()).unwrap_or_default()
        }
        Data::I64(values) => at(values, index),
        Data::I32(values) => at(values, index),
        Data::I16(values) => at(values, index),
        Data::I8(values) => at(values, index),
        Data::U64(values) => at(values, index),
        Data::U32(values) => at(values, index),
        Data::U16(values) => at(values, index),
        Data::U8(values) => at(values, index),
        Data::Bool(values) => at(values, index),
        Data::Text(values) => values.get(index).map(|text| format!("{text:?}")).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sample;

    /// relu(x · [[1, 2], [3, 4]] + [-5, 1]) with one case: this input, this answer.
    fn checked(input: &Tensor, output: &Tensor, tolerance: f32) -> Result<Report, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        let mut card = sample::relu_layer().card(folder.path());
        card.golden.tolerance = tolerance;
        let case = folder.path().join("golden/first");
        fs::create_dir_all(&case).unwrap();
        npy::write(&case.join("input-0.npy"), input).unwrap();
        npy::write(&case.join("output-0.npy"), output).unwrap();
        check(&Model::load(&card).unwrap(), &card)
    }

    #[test]
    fn a_right_answer_is_reported_with_its_distance() {
        let input = Tensor::f32(&[1, 2], vec![1.0, 1.0]);
        let report = checked(&input, &Tensor::f32(&[1, 2], vec![0.0, 7.0]), 0.0).unwrap();
        assert_eq!((report.cases.len(), report.worst_relative()), (1, 0.0));
        let report = checked(&input, &Tensor::f32(&[1, 2], vec![0.007, 7.0]), 2e-3).unwrap();
        assert!((report.worst_relative() - 1e-3).abs() < 1e-6);
    }

    #[test]
    fn a_wrong_answer_is_told_with_its_numbers() {
        let input = Tensor::f32(&[1, 2], vec![1.0, 1.0]);
        let error = checked(&input, &Tensor::f32(&[1, 2], vec![0.0, 8.0]), 1e-3).unwrap_err();
        let ModelError::Golden { index: 1, output: 0, relative, .. } = &error else { panic!("{error}") };
        assert_eq!(*relative, 0.125);
        let message = error.to_string();
        assert!(message.contains("ours 7, theirs 8") && message.contains("first"), "{message}");
    }

    #[test]
    fn a_case_of_another_shape_names_its_file() {
        let output = Tensor::f32(&[1, 2], vec![0.0, 7.0]);
        let message = checked(&Tensor::zeros(&[1, 3]), &output, 1.0).unwrap_err().to_string();
        assert!(message.contains("input-0.npy: holds f32 [1, 3]; expected f32 [1, 2]"), "{message}");
        let message = checked(&Tensor::zeros(&[1, 2]), &Tensor::zeros(&[2]), 1.0).unwrap_err().to_string();
        assert!(message.contains("output-0.npy: holds f32 [2]; expected f32 [1, 2]"), "{message}");
    }

    #[test]
    fn a_folder_without_cases_says_so_and_a_half_case_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let card = sample::relu_layer().card(folder.path());
        let model = Model::load(&card).unwrap();
        assert_eq!(check(&model, &card).unwrap().cases.len(), 0);
        fs::create_dir_all(folder.path().join("golden/empty")).unwrap();
        assert!(check(&model, &card).unwrap_err().to_string().contains("input-0.npy"));
    }

    #[test]
    fn cases_of_another_model_are_refused_by_hash() {
        let folder = tempfile::tempdir().unwrap();
        let mut card = sample::relu_layer().card(folder.path());
        let model = Model::load(&card).unwrap();
        let golden = folder.path().join("golden");
        fs::create_dir_all(&golden).unwrap();
        let name = |hash: &str| fs::write(golden.join(HASH_FILE), format!("{hash}  model.onnx\n")).unwrap();
        name(&card.graph.sha256);
        check(&model, &card).unwrap();
        name(&"ab".repeat(32));
        let message = check(&model, &card).unwrap_err().to_string();
        assert!(
            message.contains("belong to another model") && message.contains(&card.graph.sha256),
            "{message}"
        );
        card.graph.source_sha256 = Some("ab".repeat(32));
        check(&model, &card).unwrap();
        name("no hash");
        assert!(check(&model, &card).unwrap_err().to_string().contains("sha256sum"));
    }

    #[test]
    fn nan_equals_nan_only_and_zeros_must_be_met_exactly() {
        let of = |a: &[f32], b: &[f32]| near(a, b, 0.0, |v| f64::from(*v)).unwrap().relative;
        assert_eq!(of(&[f32::NAN, 1.0], &[f32::NAN, 1.0]), 0.0);
        assert_eq!(of(&[f32::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(of(&[1.0], &[f32::NAN]), f64::INFINITY);
        assert_eq!(of(&[1e-9], &[0.0]), f64::INFINITY);
        assert_eq!(of(&[f32::INFINITY, 1.0], &[f32::INFINITY, 2.0]), 0.5);
    }

    #[test]
    fn a_range_is_the_least_that_a_difference_is_measured_against() {
        let of = |a: f32, b: f32| near(&[a], &[b], 0.01, |v| f64::from(*v)).unwrap().relative;
        assert!((of(3.004e-5, 3e-5) - 4e-6).abs() < 1e-7, "the foot of a sigmoid, off by a rounding");
        assert!(of(4e-5, 3e-5) > 9e-4, "another probability is still another");
        assert!((of(0.4, 0.5) - 0.2).abs() < 1e-6, "and above it nothing changes");
        assert_eq!(of(f32::NAN, 3e-5), f64::INFINITY);
    }

    #[test]
    fn labels_are_equal_or_not() {
        assert_eq!(equal(&[1, 2, 3], &[1, 2, 4]).unwrap().index, 2);
        assert_eq!(equal(&["a"], &["a"]).unwrap().relative, 0.0);
        assert_eq!(equal::<u8>(&[], &[]), None);
    }
}
