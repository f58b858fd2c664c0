//! Scores as they are: `TreeEnsembleRegressor` and `TreeEnsemble`.
//!
//! `post_transform` is applied to however many targets there are. (onnxruntime 1.32 leaves a single
//! target alone unless it is `PROBIT`, and takes the numbers 1 and 2 of `TreeEnsemble`'s for each
//! other; no exporter writes either.) A target that no reached leaf speaks of is its base value.

use tract_core::internal::*;

use super::super::attributes::Attributes;
use super::super::kernel::{Fact, Kernel, tensor};
use super::super::post_transform::PostTransform;
use super::aggregate::Aggregate;
use super::forest::Real;
use super::{Rows, Scores, Trees, indexed, listed};

#[derive(Debug)]
struct Regressor {
    trees: Trees,
    targets: usize,
    aggregate: Aggregate,
    /// One for each target.
    base_values: Vec<f64>,
    post_transform: PostTransform,
    /// Whether the output has the input's type (`TreeEnsemble`), or is `f32`.
    of_input_type: bool,
}

pub(in super::super) fn regressor(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let targets = attributes.int("n_targets")?.and_then(|targets| usize::try_from(targets).ok());
    let targets = targets.context("n_targets must be given")?;
    let mut base_values = attributes.numbers("base_values")?;
    if base_values.is_empty() {
        base_values = vec![0.0; targets];
    }
    ensure!(
        base_values.len() == targets,
        "there are {targets} targets and {} base_values",
        base_values.len()
    );
    Ok(Arc::new(Regressor {
        trees: Trees::new(listed::read(attributes, "target", targets)?)?,
        targets,
        aggregate: Aggregate::parse(attributes.text("aggregate_function")?.as_deref())?,
        base_values,
        post_transform: PostTransform::parse(attributes.text("post_transform")?.as_deref())?,
        of_input_type: false,
    }))
}

pub(in super::super) fn ensemble(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Kernel>> {
    let parts = indexed::read(attributes)?;
    let aggregate = match attributes.int("aggregate_function")?.unwrap_or(1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => bail!("aggregate_function is {other}; it must be 0 to 3"),
    };
    let post_transform = match attributes.int("post_transform")?.unwrap_or(0) {
        0 => PostTransform::None,
        1 => PostTransform::Softmax,
        2 => PostTransform::Logistic,
        3 => PostTransform::SoftmaxZero,
        4 => PostTransform::Probit,
        other => bail!("post_transform is {other}; it must be 0 to 4"),
    };
    let targets = parts.targets;
    Ok(Arc::new(Regressor {
        trees: Trees::new(parts)?,
        targets,
        aggregate,
        base_values: vec![0.0; targets],
        post_transform,
        of_input_type: true,
    }))
}

impl Regressor {
    fn finished<F: Real>(&self, rows: Rows<F>) -> Vec<F> {
        let mut scores = rows.scores;
        let trees = F::of(self.trees.count() as f64);
        for row in scores.chunks_exact_mut(self.targets) {
            for (score, base) in row.iter_mut().zip(&self.base_values) {
                if self.aggregate == Aggregate::Average {
                    *score = F::of(score.wide() / trees.wide());
                }
                *score = score.plus(F::of(*base));
            }
            if self.post_transform != PostTransform::None {
                let mut narrow: Vec<f32> = row.iter().map(|score| score.narrow()).collect();
                self.post_transform.apply(&mut narrow);
                row.iter_mut().zip(narrow).for_each(|(score, narrow)| *score = F::of(f64::from(narrow)));
            }
        }
        scores
    }
}

impl Kernel for Regressor {
    fn weights_bytes(&self) -> usize {
        self.trees.bytes()
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = self.trees.rows(inputs)?;
        let wide = self.of_input_type && inputs[0].datum_type == DatumType::F64;
        let datum_type = if wide { DatumType::F64 } else { DatumType::F32 };
        Ok(tvec!(Fact::new(datum_type, &[rows, self.targets.to_dim()])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let wide = self.of_input_type && inputs[0].datum_type() == DatumType::F64;
        Ok(tvec!(match self.trees.scores(&inputs[0], self.aggregate)? {
            Scores::Narrow(rows) => {
                let scores = self.finished(rows);
                tensor(&[scores.len() / self.targets, self.targets], scores)?
            }
            Scores::Wide(rows) => {
                let scores = self.finished(rows);
                let shape = [scores.len() / self.targets, self.targets];
                match wide {
                    true => tensor(&shape, scores)?,
                    false => tensor(&shape, scores.into_iter().map(|score| score as f32).collect())?,
                }
            }
        }))
    }
}
