//! Golden cases as `models/golden.py` writes them beside an ONNX file, before there is a model folder.
//!
//! `GOLDEN/CASE/input-I.npy` and `output-I.npy` in the file's own order, `GOLDEN/model.sha256` with
//! the hash of the file that they were made with, and with `--nodes` every tensor between:
//! `GOLDEN/CASE/nodes/N.npy`, named by line N of `nodes/names.txt`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CompileError, Subject};
use crate::base::Tensor;
use crate::config::card::PortSpec;
use crate::engine::{ModelError, Port, golden, npy};

/// Every case of a folder.
#[derive(Default)]
pub(super) struct Cases(Vec<Case>);

/// One of them.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) name: String,
    folder: PathBuf,
    /// Of the inputs that are left to fill, in order.
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
}

impl Case {
    /// The tensor of this name inside the graph, where the case has it.
    pub(super) fn node(&self, name: &str) -> Option<Tensor> {
        let nodes = self.folder.join("nodes");
        let names = fs::read_to_string(nodes.join("names.txt")).ok()?;
        let index = names.lines().position(|line| line == name)?;
        npy::read(&nodes.join(format!("{index}.npy"))).ok()
    }

    /// Why it cannot be one for inputs like these.
    fn misfit(&self, specs: &[PortSpec]) -> Option<String> {
        let (tensor, spec) =
            self.inputs.iter().zip(specs).find(|(tensor, spec)| tensor.shape != spec.shape)?;
        Some(format!(
            "{}: its input {:?} has shape {:?}, the model is compiled for {:?}",
            self.name, spec.name, tensor.shape, spec.shape
        ))
    }

    /// Whether every tensor between inputs and outputs is on file.
    pub(super) fn has_nodes(&self) -> bool {
        self.folder.join("nodes/names.txt").is_file()
    }
}

/// Reads the cases of `folder`, or of `folder/golden`.
pub(super) fn read(folder: &Path, subject: &Subject, ports: &[Port]) -> Result<Cases, CompileError> {
    let nested = folder.join("golden");
    let folder = if nested.is_dir() { nested.as_path() } else { folder };
    if !folder.is_dir() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(CompileError::file("read the golden cases in", folder)(missing));
    }
    let theirs = golden::hash_of(folder)?;
    if let Some(theirs) = theirs.filter(|theirs| *theirs != subject.sha256) {
        return Err(CompileError::OtherModel {
            golden: folder.to_owned(),
            model: subject.path.clone(),
            theirs,
            ours: subject.sha256.clone(),
        });
    }
    let outputs = subject.proto.graph.as_ref().map_or(0, |graph| graph.output.len());
    let mut cases = Vec::new();
    for case in golden::case_folders(folder)? {
        cases.push(read_case(&case, subject, ports, outputs)?);
    }
    match cases.is_empty() {
        false => Ok(Cases(cases)),
        true => Err(CompileError::Order(format!(
            "{} holds no golden case; models/golden.py writes some: CASE/input-0.npy …, CASE/output-0.npy …",
            folder.display()
        ))),
    }
}

fn read_case(case: &Path, subject: &Subject, ports: &[Port], outputs: usize) -> Result<Case, CompileError> {
    let all = ports.len() + subject.fixed.len();
    let mut inputs = Vec::new();
    let mut open = ports.iter();
    for position in 0..all {
        let file = case.join(format!("input-{position}.npy"));
        let wrong = |seen: String, expected: String| {
            CompileError::Model(ModelError::GoldenFile { file: file.clone(), seen, expected })
        };
        let tensor = npy::read(&file)?;
        if let Some(fixed) = subject.fixed.iter().find(|fixed| fixed.position == position) {
            if tensor.data != fixed.value.data {
                return Err(wrong(
                    format!("holds {}", beginning(&tensor)),
                    format!("{}, which input {:?} is fixed to", beginning(&fixed.value), fixed.name),
                ));
            }
            continue;
        }
        let Some(port) = open.next() else { break };
        let fits = |shape: &[usize]| {
            port.dims.as_ref().is_none_or(|dims| {
                dims.len() == shape.len()
                    && dims.iter().zip(shape).all(|(dim, length)| match dim {
                        crate::engine::Dim::Fixed(fixed) => fixed == length,
                        _ => true,
                    })
            })
        };
        if port.data_type.is_some_and(|wanted| wanted != tensor.data_type()) || !fits(&tensor.shape) {
            return Err(wrong(
                format!("holds {} {:?}", tensor.data_type(), tensor.shape),
                format!("{} {} for input {:?}", port.type_name(), port.shape_text(), port.name),
            ));
        }
        inputs.push(tensor);
    }
    golden::none_beyond(case, "input", all)?;
    let outputs = (0..outputs)
        .map(|position| npy::read(&case.join(format!("output-{position}.npy"))))
        .collect::<Result<Vec<_>, _>>()?;
    golden::none_beyond(case, "output", outputs.len())?;
    let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Case { name, folder: case.to_owned(), inputs, outputs })
}

/// What a tensor of few elements is told by.
fn beginning(tensor: &Tensor) -> String {
    let elements: Vec<String> =
        (0..tensor.len().min(4)).map(|index| golden::element(tensor, index)).collect();
    let more = if tensor.len() > elements.len() { ", …" } else { "" };
    format!("{} {}{more}", tensor.data_type(), elements.join(", "))
}

impl Cases {
    /// The shapes of the first case.
    pub(super) fn shapes(&self, ports: &[Port]) -> Vec<(String, Vec<usize>)> {
        let Some(first) = self.0.first() else { return Vec::new() };
        ports
            .iter()
            .zip(&first.inputs)
            .map(|(port, tensor)| (port.name.clone(), tensor.shape.clone()))
            .collect()
    }

    /// The cases that have these shapes.
    pub(super) fn fitting(&self, specs: &[PortSpec]) -> Vec<Case> {
        self.0.iter().filter(|case| case.misfit(specs).is_none()).cloned().collect()
    }

    /// Those that fit none of these sizes, and in words why not the first.
    pub(super) fn left_out(&self, sizes: &[&[PortSpec]]) -> Vec<String> {
        let misfit = |case: &Case| {
            let mut misfits = sizes.iter().map(|specs| case.misfit(specs));
            let first = misfits.next()??;
            misfits.all(|misfit| misfit.is_some()).then_some(first)
        };
        self.0.iter().filter_map(misfit).collect()
    }
}
