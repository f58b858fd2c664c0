//! Scores by label: one of several ([`Class`]), or any number at once ([`Labels`]).
//!
//! Promise: scores are published in the card's order; of equal scores the first label wins.
//! Not here: where in a picture something is (detections).

use core::ops::Range;

use super::{Decision, InterpretError, SetupError, activation, check_names, scores, wanted_row};
use crate::base::{Scored, Tensor, Verdict};
use crate::config::card::Activation;

/// Fires from here on, where neither card nor pipeline says otherwise.
const DEFAULT_LABEL_THRESHOLD: f32 = 0.5;

/// One label of several.
#[derive(Clone, Debug)]
pub(super) struct Class {
    names: Names,
    activation: Activation,
}

/// Where the scores of a [`Class`] stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One for each label.
    Each(Range<usize>),
    /// One for two labels: the second one's probability.
    Second(Range<usize>),
}

/// Labels, and which of them do no harm.
#[derive(Clone, Debug)]
struct Names {
    labels: Vec<String>,
    passes: Vec<bool>,
}

impl Names {
    fn new(labels: &[String], pass: &[String]) -> Result<Self, SetupError> {
        check_names("labels", labels.iter().map(String::as_str))?;
        if let Some(name) = pass.iter().find(|name| !labels.contains(name)) {
            return Err(SetupError::UnknownPass { name: name.clone(), labels: labels.to_vec() });
        }
        let passes = labels.iter().map(|label| pass.contains(label)).collect();
        Ok(Self { labels: labels.to_vec(), passes })
    }

    /// The scores of labels that are not in `pass`.
    fn harmful<'a>(&'a self, scores: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        scores.iter().zip(&self.passes).filter(|(_, passes)| !**passes).map(|(score, _)| *score)
    }

    fn scored(&self, scores: &[f64]) -> Vec<(String, f32)> {
        self.labels.iter().cloned().zip(scores.iter().map(|score| *score as f32)).collect()
    }
}

impl Class {
    pub(super) fn new(
        labels: &[String],
        pass: &[String],
        activation: Activation,
        decision: Decision,
    ) -> Result<Self, SetupError> {
        let names = Names::new(labels, pass)?;
        if let (Some(value), true) = (decision.threshold, pass.is_empty()) {
            return Err(SetupError::ThresholdUnused {
                value,
                place: "on a classification without `pass`, which gives no verdict",
                remedy: "name the labels that are in order under `pass`, or leave the threshold out",
            });
        }
        Ok(Self { names, activation })
    }

    pub(super) fn layout(&self, shape: &[usize]) -> Option<Layout> {
        let n = self.names.labels.len();
        let one_for_two = n == 2 && self.activation != Activation::Softmax;
        // [2, 1] is two scores, or two steps of one: refused rather than guessed.
        if one_for_two && shape.len() > 1 && shape[0] == 2 && shape[1..].iter().all(|&len| len == 1) {
            return None;
        }
        scores::last_row(shape, n)
            .map(Layout::Each)
            .or_else(|| one_for_two.then(|| scores::last_row(shape, 1)).flatten().map(Layout::Second))
    }

    pub(super) fn wanted(&self) -> String {
        let row = wanted_row(self.names.labels.len(), "one for each label");
        match (&self.names.labels[..], self.activation) {
            ([_, second], Activation::None | Activation::Sigmoid) => {
                format!("{row}; or 1 element, the probability of `{second}`")
            }
            _ => row,
        }
    }

    pub(super) fn interpret(
        &self,
        tensor: &Tensor,
        layout: Layout,
        name: &str,
        decision: Decision,
    ) -> Result<(Verdict, Scored), InterpretError> {
        let scores = match layout {
            Layout::Each(row) => activated(self.activation, tensor, row, name)?,
            Layout::Second(row) => {
                let p = activated(self.activation, tensor, row, name)?[0];
                // Rounding may leave a probability a little outside; a logit or a class number is far off.
                if !(-1e-6..=1.0 + 1e-6).contains(&p) {
                    return Err(InterpretError::NotProbability { tensor: name.into(), value: p });
                }
                let p = p.clamp(0.0, 1.0);
                vec![1.0 - p, p]
            }
        };
        let scored = self.names.scored(&scores);
        // Compared as published, so that what a reader sees explains the choice; the first of equals stays.
        let mut best = 0;
        for (i, (_, score)) in scored.iter().enumerate() {
            if *score > scored[best].1 {
                best = i;
            }
        }
        let verdict = if self.names.passes.iter().any(|passes| *passes) {
            let deciding = self.names.harmful(&scores).sum::<f64>() as f32;
            let by_label = if self.names.passes[best] { Verdict::Pass } else { Verdict::Fail };
            decision.on(deciding).unwrap_or(by_label)
        } else {
            Verdict::None
        };
        let (label, score) = scored[best].clone();
        Ok((verdict, Scored::Class { label, score, scores: scored }))
    }
}

/// Any number of labels at once.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    names: Names,
    activation: Activation,
    /// One a label.
    thresholds: Vec<f32>,
}

impl Labels {
    pub(super) fn new(
        labels: &[String],
        pass: &[String],
        activation: Activation,
        thresholds: Option<&[f32]>,
        decision: Decision,
    ) -> Result<Self, SetupError> {
        let names = Names::new(labels, pass)?;
        let thresholds = match (thresholds, decision.threshold) {
            (None, common) => vec![common.unwrap_or(DEFAULT_LABEL_THRESHOLD); labels.len()],
            (Some(_), Some(value)) => {
                return Err(SetupError::ThresholdUnused {
                    value,
                    place: "where the card has `thresholds`, one for each label",
                    remedy: "change those, or leave one of the two out",
                });
            }
            (Some(own), None) => own.to_vec(),
        };
        if thresholds.len() != labels.len() {
            return Err(SetupError::ThresholdCount { found: thresholds.len(), expected: labels.len() });
        }
        if let Some(i) = thresholds.iter().position(|threshold| !threshold.is_finite()) {
            return Err(SetupError::Number {
                key: format!("thresholds[{i}]"),
                value: thresholds[i].into(),
                rule: "a finite number",
            });
        }
        Ok(Self { names, activation, thresholds })
    }

    pub(super) fn layout(&self, shape: &[usize]) -> Option<Range<usize>> {
        scores::last_row(shape, self.names.labels.len())
    }

    pub(super) fn wanted(&self) -> String {
        wanted_row(self.names.labels.len(), "one for each label")
    }

    /// Fails when a harmful label fires outside the uncertain band: one clear fault is not made
    /// doubtful by a second, doubtful one.
    pub(super) fn interpret(
        &self,
        tensor: &Tensor,
        row: Range<usize>,
        name: &str,
        decision: Decision,
    ) -> Result<(Verdict, Scored), InterpretError> {
        let scores = self.names.scored(&activated(self.activation, tensor, row, name)?);
        let mut fired: Vec<(&String, f32)> = Vec::new();
        let mut verdict = Verdict::Pass;
        for (((label, score), threshold), passes) in
            scores.iter().zip(&self.thresholds).zip(&self.names.passes)
        {
            let fires = score >= threshold;
            if fires {
                fired.push((label, *score));
            }
            if !passes && decision.is_uncertain(*score) && verdict == Verdict::Pass {
                verdict = Verdict::Uncertain;
            } else if !passes && fires && !decision.is_uncertain(*score) {
                verdict = Verdict::Fail;
            }
        }
        fired.sort_by(|a, b| b.1.total_cmp(&a.1));
        let labels = fired.into_iter().map(|(label, _)| label.clone()).collect();
        Ok((verdict, Scored::Labels { labels, scores }))
    }
}

fn activated(
    activation: Activation,
    tensor: &Tensor,
    row: Range<usize>,
    name: &str,
) -> Result<Vec<f64>, InterpretError> {
    let start = row.start;
    let mut scores = scores::read(tensor, row, name)?;
    activation::apply(activation, &mut scores);
    // As f32, because that is what is published: a large f64 would become infinite there.
    match scores.iter().position(|score| !(*score as f32).is_finite()) {
        Some(i) => Err(InterpretError::NotFinite { tensor: name.into(), index: start + i, value: scores[i] }),
        None => Ok(scores),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{image, output, seen};
    use super::super::{Interpreter, SetupError};
    use super::*;
    use crate::base::Data;
    use crate::config::card::OutputKind;
    use proptest::prelude::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).into()).collect()
    }

    fn class(labels: &[&str], pass: &[&str], activation: Activation) -> OutputKind {
        OutputKind::Classification { labels: strings(labels), pass: strings(pass), activation }
    }

    fn multi(pass: &[&str], thresholds: Option<Vec<f32>>) -> OutputKind {
        OutputKind::MultiLabel {
            labels: strings(&["twist", "heat", "note"]),
            pass: strings(pass),
            activation: Activation::None,
            thresholds,
        }
    }

    fn new(kind: OutputKind, threshold: Option<f32>, band: Option<(f32, f32)>) -> Interpreter {
        Interpreter::new(&output(kind), &image(), threshold, band).unwrap()
    }

    fn run(interpreter: &Interpreter, tensor: &Tensor) -> Result<(Verdict, Scored), InterpretError> {
        interpreter.interpret(tensor, &seen(&[]), &mut interpreter.fresh())
    }

    fn verdict(interpreter: &Interpreter, scores: &[f32]) -> Verdict {
        run(interpreter, &Tensor::f32(&[1, scores.len()], scores.to_vec())).unwrap().0
    }

    fn label(scored: Scored) -> (String, f32) {
        match scored {
            Scored::Class { label, score, .. } => (label, score),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_threshold_the_best_label_decides_and_without_pass_nothing_does() {
        let decided = new(class(&["ok", "dent", "scratch"], &["ok"], Activation::None), None, None);
        // The faults together outweigh `ok`, but no single one does.
        assert_eq!(verdict(&decided, &[0.4, 0.3, 0.3]), Verdict::Pass);
        assert_eq!(verdict(&decided, &[0.3, 0.4, 0.3]), Verdict::Fail);
        let plain = new(class(&["ok", "dent", "scratch"], &[], Activation::None), None, None);
        assert_eq!(verdict(&plain, &[0.3, 0.4, 0.3]), Verdict::None);
    }

    #[test]
    fn with_a_threshold_the_sum_of_all_faults_decides() {
        let kind = class(&["ok", "dent", "scratch"], &["ok"], Activation::None);
        assert_eq!(verdict(&new(kind.clone(), Some(0.5), None), &[0.4, 0.3, 0.3]), Verdict::Fail);
        assert_eq!(verdict(&new(kind.clone(), Some(0.7), None), &[0.4, 0.3, 0.3]), Verdict::Pass);
        // At the threshold is over it.
        assert_eq!(verdict(&new(kind, Some(0.5), None), &[0.5, 0.25, 0.25]), Verdict::Fail);
    }

    #[test]
    fn the_uncertain_band_holds_both_its_ends() {
        let judge = new(class(&["ok", "dent"], &["ok"], Activation::None), Some(0.5), Some((0.25, 0.75)));
        assert_eq!(verdict(&judge, &[0.75, 0.25]), Verdict::Uncertain);
        assert_eq!(verdict(&judge, &[0.25, 0.75]), Verdict::Uncertain);
        assert_eq!(verdict(&judge, &[0.76, 0.24]), Verdict::Pass);
        assert_eq!(verdict(&judge, &[0.24, 0.76]), Verdict::Fail);
    }

    #[test]
    fn of_equal_scores_the_first_label_wins() {
        let judge = new(class(&["a", "b", "c"], &[], Activation::Softmax), None, None);
        let (_, scored) = run(&judge, &Tensor::f32(&[3], vec![1.0, 2.0, 2.0])).unwrap();
        assert_eq!(label(scored).0, "b");
    }

    #[test]
    fn quantised_scores_and_steps_are_read() {
        let judge = new(class(&["a", "b"], &["a"], Activation::Softmax), None, None);
        let steps = Tensor { shape: vec![2, 1, 2], data: Data::I8(vec![127, -128, -128, 127]) };
        assert_eq!(label(run(&judge, &steps).unwrap().1), ("b".into(), 1.0));
    }

    #[test]
    fn one_sigmoid_score_for_two_labels_is_the_second_ones_probability() {
        let judge = new(class(&["ok", "bad"], &["ok"], Activation::Sigmoid), None, None);
        let (verdict, scored) = run(&judge, &Tensor::f32(&[1, 1], vec![2.0])).unwrap();
        assert_eq!(verdict, Verdict::Fail);
        let Scored::Class { label, score, scores } = scored else { panic!("{scored:?}") };
        assert_eq!((label.as_str(), score), ("bad", 0.880_797_1));
        assert_eq!(scores[0], ("ok".into(), 0.119_202_92));

        let plain = new(class(&["ok", "bad"], &["ok"], Activation::None), None, None);
        assert_eq!(run(&plain, &Tensor::f32(&[1], vec![0.2])).unwrap().0, Verdict::Pass);
        let logit = run(&plain, &Tensor::f32(&[1], vec![-3.5])).unwrap_err();
        assert!(logit.to_string().contains("activation = \"sigmoid\""), "{logit}");

        // Softmax over one number is always 1: never a verdict.
        let soft = new(class(&["ok", "bad"], &["ok"], Activation::Softmax), None, None);
        assert!(run(&soft, &Tensor::f32(&[1, 1], vec![2.0])).is_err());
        // Two scores of one row, or two steps of one score?
        assert!(run(&judge, &Tensor::f32(&[2, 1], vec![2.0, -2.0])).is_err());
        assert!(run(&judge, &Tensor::f32(&[1, 2], vec![2.0, -2.0])).is_ok());
    }

    #[test]
    fn infinite_scores_pass_through_softmax_and_nowhere_else() {
        let tensor = Tensor::f32(&[1, 2], vec![f32::INFINITY, 0.0]);
        let soft = new(class(&["a", "b"], &[], Activation::Softmax), None, None);
        assert_eq!(label(run(&soft, &tensor).unwrap().1), ("a".into(), 1.0));
        let plain = new(class(&["a", "b"], &[], Activation::None), None, None);
        assert!(matches!(run(&plain, &tensor), Err(InterpretError::NotFinite { index: 0, .. })));
        let huge = Tensor { shape: vec![2], data: Data::F64(vec![0.0, 1e300]) };
        assert!(matches!(run(&plain, &huge), Err(InterpretError::NotFinite { index: 1, .. })));
        let nan = Tensor::f32(&[1, 2], vec![0.0, f32::NAN]);
        assert!(matches!(run(&soft, &nan), Err(InterpretError::NotFinite { index: 1, .. })));
    }

    #[test]
    fn labels_fire_each_on_its_own_threshold_best_first() {
        let judge = new(multi(&["note"], Some(vec![0.9, 0.2, 0.5])), None, None);
        let (verdict, scored) = run(&judge, &Tensor::f32(&[1, 3], vec![0.8, 0.3, 0.7])).unwrap();
        let Scored::Labels { labels, .. } = scored else { panic!("{scored:?}") };
        assert_eq!(labels, ["note", "heat"]);
        assert_eq!(verdict, Verdict::Fail);
    }

    #[test]
    fn only_harmful_labels_make_a_frame_fail() {
        let judge = new(multi(&["note"], None), None, None);
        assert_eq!(verdict(&judge, &[0.1, 0.2, 0.9]), Verdict::Pass);
        assert_eq!(verdict(&judge, &[0.5, 0.2, 0.9]), Verdict::Fail); // 0.5: the default, at it is over it
        let strict = new(multi(&["note"], None), Some(0.15), None);
        assert_eq!(verdict(&strict, &[0.1, 0.2, 0.9]), Verdict::Fail);
    }

    #[test]
    fn a_clear_fault_is_not_made_doubtful_by_a_doubtful_one() {
        let judge = new(multi(&["note"], None), None, Some((0.4, 0.6)));
        assert_eq!(verdict(&judge, &[0.55, 0.1, 0.0]), Verdict::Uncertain);
        assert_eq!(verdict(&judge, &[0.95, 0.45, 0.0]), Verdict::Fail);
        assert_eq!(verdict(&judge, &[0.45, 0.95, 0.0]), Verdict::Fail);
        assert_eq!(verdict(&judge, &[0.1, 0.1, 0.5]), Verdict::Pass); // `note` does no harm
    }

    #[test]
    fn a_card_that_cannot_be_followed_is_refused_in_words() {
        let refuse = |kind, threshold| {
            Interpreter::new(&output(kind), &image(), threshold, None).unwrap_err().to_string()
        };
        assert!(refuse(class(&[], &[], Activation::None), None).contains("no labels"));
        let twice = refuse(class(&["crane", "cat", "crane"], &[], Activation::None), None);
        assert_eq!(
            twice,
            "[output] names `crane` twice, at positions 0 and 2; give each score a name of its own"
        );
        let pass = refuse(class(&["ok", "bad"], &["good"], Activation::None), None);
        assert_eq!(pass, "[output] pass names `good`, which is no label; the labels are ok, bad");
        assert!(refuse(class(&["ok", "bad"], &[], Activation::None), Some(0.5)).contains("no effect"));
        assert!(refuse(multi(&[], Some(vec![0.5])), None).contains("1 values for 3 labels"));
        assert!(refuse(multi(&[], Some(vec![0.5, f32::NAN, 0.5])), None).contains("thresholds[1]"));
        assert!(matches!(
            Interpreter::new(&output(multi(&[], Some(vec![0.5; 3]))), &image(), Some(0.7), None),
            Err(SetupError::ThresholdUnused { .. })
        ));
    }

    fn strictness(verdict: Verdict) -> u8 {
        u8::from(verdict == Verdict::Fail)
    }

    proptest! {
        #[test]
        fn a_lower_threshold_never_turns_a_fail_into_a_pass(
            logits in prop::collection::vec(-20.0..20.0_f32, 3),
            low in 0.0..1.0_f32, step in 0.0..1.0_f32, multi_label: bool,
        ) {
            let kind = if multi_label { multi(&["note"], None) } else {
                class(&["twist", "heat", "note"], &["note"], Activation::Softmax)
            };
            let strict = verdict(&new(kind.clone(), Some(low), None), &logits);
            let lax = verdict(&new(kind, Some(low + step), None), &logits);
            prop_assert!(strictness(strict) >= strictness(lax), "{strict:?} {lax:?}");
        }

        #[test]
        fn softmax_scores_sum_to_one_as_published_and_the_label_is_their_largest(
            logits in prop::collection::vec(-1e30..1e30_f32, 1..40),
        ) {
            let names: Vec<String> = (0..logits.len()).map(|i| format!("l{i}")).collect();
            let kind = OutputKind::Classification { labels: names, pass: vec![], activation: Activation::Softmax };
            let (_, scored) = run(&new(kind, None, None), &Tensor::f32(&[logits.len()], logits)).unwrap();
            let Scored::Class { label, score, scores } = scored else { panic!("{scored:?}") };
            prop_assert!((scores.iter().map(|(_, s)| f64::from(*s)).sum::<f64>() - 1.0).abs() < 1e-5);
            prop_assert!(scores.iter().all(|(_, s)| *s <= score));
            prop_assert_eq!(&scores.iter().find(|(_, s)| *s == score).unwrap().0, &label);
        }
    }
}
