//! `ai.onnx.ml.TreeEnsembleClassifier`, `TreeEnsembleRegressor` and `TreeEnsemble`.
//!
//! ```text
//! attributes ─► Parts (branches, leaves, roots) ─► Forest (flat) ─► leaf of each tree ─► scores
//! listed, indexed                                  forest           aggregate            classifier, regressor
//! ```
//!
//! Standard: the two older operators at ai.onnx.ml 1 and 3 (`listed`: nodes by tree and node id), the
//! newer at 5 (`indexed`: nodes by index, set membership). Thresholds are compared in `f32`, or in
//! `f64` when the input is; that is what onnxruntime does. A NaN goes to the false branch, or
//! where `nodes_missing_value_tracks_true` says so to the true one; with `BRANCH_NEQ` it is unequal.

mod aggregate;
mod classifier;
mod forest;
mod indexed;
mod listed;
mod parts;
mod regressor;

pub(super) use classifier::classifier;
pub(super) use regressor::{ensemble, regressor};

use std::sync::OnceLock;

use tract_core::internal::*;

use super::kernel::{Fact, matrix};
use aggregate::Aggregate;
use forest::{Forest, Real};
use parts::Parts;

/// A forest in the precision of its thresholds; the wider one is made when the input asks for it.
#[derive(Debug)]
enum Trees {
    Narrow { forest: Forest<f32>, widened: OnceLock<Forest<f64>> },
    Wide(Forest<f64>),
}

/// Raw scores of all rows, `[rows, targets]`, in the precision that they were summed in.
enum Scores {
    Narrow(Rows<f32>),
    Wide(Rows<f64>),
}

/// Scores row by row, with which of them any tree spoke of.
struct Rows<F> {
    targets: usize,
    scores: Vec<F>,
    seen: Vec<bool>,
}

impl Trees {
    fn new(parts: Parts) -> TractResult<Self> {
        Ok(match parts.wide {
            true => Self::Wide(Forest::new(parts)?),
            false => Self::Narrow { forest: Forest::new(parts)?, widened: OnceLock::new() },
        })
    }

    /// Of both precisions, where both are in use.
    fn bytes(&self) -> usize {
        match self {
            Self::Narrow { forest, widened } => forest.bytes() + widened.get().map_or(0, Forest::bytes),
            Self::Wide(forest) => forest.bytes(),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Narrow { forest, .. } => forest.trees(),
            Self::Wide(forest) => forest.trees(),
        }
    }

    /// Rows of the output; fails when the input cannot be used.
    fn rows(&self, inputs: &[Fact]) -> TractResult<TDim> {
        let [input] = inputs else { bail!("it takes one input") };
        ensure!(input.datum_type.is_number(), "its input is {:?}, not numbers", input.datum_type);
        let columns = match self {
            Self::Narrow { forest, .. } => forest.columns(),
            Self::Wide(forest) => forest.columns(),
        };
        input.expect_columns(columns, false)?;
        Ok(input.matrix()?.0)
    }

    fn scores(&self, input: &Tensor, aggregate: Aggregate) -> TractResult<Scores> {
        match self {
            Self::Narrow { forest, .. } if input.datum_type() != DatumType::F64 => {
                Ok(Scores::Narrow(scores(forest, input, aggregate)?))
            }
            Self::Narrow { forest, widened } => {
                let forest = widened.get_or_init(|| forest.widened());
                Ok(Scores::Wide(scores(forest, input, aggregate)?))
            }
            Self::Wide(forest) => Ok(Scores::Wide(scores(forest, input, aggregate)?)),
        }
    }
}

fn scores<F: Real>(forest: &Forest<F>, input: &Tensor, aggregate: Aggregate) -> TractResult<Rows<F>> {
    let (rows, columns) = matrix(input)?;
    ensure!(
        columns >= forest.columns(),
        "the input has {columns} columns, the trees look at {}",
        forest.columns()
    );
    let input = input.cast_to::<F>()?;
    let input = input.try_as_plain_ram()?;
    Ok(aggregate::run(forest, input.as_slice::<F>()?, rows, columns, aggregate))
}
