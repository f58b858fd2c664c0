//! `lineside infer`: one inference on NumPy files, to be held against the training framework.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Exit, Failure};
use crate::base::Tensor;
use crate::config::card::PortSpec;
use crate::engine::{ModelError, Parsed, folder, golden, npy};

/// One inference on NumPy files: what comes out here must equal what Python gives
///
/// Takes the batch of the files themselves: axes that the model leaves open get the lengths that the
/// arrays have, and of a folder that was compiled for several batch sizes the graph for theirs runs.
/// Outputs are written as `.npy`, named after the model's outputs, ready for
/// numpy.allclose.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lineside infer model.onnx --npy x.npy --out answers/
  lineside infer models/surface-pitting --npy patch.npy --json
  lineside infer vad.onnx --fix sr=16000 --npy input=x.npy --npy state=h.npy
  lineside infer lstm.onnx --npy sample=x.npy --npy h_in=h.npy --npy c_in=c.npy")]
pub struct Args {
    /// An .onnx or .nnef.tgz file, or a model folder (its card's SHA-256 is checked)
    model: PathBuf,
    /// An input as .npy; several in the graph's order, or NAME=FILE by the input's name
    #[arg(long, value_name = "[NAME=]FILE", num_args = 1..)]
    npy: Vec<String>,
    /// Give an input one value for good, as the card's `value` does; NAME=NUMBER, several times if need be
    #[arg(long, value_name = "NAME=NUMBER")]
    fix: Vec<String>,
    /// Write each output to DIR/OUTPUT.npy
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

// What fits a line and shows whether it is a probability, a logit or garbage.
const SHOWN_VALUES: usize = 8;

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { model: path, npy, fix, out, json } = args;
    let mut opened = folder::open_any(&path).map_err(failure)?;
    for argument in &fix {
        fixed(&mut opened.graph, argument)?;
    }
    let (specs, tensors) = inputs(&opened.graph, &npy)?;
    // Compiled for several batch sizes, each has a graph of its own, in which nothing is left to fix.
    let model = opened.for_inputs(&specs).and_then(|opened| opened.graph.prepare(&specs)).map_err(failure)?;
    let outputs = model
        .session()
        .run(&tensors.iter().collect::<Vec<_>>())
        .map_err(|error| Failure::new(Exit::DataErr, error))?;

    let names: Vec<&str> = model.outputs().iter().map(|port| port.name.as_str()).collect();
    let files = match &out {
        Some(folder) => write(folder, &names, &outputs)?,
        None => Vec::new(),
    };
    if json {
        let outputs = names.iter().zip(&outputs).enumerate().map(|(i, (name, tensor))| {
            json!({
                "name": name,
                "type": tensor.data_type().as_str(),
                "shape": tensor.shape,
                "first_values": first_values(tensor),
                "file": files.get(i),
            })
        });
        println!("{}", json!({ "model": path, "outputs": outputs.collect::<Vec<_>>() }));
        return Ok(());
    }
    for (i, (name, tensor)) in names.iter().zip(&outputs).enumerate() {
        let more = if tensor.len() > SHOWN_VALUES { ", …" } else { "" };
        println!("{name}  {} {:?}", tensor.data_type(), tensor.shape);
        println!("  {}{more}", first_values(tensor).join(", "));
        if let Some(file) = files.get(i) {
            println!("  written to {}", file.display());
        }
    }
    Ok(())
}

/// The exit code that belongs to a model error.
pub(super) fn failure(error: ModelError) -> Failure {
    let exit = match &error {
        ModelError::Read { .. } => Exit::IoErr,
        ModelError::Card { .. } | ModelError::FileEscapes { .. } => Exit::Config,
        _ => Exit::DataErr,
    };
    Failure::new(exit, error)
}

/// `sr=16000`.
fn fixed(graph: &mut Parsed, argument: &str) -> Result<(), Failure> {
    let wrong = |why: String| Failure::new(Exit::DataErr, why);
    let (name, written) = argument
        .rsplit_once('=')
        .ok_or_else(|| wrong(format!("--fix {argument}: write NAME=NUMBER, as in sr=16000")))?;
    graph.fix_as_written(name, written).map_err(wrong).map(drop)
}

/// Reads the files and pairs them with the graph's inputs, in the graph's order.
fn inputs(graph: &Parsed, given: &[String]) -> Result<(Vec<PortSpec>, Vec<Tensor>), Failure> {
    let names: Vec<&str> = graph.inputs().iter().map(|port| port.name.as_str()).collect();
    let listed = || graph.inputs().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut files: Vec<Option<&str>> = vec![None; names.len()];
    for (position, argument) in given.iter().enumerate() {
        // A file name may hold `=` as well; only a known input's name in front of it counts.
        let by_name = argument
            .split_once('=')
            .and_then(|(name, file)| names.iter().position(|known| *known == name).map(|at| (at, file)));
        let (at, file) = match by_name {
            Some(found) => found,
            None if argument.contains('=') && !Path::new(argument).exists() => {
                let message = format!("--npy {argument}: there is no such input; the graph has {}", listed());
                return Err(Failure::new(Exit::DataErr, message));
            }
            None => (position, argument.as_str()),
        };
        match files.get_mut(at) {
            Some(slot @ None) => *slot = Some(file),
            Some(Some(_)) => {
                let message = format!("--npy {argument}: input {:?} has a file already", names[at]);
                return Err(Failure::new(Exit::DataErr, message));
            }
            None => return Err(wrong_count(given.len(), names.len(), &listed())),
        }
    }
    let mut specs = Vec::new();
    let mut tensors = Vec::new();
    for (name, file) in names.iter().zip(&files) {
        let file = file.ok_or_else(|| wrong_count(given.len(), names.len(), &listed()))?;
        let tensor = npy::read(Path::new(file)).map_err(failure)?;
        let (data_type, shape) = (tensor.data_type(), tensor.shape.clone());
        specs.push(PortSpec { name: (*name).to_owned(), data_type, shape });
        tensors.push(tensor);
    }
    Ok((specs, tensors))
}

fn wrong_count(seen: usize, expected: usize, listed: &str) -> Failure {
    let message = format!("{seen} arrays were given with --npy, the graph has {expected} inputs: {listed}");
    Failure::new(Exit::DataErr, message)
}

/// Writes each output; two names that become one file are told apart by their position.
fn write(folder: &Path, names: &[&str], outputs: &[Tensor]) -> Result<Vec<PathBuf>, Failure> {
    let unwritable = |path: &Path, error: io::Error| {
        Failure::new(Exit::IoErr, format!("cannot write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
    let files: Vec<PathBuf> = file_names(names).iter().map(|file| folder.join(file)).collect();
    for (file, tensor) in files.iter().zip(outputs) {
        npy::write(file, tensor).map_err(|error| unwritable(file, error))?;
    }
    Ok(files)
}

/// A file for each output.
fn file_names(names: &[&str]) -> Vec<String> {
    // Some file systems take `A` and `a` for one name.
    let mut taken = HashSet::new();
    let mut free = |name: String| taken.insert(name.to_lowercase()).then_some(name);
    let mut files = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let plain = file_name(name);
        let candidates = (i..).map(|i| format!("{plain}-{i}"));
        files.extend(std::iter::once(plain.clone()).chain(candidates).find_map(&mut free));
    }
    files.into_iter().map(|file| format!("{file}.npy")).collect()
}

/// A tensor's name as a file's: `/`, `:` and their like become `_`, and it never begins with a dot.
fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = name.chars().map(safe).collect();
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if name.is_empty() => "output".to_owned(),
        None => name,
    }
}

fn first_values(tensor: &Tensor) -> Vec<String> {
    (0..tensor.len().min(SHOWN_VALUES)).map(|index| golden::element(tensor, index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_without_inputs_answers_and_takes_no_arrays() {
        use crate::base::Tensor;
        use crate::engine::sample::Sample;

        let place = tempfile::tempdir().unwrap();
        let model = place.path().join("model.onnx");
        let sample = Sample::default().weights("w", &[2], &[-3.0, 4.0]);
        std::fs::write(&model, sample.node("Relu", &["w"], &["y"], &[]).output("y").bytes()).unwrap();
        let out = place.path().join("out");
        let with = |npy| Args { model: model.clone(), npy, fix: vec![], out: Some(out.clone()), json: false };
        run(with(vec![])).unwrap();
        assert_eq!(npy::read(&out.join("y.npy")).unwrap(), Tensor::f32(&[2], vec![0.0, 4.0]));
        let refused = run(with(vec![out.join("y.npy").display().to_string()])).unwrap_err();
        assert!(format!("{refused:?}").contains("the graph has 0 inputs"), "{refused:?}");
    }

    #[test]
    fn outputs_whose_names_fall_together_have_a_file_each() {
        assert_eq!(file_names(&["a/b", "a_b", "A_b"]), ["a_b.npy", "a_b-1.npy", "A_b-2.npy"]);
        // The name that tells them apart may be an output's as well.
        assert_eq!(file_names(&["a_-2", "a/", "a_"]), ["a_-2.npy", "a_.npy", "a_-3.npy"]);
    }

    #[test]
    fn an_outputs_name_never_leaves_the_folder() {
        assert_eq!(file_name("/model/head:0"), "_model_head_0");
        assert_eq!(file_name("../../etc"), "_._.._etc");
        assert_eq!(file_name(""), "output");
        assert_eq!(file_name("scores"), "scores");
    }
}
