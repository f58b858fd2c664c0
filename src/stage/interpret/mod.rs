//! Scores to verdict: what the model's numbers mean for the part on the line.
//!
//! Promise: a verdict rests on finite numbers of the shape that the card describes, or there is
//! none and the frame is lost under [`Reason::BadScores`]; an error leaves the origin's state as it
//! was. What the card asks for and cannot be had is refused at boot ([`Interpreter::new`],
//! [`Interpreter::fits`]), not at the first frame.
//! Not here: running the model, writing the prediction. Detections and masks will be files beside
//! these, and variants of `Rule`.

mod activation;
mod anomaly;
mod classes;
mod scores;
mod values;

use crate::base::{Features, Reason, Scored, Tensor, Verdict};
use crate::config::card::{self, OutputKind, PortSpec};

pub use anomaly::InterpretState;

/// Why a card's `[output]` cannot be followed. Found at boot, never later.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SetupError {
    /// No label, or no target: nothing could be said.
    #[error("[output] has no {0}; name one for each score, in the order of the scores")]
    Nothing(&'static str),
    /// Two scores under one name: the later would hide the earlier in the published object.
    #[error(
        "[output] names `{name}` twice, at positions {first} and {second}; give each score a name of its own"
    )]
    Twice {
        /// The name.
        name: String,
        /// Its first position, from 0.
        first: usize,
        /// Its second one.
        second: usize,
    },
    /// `pass` names a label that does not exist.
    #[error("[output] pass names `{name}`, which is no label; the labels are {}", labels.join(", "))]
    UnknownPass {
        /// What `pass` says.
        name: String,
        /// What there is.
        labels: Vec<String>,
    },
    /// As many thresholds as labels, or none.
    #[error("[output] thresholds holds {found} values for {expected} labels; give one for each")]
    ThresholdCount {
        /// Thresholds given.
        found: usize,
        /// Labels.
        expected: usize,
    },
    /// A threshold that nothing would be compared with must not look as if it worked.
    #[error("a threshold of {value} has no effect {place}; {remedy}")]
    ThresholdUnused {
        /// The threshold.
        value: f32,
        /// Where it would be ignored.
        place: &'static str,
        /// What decides there.
        remedy: &'static str,
    },
    /// A number that no comparison can use.
    #[error("[output] {key} is {value}; it must be {rule}")]
    Number {
        /// Which.
        key: String,
        /// As given.
        value: f64,
        /// What would do.
        rule: &'static str,
    },
    /// A range whose ends are the wrong way round, or no numbers.
    #[error("[output] {key} is [{low}, {high}]; it must be [low, high] with low at most high")]
    Range {
        /// Which.
        key: &'static str,
        /// Its first number.
        low: f64,
        /// Its second one.
        high: f64,
    },
    /// `of` names a channel that the features do not have.
    #[error("[output] of names `{name}`, which the features do not have; they have {}", known.join(", "))]
    UnknownColumn {
        /// What `of` says.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A forecast must say what it forecasts.
    #[error(
        "[output] frames_ahead is {frames_ahead} and `of` is empty; name the channels that the model forecasts"
    )]
    ForecastOfNothing {
        /// As given.
        frames_ahead: usize,
    },
}

/// Why scores are no basis for a verdict. It costs the frame; the origin's state stays as it was.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InterpretError {
    /// The output's element type is text.
    #[error("output `{tensor}` holds text; a verdict needs numbers (name the score tensor in the card)")]
    Text {
        /// The output.
        tensor: String,
    },
    /// The tensor holds fewer elements than its shape says.
    #[error("output `{tensor}` has shape {shape:?} and {elements} elements; the two do not fit")]
    Torn {
        /// The output.
        tensor: String,
        /// As it says.
        shape: Vec<usize>,
        /// As counted.
        elements: usize,
    },
    /// Not the shape that the card describes.
    #[error("output `{tensor}` has shape {shape:?}; the card wants {wanted}")]
    Shape {
        /// The output.
        tensor: String,
        /// As seen.
        shape: Vec<usize>,
        /// What would do.
        wanted: String,
    },
    /// NaN, or an infinity that no activation turns into a number.
    #[error("scores `{tensor}` hold {value} at element {index}; a verdict needs finite numbers")]
    NotFinite {
        /// The output.
        tensor: String,
        /// Which element, from 0.
        index: usize,
        /// NaN or an infinity.
        value: f64,
    },
    /// One score for two labels that is no probability.
    #[error(
        "scores `{tensor}` hold {value}, which is no probability; for a logit the card says activation = \"sigmoid\""
    )]
    NotProbability {
        /// The output.
        tensor: String,
        /// As seen.
        value: f64,
    },
    /// What came cannot be held against what was expected.
    #[error("{what} is {value}; it cannot be held against what the model expected")]
    Observed {
        /// The channel, or the input's element.
        what: String,
        /// As seen; NaN when there was none.
        value: f64,
    },
}

impl InterpretError {
    /// The name under which the frame is counted as lost.
    pub const fn reason(&self) -> Reason {
        Reason::BadScores
    }
}

/// A card's `[output]`, ready to be used; shared by all workers.
#[derive(Clone, Debug)]
pub struct Interpreter {
    tensor: String,
    rule: Rule,
    decision: Decision,
}

/// What the scores mean.
#[derive(Clone, Debug)]
enum Rule {
    Class(classes::Class),
    Labels(classes::Labels),
    Values(values::Values),
    Anomaly(anomaly::Anomaly),
}

/// Threshold and uncertain band.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Decision {
    threshold: Option<f32>,
    uncertain: Option<(f32, f32)>,
}

impl Decision {
    fn is_uncertain(&self, score: f32) -> bool {
        self.uncertain.is_some_and(|(low, high)| (low..=high).contains(&score))
    }

    /// The verdict on a score that fails at or over the threshold; `None` without a threshold.
    fn on(&self, score: f32) -> Option<Verdict> {
        if self.is_uncertain(score) {
            return Some(Verdict::Uncertain);
        }
        self.threshold.map(|threshold| if score >= threshold { Verdict::Fail } else { Verdict::Pass })
    }
}

impl Interpreter {
    /// Checks `output` against itself and against the card's `features`. `threshold` and
    /// `uncertain` replace those of the card.
    ///
    /// # Errors
    /// [`SetupError`], in words for whoever wrote the card or the pipeline.
    pub fn new(
        output: &card::Output,
        features: &card::Features,
        threshold: Option<f32>,
        uncertain: Option<(f32, f32)>,
    ) -> Result<Self, SetupError> {
        let decision =
            Decision { threshold: threshold.or(output.threshold), uncertain: uncertain.or(output.uncertain) };
        if let Some(threshold) = decision.threshold.filter(|t| !t.is_finite()) {
            return Err(SetupError::Number {
                key: "threshold".into(),
                value: threshold.into(),
                rule: "a finite number",
            });
        }
        if let Some((low, high)) = decision.uncertain {
            check_range("uncertain", low.into(), high.into())?;
        }
        let rule = match &output.kind {
            OutputKind::Classification { labels, pass, activation } => {
                Rule::Class(classes::Class::new(labels, pass, *activation, decision)?)
            }
            OutputKind::MultiLabel { labels, pass, activation, thresholds } => Rule::Labels(
                classes::Labels::new(labels, pass, *activation, thresholds.as_deref(), decision)?,
            ),
            OutputKind::Regression { targets, range } => {
                Rule::Values(values::Values::new(targets, *range, decision)?)
            }
            OutputKind::Anomaly { by } => Rule::Anomaly(anomaly::Anomaly::new(by, features)?),
        };
        Ok(Self { tensor: output.tensor.clone(), rule, decision })
    }

    /// Graph output that holds the scores.
    pub fn tensor(&self) -> &str {
        &self.tensor
    }

    /// The threshold in force, the pipeline's before the card's.
    pub const fn threshold(&self) -> Option<f32> {
        self.decision.threshold
    }

    /// What an origin starts with.
    pub fn fresh(&self) -> InterpretState {
        InterpretState::default()
    }

    /// Whether the graph's output can be read as the card says; for boot, before the first frame.
    ///
    /// # Errors
    /// What was seen and what the card wants, in words.
    pub fn fits(&self, output: &PortSpec) -> Result<(), String> {
        if output.data_type == crate::base::DataType::Text {
            return Err(InterpretError::Text { tensor: output.name.clone() }.to_string());
        }
        let found = match &self.rule {
            Rule::Class(class) => class.layout(&output.shape).is_some(),
            Rule::Labels(labels) => labels.layout(&output.shape).is_some(),
            Rule::Values(values) => values.layout(&output.shape).is_some(),
            Rule::Anomaly(anomaly) => anomaly.layout(&output.shape).is_some(),
        };
        if found { Ok(()) } else { Err(self.wrong_shape(&output.name, &output.shape).to_string()) }
    }

    /// The verdict on one frame, and what it rests on. `features` are those that gave `scores`;
    /// `state` belongs to the frame's origin and changes only on success.
    ///
    /// # Errors
    /// [`InterpretError`]: the scores are no basis for a verdict.
    pub fn interpret(
        &self,
        scores: &Tensor,
        features: &Features,
        state: &mut InterpretState,
    ) -> Result<(Verdict, Scored), InterpretError> {
        let wrong_shape = || self.wrong_shape(&self.tensor, &scores.shape);
        match &self.rule {
            Rule::Class(class) => {
                let layout = class.layout(&scores.shape).ok_or_else(wrong_shape)?;
                class.interpret(scores, layout, &self.tensor, self.decision)
            }
            Rule::Labels(labels) => {
                let row = labels.layout(&scores.shape).ok_or_else(wrong_shape)?;
                labels.interpret(scores, row, &self.tensor, self.decision)
            }
            Rule::Values(values) => {
                let row = values.layout(&scores.shape).ok_or_else(wrong_shape)?;
                values.interpret(scores, row, &self.tensor, self.decision)
            }
            Rule::Anomaly(anomaly) => {
                let layout = anomaly.layout(&scores.shape).ok_or_else(wrong_shape)?;
                anomaly.interpret(scores, layout, &self.tensor, features, self.decision, state)
            }
        }
    }

    fn wrong_shape(&self, tensor: &str, shape: &[usize]) -> InterpretError {
        let wanted = match &self.rule {
            Rule::Class(class) => class.wanted(),
            Rule::Labels(labels) => labels.wanted(),
            Rule::Values(values) => values.wanted(),
            Rule::Anomaly(anomaly) => anomaly.wanted(),
        };
        InterpretError::Shape { tensor: tensor.into(), shape: shape.to_vec(), wanted }
    }
}

/// `n` numbers, for people.
fn wanted_row(n: usize, of: &str) -> String {
    format!("{n} elements ({of}), or [steps, 1, {n}] of which the last step counts")
}

fn check_range(key: &'static str, low: f64, high: f64) -> Result<(), SetupError> {
    // Written so that a NaN at either end is refused as well.
    if low <= high { Ok(()) } else { Err(SetupError::Range { key, low, high }) }
}

fn check_names<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), SetupError> {
    let mut seen = std::collections::HashMap::new();
    for (second, name) in names.enumerate() {
        if let Some(first) = seen.insert(name, second) {
            return Err(SetupError::Twice { name: name.into(), first, second });
        }
    }
    if seen.is_empty() { Err(SetupError::Nothing(what)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Data, DataType};
    use crate::config::card::{Activation, Channel, Channels, Filter, Fit, Gap, ImageFeatures, ImageLayout};
    use crate::config::card::{TableFeatures, Target};
    use proptest::prelude::*;

    /// A camera's features, for outputs that do not look at them.
    pub(super) fn image() -> card::Features {
        card::Features::Image(ImageFeatures {
            input: "image".into(),
            width: 2,
            height: 2,
            channels: Channels::Grey,
            fit: Fit::Stretch,
            filter: Filter::Bilinear,
            layout: ImageLayout::Nchw,
            scale: 1.0,
            mean: vec![0.0],
            std: vec![1.0],
        })
    }

    pub(super) fn channel(name: &str, mean: f64, std: f64) -> Channel {
        Channel {
            name: name.into(),
            unit: "°C".into(),
            impute: None,
            mean,
            std,
            allow_nan: false,
            words: Vec::new(),
            input: None,
            whole: false,
        }
    }

    pub(super) fn table(columns: &[&str]) -> card::Features {
        card::Features::Table(TableFeatures {
            input: Some("row".into()),
            columns: columns.iter().map(|name| channel(name, 10.0, 2.0)).collect(),
            derived: vec![],
            gap: Gap::Ignore,
        })
    }

    pub(super) fn output(kind: OutputKind) -> card::Output {
        card::Output { tensor: "scores".into(), kind, threshold: None, uncertain: None }
    }

    /// Features as they are after a run; only anomalies look at them.
    pub(super) fn seen(observed: &[f64]) -> Features {
        Features { input: Tensor::zeros(&[1]), observed: observed.to_vec() }
    }

    fn classification() -> OutputKind {
        OutputKind::Classification {
            labels: vec!["ok".into(), "scratch".into(), "dent".into()],
            pass: vec!["ok".into()],
            activation: Activation::Softmax,
        }
    }

    fn port(shape: &[usize], data_type: DataType) -> PortSpec {
        PortSpec { name: "scores".into(), data_type, shape: shape.to_vec() }
    }

    #[test]
    fn an_output_that_does_not_fit_the_card_is_refused_at_boot_with_both_shapes() {
        let interpreter = Interpreter::new(&output(classification()), &image(), None, None).unwrap();
        interpreter.fits(&port(&[1, 3], DataType::F32)).unwrap();
        interpreter.fits(&port(&[1, 3, 1, 1], DataType::I8)).unwrap();
        assert_eq!(
            interpreter.fits(&port(&[1, 1000], DataType::F32)).unwrap_err(),
            "output `scores` has shape [1, 1000]; the card wants 3 elements (one for each label), \
             or [steps, 1, 3] of which the last step counts"
        );
        assert!(interpreter.fits(&port(&[1, 3], DataType::Text)).unwrap_err().contains("text"));
    }

    #[test]
    fn what_fits_at_boot_is_read_at_run_time_and_what_does_not_is_lost() {
        let kinds = [
            classification(),
            OutputKind::Regression {
                targets: vec![Target { name: "wear".into(), unit: "µm".into(), scale: 1.0, offset: 0.0 }],
                range: None,
            },
            OutputKind::Anomaly { by: card::AnomalyBy::Score },
        ];
        let shapes: [&[usize]; 9] =
            [&[], &[1], &[3], &[1, 3], &[4, 1, 3], &[1, 24], &[24, 1], &[0], &[1, 3, 2, 2]];
        for kind in kinds {
            let interpreter = Interpreter::new(&output(kind), &image(), None, None).unwrap();
            for shape in shapes {
                let scores = Tensor::zeros(shape);
                let got = interpreter.interpret(&scores, &seen(&[]), &mut interpreter.fresh());
                assert_eq!(
                    got.is_ok(),
                    interpreter.fits(&port(shape, DataType::F32)).is_ok(),
                    "{interpreter:?} {shape:?}"
                );
                if let Err(error) = got {
                    assert_eq!(error.reason(), Reason::BadScores);
                }
            }
        }
    }

    #[test]
    fn the_pipelines_numbers_replace_the_cards() {
        let mut output = output(classification());
        output.threshold = Some(0.5);
        output.uncertain = Some((0.4, 0.6));
        let interpreter = Interpreter::new(&output, &image(), Some(0.9), Some((0.85, 0.95))).unwrap();
        assert_eq!(interpreter.threshold(), Some(0.9));
        // Two of three equal scores are no pass: 2/3 is under 0.9 and outside the band.
        let (verdict, _) =
            interpreter.interpret(&Tensor::zeros(&[1, 3]), &seen(&[]), &mut interpreter.fresh()).unwrap();
        assert_eq!(verdict, Verdict::Pass);
    }

    #[test]
    fn numbers_that_nothing_can_be_compared_with_are_refused() {
        let new = |threshold, uncertain| {
            Interpreter::new(&output(classification()), &image(), threshold, uncertain)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(new(Some(f32::NAN), None), "[output] threshold is NaN; it must be a finite number");
        assert_eq!(
            new(None, Some((0.6, 0.4))),
            "[output] uncertain is [0.6000000238418579, 0.4000000059604645]; it must be [low, high] with low at most high"
        );
        assert!(new(None, Some((f32::NAN, 0.4))).contains("uncertain"));
    }

    proptest! {
        #[test]
        fn whatever_the_tensor_there_is_a_finite_answer_or_an_error(
            shape in prop::collection::vec(prop_oneof![0_usize..5, Just(usize::MAX)], 0..4),
            torn in prop::option::weighted(0.1, 0_usize..30),
            values in prop::collection::vec(prop_oneof![-1e3..1e3_f32, any::<f32>()], 1..8),
            input in prop::collection::vec(prop_oneof![-1e3..1e3_f32, any::<f32>()], 2..4),
        ) {
            let by = |of: &[&str], frames_ahead| card::AnomalyBy::Error {
                of: of.iter().map(|name| (*name).into()).collect(),
                frames_ahead,
                distance: card::Distance::RootMeanSquare,
                scale: 1e-3,
                smooth_frames: 3,
            };
            let target = Target { name: "wear".into(), unit: "µm".into(), scale: 1e300, offset: 0.0 };
            let kinds = [
                classification(),
                OutputKind::Classification {
                    labels: vec!["ok".into(), "bad".into()],
                    pass: vec!["ok".into()],
                    activation: Activation::None,
                },
                OutputKind::MultiLabel {
                    labels: vec!["a".into(), "b".into()],
                    pass: vec![],
                    activation: Activation::Sigmoid,
                    thresholds: None,
                },
                OutputKind::Regression { targets: vec![target], range: Some((0.0, 1.0)) },
                OutputKind::Anomaly { by: card::AnomalyBy::Score },
                OutputKind::Anomaly { by: by(&["a", "c"], 1) },
                OutputKind::Anomaly { by: by(&[], 0) },
            ];
            let observed = input.iter().map(|v| f64::from(*v)).collect();
            let features = Features { input: Tensor { shape: vec![input.len()], data: Data::F32(input) }, observed };
            let elements = shape.iter().try_fold(1_usize, |product, len| product.checked_mul(*len));
            let elements = torn.or(elements).unwrap_or(0).min(1000);
            let scores = Tensor { shape, data: Data::F32(values.into_iter().cycle().take(elements).collect()) };
            for kind in kinds {
                let interpreter = Interpreter::new(&output(kind), &table(&["a", "b", "c"]), None, None).unwrap();
                let mut state = interpreter.fresh();
                for _ in 0..3 {
                    let before = state.clone();
                    match interpreter.interpret(&scores, &features, &mut state) {
                        Ok((_, scored)) => prop_assert!(is_finite(&scored), "{scored:?}"),
                        Err(_) => prop_assert_eq!(&before, &state),
                    }
                }
            }
        }
    }

    fn is_finite(scored: &Scored) -> bool {
        match scored {
            Scored::Class { score, scores, .. } => {
                score.is_finite() && scores.iter().all(|(_, score)| score.is_finite())
            }
            Scored::Labels { scores, .. } => scores.iter().all(|(_, score)| score.is_finite()),
            Scored::Values { values } => values.iter().all(|(_, value, _)| value.is_finite()),
            Scored::Anomaly { anomaly_score, expected } => {
                anomaly_score.is_finite() && expected.iter().all(|(_, value)| value.is_finite())
            }
        }
    }
}
