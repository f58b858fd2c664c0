//! A file becomes a model that can run, step by step, each step a type.
//!
//! ```text
//! path ─► Verified (bytes, known digest) ─► Parsed (graph, vetted) ─► Model (typed, optimised, ordered)
//! ```
//!
//! Promise: bytes that are not those of the card are never parsed; shapes are concrete before the
//! graph is optimised; a graph on which the engine panics is refused in words like any other.
//! Not here: whether its answers are right (`golden`).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use tract_core::internal::{DimLike, ShapeFact};
use tract_core::prelude::{Framework, TractResult, TypedModel, TypedSimplePlan};
use tract_onnx::pb::{GraphProto, ModelProto};
use tract_onnx::prelude::{InferenceFact, InferenceModelExt};

use super::caught::caught;
use super::error::{EngineError, ModelError, Step};
use super::model::{self, Known, Model};
use super::port::{self, Dim, Port};
use super::{convert, digest, nnef, onnx, operators, passes, range, rehearsed, untrusted, whole_sums};
use crate::base::Tensor;
use crate::config::Card;
use crate::config::card::PortSpec;

/// Larger files are refused unread. The boards that we are for have 512 MiB to 8 GiB.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// A model's bytes, read whole, with their digest.
#[derive(Debug)]
pub struct Verified {
    path: PathBuf,
    bytes: Vec<u8>,
    sha256: String,
    begun: Instant,
}

impl Verified {
    /// Reads the file that the card names and compares its digest.
    ///
    /// # Errors
    /// The file cannot be read, is too large, lies outside the folder, or is another one.
    pub fn of_card(card: &Card) -> Result<Self, ModelError> {
        let file = &card.graph.file;
        let inside = file.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside || file.as_os_str().is_empty() {
            return Err(ModelError::FileEscapes { folder: card.folder.clone(), file: file.clone() });
        }
        let verified = Self::read(&card.folder.join(file))?;
        if !verified.sha256.eq_ignore_ascii_case(card.graph.sha256.trim()) {
            return Err(ModelError::Digest {
                path: verified.path,
                seen: verified.sha256,
                expected: card.graph.sha256.clone(),
            });
        }
        match &card.graph.writer {
            Some(writer) if nnef::is_archive(&verified.bytes) && !nnef::reads(writer) => {
                Err(ModelError::Writer { path: verified.path, writer: writer.clone() })
            }
            _ => Ok(verified),
        }
    }

    /// Reads a bare file; its digest is what it is.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or is a folder.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let begun = Instant::now();
        let unreadable = |source: io::Error| ModelError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(ModelError::NotAModelFolder { path: path.to_owned() });
        }
        let too_large =
            |bytes| ModelError::TooLarge { path: path.to_owned(), bytes, max_bytes: MAX_FILE_BYTES };
        if metadata.len() > MAX_FILE_BYTES {
            return Err(too_large(metadata.len()));
        }
        // The size was a promise of the file system's; a device or a growing file may give more.
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(Self::of_bytes(path.to_owned(), bytes, begun))
    }

    /// Bytes that were read, or written, elsewhere; `path` is for messages.
    pub fn of_bytes(path: PathBuf, bytes: Vec<u8>, begun: Instant) -> Self {
        let sha256 = digest::hex(&bytes);
        Self { path, bytes, sha256, begun }
    }

    /// Parses the bytes, ONNX or NNEF by what they are and not by their name.
    ///
    /// # Errors
    /// They are no model, or not a whole one.
    pub fn parse(self) -> Result<Parsed, ModelError> {
        let Self { path, bytes, sha256, begun } = self;
        let file_bytes = bytes.len() as u64;
        if !nnef::is_archive(&bytes) {
            let proto = onnx::decode(&path, &bytes)?;
            return Ok(Parsed::of_onnx(path, proto, file_bytes, sha256, begun));
        }
        let model = nnef::decode(&path, &bytes)?;
        let unreadable = |error| engine_error(&path, Step::Translate, &error);
        let inputs = nnef::inputs(&model).map_err(unreadable)?;
        let outputs = nnef::outputs(&model).map_err(unreadable)?;
        let graph = Graph::Nnef(Box::new(model));
        Ok(Parsed { path, file_bytes, sha256, begun, inputs, outputs, graph })
    }
}

/// A graph as it stands in its file. It can be looked at; nothing says yet that it can run.
#[derive(Debug)]
pub struct Parsed {
    pub(super) path: PathBuf,
    pub(super) file_bytes: u64,
    pub(super) sha256: String,
    begun: Instant,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    pub(super) graph: Graph,
}

/// In which form it came.
#[derive(Debug)]
pub(super) enum Graph {
    Onnx(Box<ModelProto>),
    Nnef(Box<TypedModel>),
}

impl Parsed {
    /// An ONNX graph; the rest is for messages and pages.
    pub(super) fn of_onnx(
        path: PathBuf,
        proto: ModelProto,
        file_bytes: u64,
        sha256: String,
        begun: Instant,
    ) -> Self {
        let inputs = proto.graph.as_ref().map(onnx::inputs).unwrap_or_default();
        let outputs = proto.graph.as_ref().map(onnx::outputs).unwrap_or_default();
        Self { path, file_bytes, sha256, begun, inputs, outputs, graph: Graph::Onnx(Box::new(proto)) }
    }

    /// The graph of a card, with the inputs that it fixes.
    ///
    /// # Errors
    /// See [`Verified::of_card`], [`Verified::parse`], [`Parsed::fix`].
    pub fn of_card(card: &Card) -> Result<Self, ModelError> {
        Self::of_verified(Verified::of_card(card)?, card)
    }

    /// As [`Parsed::of_card`], with the bytes that were verified.
    pub(super) fn of_verified(verified: Verified, card: &Card) -> Result<Self, ModelError> {
        let mut parsed = verified.parse()?;
        for (port, value) in &card.graph.fixed {
            parsed.fix(&port.name, value)?;
        }
        Ok(parsed)
    }

    /// The inputs that must be filled, in order, as exported.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs, in order, as exported.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    pub(super) fn onnx_graph(&self) -> Option<&GraphProto> {
        match &self.graph {
            Graph::Onnx(proto) => proto.graph.as_ref(),
            Graph::Nnef(_) => None,
        }
    }

    /// Gives an input its value for good, as a weight has one: it is no input any more, and what follows
    /// from it is computed once (a branch that it decides, say).
    ///
    /// # Errors
    /// There is no such input, it is of another type or shape, or the file is not ONNX.
    pub fn fix(&mut self, name: &str, value: &Tensor) -> Result<(), ModelError> {
        let mismatch = |what: String| ModelError::Inputs { path: self.path.clone(), mismatches: vec![what] };
        let Some(at) = self.inputs.iter().position(|port| port.name == name) else {
            let names: Vec<String> = self.inputs.iter().map(ToString::to_string).collect();
            return Err(mismatch(format!(
                "there is no input {name:?} to fix; there are {}",
                names.join(", ")
            )));
        };
        let spec =
            PortSpec { name: name.to_owned(), data_type: value.data_type(), shape: value.shape.clone() };
        if let Some(what) = port::contradiction(&self.inputs[at], &spec) {
            return Err(mismatch(what));
        }
        match &mut self.graph {
            Graph::Onnx(proto) => {
                let graph = proto.graph.get_or_insert_default();
                graph.input.retain(|input| input.name != name);
                graph.initializer.push(onnx::initializer(name, value));
            }
            Graph::Nnef(_) => {
                let what =
                    format!("input {name:?} cannot be fixed in NNEF; fix it when it is made from ONNX");
                return Err(mismatch(what));
            }
        }
        self.inputs.remove(at);
        Ok(())
    }

    /// [`Parsed::fix`] with what a person wrote: one number for every element, or as many with commas
    /// between them as an input with one axis has. Axes that are open have length 1, or that many.
    ///
    /// # Errors
    /// In words: there is no such input, or it cannot be that.
    pub fn fix_as_written(&mut self, name: &str, written: &str) -> Result<Tensor, String> {
        let wrong = |why: String| format!("--fix {name}={written}: {why}");
        let Some(port) = self.inputs.iter().find(|port| port.name == name) else {
            let names: Vec<String> = self.inputs.iter().map(ToString::to_string).collect();
            return Err(wrong(format!("there is no such input; the graph has {}", names.join(", "))));
        };
        let number = |text: &str| match text.trim() {
            "true" => Ok(1.0),
            "false" => Ok(0.0),
            text => text.parse::<f64>().map_err(|_| wrong(format!("{text:?} is no number"))),
        };
        let mut numbers = written.split(',').map(number).collect::<Result<Vec<_>, _>>()?;
        let data_type = port.data_type.ok_or_else(|| wrong(format!("the input has no type: {port}")))?;
        let shape = match (&port.dims, numbers.len()) {
            (None, 1) => Vec::new(),
            (Some(dims), 1) => {
                let length = |dim: &Dim| if let Dim::Fixed(length) = dim { *length } else { 1 };
                dims.iter().map(length).collect()
            }
            (None, count) => vec![count],
            (Some(dims), count) if dims.len() == 1 => vec![count],
            (Some(dims), count) => {
                let axes = dims.len();
                return Err(wrong(format!("{count} numbers for an input with {axes} axes; give one number")));
            }
        };
        if let &[one] = &*numbers {
            numbers = vec![one; shape.iter().product()];
        }
        let value = Tensor::of_numbers(data_type, &shape, &numbers);
        let value = value.ok_or_else(|| wrong(format!("no {data_type} can be that")))?;
        self.fix(name, &value).map_err(|error| wrong(error.to_string()))?;
        Ok(value)
    }

    /// Fixes the inputs' shapes, finds every other shape, optimises, orders: ready to run.
    ///
    /// `inputs` go by name and override what is open; without one, an input stays as exported.
    ///
    /// # Errors
    /// An input does not fit or stays open, the engine lacks an operator, would answer one wrongly,
    /// or gives up.
    pub fn prepare(self, inputs: &[PortSpec]) -> Result<Model, ModelError> {
        self.typed(inputs)?.optimised()
    }

    /// Fixes the inputs' shapes and finds every other shape; nothing is rewritten yet.
    pub(super) fn typed(self, inputs: &[PortSpec]) -> Result<Typed, ModelError> {
        if let Some(graph) = self.onnx_graph() {
            onnx::vet(&self.path, graph)?;
        }
        let specs = port::concretise(&self.path, &self.inputs, inputs)?;
        let Self { path, begun, outputs, graph, .. } = self;
        let model = match graph {
            Graph::Onnx(proto) => typed_onnx(&path, *proto, &specs)?,
            Graph::Nnef(model) => step(&path, Step::Type, || nnef::concretise(*model, &specs))?,
        };
        bounded(&path, &model)?;
        if let Some(why) = rehearsed::unable(&model) {
            return Err(ModelError::Unable { path, why });
        }
        let outputs = outputs.into_iter().map(|output| output.name).collect();
        Ok(Typed { path, begun, specs, outputs, model })
    }
}

/// Refuses a graph with a tensor that no board holds, before anything computes it.
fn bounded(path: &Path, model: &TypedModel) -> Result<(), ModelError> {
    for node in model.nodes() {
        if let Some(output) = node.outputs.iter().find(|output| !has_few_elements(&output.fact.shape)) {
            return Err(ModelError::NotAModel {
                path: path.to_owned(),
                why: format!(
                    "node {:?} makes a tensor of shape {:?}; at most {} elements are taken",
                    node.name,
                    output.fact.shape,
                    untrusted::graph::MAX_ELEMENTS
                ),
            });
        }
    }
    Ok(())
}

/// Whether a board holds a tensor of that shape. Beside a length of 0 the others count as well: the engine walks
/// along them.
pub(super) fn has_few_elements(shape: &ShapeFact) -> bool {
    let elements = shape.iter().try_fold(1_u64, |all, length| {
        all.checked_mul(length.to_usize().map_or(1, |length| length.max(1) as u64))
    });
    elements.is_some_and(|elements| elements <= untrusted::graph::MAX_ELEMENTS)
}

/// A graph in which every type and shape is known, as it was translated.
pub(super) struct Typed {
    path: PathBuf,
    begun: Instant,
    specs: Vec<PortSpec>,
    /// Names.
    outputs: Vec<String>,
    model: TypedModel,
}

impl Typed {
    /// Decluttered: the form that can be saved.
    pub(super) fn decluttered(self) -> Result<TypedModel, ModelError> {
        step(&self.path, Step::Optimise, || passes::to_save(self.model))
    }

    /// Decluttered for the daemon: the form that is prepared.
    pub(super) fn ready(self) -> Result<Ready, ModelError> {
        let Self { path, begun, specs, outputs, model } = self;
        let least = range::least(&model);
        let model = step(&path, Step::Optimise, || passes::apply(model))?;
        Ok(Ready { path, begun, specs, outputs, model, least })
    }

    /// Rewritten to the fastest operators: what the daemon runs.
    pub(super) fn optimised(self) -> Result<Model, ModelError> {
        let Self { path, begun, specs, outputs, model } = self;
        // Optimised, a function with a range may stand inside of another operator.
        let least = range::least(&model);
        let (optimised, weights_bytes) = step(&path, Step::Optimise, || passes::optimise(model))?;
        planned(path, begun, specs, &outputs, optimised, Known { weights_bytes, least })
    }

    /// As it was translated, operator by operator: a second opinion on the rewrites.
    pub(super) fn plain(self) -> Result<Model, ModelError> {
        let Self { path, begun, specs, outputs, model } = self;
        let least = range::least(&model);
        let mut model = step(&path, Step::Optimise, || passes::necessary(model))?;
        let weights_bytes = model::weights_bytes(&model);
        step(&path, Step::Optimise, || passes::in_place(&mut model))?;
        planned(path, begun, specs, &outputs, model, Known { weights_bytes, least })
    }
}

/// A decluttered graph, just before it is fitted to the processor.
pub(super) struct Ready {
    pub(super) path: PathBuf,
    pub(super) begun: Instant,
    pub(super) specs: Vec<PortSpec>,
    /// Names.
    pub(super) outputs: Vec<String>,
    pub(super) model: TypedModel,
    /// Of each output: see [`range`].
    pub(super) least: Vec<f64>,
}

impl Ready {
    /// Rewritten to the fastest operators.
    pub(super) fn lowered(self) -> Result<Model, ModelError> {
        let Self { path, begun, specs, outputs, model, least } = self;
        let (optimised, weights_bytes) = step(&path, Step::Optimise, || passes::lower(model))?;
        planned(path, begun, specs, &outputs, optimised, Known { weights_bytes, least })
    }
}

/// Orders the graph for execution; `outputs` are names.
fn planned(
    path: PathBuf,
    begun: Instant,
    specs: Vec<PortSpec>,
    outputs: &[String],
    model: TypedModel,
    known: Known,
) -> Result<Model, ModelError> {
    let plan = step(&path, Step::Plan, || TypedSimplePlan::new(model))?;
    let facts = step(&path, Step::Plan, || {
        (0..outputs.len()).map(|ix| plan.model().output_fact(ix).cloned()).collect::<TractResult<Vec<_>>>()
    })?;
    let outputs = outputs.iter().zip(&facts).map(|(name, fact)| nnef::port(name, fact)).collect();
    Ok(Model::new(path, plan, specs, outputs, known, begun.elapsed()))
}

/// Types and shapes of every tensor, from those of the inputs alone.
fn typed_onnx(path: &Path, mut proto: ModelProto, specs: &[PortSpec]) -> Result<TypedModel, ModelError> {
    let mut model = step(path, Step::Translate, || {
        let mut framework = operators::framework();
        if let Some(graph) = &mut proto.graph
            && whole_sums::rewrite(&framework, graph)?
        {
            operators::requantized::register(&mut framework);
        }
        let model = framework.model_for_proto_model(&proto)?;
        // The weights stand in the model now; a small board has no room for them twice.
        drop(proto);
        Ok(model)
    })?;
    step(path, Step::Type, || {
        for ix in 0..model.output_outlets()?.len() {
            model.set_output_fact(ix, InferenceFact::default())?;
        }
        // Behind the outputs: one may be an input as well.
        for (ix, spec) in specs.iter().enumerate() {
            let datum_type = convert::datum_type(spec.data_type);
            model.set_input_fact(ix, InferenceFact::dt_shape(datum_type, &*spec.shape))?;
        }
        model.into_typed()
    })
}

/// Runs one step of the engine; an error or a panic in it names the step.
fn step<T>(path: &Path, step: Step, work: impl FnOnce() -> TractResult<T>) -> Result<T, ModelError> {
    match caught(work) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(engine_error(path, step, &error)),
        Err(panic) => {
            Err(ModelError::Engine { path: path.to_owned(), step, source: EngineError::panicked(&panic) })
        }
    }
}

fn engine_error(path: &Path, step: Step, error: &tract_core::prelude::TractError) -> ModelError {
    ModelError::Engine { path: path.to_owned(), step, source: EngineError::of(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DataType;
    use crate::engine::sample::{self, Attribute};

    fn refused(change: impl FnOnce(&mut Card)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut card = sample::relu_layer().card(folder.path());
        change(&mut card);
        Model::load(&card).unwrap_err().to_string()
    }

    #[test]
    fn another_digest_is_refused_with_both_before_anything_is_parsed() {
        let message = refused(|card| {
            std::fs::write(card.folder.join("model.onnx"), b"not a model at all").unwrap();
        });
        assert!(message.contains("SHA-256 is ") && message.contains("the card says "), "{message}");
    }

    #[test]
    fn a_file_outside_the_folder_is_refused_unread() {
        for file in ["../model.onnx", "/etc/passwd", "sub/../../x.onnx", ""] {
            let message = refused(|card| card.graph.file = file.into());
            assert!(message.contains("must lie inside the model's folder"), "{file}: {message}");
        }
    }

    #[test]
    fn what_is_not_there_and_what_is_a_folder_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Verified::read(&folder.path().join("absent.onnx")).unwrap_err();
        assert!(matches!(missing, ModelError::Read { .. }), "{missing}");
        let directory = Verified::read(folder.path()).unwrap_err();
        assert!(matches!(directory, ModelError::NotAModelFolder { .. }), "{directory}");
    }

    #[test]
    fn a_card_that_contradicts_the_graph_is_refused_with_both() {
        let message = refused(|card| card.graph.inputs[0].shape = vec![1, 3]);
        assert!(message.contains("[1, 3]") && message.contains("[N, 2]"), "{message}");
        let message = refused(|card| card.graph.inputs[0].data_type = DataType::U8);
        assert!(message.contains("given as u8, the graph wants f32"), "{message}");
        let message = refused(|card| card.graph.inputs[0].name = "image".into());
        assert!(message.contains("no input \"image\"") && message.contains("\"x\""), "{message}");
    }

    #[test]
    fn a_graph_that_the_engine_gives_up_on_names_the_step() {
        let folder = tempfile::tempdir().unwrap();
        // 2 columns cannot be multiplied with 3 rows.
        let sample = sample::Sample::default()
            .input("x", DataType::F32, &[1, 2])
            .weights("w", &[3, 2], &[0.0; 6])
            .node("MatMul", &["x", "w"], &["y"], &[])
            .output("y");
        let error = Model::load(&sample.card(folder.path())).unwrap_err();
        assert!(matches!(error, ModelError::Engine { step: Step::Type, .. }), "{error}");
    }

    fn told(sample: &sample::Sample) -> String {
        let folder = tempfile::tempdir().unwrap();
        let error = Model::load(&sample.card(folder.path())).unwrap_err();
        let mut chain = vec![error.to_string()];
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            chain.push(error.to_string());
            cause = error.source();
        }
        chain.join(" | ")
    }

    fn four() -> sample::Sample {
        sample::Sample::default().input("x", DataType::F32, &[1, 1, 2, 2]).output("y")
    }

    #[test]
    fn what_constants_would_make_is_refused_by_its_shape_before_it_is_made() {
        let many = vec![1.0; 1_000];
        let outer = four()
            .weights("k", &[1_000], &many)
            .node("Einsum", &["k"; 4], &["q"], &[Attribute::Text("equation", "a,b,c,d->abcd")])
            .node("Mul", &["x", "q"], &["y"], &[]);
        let message = told(&outer);
        assert!(
            message.contains(r#"node "q" (Einsum) would make a tensor of [1000, 1000, 1000, 1000]"#),
            "{message}"
        );
        // Small enough to hold, too many to go through one by one.
        let slow = four()
            .weights("k", &[1_000], &many)
            .node("Einsum", &["k"; 3], &["q"], &[Attribute::Text("equation", "a,b,c->a")])
            .node("Mul", &["x", "q"], &["y"], &[]);
        assert!(told(&slow).contains("would multiply 1000000000 times"), "{}", told(&slow));
        let long = vec![1.0; 20_000];
        let wide = four()
            .weights("a", &[20_000, 1], &long)
            .weights("b", &[1, 20_000], &long)
            .node("Add", &["a", "b"], &["q"], &[])
            .node("Mul", &["x", "q"], &["y"], &[]);
        assert!(told(&wide).contains(r#"node "q" (Add) would make a tensor of [20000, 20000]"#));
    }

    #[test]
    fn a_panic_while_types_are_found_names_its_node() {
        let step = ["from", "to", "axis", "step"].map(|name| (name, i64::from(name == "to")));
        let slice = step.iter().fold(four(), |sample, (name, value)| sample.integers(name, &[*value]));
        let slice = slice.node("Slice", &["x", "from", "to", "axis", "step"], &["y"], &[]);
        let message = told(&slice);
        assert!(message.contains(r#"node "y" (Slice): attempt to divide by zero"#), "{message}");
    }

    #[test]
    fn an_output_that_is_an_input_as_well_is_handed_through() {
        let mut session = four().node("Relu", &["x"], &["y"], &[]).output("x").model().session();
        let input = Tensor::f32(&[1, 1, 2, 2], vec![-1.0, 2.0, -3.0, 4.0]);
        let outputs = session.run(&[&input]).unwrap();
        assert_eq!(outputs[0].as_f32(), Some(&[0.0, 2.0, 0.0, 4.0][..]));
        assert_eq!(outputs[1], input);
    }

    #[test]
    fn types_without_an_arithmetic_are_refused_at_load_with_their_node() {
        let of = |operator: &str, to: i64| {
            let sample = four().node("Cast", &["x"], &["d"], &[Attribute::Int("to", to)]);
            sample.node(operator, &["d"], &["y"], &[])
        };
        let (i64, f64) = (7, 11);
        let refusal = told(&of("Erf", i64));
        assert!(refusal.contains(r#"node "y" (Erf): Erf does not support I64"#), "{refusal}");
        for operator in ["Erf", "Sigmoid", "LeakyRelu", "HardSwish", "Round", "IsNaN", "IsInf"] {
            of(operator, f64).model();
        }
    }

    #[test]
    fn the_batch_that_was_asked_for_is_the_batch_that_runs() {
        let folder = tempfile::tempdir().unwrap();
        let card = sample::relu_layer().card(folder.path());
        let path = card.folder.join("model.onnx");
        let spec = PortSpec { shape: vec![7, 2], ..card.graph.inputs[0].clone() };
        let model = Model::open(&path, &[spec]).unwrap();
        assert_eq!(model.outputs()[0].shape(), Some(vec![7, 2]));
        let memory = model.memory().unwrap();
        assert!(memory.weights_bytes >= 24, "{memory:?}");
        assert!(memory.intermediates_bytes >= 2 * 7 * 2 * 4, "{memory:?}");
    }

    #[test]
    fn the_page_tells_what_stands_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let card = sample::relu_layer().card(folder.path());
        let page = Verified::of_card(&card).unwrap().parse().unwrap().page();
        assert_eq!((page.parameters, page.format), (6, "ONNX"));
        assert_eq!(page.operators.len(), 3);
        assert_eq!(page.metadata, [("names".to_owned(), "{0: 'ok'}".to_owned())]);
        assert_eq!(page.inputs[0].to_string(), "x f32 [N, 2]");
        assert_eq!(page.opsets, [(String::new(), 17)]);
    }

    #[test]
    fn nnef_gives_the_same_answers_as_the_onnx_that_it_came_from() {
        let folder = tempfile::tempdir().unwrap();
        let card = sample::relu_layer().card(folder.path());
        let proto = Verified::of_card(&card).unwrap().parse().unwrap();
        let Graph::Onnx(proto) = proto.graph else { panic!("a sample is ONNX") };
        let typed = typed_onnx(&card.folder, *proto, &card.graph.inputs).unwrap();
        let mut typed = typed.into_decluttered().unwrap();
        // tract writes quotes in metadata so that it cannot read them again.
        typed.properties.clear();
        let path = folder.path().join("model.nnef.tar");
        tract_nnef::nnef().write_to_tar(&typed, File::create(&path).unwrap()).unwrap();
        let model = Model::open(&path, &[]).unwrap();
        assert_eq!(model.inputs(), card.graph.inputs);
        let input = Tensor::f32(&[1, 2], vec![1.0, 1.0]);
        let output = model.session().run(&[&input]).unwrap().remove(0);
        assert_eq!(output.as_f32(), Some(&[0.0, 7.0][..]));
    }
}
