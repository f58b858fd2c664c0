//! A model as a person gives it on the command line: a bare file, or a folder with a card.

use std::path::Path;

use super::{Model, ModelError, Parsed, Verified};
use crate::config::Card;
use crate::config::card::PortSpec;

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
    let card = card(path)?;
    Ok(Opened { graph: Parsed::of_card(&card)?, card: Some(card) })
}

/// The card of a model folder, which may leave open where its inputs come from.
///
/// # Errors
/// It is no such folder, or its card is wrong.
pub fn card(folder: &Path) -> Result<Card, ModelError> {
    if !folder.join("model.toml").is_file() {
        return Err(ModelError::NotAModelFolder { path: folder.to_owned() });
    }
    // A folder just compiled can be asked before its card says where each input comes from.
    Card::read_for_arrays(folder).map_err(|source| ModelError::Card { folder: folder.to_owned(), source })
}

impl Opened {
    /// The graph for inputs of these shapes: of a card with several batch sizes, the one that was made for
    /// them.
    ///
    /// # Errors
    /// The card has no such size, or that graph cannot be read. What has other axes altogether is left for
    /// [`Parsed::prepare`] to refuse.
    pub fn for_inputs(self, given: &[PortSpec]) -> Result<Self, ModelError> {
        let Some(card) = &self.card else { return Ok(self) };
        let sizes = card.sizes();
        let of = |size: &Card, name: &str| -> Option<Vec<usize>> {
            size.graph.inputs.iter().find(|port| port.name == name).map(|port| port.shape.clone())
        };
        let is_for =
            |size: &Card| given.iter().all(|spec| of(size, &spec.name).as_ref() == Some(&spec.shape));
        match sizes.iter().position(is_for) {
            Some(0) => return Ok(self),
            Some(nth) => return Ok(Self { graph: Parsed::of_card(&sizes[nth])?, ..self }),
            None => {}
        }
        // The batch is the first axis, and any in which the sizes differ.
        let only_another_size = given.iter().all(|spec| {
            let shapes: Vec<Vec<usize>> = sizes.iter().filter_map(|size| of(size, &spec.name)).collect();
            let Some((own, others)) = shapes.split_first() else { return false };
            let is_batch = |axis: usize| axis == 0 || others.iter().any(|other| other[axis] != own[axis]);
            own.len() == spec.shape.len()
                && (0..own.len()).all(|axis| own[axis] == spec.shape[axis] || is_batch(axis))
        });
        // One size, and a graph that is open still: whatever it takes.
        let any_size = sizes.len() == 1 && self.graph.inputs().iter().any(|port| port.shape().is_none());
        if !only_another_size || any_size {
            return Ok(self);
        }
        Err(ModelError::NotCompiled {
            folder: card.folder.clone(),
            given: PortSpec::shapes_in_words(given),
            sizes: sizes.iter().map(|size| PortSpec::shapes_in_words(&size.graph.inputs)).collect(),
        })
    }

    /// Ready to run, with the card's shapes, or as exported.
    ///
    /// # Errors
    /// See [`Parsed::prepare`].
    pub fn prepare(self) -> Result<(Model, Option<Card>), ModelError> {
        let inputs = self.card.as_ref().map(|card| card.graph.inputs.clone()).unwrap_or_default();
        Ok((self.graph.prepare(&inputs)?, self.card))
    }
}
