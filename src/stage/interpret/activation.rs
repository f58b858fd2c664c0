//! Raw scores to probabilities.
//!
//! Promise: whatever the logits, infinite ones included, softmax gives numbers in [0, 1] whose sum
//! is 1, and sigmoid numbers in [0, 1]; both keep the order of the scores.
//! Not here: NaN, which is refused before (`scores`).

use crate::config::card::Activation;

/// Applies `activation` in place. NaN must not be among the scores.
pub(super) fn apply(activation: Activation, scores: &mut [f64]) {
    match activation {
        Activation::None => {}
        Activation::Softmax => softmax(scores),
        Activation::Sigmoid => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
    }
}

/// 1 ÷ (1 + e⁻ˣ), without overflow on either side.
pub(super) fn sigmoid(logit: f64) -> f64 {
    // exp of a positive number could overflow; of a negative one it fades to 0.
    if logit >= 0.0 {
        1.0 / (1.0 + (-logit).exp())
    } else {
        let e = logit.exp();
        e / (1.0 + e)
    }
}

fn softmax(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // inf − inf is NaN: where the largest is infinite (all at −∞, or some at +∞), its holders share.
    if largest.is_infinite() {
        scores.iter_mut().for_each(|score| *score = f64::from(u8::from(*score == largest)));
    } else {
        scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
    }
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn softmaxed(logits: &[f64]) -> Vec<f64> {
        let mut scores = logits.to_vec();
        apply(Activation::Softmax, &mut scores);
        scores
    }

    proptest! {
        #[test]
        fn softmax_sums_to_one_and_keeps_order(
            logits in prop::collection::vec(any::<f32>().prop_filter("no NaN", |v| !v.is_nan()), 1..50),
        ) {
            let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
            let scores = softmaxed(&logits);
            prop_assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{scores:?}");
            for (i, a) in scores.iter().enumerate() {
                prop_assert!((0.0..=1.0).contains(a));
                for (j, b) in scores.iter().enumerate() {
                    prop_assert!(logits[i] < logits[j] || a >= b);
                }
            }
        }

        #[test]
        fn softmax_does_not_care_for_a_common_offset(
            logits in prop::collection::vec(-50.0..50.0_f64, 1..20), offset in -500.0..500.0_f64,
        ) {
            let moved: Vec<f64> = logits.iter().map(|v| v + offset).collect();
            for (a, b) in softmaxed(&logits).iter().zip(softmaxed(&moved)) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }

        #[test]
        fn sigmoid_stays_in_its_range_and_mirrors(logit in any::<f64>().prop_filter("no NaN", |v| !v.is_nan())) {
            let p = sigmoid(logit);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert!((p + sigmoid(-logit) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn infinite_logits_share_or_vanish() {
        assert_eq!(softmaxed(&[f64::INFINITY, 3.0, f64::INFINITY]), [0.5, 0.0, 0.5]);
        assert_eq!(softmaxed(&[f64::NEG_INFINITY, 3.0]), [0.0, 1.0]);
        assert_eq!(softmaxed(&[f64::NEG_INFINITY; 4]), [0.25; 4]);
    }

    #[test]
    fn known_values_are_met() {
        let scores = softmaxed(&[1.0, 2.0, 3.0]);
        let known = [0.090_030_573_170_380_46, 0.244_728_471_054_797_64, 0.665_240_955_774_821_9];
        for (score, known) in scores.iter().zip(known) {
            assert!((score - known).abs() < 1e-15);
        }
        assert_eq!(sigmoid(0.0), 0.5);
        assert!((sigmoid(-2.0) - 0.119_202_922_022_117_57).abs() < 1e-15);
    }
}
