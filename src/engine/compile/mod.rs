//! From an ONNX file to a model folder for the device, refused when two ways to answer differ.
//!
//! ```text
//! ONNX ─► concrete (shapes, fixed inputs) ─► opinions agree ─► saved (NNEF, else ONNX) ─► read back ─► card ─► prepared
//!                                               │
//!                                             differ ─► bisect ─► the first node that differs
//! ```
//!
//! Promise: what is written answers like the file that was given, by every opinion that could be
//! had; the same input gives the same bytes; what a person wrote into the card stays.
//! Not here: the standard's own arithmetic (`oracle`), golden cases at boot (`golden`).
//!
//! | file | answers |
//! |---|---|
//! | `graph` | cutting and fixing an ONNX graph |
//! | `probe` | on which inputs ways are compared |
//! | `opinion` | which ways there are, and how near is equal |
//! | `bisect` | which node differs first |
//! | `alone` | whether it is wrong, or only given other numbers |
//! | `save` | in which form the graph is kept |
//! | `draft` | the card that can be told from the graph |

mod alone;
mod bisect;
mod cases;
mod draft;
mod graph;
mod opinion;
mod probe;
mod save;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tract_onnx::pb::ModelProto;

use super::load::Graph;
use super::port::Dim;
use super::prepared::{self, Prepared};
use super::{InferError, Model, ModelError, Parsed, Port, Verified, folder};
use crate::base::Tensor;
use crate::config::card::PortSpec;

pub use bisect::Difference;
pub(super) use graph::cut;
#[cfg(test)]
pub(super) use probe::Random;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The ONNX file.
    pub model: PathBuf,
    /// The model folder to write; its name becomes the model's.
    pub folder: PathBuf,
    /// Shapes, by input.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Inputs that become constants, each with its numbers as written.
    pub fixed: Vec<(String, String)>,
    /// Class names, in the order of the scores.
    pub labels: Option<Vec<String>>,
    /// Golden cases to check and to bring along.
    pub golden: Option<PathBuf>,
    /// Batch sizes that there is to be a graph for; the daemon runs the first.
    pub batches: Vec<usize>,
    /// Largest accepted difference; `None`: 1e-4; 5e-3 in half precision; 2e-2 of a quantised model.
    pub tolerance: Option<f64>,
}

/// What came of it.
#[derive(Debug)]
pub struct Compiled {
    /// The written folder.
    pub folder: PathBuf,
    /// The graph's file in it.
    pub file: PathBuf,
    /// Its size.
    pub file_bytes: u64,
    /// Why it is not NNEF, where it is not.
    pub kept_as_onnx: Option<String>,
    /// What the graphs are loaded from, as long as it fits.
    pub prepared: Prepared,
    /// Files of the further batch sizes, with the shapes of their inputs and their bytes.
    pub batches: Vec<(PathBuf, Vec<PortSpec>, u64)>,
    /// What was compared, a line each.
    pub opinions: Vec<Agreement>,
    /// Who stands behind the answers.
    pub golden_cases: usize,
    /// Golden cases that cannot be brought along, each with the reason.
    pub left_out: Vec<String>,
    /// Whether a card was there already; then only its graph was brought up to date.
    pub kept_card: bool,
    /// What the card guesses and a person must look at.
    pub to_confirm: Vec<String>,
}

/// Two ways that agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// What the optimised engine was held against.
    pub with: String,
    /// Inputs compared.
    pub inputs: usize,
    /// Of these, inputs on which rounding alone decides, so that a difference says nothing.
    pub undecided: usize,
    /// Largest |ours − theirs| ÷ largest |theirs|, undecided ones left out.
    pub worst_relative: f64,
    /// Why there is nothing to compare, where there is not.
    pub none_because: Option<String>,
}

impl Agreement {
    /// Together with that of another batch size.
    fn join(&mut self, other: Self) {
        self.inputs += other.inputs;
        self.undecided += other.undecided;
        self.worst_relative = self.worst_relative.max(other.worst_relative);
        self.none_because = self.none_because.take().filter(|_| other.none_because.is_some());
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { with, inputs, undecided, worst_relative, none_because } = self;
        if let Some(why) = none_because {
            return write!(f, "with {with}: no, {why}");
        }
        write!(f, "with {with}: {inputs} input(s), worst relative difference {worst_relative:.1e}")?;
        if *undecided > 0 {
            write!(f, "; on {undecided} more rounding alone decides")?;
        }
        Ok(())
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The graph cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Two ways to answer differ: the engine, or the file, is wrong.
    #[error(transparent)]
    Differs(Box<Difference>),
    /// The graph runs on no input at all.
    #[error("{}: the model fails on {probe}", model.display())]
    Fails {
        /// The file.
        model: PathBuf,
        /// On which input.
        probe: String,
        /// Why.
        source: Box<InferError>,
    },
    /// What was asked for contradicts the graph or itself.
    #[error("{0}")]
    Order(String),
    /// The golden cases were made with another model.
    #[error(
        "{}: these golden cases belong to the model with SHA-256 {theirs}, {} has {ours}; write them anew \
         with models/golden.py",
        golden.display(), model.display()
    )]
    OtherModel {
        /// The folder of the cases.
        golden: PathBuf,
        /// The model's file.
        model: PathBuf,
        /// Of the cases.
        theirs: String,
        /// Of the file.
        ours: String,
    },
    /// The operating system would not let us.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// `read`, `write`.
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CompileError {
    fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}

/// The model as it will run: inputs fixed, every shape known.
struct Subject {
    path: PathBuf,
    /// SHA-256 of the file as it was given.
    sha256: String,
    proto: ModelProto,
    specs: Vec<PortSpec>,
    begun: Instant,
    fixed: Vec<Fixed>,
}

/// An input that became a constant.
struct Fixed {
    /// Its place among the inputs of the file.
    position: usize,
    name: String,
    value: Tensor,
}

impl Subject {
    fn parsed(&self, proto: ModelProto) -> Parsed {
        Parsed::of_onnx(self.path.clone(), proto, 0, self.sha256.clone(), self.begun)
    }

    fn optimised(&self) -> Result<Model, ModelError> {
        self.parsed(self.proto.clone()).typed(&self.specs)?.optimised()
    }

    fn plain(&self) -> Result<Model, ModelError> {
        self.parsed(self.proto.clone()).typed(&self.specs)?.plain()
    }

    /// The graph that ends in these tensors.
    fn cut(&self, tensors: &[&str]) -> Parsed {
        self.parsed(cut(&self.proto, tensors))
    }
}

/// Compiles one file.
///
/// # Errors
/// See [`CompileError`]; nothing is written then.
pub fn compile(order: &Order) -> Result<Compiled, CompileError> {
    let begun = Instant::now();
    let mut parsed = Verified::read(&order.model)?.parse()?;
    let page = parsed.page();
    let fixed = fixed(&mut parsed, &order.fixed)?;
    let Parsed { path, sha256, graph: Graph::Onnx(proto), .. } = parsed else {
        return Err(CompileError::Order(format!(
            "{} is NNEF, which is what compile makes; give it the ONNX file",
            order.model.display()
        )));
    };
    let ports = proto.graph.as_ref().map(super::onnx::inputs).unwrap_or_default();
    let name = name_of(&order.folder)?;

    let tolerance = order.tolerance.unwrap_or_else(|| graph::usual_tolerance(&proto));
    let mut subject = Subject { path, sha256, proto: *proto, specs: Vec::new(), begun, fixed };
    let cases = match &order.golden {
        Some(folder) => cases::read(folder, &subject, &ports)?,
        None => cases::Cases::default(),
    };

    // Without an order, the batch that the golden cases were made with is the one that is wanted.
    let mut shapes = order.shapes.clone();
    if shapes.is_empty() && order.batches.is_empty() {
        shapes = cases.shapes(&ports);
    }
    let batches =
        if order.batches.is_empty() { vec![None] } else { order.batches.iter().copied().map(Some).collect() };
    let mut kept: Option<(Model, save::Saved)> = None;
    let mut further: Vec<(Vec<PortSpec>, save::Saved)> = Vec::new();
    let mut sizes: Vec<Vec<PortSpec>> = Vec::new();
    let mut here: Vec<cases::Case> = Vec::new();
    let mut agreements: Vec<Agreement> = Vec::new();
    for batch in batches {
        subject.specs = specs(&ports, &shapes, batch)?;
        if let (Some(batch), true) = (batch, sizes.contains(&subject.specs)) {
            return Err(CompileError::Order(format!("--batch {batch}: it stands there twice")));
        }
        let model = subject.optimised()?;
        let fitting = cases.fitting(model.inputs());
        let found = opinion::compare(&subject, &model, &fitting, tolerance)?;
        if agreements.is_empty() {
            agreements = found;
        } else {
            for (all, one) in agreements.iter_mut().zip(found) {
                all.join(one);
            }
        }
        here.extend(fitting);
        sizes.push(subject.specs.clone());
        match &kept {
            None => {
                let saved = save::save(&subject, &model, None)?;
                kept = Some((model, saved));
            }
            Some(_) => further.push((subject.specs.clone(), save::save(&subject, &model, batch)?)),
        }
    }
    let (model, saved) = kept.ok_or_else(|| CompileError::Order("--batch names no size".to_owned()))?;

    let card = draft::Draft {
        name: &name,
        order,
        page: &page,
        proto: &subject.proto,
        model: &model,
        saved: &saved,
        batches: &further,
        source_sha256: &subject.sha256,
        verified: !here.is_empty(),
        tolerance,
    };
    let written = draft::write(&order.folder, &card, &here)?;
    // A card with mistakes in what is not its graph can wait for `lineside prepare`.
    let prepared = folder::card(&order.folder).ok().map(|card| prepared::prepare(&card)).transpose()?;
    let file_of = |saved: &save::Saved| (order.folder.join(&saved.file), saved.bytes.len() as u64);
    let (file, file_bytes) = file_of(&saved);
    let batches = further.into_iter().map(|(specs, saved)| {
        let (file, file_bytes) = file_of(&saved);
        (file, specs, file_bytes)
    });
    Ok(Compiled {
        folder: order.folder.clone(),
        file,
        file_bytes,
        batches: batches.collect(),
        kept_as_onnx: saved.kept_as_onnx,
        prepared: prepared.unwrap_or_default(),
        opinions: agreements,
        golden_cases: here.len(),
        left_out: cases.left_out(&sizes.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        kept_card: written.kept_card,
        to_confirm: written.to_confirm,
    })
}

/// Turns inputs into constants, as ordered.
fn fixed(parsed: &mut Parsed, orders: &[(String, String)]) -> Result<Vec<Fixed>, CompileError> {
    let filled: Vec<String> = parsed.inputs().iter().map(|port| port.name.clone()).collect();
    let one = |(name, written): &(String, String)| {
        let value = parsed.fix_as_written(name, written)?;
        let position = filled.iter().position(|filled| filled == name).unwrap_or_default();
        Ok(Fixed { position, name: name.clone(), value })
    };
    orders.iter().map(one).collect::<Result<_, _>>().map_err(CompileError::Order)
}

/// The folder's own name, which is the model's.
fn name_of(folder: &Path) -> Result<String, CompileError> {
    // A folder that is still to be made has no canonical form; its last part is its name.
    let real = folder.canonicalize();
    let name = real.as_deref().unwrap_or(folder).file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        CompileError::Order(format!(
            "-o {}: the folder's name becomes the model's and must be text; give it one, as in -o models/pump",
            folder.display()
        ))
    })
}

/// Concrete inputs: as ordered, else as exported. The batch is the open first axis, and whatever axis has
/// its symbol (a recurrent state has it second); without an order it is 1.
fn specs(
    ports: &[Port],
    shapes: &[(String, Vec<usize>)],
    batch: Option<usize>,
) -> Result<Vec<PortSpec>, CompileError> {
    if let Some((name, _)) = shapes.iter().find(|(name, _)| !ports.iter().any(|port| port.name == *name)) {
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        return Err(CompileError::Order(format!(
            "there is no input {name:?} to give a shape; the graph's inputs are {}",
            names.join(", ")
        )));
    }
    let given = |port: &Port| shapes.iter().find(|(name, _)| *name == port.name).map(|(_, shape)| shape);
    let first = |port: &Port| port.dims.as_ref().and_then(|dims| dims.first()).cloned();
    let is_batch = |axis: usize, dim: &Dim| match dim {
        Dim::Fixed(_) => false,
        Dim::Symbol(_) => axis == 0 || ports.iter().any(|port| first(port).as_ref() == Some(dim)),
        Dim::Unknown => axis == 0,
    };
    // A symbol has one length, wherever an order gives it.
    let ordered = |dim: &Dim| {
        let Dim::Symbol(_) = dim else { return None };
        ports.iter().find_map(|port| {
            let place = port.dims.as_ref()?.iter().position(|known| known == dim)?;
            given(port)?.get(place).copied()
        })
    };
    let mut batches = 0;
    let mut specs = Vec::new();
    for port in ports {
        let mut concrete = port.clone();
        if let Some(shape) = given(port) {
            concrete.dims = Some(shape.iter().copied().map(Dim::Fixed).collect());
        }
        for (axis, dim) in concrete.dims.iter_mut().flatten().enumerate() {
            let exported = port.dims.as_ref().map_or(Some(&Dim::Unknown), |dims| dims.get(axis));
            let is_batch = exported.is_some_and(|exported| is_batch(axis, exported));
            batches += usize::from(is_batch);
            *dim = match (&dim, batch) {
                (_, Some(batch)) if is_batch => Dim::Fixed(batch),
                (Dim::Fixed(length), _) => Dim::Fixed(*length),
                (open, _) => match ordered(open) {
                    Some(length) => Dim::Fixed(length),
                    None if is_batch => Dim::Fixed(1),
                    None => (*open).clone(),
                },
            };
        }
        let spec = concrete.concrete().ok_or_else(|| {
            CompileError::Order(format!(
                "input {concrete} is open; every length must be known before the graph is optimised: give it, \
                 as in --input {}={}",
                port.name,
                concrete.example()
            ))
        })?;
        if spec.shape.contains(&0) {
            return Err(CompileError::Order(format!(
                "input {concrete} has no elements, and no frame fills it: give it lengths of 1 and more, as in \
                 --input {}={}",
                port.name,
                concrete.example()
            )));
        }
        specs.push(spec);
    }
    match batch {
        Some(batch) if batches == 0 && !specs.iter().any(|spec| spec.shape.first() == Some(&batch)) => {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            Err(CompileError::Order(format!(
                "--batch {batch}: the graph was exported with a fixed first axis ({}); export it with an open batch \
                 (dynamic_axes), or leave --batch out",
                ports.join(", ")
            )))
        }
        _ => Ok(specs),
    }
}

#[cfg(test)]
mod tests;
