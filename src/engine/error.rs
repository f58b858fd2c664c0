//! Why a model cannot be used, and why one run of it failed.
//!
//! A [`ModelError`] is found while a model is opened, never later; each names the file, what was
//! seen, what would do. An [`InferError`] costs the frame that met it and nothing else.
//! Not here: exit codes (`cli`), what happens to the frame (`stage::infer`).

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::base::{DataType, Reason};

/// Why a model file or folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system would not give us the file.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder stands where a file should, and it is not a model folder.
    #[error(
        "{} is a folder without a model.toml; give a model folder, an .onnx file or an .nnef.tgz file",
        path.display()
    )]
    NotAModelFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder was compiled for other batch sizes.
    #[error(
        "{}: there is no graph for {given}; it was compiled for {}: give one of these, or compile it for this size \
         as well, with `lineside compile … --batch`",
        folder.display(), sizes.join(" or ")
    )]
    NotCompiled {
        /// The folder.
        folder: PathBuf,
        /// The shapes that were given.
        given: String,
        /// The shapes that there are graphs for.
        sizes: Vec<String>,
    },
    /// The card's file leaves its folder.
    #[error(
        "{}: graph.file is {}; it must lie inside the model's folder, without `..` and not absolute",
        folder.display(), file.display()
    )]
    FileEscapes {
        /// The model's folder.
        folder: PathBuf,
        /// What the card says.
        file: PathBuf,
    },
    /// More bytes than we are ready to hold.
    #[error("{} is {bytes} bytes; at most {max_bytes} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The cap.
        max_bytes: u64,
    },
    /// The bytes are not those that the card was written for. Nothing was parsed.
    #[error(
        "{}: SHA-256 is {seen}, the card says {expected}; copy the folder again, or correct graph.sha256 \
         if the model was changed on purpose",
        path.display()
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// Computed from its bytes.
        seen: String,
        /// From the card.
        expected: String,
    },
    /// A file beside the graph cannot be written.
    #[error("{}: it cannot be written; see who may write in that folder, and whether the disk is full", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Another version of the engine wrote the file.
    #[error(
        "{}: it was written by {writer}, this is tract {}, which reads files of its own 0.N series up to its \
         own version only; compile the model again with this version of lineside",
        path.display(), super::TRACT_VERSION
    )]
    Writer {
        /// The file.
        path: PathBuf,
        /// As the card says.
        writer: String,
    },
    /// The bytes are no model.
    #[error("{} is not a model that can be read: {why}", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What it looks like instead, or where it breaks off.
        why: String,
    },
    /// Weights outside the file: never followed.
    #[error(
        "{}: tensor {tensor:?} keeps its data in another file ({location:?}); save the model with all \
         weights inside one file (onnx.save_model(…, save_as_external_data=False))",
        path.display()
    )]
    ExternalData {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where its data would be.
        location: String,
    },
    /// Operators that the engine does not have.
    #[error("{}: the engine does not have {}", path.display(), operators.join(", "))]
    UnknownOperators {
        /// The file.
        path: PathBuf,
        /// Each operator with the first node that uses it.
        operators: Vec<String>,
    },
    /// An operator that the engine has, and not for the types that the graph gives it.
    #[error("{}: the engine cannot run {why}", path.display())]
    Unable {
        /// The file.
        path: PathBuf,
        /// The node, and what it said.
        why: String,
    },
    /// Operators that the engine has and would answer wrongly, without a word.
    #[error("{}: refused, because the answers would be wrong: {}", path.display(), refusals.join("; "))]
    WouldBeWrong {
        /// The file.
        path: PathBuf,
        /// Node, condition, reason and remedy of each.
        refusals: Vec<String>,
    },
    /// What was given does not fit the graph's inputs.
    #[error("{}: {}", path.display(), mismatches.join("; "))]
    Inputs {
        /// The file.
        path: PathBuf,
        /// Each with what was seen and what is expected.
        mismatches: Vec<String>,
    },
    /// Axes without a length.
    #[error(
        "{}: {}; every length must be known before the graph is optimised, so give each of these inputs \
         a whole shape",
        path.display(), open.join(", ")
    )]
    OpenShape {
        /// The file.
        path: PathBuf,
        /// Each input with its shape as exported.
        open: Vec<String>,
    },
    /// The engine gave up on the graph.
    #[error("{}: the engine cannot {step} this model", path.display())]
    Engine {
        /// The file.
        path: PathBuf,
        /// What it was doing.
        step: Step,
        /// What it said.
        source: EngineError,
    },
    /// A golden case does not come out.
    #[error(
        "{model}: golden case {case}: output-{output} differs at element {index}: ours {ours}, theirs {theirs}, \
         a relative difference of {relative:.3e} where the card accepts {tolerance:.3e}; do not use this \
         model here before the reason is known"
    )]
    Golden {
        /// The model's name.
        model: String,
        /// The case's folder.
        case: String,
        /// Which output, in the graph's order.
        output: usize,
        /// Flat index of the worst element.
        index: usize,
        /// What the engine answered.
        ours: Box<str>,
        /// What is on file.
        theirs: Box<str>,
        /// |ours − theirs| ÷ largest |theirs|.
        relative: f64,
        /// The card's tolerance.
        tolerance: f64,
    },
    /// A file of a golden case is missing or contradicts the graph.
    #[error("{}: {seen}; expected {expected}", file.display())]
    GoldenFile {
        /// The file.
        file: PathBuf,
        /// What it is.
        seen: String,
        /// What it should be.
        expected: String,
    },
    /// A `.npy` file cannot be read.
    #[error("{} cannot be taken as an array", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: super::npy::NpyError,
    },
    /// A golden case could not be run at all.
    #[error("{model}: golden case {case} cannot be run")]
    GoldenRun {
        /// The model's name.
        model: String,
        /// The case's folder.
        case: String,
        /// Why.
        source: Box<InferError>,
    },
    /// The folder's card is wrong.
    #[error("{} cannot be used because of its card", folder.display())]
    Card {
        /// The model's folder.
        folder: PathBuf,
        /// Every complaint.
        source: crate::config::Complaints,
    },
}

/// What the engine was doing with a graph when it gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Building its graph from the file's.
    Translate,
    /// Finding type and shape of every tensor.
    Type,
    /// Rewriting it to faster operators.
    Optimise,
    /// Ordering it for execution.
    Plan,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Translate => "translate",
            Self::Type => "find types and shapes in",
            Self::Optimise => "optimise",
            Self::Plan => "order",
        })
    }
}

/// What the engine said, cut to a length that a person reads, with its causes.
#[derive(Debug)]
pub struct EngineError {
    message: String,
    cause: Option<Box<EngineError>>,
}

impl EngineError {
    // The engine prints whole nodes, weights included, into some messages.
    const MAX_CHARS: usize = 400;

    /// From a chain of messages, outermost first.
    pub(super) fn new(chain: impl IntoIterator<Item = String>) -> Self {
        let mut messages: Vec<String> = chain.into_iter().map(|text| shorten(&text)).collect();
        let mut error = Self { message: messages.pop().unwrap_or_default(), cause: None };
        while let Some(message) = messages.pop() {
            error = Self { message, cause: Some(Box::new(error)) };
        }
        error
    }

    /// From the engine's own error.
    pub(super) fn of(error: &tract_core::prelude::TractError) -> Self {
        Self::new(error.chain().map(ToString::to_string))
    }

    /// From an operator's panic.
    pub(super) fn panicked(message: &str) -> Self {
        Self::new([format!("an operator panicked: {message}")])
    }
}

fn shorten(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(EngineError::MAX_CHARS) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// Why one run gave no scores. The session can be used again after each of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// Not as many tensors as the graph has inputs.
    #[error("{seen} input tensors were given, the graph has {expected}: {}", names.join(", "))]
    InputCount {
        /// How many came.
        seen: usize,
        /// How many there are.
        expected: usize,
        /// Their names, in order.
        names: Vec<String>,
    },
    /// Another element type.
    #[error("input {name:?} is {seen}, the graph wants {expected}")]
    InputType {
        /// The input.
        name: String,
        /// What came.
        seen: DataType,
        /// What the graph has.
        expected: DataType,
    },
    /// Another shape, or not as many elements as the shape says.
    #[error("input {name:?} has shape {seen:?} with {elements} elements, the graph wants {expected:?}")]
    InputShape {
        /// The input.
        name: String,
        /// What came.
        seen: Vec<usize>,
        /// How many elements it holds.
        elements: usize,
        /// What the graph has.
        expected: Vec<usize>,
    },
    /// An operator gave an error.
    #[error("the engine failed on this input")]
    Failed {
        /// What it said.
        source: EngineError,
    },
    /// An operator panicked; the engine's state was thrown away.
    #[error("an operator of the model panicked on this input: {message}")]
    Panicked {
        /// The panic's message and place.
        message: String,
    },
}

impl InferError {
    /// The one reason under which it is counted.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Panicked { .. } => Reason::InferPanicked,
            Self::InputCount { .. }
            | Self::InputType { .. }
            | Self::InputShape { .. }
            | Self::Failed { .. } => Reason::InferFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_of_the_engine_is_cut_and_keeps_its_causes() {
        let error = EngineError::new(["x ".repeat(10_000), "why".to_owned()]);
        assert_eq!(error.to_string().chars().count(), EngineError::MAX_CHARS + 1);
        assert_eq!(error.source().map(ToString::to_string), Some("why".to_owned()));
    }

    #[test]
    fn only_a_panic_is_counted_as_a_panic() {
        let panicked = InferError::Panicked { message: String::new() };
        assert_eq!(panicked.reason(), Reason::InferPanicked);
        let failed = InferError::Failed { source: EngineError::panicked("") };
        assert_eq!(failed.reason(), Reason::InferFailed);
    }
}
