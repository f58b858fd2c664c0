//! Which tensor goes where, and whether card and graph agree on it.

use std::path::PathBuf;

use crate::config::Card;
use crate::config::card::{Channel, Features, PortSpec, State, TableFeatures};
use crate::engine::Port;

/// Card and graph contradict each other: the configuration is wrong, starting again will not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: the card does not fit its graph: {}", card.display(), contradictions.join("; "))]
pub struct CardMismatch {
    /// The card's file.
    pub card: PathBuf,
    /// Each with what the card says and what the graph has; never empty.
    pub contradictions: Vec<String>,
}

/// Positions in the graph's inputs and outputs.
#[derive(Debug)]
pub(super) struct Wiring {
    pub(super) input_count: usize,
    /// The inputs that columns fill one by one, with each column's words; empty: features fill one.
    pub(super) columns: Vec<(usize, Vec<String>)>,
    /// In the card's order.
    pub(super) states: Vec<Slot>,
    /// The output with the scores.
    pub(super) scores: usize,
}

/// A tensor that is carried on.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) input: usize,
    pub(super) output: usize,
}

impl Wiring {
    pub(super) fn new(inputs: &[PortSpec], outputs: &[Port], card: &Card) -> Result<Self, CardMismatch> {
        let mut contradictions = Vec::new();
        let input_names = inputs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>();
        let output_names = outputs.iter().map(|port| port.name.as_str()).collect::<Vec<_>>();
        let mut find = |what: &str, name: &str, names: &[&str]| {
            let found = names.iter().position(|known| *known == name);
            if found.is_none() {
                contradictions.push(format!("{what} is {name:?}, the graph has {names:?}"));
            }
            found
        };

        let features: Vec<Option<usize>> = (card.features.inputs().into_iter())
            .map(|name| find("the input of features", name, &input_names))
            .collect();
        let scores = find("output.tensor", &card.output.tensor, &output_names);
        let slots: Vec<(&State, Option<usize>, Option<usize>)> = (card.states.iter())
            .map(|state| {
                let input = find("state.input", &state.input, &input_names);
                (state, input, find("state.output", &state.output, &output_names))
            })
            .collect();

        let mut filled = vec![0; inputs.len()];
        for input in slots.iter().map(|(_, input, _)| *input).chain(features.iter().copied()).flatten() {
            filled[input] += 1;
        }
        for (spec, times) in inputs.iter().zip(filled) {
            match times {
                0 => contradictions.push(format!(
                    "nothing fills the graph's input {:?} ({} {:?}); it needs features or a [[state]]",
                    spec.name, spec.data_type, spec.shape
                )),
                1 => {}
                _ => contradictions.push(format!("input {:?} is filled {times} times", spec.name)),
            }
        }
        let own_inputs: &[Channel] = match &card.features {
            Features::Table(TableFeatures { input: None, columns, .. }) => columns,
            _ => &[],
        };
        if own_inputs.is_empty() {
            contradictions
                .extend(features.iter().flatten().filter_map(|at| wrong_size(&card.features, &inputs[*at])));
        }
        for (state, input, output) in &slots {
            if let (Some(input), Some(output)) = (input, output) {
                contradictions.extend(wrong_pair(state, &inputs[*input], &outputs[*output]));
            }
        }
        if let Some(port) = scores.map(|at| &outputs[at])
            && port.data_type.is_none()
        {
            contradictions.push(format!("output.tensor {:?} is of a type that cannot be read", port.name));
        }

        let states =
            slots.iter().filter_map(|(_, input, output)| Some(Slot { input: (*input)?, output: (*output)? }));
        match (scores, contradictions.is_empty()) {
            (Some(scores), true) => Ok(Self {
                input_count: inputs.len(),
                columns: (features.iter().flatten().copied())
                    .zip(own_inputs.iter().map(|column| column.words.clone()))
                    .collect(),
                states: states.collect(),
                scores,
            }),
            _ => Err(CardMismatch { card: card.folder.join("model.toml"), contradictions }),
        }
    }
}

/// Features of another size than the input that they fill.
fn wrong_size(features: &Features, spec: &PortSpec) -> Option<String> {
    let (elements, of) = match features {
        Features::Image(image) => {
            let (width, height, channels) = (image.width, image.height, image.channels.count());
            let elements = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
            (elements, format!("a picture of {width} × {height} pixels with {channels} channels"))
        }
        Features::Window(window) => {
            let (samples, channels) = (window.samples, window.channels.len());
            (samples.checked_mul(channels), format!("{samples} samples of {channels} channels"))
        }
        Features::Table(table) => {
            let columns = table.columns.len() + table.derived.len();
            (Some(columns), format!("{columns} columns"))
        }
    };
    let wanted = spec.shape.iter().product();
    (elements != Some(wanted)).then(|| {
        format!("features are {of}, the graph's input {:?} is {:?}, {wanted} elements", spec.name, spec.shape)
    })
}

/// What comes out must be able to go in again.
fn wrong_pair(state: &State, input: &PortSpec, output: &Port) -> Option<String> {
    let same = output.data_type == Some(input.data_type) && output.shape().as_ref() == Some(&input.shape);
    (!same).then(|| {
        format!(
            "state output {:?} is {} {}, its input {:?} is {} {:?}; they must be equal",
            state.output,
            output.type_name(),
            output.shape_text(),
            state.input,
            input.data_type,
            input.shape
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Model, sample};

    fn mismatch(sample: &sample::Sample, change: impl FnOnce(&mut Card)) -> CardMismatch {
        let folder = tempfile::tempdir().unwrap();
        let mut card = sample.card(folder.path());
        let model = Model::load(&card).unwrap();
        change(&mut card);
        Wiring::new(model.inputs(), model.outputs(), &card).unwrap_err()
    }

    #[test]
    fn every_contradiction_is_named_at_once() {
        let error = mismatch(&sample::relu_layer(), |card| {
            card.output.tensor = "scores".into();
            card.states = vec![State { input: "h".into(), output: "y".into() }];
        });
        let text = error.to_string();
        assert!(text.contains("output.tensor is \"scores\", the graph has [\"y\"]"), "{text}");
        assert!(text.contains("state.input is \"h\", the graph has [\"x\"]"), "{text}");
        assert_eq!(error.contradictions.len(), 2);
    }

    #[test]
    fn an_input_that_nothing_fills_is_named() {
        let error = mismatch(&sample::lstm(), |_| {});
        assert_eq!(error.contradictions.len(), 2, "{error}");
        assert!(error.contradictions[0].contains("nothing fills the graph's input \"h_in\" (f32 [1, 1, 2])"));
    }

    #[test]
    fn a_state_must_come_out_as_it_goes_in() {
        let error = mismatch(&sample::lstm(), |card| {
            card.states = [("h_in", "y"), ("c_in", "c_out")]
                .map(|(input, output)| State { input: input.into(), output: output.into() })
                .to_vec();
        });
        assert_eq!(error.contradictions.len(), 1, "{error}");
        assert!(error.contradictions[0].contains("\"y\" is f32 [3, 1, 1, 2]"), "{error}");
    }

    #[test]
    fn features_of_another_size_are_named() {
        let error = mismatch(&sample::relu_layer(), |card| {
            let Features::Table(table) = &mut card.features else {
                unreachable!("a sample's card has a table")
            };
            table.columns.truncate(1);
        });
        assert!(error.to_string().contains("features are 1 columns"), "{error}");
        assert!(error.to_string().contains("[1, 2], 2 elements"), "{error}");
    }
}
