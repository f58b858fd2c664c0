//! `ai.onnx.ml.LinearClassifier` and `LinearRegressor`: `scores = x · coefficientsᵀ + intercepts`.
//!
//! Standard: ai.onnx.ml 1. Sums run in `f64` and are rounded once, to `f32`.
//!
//! One row of coefficients for two classes: the score decides by its sign and becomes two columns,
//! `[1 - s, s]`, or `[logistic(-s), logistic(s)]` with `LOGISTIC`, as in onnxruntime. Several rows:
//! the largest raw score decides, the first of equals; a first score that is NaN is never beaten.

use tract_core::internal::*;

use super::attributes::{Attributes, picked};
use super::kernel::{Fact, Kernel, matrix, tensor};
use super::post_transform::{PostTransform, logistic};

/// Rows of coefficients, each with its intercept.
#[derive(Debug)]
struct Weights {
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    columns: usize,
}

impl Weights {
    fn new(coefficients: Vec<f32>, intercepts: Vec<f32>) -> TractResult<Self> {
        let rows = intercepts.len();
        ensure!(
            rows > 0 && !coefficients.is_empty() && coefficients.len().is_multiple_of(rows),
            "{} coefficients do not make {rows} rows of equal length",
            coefficients.len()
        );
        let columns = coefficients.len() / rows;
        Ok(Self { coefficients, intercepts, columns })
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.coefficients) + size_of_val(&*self.intercepts)
    }

    /// Row-major, one column for each row of coefficients.
    fn scores(&self, input: &Tensor) -> TractResult<Vec<f32>> {
        let (_, columns) = matrix(input)?;
        ensure!(columns == self.columns, "the input has {columns} columns, not {}", self.columns);
        // Like onnxruntime, which rounds a wider input first.
        let input = input.cast_to::<f32>()?;
        let input = input.try_as_plain_ram()?;
        let rows = input.as_slice::<f32>()?.chunks_exact(self.columns);
        let weights = || self.coefficients.chunks_exact(self.columns).zip(&self.intercepts);
        Ok(rows
            .flat_map(|row| {
                weights().map(move |(coefficients, intercept)| {
                    let products =
                        row.iter().zip(coefficients).map(|(x, weight)| f64::from(*x) * f64::from(*weight));
                    (products.sum::<f64>() + f64::from(*intercept)) as f32
                })
            })
            .collect())
    }
}

#[derive(Debug)]
struct LinearRegressor {
    weights: Weights,
    post_transform: PostTransform,
}

pub(super) fn regressor(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let targets = attributes.int("targets")?.unwrap_or(1);
    let targets = usize::try_from(targets).ok().filter(|targets| (1..1 << 20).contains(targets));
    let targets = targets.context("targets must be at least 1")?;
    let mut intercepts = attributes.floats("intercepts")?;
    if intercepts.is_empty() {
        intercepts = vec![0.0; targets];
    }
    ensure!(intercepts.len() == targets, "there are {targets} targets and {} intercepts", intercepts.len());
    Ok(Arc::new(LinearRegressor {
        weights: Weights::new(attributes.floats("coefficients")?, intercepts)?,
        post_transform: PostTransform::parse(attributes.text("post_transform")?.as_deref())?,
    }))
}

impl Kernel for LinearRegressor {
    fn weights_bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("it takes one input") };
        ensure!(input.datum_type.is_number(), "its input is {:?}, not numbers", input.datum_type);
        input.expect_columns(self.weights.columns, true)?;
        Ok(tvec!(Fact::new(DatumType::F32, &[input.matrix()?.0, self.weights.intercepts.len().to_dim()])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let targets = self.weights.intercepts.len();
        let mut scores = self.weights.scores(&inputs[0])?;
        scores.chunks_exact_mut(targets).for_each(|row| self.post_transform.apply(row));
        Ok(tvec!(tensor(&[scores.len() / targets, targets], scores)?))
    }
}

#[derive(Debug)]
struct LinearClassifier {
    weights: Weights,
    labels: Tensor,
    post_transform: PostTransform,
}

pub(super) fn classifier(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let labels = attributes.labels("classlabels_ints", "classlabels_strings")?;
    let labels = labels.context("it has neither classlabels_ints nor classlabels_strings")?;
    let mut intercepts = attributes.floats("intercepts")?;
    if intercepts.is_empty() {
        intercepts = vec![0.0; labels.len()];
    }
    let rows = intercepts.len();
    ensure!(
        rows == labels.len() || (rows == 1 && labels.len() == 2),
        "there are {rows} rows of coefficients and {} labels",
        labels.len()
    );
    let post_transform = PostTransform::parse(attributes.text("post_transform")?.as_deref())?;
    ensure!(
        rows > 1 || post_transform != PostTransform::Probit,
        "PROBIT has no meaning for one score of two classes"
    );
    let weights = Weights::new(attributes.floats("coefficients")?, intercepts)?;
    Ok(Arc::new(LinearClassifier { weights, labels, post_transform }))
}

impl Kernel for LinearClassifier {
    fn weights_bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("it takes one input") };
        ensure!(input.datum_type.is_number(), "its input is {:?}, not numbers", input.datum_type);
        input.expect_columns(self.weights.columns, true)?;
        let rows = input.matrix()?.0;
        Ok(tvec!(
            Fact::new(self.labels.datum_type(), std::slice::from_ref(&rows)),
            Fact::new(DatumType::F32, &[rows, self.labels.len().to_dim()]),
        ))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let classes = self.labels.len();
        let raw = self.weights.scores(&inputs[0])?;
        let mut scores = Vec::with_capacity(raw.len().max(classes));
        let mut best = Vec::new();
        if self.weights.intercepts.len() < classes {
            for score in raw {
                best.push(usize::from(score > 0.0));
                scores.extend(match self.post_transform {
                    PostTransform::Logistic => [logistic(-score), logistic(score)],
                    _ => [1.0 - score, score],
                });
            }
        } else {
            for row in raw.chunks_exact(classes) {
                best.push(largest(row));
                scores.extend(row);
            }
            scores.chunks_exact_mut(classes).for_each(|row| self.post_transform.apply(row));
        }
        let labels = picked(&self.labels, &best, &[best.len()])?;
        Ok(tvec!(labels, tensor(&[best.len(), classes], scores)?))
    }
}

/// Place of the largest score, the first of equals.
pub(super) fn largest<T: PartialOrd>(scores: &[T]) -> usize {
    let mut best = 0;
    for (place, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = place;
        }
    }
    best
}
