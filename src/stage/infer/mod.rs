//! Features to scores: one worker's model with the card's wiring.
//!
//! The card says which graph input the features fill, which output holds the scores and which
//! tensors an origin carries from one run to the next. [`Inference::new`] holds that against the
//! graph, so that a contradiction ends the boot and not the first frame.
//!
//! Promise: a run leaves the recurrent state that it was given as it was, and says what comes after;
//! so a frame that is refused, also for its scores, moves nothing. Not here: what scores mean
//! (`interpret`), whose state it is (the worker keeps one [`StateTensors`] an origin).

mod wiring;

use crate::base::{Data, DataType, Features, Tensor};
use crate::config::Card;
use crate::engine::{InferError, Model, Session};

pub use wiring::CardMismatch;
use wiring::Wiring;

/// A worker's model. One a thread.
#[derive(Debug)]
pub struct Inference {
    session: Session,
    wiring: Wiring,
}

/// What one origin carries from one run to the next; in the card's order.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensors(Vec<Tensor>);

impl Inference {
    /// Joins a model and its card.
    ///
    /// # Errors
    /// Everything in which they contradict each other, at once.
    pub fn new(model: &Model, card: &Card) -> Result<Self, CardMismatch> {
        let wiring = Wiring::new(model.inputs(), model.outputs(), card)?;
        Ok(Self { session: model.session(), wiring })
    }

    /// Zeros: the state of an origin that has not spoken yet.
    pub fn fresh_state(&self) -> StateTensors {
        let inputs = self.session.model().inputs();
        let zeros = self.wiring.states.iter().map(|state| {
            let spec = &inputs[state.input];
            zeros(spec.data_type, &spec.shape)
        });
        StateTensors(zeros.collect())
    }

    /// The scores for these features, and what the origin's state becomes if the frame is answered.
    /// `state` is this origin's, from [`Inference::fresh_state`] or from the run before.
    ///
    /// # Errors
    /// The features do not fit the graph's input, or the engine failed on them.
    pub fn run(
        &mut self,
        features: &Features,
        state: &StateTensors,
    ) -> Result<(Tensor, StateTensors), InferError> {
        let own: Vec<Tensor> = self.columns(&features.input);
        let mut inputs = vec![&features.input; self.wiring.input_count];
        for ((input, _), tensor) in self.wiring.columns.iter().zip(&own) {
            inputs[*input] = tensor;
        }
        for (slot, tensor) in self.wiring.states.iter().zip(&state.0) {
            inputs[slot.input] = tensor;
        }
        let mut outputs = self.session.run(&inputs)?;
        let after = self.wiring.states.iter().map(|slot| {
            // The scores may be a state as well, so only what is no score is moved out.
            if slot.output == self.wiring.scores {
                outputs[slot.output].clone()
            } else {
                std::mem::replace(&mut outputs[slot.output], Tensor::zeros(&[0]))
            }
        });
        let after = StateTensors(after.collect());
        Ok((outputs.swap_remove(self.wiring.scores), after))
    }

    /// The tensor of each column that fills an input of its own, in that input's type.
    fn columns(&self, row: &Tensor) -> Vec<Tensor> {
        let Data::F64(values) = &row.data else { return Vec::new() };
        let specs = self.session.model().inputs();
        let columns = self.wiring.columns.iter().zip(values);
        columns
            .map(|((input, words), &value)| {
                let spec = &specs[*input];
                let data = match spec.data_type {
                    // What the list does not hold was refused when the frame was decoded.
                    DataType::Text => {
                        Data::Text(vec![words.get(value as usize).cloned().unwrap_or_default()])
                    }
                    DataType::F64 => Data::F64(vec![value]),
                    // Whole, or refused when the frame became features.
                    DataType::I64 => Data::I64(vec![value as i64]),
                    DataType::I32 => Data::I32(vec![value as i32]),
                    _ => Data::F32(vec![value as f32]),
                };
                Tensor { shape: spec.shape.clone(), data }
            })
            .collect()
    }
}

fn zeros(data_type: DataType, shape: &[usize]) -> Tensor {
    use DataType as D;
    let count = shape.iter().product();
    let data = match data_type {
        D::F32 => Data::F32(vec![0.0; count]),
        D::F64 => Data::F64(vec![0.0; count]),
        D::F16 => Data::F16(vec![0; count]),
        D::I64 => Data::I64(vec![0; count]),
        D::I32 => Data::I32(vec![0; count]),
        D::I16 => Data::I16(vec![0; count]),
        D::I8 => Data::I8(vec![0; count]),
        D::U64 => Data::U64(vec![0; count]),
        D::U32 => Data::U32(vec![0; count]),
        D::U16 => Data::U16(vec![0; count]),
        D::U8 => Data::U8(vec![0; count]),
        D::Bool => Data::Bool(vec![false; count]),
        D::Text => Data::Text(vec![String::new(); count]),
    };
    Tensor { shape: shape.to_vec(), data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Reason;
    use crate::config::card::State;
    use crate::engine::sample;

    fn features(shape: &[usize], values: Vec<f32>) -> Features {
        Features { input: Tensor::f32(shape, values), observed: Vec::new() }
    }

    fn recurrent() -> Inference {
        let folder = tempfile::tempdir().unwrap();
        let mut card = sample::lstm().card(folder.path());
        card.states = [("h_in", "h_out"), ("c_in", "c_out")]
            .map(|(input, output)| State { input: input.into(), output: output.into() })
            .to_vec();
        Inference::new(&Model::load(&card).unwrap(), &card).unwrap()
    }

    #[test]
    fn two_halves_with_state_equal_the_state_of_the_whole() {
        let mut inference = recurrent();
        let samples = features(&[3, 1, 1], vec![1.0, -1.0, 0.5]);
        let fresh = inference.fresh_state();
        let first = inference.run(&samples, &fresh).unwrap();
        let second = inference.run(&samples, &first.1).unwrap();
        assert_ne!(first, second, "the state moved on");

        let other = inference.fresh_state();
        assert_eq!(inference.run(&samples, &other).unwrap(), first, "another origin starts from zeros");
        assert_eq!(inference.run(&samples, &first.1).unwrap(), second);
    }

    #[test]
    fn a_frame_that_does_not_fit_leaves_the_state_as_it_was() {
        let mut inference = recurrent();
        let state = inference.fresh_state();
        let good = features(&[3, 1, 1], vec![1.0, -1.0, 0.5]);
        let before = inference.run(&good, &state).unwrap();
        let error = inference.run(&features(&[1, 1], vec![1.0]), &state).unwrap_err();
        assert_eq!(error.reason(), Reason::InferFailed);
        assert_eq!(inference.run(&good, &state).unwrap(), before);
    }
}
