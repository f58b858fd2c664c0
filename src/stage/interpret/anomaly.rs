//! How unusual a frame is: the model says so itself, or it says what it expects and is held to it.
//!
//! Promise: `expected` is what was expected *for this frame*; a forecast made `frames_ahead` frames
//! ago, not the one that the model has just made for a frame to come. Until there is one, there is
//! no verdict. The published score is the one that was compared with the threshold.
//! Frames that were lost on their way here do not count as frames: after a loss the forecasts under
//! way are held against a later frame than they were made for, `frames_ahead` times at most.

use core::ops::Range;
use std::collections::VecDeque;

use super::{Decision, InterpretError, SetupError, check_names, scores, wanted_row};
use crate::base::{Features, Scored, Tensor, Verdict};
use crate::config::card::{self, AnomalyBy, Channel, Distance};

/// What interpretation keeps of one origin: forecasts that wait for their frame, and the average of
/// errors. Dropped with the origin's window when that begins anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterpretState {
    /// Oldest first; at most `frames_ahead`.
    forecasts: VecDeque<Vec<f64>>,
    /// `None` before the first error.
    average: Option<f64>,
}

#[derive(Clone, Debug)]
pub(super) enum Anomaly {
    Score,
    Error(Error),
}

/// A model that says what it expects.
#[derive(Clone, Debug)]
pub(super) struct Error {
    /// Names in `of`, each with its place in the observed row.
    of: Vec<(String, usize)>,
    /// `of` is empty or names every column, in order: a reconstruction of the whole input is meant.
    whole: bool,
    /// Columns, or channels, that a row has.
    columns: usize,
    frames_ahead: usize,
    distance: Distance,
    scale: f64,
    /// Weight of the newest error in the average; 1: no averaging.
    alpha: f64,
    input: Input,
}

/// The model's input, for reconstructions of the whole of it.
#[derive(Clone, Debug)]
struct Input {
    name: String,
    elements: usize,
    /// Of a table: each element's name, mean and std, to publish what was expected in its unit.
    columns: Vec<Channel>,
}

/// Where the numbers stand and what they are held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Score(Range<usize>),
    Observed(Range<usize>),
    Input(Range<usize>),
}

/// What the expectation is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    Observed,
    Input,
}

impl Anomaly {
    pub(super) fn new(by: &AnomalyBy, features: &card::Features) -> Result<Self, SetupError> {
        let AnomalyBy::Error { of, frames_ahead, distance, scale, smooth_frames } = by else {
            return Ok(Self::Score);
        };
        if !of.is_empty() {
            check_names("of", of.iter().map(String::as_str))?;
        } else if *frames_ahead > 0 {
            return Err(SetupError::ForecastOfNothing { frames_ahead: *frames_ahead });
        }
        if !(scale.is_finite() && *scale > 0.0) {
            let rule = "a finite number over 0";
            return Err(SetupError::Number { key: "scale".into(), value: *scale, rule });
        }
        if *smooth_frames == 0 {
            let rule = "at least 1 (not smoothed)";
            return Err(SetupError::Number { key: "smooth_frames".into(), value: 0.0, rule });
        }
        let known: Vec<String> = observed(features).map(|channel| channel.name.clone()).collect();
        let of: Vec<(String, usize)> = of
            .iter()
            .map(|name| match known.iter().position(|known| known == name) {
                Some(i) => Ok((name.clone(), i)),
                None => Err(SetupError::UnknownColumn { name: name.clone(), known: known.clone() }),
            })
            .collect::<Result<_, _>>()?;
        let in_order = of.iter().map(|(_, i)| *i).eq(0..known.len());
        Ok(Self::Error(Error {
            whole: of.is_empty() || in_order,
            columns: known.len(),
            of,
            frames_ahead: *frames_ahead,
            distance: *distance,
            scale: *scale,
            alpha: 2.0 / (*smooth_frames as f64 + 1.0),
            input: Input::of(features),
        }))
    }

    pub(super) fn layout(&self, shape: &[usize]) -> Option<Layout> {
        match self {
            Self::Score => scores::last_row(shape, 1).map(Layout::Score),
            Self::Error(error) => error.layout(shape),
        }
    }

    pub(super) fn wanted(&self) -> String {
        match self {
            Self::Score => wanted_row(1, "the anomaly score"),
            Self::Error(error) => error.wanted(),
        }
    }

    pub(super) fn interpret(
        &self,
        tensor: &Tensor,
        layout: Layout,
        name: &str,
        features: &Features,
        decision: Decision,
        state: &mut InterpretState,
    ) -> Result<(Verdict, Scored), InterpretError> {
        let (row, against) = match layout {
            Layout::Score(row) | Layout::Observed(row) => (row, Against::Observed),
            Layout::Input(row) => (row, Against::Input),
        };
        let start = row.start;
        let numbers = scores::finite(scores::read(tensor, row, name)?, start, name)?;
        let publishable = |score: f64| {
            let published = score as f32;
            let error = InterpretError::NotFinite { tensor: name.into(), index: start, value: score };
            if published.is_finite() { Ok(published) } else { Err(error) }
        };
        let (score, expected) = match self {
            Self::Score => (publishable(numbers[0])?, Vec::new()),
            Self::Error(rule) => {
                let due = match rule.frames_ahead {
                    0 => Some(&numbers),
                    ahead if state.forecasts.len() >= ahead => state.forecasts.front(),
                    _ => None,
                };
                let Some(due) = due else {
                    // Nothing was forecast for this frame yet: nothing can be said, and nothing is wrong.
                    state.forecasts.push_back(numbers);
                    let scored = Scored::Anomaly { anomaly_score: 0.0, expected: Vec::new() };
                    return Ok((Verdict::None, scored));
                };
                let error = rule.error(due, against, features)?;
                let average = state.average.map_or(error, |before| before + rule.alpha * (error - before));
                let score = publishable(average)?;
                let expected = rule.expected(due, against);
                // Nothing fails from here on, so the state may change.
                state.average = Some(average);
                if rule.frames_ahead > 0 {
                    state.forecasts.pop_front();
                    state.forecasts.push_back(numbers);
                }
                (score, expected)
            }
        };
        let verdict = decision.on(score).unwrap_or(Verdict::None);
        Ok((verdict, Scored::Anomaly { anomaly_score: score, expected }))
    }
}

impl Error {
    fn layout(&self, shape: &[usize]) -> Option<Layout> {
        let observed = || scores::last_row(shape, self.of.len()).map(Layout::Observed);
        let total = shape.iter().try_fold(1_usize, |product, &len| product.checked_mul(len))?;
        // A reconstruction is in the input's own numbers, scaled as they are; what names some columns
        // only, or the newest row of a window, is in their units.
        if self.frames_ahead == 0 && self.whole && total == self.input.elements {
            return Some(Layout::Input(0..total));
        }
        // Every column, but shuffled: a reconstruction whose scores would meet the wrong columns.
        if self.frames_ahead == 0 && !self.whole && self.of.len() == self.columns {
            return None;
        }
        observed()
    }

    fn wanted(&self) -> String {
        let input = format!("{} elements, as the input", self.input.elements);
        match (self.of.len(), self.frames_ahead) {
            (0, _) => input,
            (n, 0) if n == self.columns && !self.whole => {
                format!("{input}, with `of` empty or in the order of the columns")
            }
            (n, 0) if self.whole => format!("{input}; or {}", wanted_row(n, "one for each name in `of`")),
            (n, _) => wanted_row(n, "one for each name in `of`"),
        }
    }

    /// The scaled distance between what was expected and what came; not averaged yet.
    fn error(&self, expected: &[f64], against: Against, features: &Features) -> Result<f64, InterpretError> {
        let came = match against {
            Against::Observed => self.observed(features)?,
            Against::Input => {
                let (input, elements) = (&features.input, self.input.elements);
                if input.len() != elements {
                    return Err(InterpretError::Shape {
                        tensor: self.input.name.clone(),
                        shape: input.shape.clone(),
                        wanted: format!("{elements} elements"),
                    });
                }
                scores::read(input, 0..elements, &self.input.name)?
            }
        };
        let differences = expected.iter().zip(&came).map(|(expected, came)| (expected - came).abs());
        let count = expected.len() as f64;
        let distance = match self.distance {
            Distance::MeanAbsolute => differences.sum::<f64>() / count,
            Distance::RootMeanSquare => (differences.map(|d| d * d).sum::<f64>() / count).sqrt(),
            Distance::Largest => differences.fold(0.0, f64::max),
        };
        Ok(distance / self.scale)
    }

    fn observed(&self, features: &Features) -> Result<Vec<f64>, InterpretError> {
        self.of
            .iter()
            .map(|(name, i)| match features.observed.get(*i) {
                Some(value) if value.is_finite() => Ok(*value),
                other => Err(InterpretError::Observed {
                    what: name.clone(),
                    value: other.copied().unwrap_or(f64::NAN),
                }),
            })
            .collect()
    }

    /// What was expected, by name and in its own unit; empty for pictures and windows, where it
    /// would be as large as the input.
    fn expected(&self, expected: &[f64], against: Against) -> Vec<(String, f64)> {
        match against {
            Against::Observed => {
                self.of.iter().zip(expected).map(|((name, _), value)| (name.clone(), *value)).collect()
            }
            Against::Input => {
                let columns = self.input.columns.iter().zip(expected);
                columns
                    .map(|(column, value)| (column.name.clone(), value * column.std + column.mean))
                    .collect()
            }
        }
    }
}

impl Input {
    fn of(features: &card::Features) -> Self {
        let name = features.inputs().join(", ");
        let (elements, columns) = match features {
            card::Features::Image(image) => (image.width * image.height * image.channels.count(), Vec::new()),
            card::Features::Window(window) => (window.samples * window.channels.len(), Vec::new()),
            card::Features::Table(_) => {
                let columns: Vec<Channel> = observed(features).cloned().collect();
                (columns.len(), columns)
            }
        };
        Self { name, elements, columns }
    }
}

/// The channels of `Features::observed`, in its order; none for pictures.
fn observed(features: &card::Features) -> Box<dyn Iterator<Item = &Channel> + '_> {
    match features {
        card::Features::Image(_) => Box::new(core::iter::empty()),
        card::Features::Window(window) => Box::new(window.channels.iter()),
        card::Features::Table(table) => {
            Box::new(table.columns.iter().chain(table.derived.iter().map(|derived| &derived.channel)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Interpreter;
    use super::super::tests::{channel, image, output, seen, table};
    use super::*;
    use crate::config::card::{Gap, OutputKind, TableFeatures, WindowFeatures, WindowLayout};
    use proptest::prelude::*;

    fn error(of: &[&str], frames_ahead: usize, distance: Distance, smooth_frames: usize) -> AnomalyBy {
        let of = of.iter().map(|name| (*name).into()).collect();
        AnomalyBy::Error { of, frames_ahead, distance, scale: 2.0, smooth_frames }
    }

    fn forecast(frames_ahead: usize, smooth_frames: usize) -> AnomalyBy {
        error(&["temp"], frames_ahead, Distance::MeanAbsolute, smooth_frames)
    }

    fn new(by: AnomalyBy, features: &card::Features, threshold: Option<f32>) -> Interpreter {
        Interpreter::new(&output(OutputKind::Anomaly { by }), features, threshold, None).unwrap()
    }

    /// One frame: what the model says, what came. Gives verdict, score, and expectation.
    fn step(
        judge: &Interpreter,
        state: &mut InterpretState,
        says: &[f32],
        came: &[f64],
    ) -> (Verdict, f32, Vec<f64>) {
        let scores = Tensor::f32(&[1, 1, says.len()], says.to_vec());
        match judge.interpret(&scores, &seen(came), state).unwrap() {
            (verdict, Scored::Anomaly { anomaly_score, expected }) => {
                (verdict, anomaly_score, expected.into_iter().map(|(_, value)| value).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_score_of_the_models_own_fails_at_its_threshold() {
        let judge = new(AnomalyBy::Score, &image(), Some(0.5));
        let mut state = judge.fresh();
        assert_eq!(step(&judge, &mut state, &[0.49], &[]), (Verdict::Pass, 0.49, vec![]));
        assert_eq!(step(&judge, &mut state, &[0.5], &[]), (Verdict::Fail, 0.5, vec![]));
        let plain = new(AnomalyBy::Score, &image(), None);
        assert_eq!(step(&plain, &mut state, &[9.0], &[]).0, Verdict::None);
        assert_eq!(state, judge.fresh());
    }

    #[test]
    fn a_forecast_is_held_against_the_frame_that_it_was_made_for() {
        let judge = new(forecast(1, 1), &table(&["rpm", "temp"]), Some(4.0));
        let mut state = judge.fresh();
        assert_eq!(step(&judge, &mut state, &[21.0], &[0.0, 20.0]), (Verdict::None, 0.0, vec![]));
        // 21 was expected, 25 came: |21 − 25| ÷ 2.
        assert_eq!(step(&judge, &mut state, &[26.0], &[0.0, 25.0]), (Verdict::Pass, 2.0, vec![21.0]));
        assert_eq!(step(&judge, &mut state, &[30.0], &[0.0, 36.0]), (Verdict::Fail, 5.0, vec![26.0]));
    }

    #[test]
    fn a_forecast_further_ahead_waits_as_many_frames() {
        let judge = new(forecast(3, 1), &table(&["temp"]), Some(1.0));
        let mut state = judge.fresh();
        for (says, came) in [(103.0, 0.0), (104.0, 1.0), (105.0, 2.0)] {
            assert_eq!(step(&judge, &mut state, &[says], &[came]).0, Verdict::None);
        }
        assert_eq!(step(&judge, &mut state, &[106.0], &[103.0]), (Verdict::Pass, 0.0, vec![103.0]));
        assert_eq!(step(&judge, &mut state, &[107.0], &[104.0]), (Verdict::Pass, 0.0, vec![104.0]));
        assert_eq!(state.forecasts.len(), 3);
    }

    #[test]
    fn smoothing_starts_at_the_first_error_and_forgets_by_alpha() {
        let judge = new(forecast(1, 3), &table(&["temp"]), None); // α = 2 ÷ (3 + 1)
        let mut state = judge.fresh();
        let scores: Vec<f32> =
            [0.0, 8.0, 0.0, 4.0].iter().map(|came| step(&judge, &mut state, &[0.0], &[*came]).1).collect();
        // Errors 4, 0, 2 (÷ 2 is in them): 4, then (4 + 0) ÷ 2, then (2 + 2) ÷ 2.
        assert_eq!(scores, [0.0, 4.0, 2.0, 2.0]);
    }

    #[test]
    fn distances_are_what_their_names_say() {
        for (distance, wanted) in [
            (Distance::MeanAbsolute, 1.75),
            (Distance::RootMeanSquare, 2.5 / 2_f32.sqrt()),
            (Distance::Largest, 2.0),
        ] {
            let judge = new(error(&["a", "b"], 0, distance, 1), &table(&["a", "b", "c"]), None);
            let (_, score, expected) = step(&judge, &mut judge.fresh(), &[10.0, 20.0], &[13.0, 16.0, 0.0]);
            assert!((score - wanted).abs() < 1e-6, "{distance:?}: {score}");
            assert_eq!(expected, [10.0, 20.0]);
        }
    }

    #[test]
    fn a_tables_reconstruction_is_held_against_the_scaled_input_and_some_columns_against_their_units() {
        let column = |name: &str, mean, std| channel(name, mean, std);
        let scaled = card::Features::Table(TableFeatures {
            input: Some("row".into()),
            columns: vec![column("a", 10.0, 2.0), column("b", 0.0, 1.0)],
            derived: vec![],
            gap: Gap::Ignore,
        });
        let features = Features { input: Tensor::f32(&[1, 2], vec![0.5, 3.0]), observed: vec![11.0, 3.0] };
        let run = |of: &[&str], says: Vec<f32>| {
            let judge = new(error(of, 0, Distance::Largest, 1), &scaled, None);
            judge.interpret(&Tensor::f32(&[1, says.len()], says), &features, &mut judge.fresh())
        };
        for of in [&[][..], &["a", "b"]] {
            let (_, scored) = run(of, vec![2.5, 3.0]).unwrap();
            // |2.5 − 0.5| ÷ 2; what was expected is told in units: 10 + 2 × 2.5.
            let expected = vec![("a".into(), 15.0), ("b".into(), 3.0)];
            assert_eq!(scored, Scored::Anomaly { anomaly_score: 1.0, expected }, "{of:?}");
        }
        let (_, scored) = run(&["a"], vec![13.0]).unwrap();
        assert_eq!(scored, Scored::Anomaly { anomaly_score: 1.0, expected: vec![("a".into(), 13.0)] });
        assert!(run(&["a"], vec![2.5, 3.0]).is_err(), "one name cannot stand for two numbers");
        assert!(run(&["b", "a"], vec![3.0, 2.5]).is_err(), "a reconstruction has the input's own order");
    }

    #[test]
    fn a_reconstruction_is_held_against_the_input_element_by_element() {
        let window = card::Features::Window(WindowFeatures {
            input: "window".into(),
            channels: vec![channel("x", 0.0, 1.0), channel("y", 0.0, 1.0)],
            samples: 3,
            stride: 3,
            layout: WindowLayout::Ntc,
            gap: Gap::Ignore,
        });
        let input = Tensor::f32(&[1, 3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let features = Features { input, observed: vec![5.0, 6.0] };
        let run = |of: &[&str], shape: &[usize], says: Vec<f32>| {
            let judge = new(error(of, 0, Distance::Largest, 1), &window, None);
            judge.interpret(&Tensor::f32(shape, says), &features, &mut judge.fresh())
        };
        let whole = vec![1.0, 2.0, 3.0, 14.0, 5.0, 6.0];
        for of in [&[][..], &["x", "y"]] {
            let (_, scored) = run(of, &[1, 3, 2], whole.clone()).unwrap();
            assert_eq!(scored, Scored::Anomaly { anomaly_score: 5.0, expected: vec![] }, "{of:?}");
        }
        // As many as `of`: the newest sample.
        let (_, scored) = run(&["y"], &[1, 1], vec![10.0]).unwrap();
        assert_eq!(scored, Scored::Anomaly { anomaly_score: 2.0, expected: vec![("y".into(), 10.0)] });
        assert!(
            run(&[], &[1, 2, 2], vec![0.0; 4]).unwrap_err().to_string().contains("6 elements, as the input")
        );
    }

    #[test]
    fn a_reconstructed_row_is_published_in_its_units() {
        let judge = new(error(&[], 0, Distance::MeanAbsolute, 1), &table(&["a", "b"]), None);
        let features = Features { input: Tensor::f32(&[1, 2], vec![0.5, 1.0]), observed: vec![11.0, 12.0] };
        let scores = Tensor::f32(&[1, 2], vec![1.5, 1.0]);
        let (_, scored) = judge.interpret(&scores, &features, &mut judge.fresh()).unwrap();
        let expected = vec![("a".into(), 13.0), ("b".into(), 12.0)]; // × 2 + 10
        assert_eq!(scored, Scored::Anomaly { anomaly_score: 0.25, expected });
    }

    #[test]
    fn an_error_leaves_the_state_as_it_was() {
        let judge = new(forecast(1, 5), &table(&["temp"]), None);
        let mut state = judge.fresh();
        step(&judge, &mut state, &[1.0], &[0.0]);
        step(&judge, &mut state, &[2.0], &[3.0]);
        let before = state.clone();
        let bad: [(&[f32], &[f64]); 5] = [
            (&[f32::NAN], &[1.0]),
            (&[f32::INFINITY], &[1.0]),
            (&[1.0], &[f64::NAN]),
            (&[1.0], &[]),
            (&[1.0], &[1e300]),
        ];
        for (says, came) in bad {
            let scores = Tensor::f32(&[1, 1], says.to_vec());
            assert!(judge.interpret(&scores, &seen(came), &mut state).is_err(), "{says:?} {came:?}");
            assert_eq!(state, before);
        }
    }

    #[test]
    fn a_card_that_cannot_be_followed_is_refused_in_words() {
        let refuse = |by, features: &card::Features| {
            Interpreter::new(&output(OutputKind::Anomaly { by }), features, None, None)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refuse(forecast(1, 1), &table(&["rpm", "load"])),
            "[output] of names `temp`, which the features do not have; they have rpm, load"
        );
        assert!(refuse(error(&[], 1, Distance::Largest, 1), &table(&["a"])).contains("frames_ahead is 1"));
        assert!(refuse(forecast(0, 1), &image()).contains("temp"));
        assert!(refuse(forecast(1, 0), &table(&["temp"])).contains("smooth_frames"));
        let flat = AnomalyBy::Error {
            of: vec!["a".into()],
            frames_ahead: 0,
            distance: Distance::Largest,
            scale: 0.0,
            smooth_frames: 1,
        };
        assert!(refuse(flat, &table(&["a"])).contains("scale is 0"));
        assert!(refuse(error(&["a", "a"], 0, Distance::Largest, 1), &table(&["a"])).contains("twice"));
    }

    proptest! {
        #[test]
        fn a_perfect_forecaster_scores_zero_whatever_the_lead(
            came in prop::collection::vec(-1e3..1e3_f32, 1..30), ahead in 1_usize..6, smooth in 1_usize..5,
        ) {
            let judge = new(forecast(ahead, smooth), &table(&["temp"]), Some(0.001));
            let mut state = judge.fresh();
            for t in 0..came.len() {
                let says = came.get(t + ahead).copied().unwrap_or(0.0);
                let (verdict, score, expected) = step(&judge, &mut state, &[says], &[came[t].into()]);
                prop_assert_eq!(score, 0.0);
                prop_assert_eq!(verdict == Verdict::None, t < ahead);
                prop_assert_eq!(expected.is_empty(), t < ahead);
                prop_assert!(state.forecasts.len() <= ahead);
            }
        }

        #[test]
        fn the_average_stays_between_the_smallest_and_the_largest_error(
            came in prop::collection::vec(0.0..1e3_f64, 2..30), smooth in 1_usize..50,
        ) {
            let judge = new(forecast(1, smooth), &table(&["temp"]), None);
            let mut state = judge.fresh();
            for (t, value) in came.iter().enumerate() {
                let (_, score, _) = step(&judge, &mut state, &[0.0], &[*value]);
                let errors = came[1..=t].iter().map(|v| (v / 2.0) as f32);
                if t > 0 {
                    prop_assert!(score <= errors.clone().fold(0.0, f32::max) * 1.000_01);
                    prop_assert!(score >= errors.fold(f32::MAX, f32::min) * 0.999_99);
                }
            }
        }
    }
}
