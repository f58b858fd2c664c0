//! A model as a person gives it on the command line: a bare file, or a folder with a card.

use std::path::Path;

use super::{Model, ModelError, Parsed, Verified};
use crate::config::Card;

/// A model's graph, with its card where it has one.
#[derive(Debug)]
pub struct Opened {
    /// Read and parsed; of a folder, verified against the card first.
    pub graph: Parsed,
    /// Only of a folder.
    pub card: Option<Card>,
}

/// Opens a `.onnx` or `.nnef.tgz` file, or a model folder.
///
/// # Errors
/// The card is wrong, or the graph (see [`ModelError`]).
pub fn open_any(path: &Path) -> Result<Opened, ModelError> {
    if !path.is_dir() {
        return Ok(Opened { graph: Verified::read(path)?.parse()?, card: None });
    }
    if !path.join("model.toml").is_file() {
        return Err(ModelError::NotAModelFolder { path: path.to_owned() });
    }
    let card = Card::read(path).map_err(|source| ModelError::Card { folder: path.to_owned(), source })?;
    Ok(Opened { graph: Parsed::of_card(&card)?, card: Some(card) })
}

impl Opened {
    /// Ready to run, with the card's shapes, or as exported.
    ///
    /// # Errors
    /// See [`Parsed::prepare`].
    pub fn prepare(self) -> Result<(Model, Option<Card>), ModelError> {
        let inputs = self.card.as_ref().map(|card| card.graph.inputs.clone()).unwrap_or_default();
        Ok((self.graph.prepare(&inputs)?, self.card))
    }
}
