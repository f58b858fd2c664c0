//! LSTM, GRU and RNN (opset 7 to 22) with everything that the standard allows: reverse, lengths of
//! sequences, other activations, clip, `input_forget`, peepholes, either layout.
//!
//! Source: ONNX, Operators.md; the equations stand at [`Cell::step`]. tract runs the plain ones, and
//! faster; it takes `reverse` for `forward`, ignores activations and `clip`, and refuses lengths, both
//! directions with the batch in front, and a GRU of f16 (0.23.9). Those come here.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_ndarray::{
    Array1, Array2, Array3, Array4, ArrayView1, ArrayView2, Axis, Ix2, Ix3, s,
};

use super::literal::{Built, Inputs, Literal, choose, wrap};
use super::stock;
use super::values::{array, from_array, ints};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Rnn,
    Gru { linear_before_reset: bool },
    Lstm { input_forget: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Direction {
    Forward,
    Reverse,
}

#[derive(Debug)]
pub(super) struct Recurrent {
    name: &'static str,
    kind: Kind,
    directions: Vec<Direction>,
    /// f, g, h of each direction, in order.
    activations: Vec<Activation>,
    /// Whether these are the standard's own.
    as_usual: bool,
    clip: Option<f64>,
    batch_first: bool,
}

pub(super) fn rnn(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    recurrent(context, node, "RNN", Kind::Rnn, &["Tanh"])
}

pub(super) fn gru(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let linear_before_reset = node.get_attr_opt::<i64>("linear_before_reset")?.unwrap_or(0) != 0;
    recurrent(context, node, "GRU", Kind::Gru { linear_before_reset }, &["Sigmoid", "Tanh"])
}

const ALPHA: &str = "activation_alpha";
const BETA: &str = "activation_beta";

/// The usual activations of an LSTM.
pub(super) const LSTM: &[&str] = &["Sigmoid", "Tanh", "Tanh"];

pub(super) fn lstm(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let input_forget = node.get_attr_opt::<i64>("input_forget")?.unwrap_or(0) != 0;
    recurrent(context, node, "LSTM", Kind::Lstm { input_forget }, LSTM)
}

/// As the node says it.
pub(super) fn parsed(
    node: &NodeProto,
    name: &'static str,
    kind: Kind,
    usual: &[&str],
) -> TractResult<Recurrent> {
    let directions = match node.get_attr_opt::<&str>("direction")?.unwrap_or("forward") {
        "forward" => vec![Direction::Forward],
        "reverse" => vec![Direction::Reverse],
        "bidirectional" => vec![Direction::Forward, Direction::Reverse],
        other => bail!("direction {other:?}"),
    };
    let clip = node.get_attr_opt::<f32>("clip")?.map(f64::from).filter(|clip| *clip > 0.0);
    let usual: Vec<&str> = directions.iter().flat_map(|_| usual).copied().collect();
    let named = node.get_attr_opt_vec::<&str>("activations")?.filter(|names| !names.is_empty());
    let named = named.unwrap_or_else(|| usual.clone());
    ensure!(named.len() == usual.len(), "{} activations where there are {}", named.len(), usual.len());
    let as_usual = named.iter().zip(&usual).all(|(name, usual)| name.eq_ignore_ascii_case(usual));
    let alphas = node.get_attr_opt_vec::<f32>(ALPHA)?.unwrap_or_default();
    let betas = node.get_attr_opt_vec::<f32>(BETA)?.unwrap_or_default();
    // Each function that has a parameter takes the next one of the list.
    let (mut alphas, mut betas) = (alphas.into_iter(), betas.into_iter());
    let activations = named
        .iter()
        .map(|name| Activation::named(name, &mut || alphas.next(), &mut || betas.next()))
        .collect::<TractResult<_>>()?;
    let batch_first = node.get_attr_opt::<i64>("layout")?.unwrap_or(0) != 0;
    Ok(Recurrent { name, kind, directions, activations, as_usual, clip, batch_first })
}

fn recurrent(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    name: &'static str,
    kind: Kind,
    usual: &[&str],
) -> Built {
    let ours = parsed(node, name, kind, usual)?;
    let lengths = node.input.get(4).is_some_and(|name| !name.is_empty());
    let coupled = kind == (Kind::Lstm { input_forget: true });
    let reverse = ours.directions == [Direction::Reverse];
    let both_by_batch = ours.batch_first && ours.directions.len() == 2;
    if !ours.as_usual || ours.clip.is_some() || lengths || coupled || reverse || both_by_batch {
        return wrap(context, node, ours);
    }
    let begins = |position: usize| node.input.get(position).is_some_and(|name| !name.is_empty());
    if begins(5) && (name == "RNN" || name == "LSTM" && begins(6)) {
        return stock(context, node);
    }
    // tract begins with an f32 state, and ends a GRU's step with one, whatever the type.
    choose(context, node, ours, |inputs| inputs[0].is_some_and(|x| x.datum_type != DatumType::F32))
}

/// An activation with its parameters, as the standard lists them at the recurrent operators.
#[derive(Clone, Copy, Debug)]
enum Activation {
    Relu,
    Tanh,
    Sigmoid,
    Softsign,
    Softplus,
    Affine(f64, f64),
    LeakyRelu(f64),
    ThresholdedRelu(f64),
    ScaledTanh(f64, f64),
    HardSigmoid(f64, f64),
    Elu(f64),
}

impl Activation {
    fn named(
        name: &str,
        alpha: &mut dyn FnMut() -> Option<f32>,
        beta: &mut dyn FnMut() -> Option<f32>,
    ) -> TractResult<Self> {
        let mut alpha = || alpha().map(f64::from);
        let mut beta = || beta().map(f64::from);
        // The operators Affine and ScaledTanh are gone, and had none; of ThresholdedRelu it is 1, and 0 in onnxruntime.
        let given = |value: Option<f64>, list: &str| {
            value.filter(|value| !value.is_nan()).with_context(|| {
                format!(
                    "activation {name:?} without a number for it in {list}: the standard and onnxruntime do not agree \
                     on a default; write it"
                )
            })
        };
        Ok(match name.to_lowercase().as_str() {
            "relu" => Self::Relu,
            "tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "softsign" => Self::Softsign,
            "softplus" => Self::Softplus,
            "affine" => Self::Affine(given(alpha(), ALPHA)?, given(beta(), BETA)?),
            "leakyrelu" => Self::LeakyRelu(alpha().unwrap_or(0.01)),
            "thresholdedrelu" => Self::ThresholdedRelu(given(alpha(), ALPHA)?),
            "scaledtanh" => Self::ScaledTanh(given(alpha(), ALPHA)?, given(beta(), BETA)?),
            "hardsigmoid" => Self::HardSigmoid(alpha().unwrap_or(0.2), beta().unwrap_or(0.5)),
            "elu" => Self::Elu(alpha().unwrap_or(1.0)),
            _ => bail!("activation {name:?}"),
        })
    }

    fn of(self, x: f64) -> f64 {
        match self {
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Tanh => x.tanh(),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Softplus if x.is_nan() => x,
            Self::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Self::Affine(alpha, beta) => alpha * x + beta,
            Self::LeakyRelu(alpha) => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Self::ThresholdedRelu(alpha) => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
            Self::ScaledTanh(alpha, beta) => alpha * (beta * x).tanh(),
            Self::HardSigmoid(alpha, beta) => (alpha * x + beta).clamp(0.0, 1.0),
            Self::Elu(alpha) => {
                if x < 0.0 {
                    alpha * x.exp_m1()
                } else {
                    x
                }
            }
        }
    }
}

/// The weights of one direction.
struct Cell<'w> {
    kind: Kind,
    hidden: usize,
    w: ArrayView2<'w, f64>,
    r: ArrayView2<'w, f64>,
    /// Of the input, then of the recurrence.
    b: Option<ArrayView1<'w, f64>>,
    p: Option<ArrayView1<'w, f64>>,
    activations: &'w [Activation],
    clip: Option<f64>,
}

impl Cell<'_> {
    fn gates(&self) -> usize {
        match self.kind {
            Kind::Rnn => 1,
            Kind::Gru { .. } => 3,
            Kind::Lstm { .. } => 4,
        }
    }

    fn activated(&self, which: usize, values: &Array1<f64>) -> Array1<f64> {
        let clip = |x: f64| self.clip.map_or(x, |clip| x.clamp(-clip, clip));
        values.mapv(|x| self.activations[which].of(clip(x)))
    }

    fn bias(&self, gate: usize) -> Array1<f64> {
        let at = gate * self.hidden;
        self.b.map_or_else(|| Array1::zeros(self.hidden), |b| b.slice(s![at..at + self.hidden]).to_owned())
    }

    fn peephole(&self, gate: usize, c: &Array1<f64>) -> Array1<f64> {
        let at = gate * self.hidden;
        self.p.map_or_else(|| Array1::zeros(self.hidden), |p| &p.slice(s![at..at + self.hidden]) * c)
    }

    /// The next hidden and cell state of one sequence.
    fn step(&self, x: ArrayView1<'_, f64>, h: &Array1<f64>, c: &Array1<f64>) -> (Array1<f64>, Array1<f64>) {
        let rows = |gate: usize| s![gate * self.hidden..(gate + 1) * self.hidden, ..];
        let gates = self.gates();
        let from_x = |gate: usize| self.w.slice(rows(gate)).dot(&x) + self.bias(gate);
        let recurrent =
            |gate: usize, h: &Array1<f64>| self.r.slice(rows(gate)).dot(h) + self.bias(gates + gate);
        match self.kind {
            // h' = f(W x + Wb + R h + Rb)
            Kind::Rnn => (self.activated(0, &(from_x(0) + recurrent(0, h))), c.clone()),
            // z, r = f(…); n = g(W x + Wb + (r ⊙ h) R + Rb), or r ⊙ (R h + Rb); h' = (1 − z) ⊙ n + z ⊙ h
            Kind::Gru { linear_before_reset } => {
                let z = self.activated(0, &(from_x(0) + recurrent(0, h)));
                let r = self.activated(0, &(from_x(1) + recurrent(1, h)));
                let inner = if linear_before_reset { &r * &recurrent(2, h) } else { recurrent(2, &(&r * h)) };
                let n = self.activated(1, &(from_x(2) + inner));
                ((1.0 - &z) * n + z * h, c.clone())
            }
            // i, o, f = f(… + P c); c' = f ⊙ c + i ⊙ g(…); h' = o ⊙ h(c'), the output gate peeps at c'
            Kind::Lstm { input_forget } => {
                let i = self.activated(0, &(from_x(0) + recurrent(0, h) + self.peephole(0, c)));
                let f = match input_forget {
                    true => 1.0 - &i,
                    false => self.activated(0, &(from_x(2) + recurrent(2, h) + self.peephole(2, c))),
                };
                let new = self.activated(1, &(from_x(3) + recurrent(3, h)));
                let cell = f * c + i * new;
                let o = self.activated(0, &(from_x(1) + recurrent(1, h) + self.peephole(1, &cell)));
                // The last activation is not clipped: its input is the cell, not a gate's sum.
                (o * cell.mapv(|x| self.activations[2].of(x)), cell)
            }
        }
    }
}

impl Recurrent {
    /// What the operator gives for a series, its weights in the standard's layout; `heard` is what the recurrence
    /// is told of the hidden states of all sequences.
    pub(super) fn run(
        &self,
        inputs: &Inputs<'_>,
        [mut x, w, r]: [Array3<f64>; 3],
        heard: fn(Array2<f64>) -> Array2<f64>,
    ) -> TractResult<Vec<Tensor>> {
        if self.batch_first {
            x.swap_axes(0, 1);
        }
        let (times, batch, width) = x.dim();
        let (directions, rows, hidden) = r.dim();
        ensure!(directions == self.directions.len(), "weights of {directions} directions");
        ensure!(w.dim() == (directions, rows, width), "W of shape {:?}", w.dim());
        let two = |position| -> TractResult<Option<Array2<f64>>> {
            inputs.get(position).map(|tensor| Ok(array(tensor)?.into_dimensionality::<Ix2>()?)).transpose()
        };
        let is_lstm = matches!(self.kind, Kind::Lstm { .. });
        let b = two(3)?;
        let p = if is_lstm { two(7)? } else { None };
        let lengths = match inputs.get(4) {
            Some(lengths) => ints(lengths)?,
            None => vec![i64::try_from(times)?; batch],
        };
        ensure!(lengths.len() == batch, "{} lengths for a batch of {batch}", lengths.len());
        let lengths = lengths.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>()?;
        let longest = lengths.iter().copied().max().unwrap_or_default();
        ensure!(longest <= times, "a length of {longest} beyond {times}");
        let initial = |position: usize| -> TractResult<Array3<f64>> {
            let Some(state) = inputs.get(position) else {
                return Ok(Array3::zeros((directions, batch, hidden)));
            };
            let mut state = three(state)?;
            if self.batch_first {
                state.swap_axes(0, 1);
            }
            ensure!(
                state.dim() == (directions, batch, hidden),
                "an initial state of shape {:?}",
                state.dim()
            );
            Ok(state)
        };
        let mut h = initial(5)?;
        let mut c = if is_lstm { initial(6)? } else { Array3::zeros((directions, batch, hidden)) };
        let mut y = Array4::<f64>::zeros((times, directions, batch, hidden));
        // A sequence of no steps ends in zeros whatever it begins with: the standard is silent, onnxruntime does so.
        for (sequence, _) in lengths.iter().enumerate().filter(|(_, length)| **length == 0) {
            h.slice_mut(s![.., sequence, ..]).fill(0.0);
            c.slice_mut(s![.., sequence, ..]).fill(0.0);
        }
        let functions = self.activations.len() / directions;
        for (direction, order) in self.directions.iter().enumerate() {
            let of = |matrix: &Option<Array2<f64>>| {
                matrix.as_ref().map(|matrix| matrix.index_axis(Axis(0), direction).to_owned())
            };
            let (b, p) = (of(&b), of(&p));
            let cell = Cell {
                kind: self.kind,
                hidden,
                w: w.index_axis(Axis(0), direction),
                r: r.index_axis(Axis(0), direction),
                b: b.as_ref().map(|b| b.view()),
                p: p.as_ref().map(|p| p.view()),
                activations: &self.activations[direction * functions..(direction + 1) * functions],
                clip: self.clip,
            };
            ensure!(rows == cell.gates() * hidden, "R of shape {:?}", r.dim());
            ensure!(cell.b.is_none_or(|b| b.len() == 2 * rows), "B of another length");
            for step in 0..longest {
                let told = heard(h.index_axis(Axis(0), direction).to_owned());
                // Behind the end of a sequence Y is 0 and the state stays.
                for (sequence, length) in lengths.iter().enumerate().filter(|(_, length)| step < **length) {
                    let time = if *order == Direction::Reverse { length - 1 - step } else { step };
                    let before = c.slice(s![direction, sequence, ..]).to_owned();
                    let told = told.index_axis(Axis(0), sequence).to_owned();
                    let (state, inner) = cell.step(x.slice(s![time, sequence, ..]), &told, &before);
                    y.slice_mut(s![time, direction, sequence, ..]).assign(&state);
                    h.slice_mut(s![direction, sequence, ..]).assign(&state);
                    c.slice_mut(s![direction, sequence, ..]).assign(&inner);
                }
            }
        }
        let datum_type = inputs.need(0)?.datum_type();
        if self.batch_first {
            h.swap_axes(0, 1);
            c.swap_axes(0, 1);
            y = y.permuted_axes([2, 0, 1, 3]);
        }
        let mut outputs =
            vec![from_array(datum_type, &y.into_dyn())?, from_array(datum_type, &h.into_dyn())?];
        if is_lstm {
            outputs.push(from_array(datum_type, &c.into_dyn())?);
        }
        Ok(outputs)
    }
}

pub(super) fn three(tensor: &Tensor) -> TractResult<Array3<f64>> {
    Ok(array(tensor)?.into_dimensionality::<Ix3>()?)
}

impl Literal for Recurrent {
    fn name(&self) -> &'static str {
        self.name
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let all = [three(inputs.need(0)?)?, three(inputs.need(1)?)?, three(inputs.need(2)?)?];
        self.run(inputs, all, |h| h)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    #[test]
    fn both_directions_with_the_batch_in_front_are_those_with_the_time_in_front() {
        for (operator, gates) in [("RNN", 1), ("GRU", 3), ("LSTM", 4)] {
            let numbers = |count: u64| (0..count).map(|at| (at as f32 * 0.7).sin()).collect::<Vec<_>>();
            let (w, r) = (numbers(gates * 12), numbers(gates * 18));
            let with = |layout| {
                [
                    Attribute::Int("hidden_size", 3),
                    Attribute::Text("direction", "bidirectional"),
                    Attribute::Int("layout", layout),
                ]
            };
            let perm = |axes| [Attribute::Ints("perm", axes)];
            let sample = Sample::default().input("x", DataType::F32, &[2, 4, 2]);
            let sample = sample.weights("w", &[2, gates * 3, 2], &w).weights("r", &[2, gates * 3, 3], &r);
            let model = sample
                .node("Transpose", &["x"], &["t"], &perm(&[1, 0, 2]))
                .node(operator, &["x", "w", "r"], &["y", "h"], &with(1))
                .node(operator, &["t", "w", "r"], &["by_time", "last"], &with(0))
                .node("Transpose", &["by_time"], &["by_batch"], &perm(&[2, 0, 1, 3]))
                .node("Transpose", &["last"], &["of_batch"], &perm(&[1, 0, 2]));
            let model = ["y", "by_batch", "h", "of_batch"].iter().fold(model, |all, name| all.output(name));
            let x = Tensor::f32(&[2, 4, 2], numbers(16));
            let answer = model.model().session().run(&[&x]).unwrap();
            for pair in answer.chunks(2) {
                let (ours, theirs) = (pair[0].as_f32().unwrap(), pair[1].as_f32().unwrap());
                assert_eq!(pair[0].shape, pair[1].shape, "{operator}");
                assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{operator}: {answer:?}");
            }
        }
    }

    fn layer(shape: &[i64], with: &[Attribute<'_>]) -> Sample {
        let sample = Sample::default().input("x", DataType::F32, shape);
        let sample = sample.weights("w", &[1, 1, 1], &[1.0]).weights("r", &[1, 1, 1], &[0.5]);
        let sample = sample.small_integers("lengths", &[0, 2]).weights("before", &[1, 2, 1], &[7.0, 7.0]);
        sample
            .node("RNN", &["x", "w", "r", "", "lengths", "before"], &["y", "h"], with)
            .output("y")
            .output("h")
    }

    #[test]
    fn an_activation_without_a_default_needs_its_numbers() {
        fn with<'n>(names: &'n [&'n str]) -> [Attribute<'n>; 2] {
            [Attribute::Texts("activations", names), Attribute::Int("hidden_size", 1)]
        }
        for name in ["Affine", "ThresholdedRelu", "ScaledTanh"] {
            let told = layer(&[2, 2, 1], &with(&[name])).refusal();
            let lacks = format!("activation {name:?} without a number for it in activation_alpha");
            assert!(told.contains(&lacks), "{told}");
        }
        for name in ["LeakyRelu", "HardSigmoid", "Elu"] {
            layer(&[2, 2, 1], &with(&[name])).model();
        }
        let [activations, size] = with(&["Affine"]);
        let numbers = [activations, size, Attribute::Floats("activation_alpha", &[2.0])];
        let told = layer(&[2, 2, 1], &numbers).refusal();
        assert!(told.contains("in activation_beta"), "{told}");
    }

    #[test]
    fn a_sequence_of_no_steps_ends_in_zeros_and_no_sequence_is_none() {
        let with = [Attribute::Int("hidden_size", 1)];
        let x = Tensor::f32(&[2, 2, 1], vec![1.0, 1.0, 1.0, 1.0]);
        let answer = layer(&[2, 2, 1], &with).model().session().run(&[&x]).unwrap();
        let last = (1.0_f32 + 0.5 * 4.5_f32.tanh()).tanh();
        let h = answer[1].as_f32().unwrap();
        assert!(h[0] == 0.0 && (h[1] - last).abs() < 1e-6, "{h:?}");
        for shape in [[0, 2, 1], [2, 0, 1]] {
            let told = layer(&shape, &with).refusal();
            assert!(
                told.contains("(RNN): X has the shape") && told.contains("one step of one sequence"),
                "{told}"
            );
        }
    }
}
