//! Every row down every tree, and what its leaves come to together.
//!
//! Sums run tree by tree in the thresholds' type, as in onnxruntime. Many rows go down a tree
//! together; a single row goes down many trees together.

use tract_core::internal::{TractResult, bail};

use super::Rows;
use super::forest::{Forest, LANES, Real};

/// How the trees' weights for one target become one score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    /// The sum, divided by the number of trees (by whoever adds the base values).
    Average,
    Min,
    Max,
}

impl Aggregate {
    pub(super) fn parse(name: Option<&str>) -> TractResult<Self> {
        Ok(match name.unwrap_or("SUM") {
            "SUM" => Self::Sum,
            "AVERAGE" => Self::Average,
            "MIN" => Self::Min,
            "MAX" => Self::Max,
            other => bail!("aggregate_function is {other:?}; it must be SUM, AVERAGE, MIN or MAX"),
        })
    }

    fn add<F: Real>(self, seen: bool, score: F, weight: F) -> F {
        match self {
            Self::Sum | Self::Average => score.plus(weight),
            Self::Min if !seen || weight < score => weight,
            Self::Max if !seen || weight > score => weight,
            Self::Min | Self::Max => score,
        }
    }
}

/// Rows whose readings stay in the nearest cache while all trees pass over them.
const ROWS_A_BLOCK: usize = 64;

pub(super) fn run<F: Real>(
    forest: &Forest<F>,
    input: &[F],
    rows: usize,
    columns: usize,
    aggregate: Aggregate,
) -> Rows<F> {
    let targets = forest.targets();
    let mut result =
        Rows { targets, scores: vec![F::default(); rows * targets], seen: vec![false; rows * targets] };
    let row = |index: usize| &input[index * columns..][..columns];
    let mut add = |row: usize, leaf: u32| {
        for (target, weight) in forest.contributions(leaf) {
            let at = row * targets + *target as usize;
            result.scores[at] = aggregate.add(result.seen[at], result.scores[at], *weight);
            result.seen[at] = true;
        }
    };
    // Rows in groups of lanes, each tree in turn.
    let grouped = rows - rows % LANES;
    for block in (0..grouped).step_by(ROWS_A_BLOCK) {
        let end = grouped.min(block + ROWS_A_BLOCK);
        for root in forest.roots() {
            for first in (block..end).step_by(LANES) {
                let leaves = forest.descend([*root; LANES], std::array::from_fn(|lane| row(first + lane)));
                leaves.into_iter().enumerate().for_each(|(lane, leaf)| add(first + lane, leaf));
            }
        }
    }
    // The rows left over one at a time, trees in groups of lanes.
    for index in grouped..rows {
        for roots in forest.roots().chunks(LANES) {
            // The last group is filled with its own first tree, whose leaf is then not counted again.
            let from = std::array::from_fn(|lane| roots.get(lane).copied().unwrap_or(roots[0]));
            let leaves = forest.descend(from, [row(index); LANES]);
            leaves[..roots.len()].iter().for_each(|leaf| add(index, *leaf));
        }
    }
    result
}
