//! One worker's hold on a model: the engine's state and scratch memory, and what becomes of them
//! after an error.
//!
//! Promise: a run never ends the process by itself, and after any failure the next run starts from
//! a fresh state. (After an error tract's state keeps resolved symbols, and after a panic nobody
//! knows what it keeps.) No run knows of the run before it; what is to be carried on has an input.

use std::cell::Cell;

use tract_core::plan;
use tract_core::prelude::{IntoTValue, TValue, TVec, TractResult, TypedSimpleState};

use super::caught::caught;
use super::error::EngineError;
use super::{InferError, Model, convert};
use crate::base::Tensor;

/// Runs a [`Model`], one input at a time. One a thread.
#[derive(Debug)]
pub struct Session {
    model: Model,
    /// `None` until the first run, and after a failure.
    state: Option<TypedSimpleState>,
}

impl Session {
    pub(super) fn new(model: Model) -> Self {
        Self { model, state: None }
    }

    /// The model that it runs.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// One inference: a tensor for each input in, one for each output out, both in the graph's order.
    ///
    /// # Errors
    /// Inputs that do not fit, an operator's error, an operator's panic. The session can be used again
    /// after each.
    pub fn run(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, InferError> {
        self.check(inputs)?;
        let failed = |error| InferError::Failed { source: EngineError::of(&error) };
        let values = inputs
            .iter()
            .map(|tensor| Ok(convert::to_engine(tensor)?.into_tvalue()))
            .collect::<TractResult<TVec<TValue>>>()
            .map_err(failed)?;

        // Taken out, so that only a run that went well leaves a state behind.
        let state = self.state.take();
        let model = &self.model;
        let at = Cell::new(None);
        let done = caught(|| -> TractResult<(TypedSimpleState, Vec<Tensor>)> {
            let mut state = match state {
                Some(state) => state,
                None => model.plan().spawn()?,
            };
            let outputs = state.run_plan_with_eval(values, |context, state, node, inputs| {
                at.set(Some(node.id));
                plan::eval(context, state, node, inputs)
            })?;
            at.set(None);
            let outputs =
                outputs.iter().map(|value| convert::from_engine(value)).collect::<TractResult<_>>()?;
            Ok((state, outputs))
        });
        let panicked = |message| {
            let node = at.get().map(|id| model.plan().model().node(id));
            let at = node.map(|node| format!("node {:?} ({}): ", node.name, node.op.name()));
            InferError::Panicked { message: format!("{}{message}", at.unwrap_or_default()) }
        };
        let (state, outputs) = done.map_err(panicked)?.map_err(failed)?;
        self.state = Some(state).filter(|_| !self.model.carries_state());
        Ok(outputs)
    }

    fn check(&self, inputs: &[&Tensor]) -> Result<(), InferError> {
        let specs = self.model.inputs();
        if inputs.len() != specs.len() {
            return Err(InferError::InputCount {
                seen: inputs.len(),
                expected: specs.len(),
                names: specs.iter().map(|spec| spec.name.clone()).collect(),
            });
        }
        for (tensor, spec) in inputs.iter().zip(specs) {
            if tensor.data_type() != spec.data_type {
                return Err(InferError::InputType {
                    name: spec.name.clone(),
                    seen: tensor.data_type(),
                    expected: spec.data_type,
                });
            }
            // `concretise` keeps the product of a spec's shape far from overflow.
            if tensor.shape != spec.shape || tensor.len() != spec.shape.iter().product::<usize>() {
                return Err(InferError::InputShape {
                    name: spec.name.clone(),
                    seen: tensor.shape.clone(),
                    elements: tensor.len(),
                    expected: spec.shape.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Data, Reason};
    use crate::engine::sample;

    const fn may_move_to_another_thread<T: Send>() {}
    const fn may_be_shared<T: Send + Sync>() {}
    const _: () = may_move_to_another_thread::<Session>();
    const _: () = may_be_shared::<Model>();

    #[test]
    fn a_small_network_gives_its_known_answer() {
        // relu(x · [[1, 2], [3, 4]] + [-5, 1])
        let mut session = sample::relu_layer().model().session();
        let outputs = session.run(&[&Tensor::f32(&[1, 2], vec![1.0, 1.0])]).unwrap();
        assert_eq!(outputs, [Tensor::f32(&[1, 2], vec![0.0, 7.0])]);
    }

    #[test]
    fn a_panic_costs_one_run_and_the_next_one_works() {
        let mut session = sample::placed().model().session();
        let numbers = |values: &[i64]| Tensor { shape: vec![values.len()], data: Data::I64(values.to_vec()) };
        assert_eq!(session.run(&[&numbers(&[2])]).unwrap(), [numbers(&[0, 0, 6])]);
        let error = session.run(&[&numbers(&[7])]).unwrap_err();
        assert_eq!(error.reason(), Reason::InferPanicked, "{error}");
        assert!(error.to_string().contains("node \"y\" (ScatterElements): "), "{error}");
        assert_eq!(session.run(&[&numbers(&[1])]).unwrap(), [numbers(&[0, 6, 0])]);
    }

    #[test]
    fn what_does_not_fit_is_named_with_both_values() {
        let mut session = sample::relu_layer().model().session();
        let message = session.run(&[]).unwrap_err().to_string();
        assert!(message.contains("0 input tensors") && message.contains("has 1: x"), "{message}");
        let message = session.run(&[&Tensor::zeros(&[2, 2])]).unwrap_err().to_string();
        assert!(message.contains("[2, 2]") && message.contains("[1, 2]"), "{message}");
        let bytes = Tensor { shape: vec![1, 2], data: Data::U8(vec![1, 2]) };
        let message = session.run(&[&bytes]).unwrap_err().to_string();
        assert!(message.contains("is u8") && message.contains("wants f32"), "{message}");
        let torn = Tensor { shape: vec![1, 2], data: Data::F32(vec![1.0]) };
        assert!(session.run(&[&torn]).is_err());
        assert!(session.run(&[&Tensor::zeros(&[1, 2])]).is_ok());
    }

    #[test]
    fn nothing_of_one_run_reaches_the_next() {
        let mut session = sample::lstm().model().session();
        let sample = Tensor::f32(&[3, 1, 1], vec![1.0, -1.0, 0.5]);
        let state = Tensor::zeros(&[1, 1, 2]);
        let first = session.run(&[&sample, &state, &state]).unwrap();
        assert_eq!(session.run(&[&sample, &state, &state]).unwrap(), first);
        assert_ne!(session.run(&[&sample, &first[1], &first[2]]).unwrap(), first);
    }

    #[test]
    fn a_fused_gru_forgets_as_well() {
        let mut session = sample::gru(2).model().session();
        let sample = Tensor::f32(&[4, 1, 2], vec![1.0, -1.0, 0.5, 2.0, 0.1, 0.3, -0.7, 1.5]);
        let state = Tensor::zeros(&[1, 1, 2]);
        let first = session.run(&[&sample, &state]).unwrap();
        assert_eq!(session.run(&[&sample, &state]).unwrap(), first);
        assert_ne!(session.run(&[&sample, &first[1]]).unwrap(), first);
    }

    #[test]
    fn a_layer_that_runs_backwards_gives_the_forward_answers_of_the_series_turned_round() {
        let series = |values: [f32; 3]| Tensor::f32(&[3, 1, 1], values.to_vec());
        let state = Tensor::f32(&[1, 1, 2], vec![0.3, -0.2]);
        let mut forward = sample::recurrent("forward").model().session();
        let mut reverse = sample::recurrent("reverse").model().session();
        let theirs = forward.run(&[&series([0.5, -1.0, 1.0]), &state, &state]).unwrap();
        let ours = reverse.run(&[&series([1.0, -1.0, 0.5]), &state, &state]).unwrap();
        let turned: Vec<&[f32]> = theirs[0].as_f32().unwrap().chunks(2).rev().collect();
        for (ours, theirs) in [
            (ours[0].as_f32().unwrap(), turned.concat()),
            (ours[1].as_f32().unwrap(), theirs[1].as_f32().unwrap().to_vec()),
            (ours[2].as_f32().unwrap(), theirs[2].as_f32().unwrap().to_vec()),
        ] {
            assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-6), "{ours:?} and {theirs:?}");
        }
    }
}
