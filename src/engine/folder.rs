//! A model as a person gives it on the command line: a bare file, or a folder with a card.

use std::path::Path;

use super::{Dim, Model, ModelError, Parsed, Verified};
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
    if !path.join("model.toml").is_file() {
        return Err(ModelError::NotAModelFolder { path: path.to_owned() });
    }
    let card = Card::read(path).map_err(|source| ModelError::Card { folder: path.to_owned(), source })?;
    Ok(Opened { graph: Parsed::of_card(&card)?, card: Some(card) })
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
        let pairs = |card: &Card, fits: fn(&[usize], &[usize]) -> bool| {
            given.iter().all(|spec| {
                let mut ports = card.graph.inputs.iter();
                ports.any(|port| port.name == spec.name && fits(&port.shape, &spec.shape))
            })
        };
        let size = sizes.iter().position(|size| pairs(size, |ours, theirs| ours == theirs));
        match size {
            Some(0) => return Ok(self),
            Some(nth) => return Ok(Self { graph: Parsed::of_card(&sizes[nth])?, ..self }),
            None => {}
        }
        let only_another_size =
            pairs(card, |ours, theirs| ours.len() == theirs.len() && ours.get(1..) == theirs.get(1..));
        let open = |dims: &Vec<Dim>| dims.first().is_some_and(|first| !matches!(first, Dim::Fixed(_)));
        let any_size =
            sizes.len() == 1 && self.graph.inputs().iter().all(|port| port.dims.as_ref().is_none_or(open));
        if !only_another_size || any_size {
            return Ok(self);
        }
        let shapes = |ports: &[PortSpec]| {
            let each = ports.iter().map(|port| format!("{} {:?}", port.name, port.shape));
            each.collect::<Vec<_>>().join(", ")
        };
        Err(ModelError::NotCompiled {
            folder: card.folder.clone(),
            given: shapes(given),
            sizes: sizes.iter().map(|size| shapes(&size.graph.inputs)).collect(),
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
