//! What `ai.onnx.ml` does to raw scores: attribute `post_transform`.
//!
//! Arithmetic in `f32`, as the scores themselves. `PROBIT` is onnxruntime's approximation of the
//! inverse of the error function (Winitzki, a = 0.147), so that both give the same numbers.

use tract_core::internal::{TractResult, bail};

/// How raw scores become the scores that are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostTransform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    pub(super) fn parse(name: Option<&str>) -> TractResult<Self> {
        Ok(match name.unwrap_or("NONE") {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => bail!(
                "post_transform is {other:?}; it must be NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT"
            ),
        })
    }

    /// Transforms the scores of one row.
    pub(super) fn apply(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Softmax => softmax(scores, |_| true),
            // Scores of exactly nothing stay nothing: exp(0) would make something of them.
            Self::SoftmaxZero => softmax(scores, |score| score.abs() > 1e-7),
        }
    }
}

/// Without overflow on either side.
pub(super) fn logistic(score: f32) -> f32 {
    let positive = 1.0 / (1.0 + (-score.abs()).exp());
    if score < 0.0 { 1.0 - positive } else { positive }
}

fn probit(score: f32) -> f32 {
    const A: f32 = 0.147;
    let x = 2.0 * score - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / (std::f32::consts::PI * A) + 0.5 * log;
    let root = (-half + (half * half - log / A).sqrt()).sqrt();
    std::f32::consts::SQRT_2 * if x < 0.0 { -root } else { root }
}

fn softmax(scores: &mut [f32], counts: impl Fn(f32) -> bool) {
    let largest = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        if counts(*score) {
            *score = (*score - largest).exp();
            sum += *score;
        } else {
            *score *= (-largest).exp();
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(transform: PostTransform, scores: &[f32]) -> Vec<f32> {
        let mut scores = scores.to_vec();
        transform.apply(&mut scores);
        scores
    }

    #[test]
    fn softmax_holds_for_large_scores_and_softmax_zero_leaves_nothing_at_nothing() {
        assert_eq!(of(PostTransform::Softmax, &[1000.0, 1000.0]), [0.5, 0.5]);
        assert_eq!(of(PostTransform::SoftmaxZero, &[0.0, 3.0]), [0.0, 1.0]);
    }

    #[test]
    fn logistic_neither_overflows_nor_loses_its_tails() {
        assert_eq!(of(PostTransform::Logistic, &[0.0, 1000.0, -1000.0]), [0.5, 1.0, 0.0]);
    }

    #[test]
    fn probit_is_the_inverse_of_the_normal_distribution() {
        let [low, middle, high] = of(PostTransform::Probit, &[0.025, 0.5, 0.975])[..] else { panic!() };
        assert!((high - 1.96).abs() < 5e-3 && (low + high).abs() < 1e-5 && middle == 0.0);
        assert!(of(PostTransform::Probit, &[1.5])[0].is_nan());
    }

    #[test]
    fn a_score_that_is_not_a_number_stays_one() {
        for transform in [PostTransform::Softmax, PostTransform::Logistic, PostTransform::Probit] {
            assert!(of(transform, &[f32::NAN, 0.5])[0].is_nan(), "{transform:?}");
        }
    }
}
