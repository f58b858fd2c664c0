//! A graph saved as it stands just before it is fitted to the processor: nothing left to infer, nothing left to
//! declutter. Loading it takes a fraction of what loading its ONNX file takes.
//!
//! ```text
//! lineside 0.1.0 prepared 1, tract 0.23.9 ⏎     who reads it; another version makes its own
//! postcard of `Content`                         what it was made for, and the graph
//! SHA-256 of all before, 32 bytes
//! ```
//!
//! Promise: the file beside a graph's, which is verified all the same, is used where it was made from this very graph,
//! for these shapes and fixed inputs, by this version, and is whole; else the graph itself is loaded, and the model
//! says why. Golden cases hold for both. A file of which bytes were changed is never read
//! further than its digest; one that was made with evil intent can do what an evil ONNX file can: be refused.
//! Not here: what is done to the graph before (`passes::apply`) and behind (`passes::lower`).

mod graph;
mod operator;
mod value;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tract_core::prelude::{OutletId, TypedModel};

use super::caught::caught;
use super::load::{MAX_FILE_BYTES, Parsed, Ready};
use super::{Model, ModelError, TRACT_VERSION, convert, digest};
use crate::base::Tensor;
use crate::base::words::in_words;
use crate::config::Card;
use crate::config::card::PortSpec;

/// Counts up between two versions when [`Content`] changes its form, or a pass what it makes of a graph.
const FORM: u32 = 1;

/// The first line of a file that this version reads.
fn first_line() -> String {
    format!("lineside {} prepared {FORM}, tract {TRACT_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

/// Why a prepared file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is there and cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is of another version of the engine, or no such file at all.
    #[error("it was not written by this version")]
    Version,
    /// Bytes of it are missing or changed.
    #[error("it is damaged")]
    Damaged,
    /// It was made from another graph, or for other shapes or fixed inputs.
    #[error("it was made from another graph, or for other shapes or fixed inputs than the card's")]
    Stale,
    /// The engine does not take it.
    #[error("the engine does not take it: {0}")]
    Refused(String),
}

/// What stands in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Content<'a> {
    made_for: [u8; digest::BYTES],
    /// Names.
    outputs: Vec<String>,
    /// Of each output: see `range`.
    least: Vec<f64>,
    #[serde(borrow)]
    graph: graph::Graph<'a>,
}

/// What a folder's prepared files came to.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Those that were written, one a batch size.
    pub files: Vec<PathBuf>,
    /// Graphs that have none, by their file, and why.
    pub without: Vec<(PathBuf, String)>,
}

/// Prepares the graph of a card, in each of its batch sizes, and removes what was prepared before.
///
/// # Errors
/// A graph cannot be loaded at all, or a file not written.
pub fn prepare(card: &Card) -> Result<Prepared, ModelError> {
    let mut prepared = Prepared::default();
    for size in card.sizes() {
        let typed = Parsed::of_card(&size)?.typed(&size.graph.inputs)?;
        match content(typed.ready()?, made_for(&size)) {
            Ok(bytes) => {
                let path = path_of(&size);
                let failed = |source| ModelError::Write { path: path.clone(), source };
                let new = path.with_extension(format!("new-{}", process::id()));
                let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
                written.inspect_err(|_| drop(fs::remove_file(&new))).map_err(failed)?;
                prepared.files.push(path);
            }
            Err(why) => prepared.without.push((size.graph.file, why)),
        }
    }
    for old in earlier(card).into_iter().filter(|old| !prepared.files.contains(old)) {
        fs::remove_file(&old).map_err(|source| ModelError::Write { path: old, source })?;
    }
    Ok(prepared)
}

/// The prepared graph of a card; `None` where there is none.
pub(super) fn load(card: &Card, begun: Instant) -> Result<Option<Model>, Unfit> {
    let path = path_of(card);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        // A link that leads nowhere is one that somebody made, and wants to hear of.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // A pipe would be waited for.
    if !metadata.is_file() {
        return Err(Unfit::Read(io::ErrorKind::InvalidInput.into()));
    }
    let mut file = File::open(&path)?;
    let first_line = first_line();
    let mut bytes = Vec::new();
    file.by_ref().take(first_line.len() as u64).read_to_end(&mut bytes)?;
    if bytes != first_line.as_bytes() {
        return Err(Unfit::Version);
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(Unfit::Damaged);
    }
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let ready = read(path, bytes, begun, made_for(card), &card.graph.inputs)?;
    ready.lowered().map(Some).map_err(|error| Unfit::Refused(in_words(&error)))
}

/// What stands in a file of this version, if it was made for this.
fn read(
    path: PathBuf,
    bytes: Vec<u8>,
    begun: Instant,
    made_for: [u8; digest::BYTES],
    inputs: &[PortSpec],
) -> Result<Ready, Unfit> {
    let Some((whole, sum)) = bytes.split_last_chunk::<{ digest::BYTES }>() else {
        return Err(Unfit::Damaged);
    };
    if digest::sha256(whole) != *sum {
        return Err(Unfit::Damaged);
    }
    let body = whole.get(first_line().len()..).ok_or(Unfit::Damaged)?;
    let refused = |why: String| Unfit::Refused(why);
    let content: Content<'_> = postcard::from_bytes(body).map_err(|error| refused(error.to_string()))?;
    if content.made_for != made_for {
        return Err(Unfit::Stale);
    }
    let model = caught(|| content.graph.model()).map_err(refused)?;
    let model = model.map_err(|error| refused(format!("{error:#}")))?;
    let specs = specs(&model, inputs).ok_or(Unfit::Stale)?;
    Ok(Ready { path, begun, specs, outputs: content.outputs, model, least: content.least })
}

/// What stands in the file; fails in words.
fn content(ready: Ready, made_for: [u8; digest::BYTES]) -> Result<Vec<u8>, String> {
    let Ready { outputs, mut model, least, .. } = ready;
    graph::settle_names(&mut model);
    let content = Content { made_for, outputs, least, graph: graph::Graph::of(&model)? };
    let bytes =
        postcard::to_extend(&content, first_line().into_bytes()).map_err(|error| error.to_string())?;
    let sum = digest::sha256(&bytes);
    Ok([bytes.as_slice(), &sum].concat())
}

/// Where the prepared graph of a card's size lies: `model.1x3x64x64.prepared`, beside the graph, named after the
/// shapes of its inputs.
fn path_of(card: &Card) -> PathBuf {
    let shape = |input: &PortSpec| input.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let shapes = card.graph.inputs.iter().map(shape).collect::<Vec<_>>().join("_");
    card.folder.join(format!("{}{shapes}.{ENDING}", stem(card)))
}

const ENDING: &str = "prepared";

/// Whether a file is a prepared graph, by its name.
pub(super) fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == ENDING)
}

/// What the names of a card's prepared files begin with.
fn stem(card: &Card) -> String {
    let file = card.graph.file.file_name().unwrap_or_default().to_string_lossy();
    format!("{}.", file.split('.').next().unwrap_or_default())
}

/// The prepared files of a folder.
fn earlier(card: &Card) -> Vec<PathBuf> {
    let entries = card.folder.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_one(path)).collect()
}

/// What of a card decides how its graph is prepared.
fn made_for(card: &Card) -> [u8; digest::BYTES] {
    let mut words = card.graph.sha256.trim().to_ascii_lowercase();
    let mut port = |port: &PortSpec, value: Option<&Tensor>| {
        let PortSpec { name, data_type, shape } = port;
        words += &format!("\n{name:?} {data_type} {shape:?} {value:?}");
    };
    card.graph.inputs.iter().for_each(|input| port(input, None));
    card.graph.fixed.iter().for_each(|(input, value)| port(input, Some(value)));
    digest::sha256(words.as_bytes())
}

/// A card's inputs in the order of the graph's; `None` where they are not the same.
fn specs(model: &TypedModel, inputs: &[PortSpec]) -> Option<Vec<PortSpec>> {
    let of = |outlet: &OutletId| {
        let name = &model.node(outlet.node).name;
        let spec = inputs.iter().find(|input| input.name == *name)?;
        let fact = model.outlet_fact(*outlet).ok()?;
        let fits = convert::datum_type(spec.data_type) == fact.datum_type
            && fact.shape.as_concrete() == Some(spec.shape.as_slice());
        fits.then(|| spec.clone())
    };
    let specs: Vec<PortSpec> = model.inputs.iter().map(of).collect::<Option<_>>()?;
    (specs.len() == inputs.len()).then_some(specs)
}

#[cfg(test)]
mod tests;
