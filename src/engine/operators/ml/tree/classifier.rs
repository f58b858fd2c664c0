//! Scores and the label: `TreeEnsembleClassifier`.
//!
//! Three or more classes, or two that leaves speak of both: scores are sums and base values, and the
//! largest raw score decides, the first of equals, among classes that a reached leaf spoke of (or
//! that have a base value).
//!
//! Two classes of which leaves speak of only one (what scikit-learn, LightGBM and XGBoost write) is
//! where the standard is silent; here it is onnxruntime's convention:
//!
//! - class id 0, none or one base value: the sum s is the second class's. All weights at least 0: it
//!   is a probability, s > 0.5 decides, scores `[1 - s, s]`. Else s > 0 decides, scores `[-s, s]`.
//!   `LOGISTIC` with either: `[logistic(-s), logistic(s)]`; the other transforms are not applied.
//! - class id 0, two base values: raw scores `[s + b₀, 0]`; s + b₀ decides by the same line, and b₁
//!   counts for nothing.
//! - class id 1, no base values: raw scores `[0, s]`; s decides by the same line.
//!
//! Base values in other numbers are refused: nothing says what they would mean.

use std::collections::BTreeSet;

use tract_core::internal::*;

use super::super::attributes::{Attributes, picked};
use super::super::kernel::{Fact, Kernel, tensor};
use super::super::linear::largest;
use super::super::post_transform::{PostTransform, logistic};
use super::aggregate::Aggregate;
use super::forest::Real;
use super::{Rows, Scores, Trees, listed};

#[derive(Debug)]
struct Classifier {
    trees: Trees,
    labels: Tensor,
    /// None, or one for each class (one in all, where [`Decision::Line`] has one class).
    base_values: Vec<f64>,
    decision: Decision,
    post_transform: PostTransform,
}

/// What makes the label.
#[derive(Clone, Copy, Debug)]
enum Decision {
    /// The largest score.
    Largest,
    /// One class's raw score against a line: above it the label is the second.
    Line { class: usize, line: f64, expand: bool },
}

pub(in super::super) fn classifier(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let labels = attributes.labels("classlabels_int64s", "classlabels_strings")?;
    let labels = labels.context("it has neither classlabels_int64s nor classlabels_strings")?;
    let classes = labels.len();
    let parts = listed::read(attributes, "class", classes)?;
    let spoken_of: BTreeSet<u32> = parts.leaves.iter().flatten().map(|(class, _)| *class).collect();
    let spoken_of: Vec<u32> = spoken_of.into_iter().collect();
    let all_positive = parts.leaves.iter().flatten().all(|(_, weight)| *weight >= 0.0);
    let post_transform = PostTransform::parse(attributes.text("post_transform")?.as_deref())?;
    let base_values = attributes.numbers("base_values")?;
    let decision = match (classes, &*spoken_of) {
        (2, &[class]) => {
            let line = if all_positive { 0.5 } else { 0.0 };
            Decision::Line { class: class as usize, line, expand: class == 0 && base_values.len() < 2 }
        }
        _ => Decision::Largest,
    };
    let fits = match decision {
        Decision::Line { class: 0, .. } => base_values.len() <= 2,
        Decision::Line { .. } => base_values.is_empty(),
        Decision::Largest => base_values.is_empty() || base_values.len() == classes,
    };
    ensure!(fits, "{} base_values for {classes} classes have no defined meaning here", base_values.len());
    ensure!(
        post_transform != PostTransform::Probit || !matches!(decision, Decision::Line { expand: true, .. }),
        "PROBIT has no meaning for one score of two classes"
    );
    let trees = Trees::new(parts)?;
    Ok(Arc::new(Classifier { trees, labels, base_values, decision, post_transform }))
}

impl Classifier {
    /// The label's place in each row, and the finished scores.
    fn finished<F: Real>(&self, rows: Rows<F>) -> (Vec<usize>, Vec<f32>) {
        let classes = rows.targets;
        let mut best = Vec::with_capacity(rows.scores.len() / classes);
        let mut finished = Vec::with_capacity(rows.scores.len());
        let mut scores = rows.scores;
        for (row, seen) in scores.chunks_exact_mut(classes).zip(rows.seen.chunks_exact(classes)) {
            let spoken_of = match self.decision {
                Decision::Line { class, .. } => class..class + 1,
                Decision::Largest => 0..classes,
            };
            for (score, base) in row[spoken_of].iter_mut().zip(&self.base_values) {
                *score = score.plus(F::of(*base));
            }
            best.push(match self.decision {
                Decision::Line { class, line, .. } => usize::from(row[class].wide() > line),
                Decision::Largest if !self.base_values.is_empty() => largest(row),
                Decision::Largest => largest_seen(row, seen),
            });
            match (self.decision, self.post_transform) {
                (Decision::Line { expand: true, .. }, PostTransform::Logistic) => {
                    let score = row[0].narrow();
                    finished.extend([logistic(-score), logistic(score)]);
                }
                (Decision::Line { expand: true, line, .. }, _) => {
                    let other = if line > 0.0 { 1.0 - row[0].wide() } else { -row[0].wide() };
                    finished.extend([other as f32, row[0].narrow()]);
                }
                _ => {
                    let from = finished.len();
                    finished.extend(row.iter().map(|score| score.narrow()));
                    self.post_transform.apply(&mut finished[from..]);
                }
            }
        }
        (best, finished)
    }
}

/// Place of the largest score that a leaf spoke of, the first of equals.
fn largest_seen<F: Real>(scores: &[F], seen: &[bool]) -> usize {
    let mut best: Option<usize> = None;
    for (place, score) in scores.iter().enumerate().filter(|(place, _)| seen[*place]) {
        if best.is_none_or(|best| *score > scores[best]) {
            best = Some(place);
        }
    }
    best.unwrap_or(0)
}

impl Kernel for Classifier {
    fn weights_bytes(&self) -> usize {
        self.trees.bytes()
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = self.trees.rows(inputs)?;
        Ok(tvec!(
            Fact::new(self.labels.datum_type(), std::slice::from_ref(&rows)),
            Fact::new(DatumType::F32, &[rows, self.labels.len().to_dim()]),
        ))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (best, scores) = match self.trees.scores(&inputs[0], Aggregate::Sum)? {
            Scores::Narrow(rows) => self.finished(rows),
            Scores::Wide(rows) => self.finished(rows),
        };
        let labels = picked(&self.labels, &best, &[best.len()])?;
        Ok(tvec!(labels, tensor(&[best.len(), self.labels.len()], scores)?))
    }
}
