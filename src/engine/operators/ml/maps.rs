//! `ai.onnx.ml.ZipMap` and `DictVectorizer`: maps, carried as matrices.
//!
//! Standard: ai.onnx.ml 1. A map from class to score is a row of scores whose class order is known,
//! and that is what stands for it here: `[N, classes]`, in the order of the node's own labels. So
//! ZipMap hands its input on, and DictVectorizer's input (a dictionary of readings, which the graph
//! takes from outside) is a row with one column for each word of its vocabulary, absent ones 0.

use tract_core::internal::*;

use super::attributes::Attributes;
use super::kernel::{Fact, Kernel};

/// Rows with one column for each key.
#[derive(Debug)]
struct MapAsMatrix {
    keys: usize,
}

pub(super) fn zip_map(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let labels = attributes.labels("classlabels_int64s", "classlabels_strings")?;
    let labels = labels.context("it has neither classlabels_int64s nor classlabels_strings")?;
    Ok(Arc::new(MapAsMatrix { keys: labels.len() }))
}

pub(super) fn dict_vectorizer(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let vocabulary = attributes.labels("int64_vocabulary", "string_vocabulary")?;
    let vocabulary = vocabulary.context("it has neither int64_vocabulary nor string_vocabulary")?;
    Ok(Arc::new(MapAsMatrix { keys: vocabulary.len() }))
}

impl Kernel for MapAsMatrix {
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("it takes one input") };
        let (rows, columns) = input.matrix()?;
        if let Ok(columns) = columns.to_usize() {
            ensure!(columns == self.keys, "its input has {columns} columns, it has {} keys", self.keys);
        }
        Ok(tvec!(Fact::new(input.datum_type, &[rows, columns])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = inputs[0].clone().into_tensor();
        let shape = [input.len() / self.keys.max(1), self.keys];
        Ok(tvec!(input.into_shape(&shape)?))
    }
}
