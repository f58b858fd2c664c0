//! LSTM, GRU, RNN: step by step, as the standard's equations stand.

use super::Operator;
use super::call::Call;
use super::elementwise::{relu, sigmoid};
use super::value::Value;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "LSTM" => lstm,
        "GRU" => gru,
        "RNN" => rnn,
        _ => return None,
    })
}

/// An activation with its parameters, by the name that the standard gives it.
fn activation(name: &str, alpha: Option<f64>, beta: Option<f64>) -> Result<Box<dyn Fn(f64) -> f64>, String> {
    let no_default = || format!("activation {name:?} has no default");
    Ok(match name.to_lowercase().as_str() {
        "sigmoid" => Box::new(sigmoid),
        "tanh" => Box::new(f64::tanh),
        "relu" => Box::new(relu),
        "affine" => {
            let (alpha, beta) = (alpha.ok_or_else(no_default)?, beta.ok_or_else(no_default)?);
            Box::new(move |x| alpha * x + beta)
        }
        "leakyrelu" => Box::new(move |x| if x < 0.0 { alpha.unwrap_or(0.01) * x } else { x }),
        "thresholdedrelu" => Box::new(move |x| if x > alpha.unwrap_or(1.0) { x } else { 0.0 }),
        "scaledtanh" => {
            let (alpha, beta) = (alpha.ok_or_else(no_default)?, beta.ok_or_else(no_default)?);
            Box::new(move |x| alpha * (beta * x).tanh())
        }
        "hardsigmoid" => Box::new(move |x| (alpha.unwrap_or(0.2) * x + beta.unwrap_or(0.5)).clamp(0.0, 1.0)),
        "elu" => Box::new(move |x| if x < 0.0 { alpha.unwrap_or(1.0) * x.exp_m1() } else { x }),
        "softsign" => Box::new(|x| x / (1.0 + x.abs())),
        "softplus" => Box::new(|x: f64| x.exp().ln_1p()),
        other => return Err(format!("activation {other:?}")),
    })
}

/// One direction of one layer, and where it reads and writes.
struct Layer<'a> {
    call: &'a Call<'a>,
    time: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    directions: usize,
    /// Batch is the first axis.
    batch_first: bool,
    x: Vec<f64>,
    lengths: Vec<usize>,
    functions: Vec<Box<dyn Fn(f64) -> f64>>,
    clip: f64,
}

impl<'a> Layer<'a> {
    fn new(call: &'a Call<'a>, defaults: &[&str]) -> Result<Self, String> {
        let x = call.input(0)?;
        let batch_first = call.flag("layout");
        let [a, b, input] = x.shape[..] else { return Err("three axes are wanted".to_owned()) };
        let (time, batch) = if batch_first { (b, a) } else { (a, b) };
        let hidden = call.input(2)?.shape.get(2).copied().ok_or("R needs three axes")?;
        let directions = if call.text("direction", "forward") == "bidirectional" { 2 } else { 1 };
        let mut names = call.texts("activations");
        if names.is_empty() {
            names = (0..directions).flat_map(|_| defaults.iter().map(ToString::to_string)).collect();
        }
        // Parameters are handed out in order to those activations that take them.
        let mut alphas = call.floats("activation_alpha").unwrap_or_default().into_iter();
        let mut betas = call.floats("activation_beta").unwrap_or_default().into_iter();
        let functions = names.iter().map(|name| {
            let lower = name.to_lowercase();
            let takes_alpha = ["affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"]
                .contains(&lower.as_str());
            let takes_beta = ["affine", "scaledtanh", "hardsigmoid"].contains(&lower.as_str());
            let alpha = if takes_alpha { alphas.next() } else { None };
            let beta = if takes_beta { betas.next() } else { None };
            activation(name, alpha, beta)
        });
        let functions = functions.collect::<Result<Vec<_>, String>>()?;
        if functions.len() != directions * defaults.len() {
            return Err(format!("{} activations for {directions} direction(s)", functions.len()));
        }
        let lengths = match call.optional(4) {
            Some(lengths) => {
                lengths.ints()?.into_iter().map(|length| usize::try_from(length).unwrap_or(0)).collect()
            }
            None => vec![time; batch],
        };
        let clip = if call.has("clip") { call.float("clip", 0.0) } else { f64::INFINITY };
        Ok(Self {
            call,
            time,
            batch,
            input,
            hidden,
            directions,
            batch_first,
            x: x.reals()?,
            lengths,
            functions,
            clip,
        })
    }

    fn backwards(&self, direction: usize) -> bool {
        direction == 1 || self.call.text("direction", "forward") == "reverse"
    }

    fn sample(&self, t: usize, n: usize) -> &[f64] {
        let row = if self.batch_first { n * self.time + t } else { t * self.batch + n };
        &self.x[row * self.input..(row + 1) * self.input]
    }

    /// The part of an optional parameter that belongs to a direction; zeros where it is left out.
    fn parameter(&self, position: usize, direction: usize, length: usize) -> Result<Vec<f64>, String> {
        match self.call.optional(position) {
            None => Ok(vec![0.0; length]),
            Some(value) => {
                let all = value.reals()?;
                let part = all.get(direction * length..(direction + 1) * length);
                Ok(part.ok_or_else(|| format!("input {position} is {:?}", value.shape))?.to_vec())
            }
        }
    }

    /// An initial state, of one sample of the batch.
    fn initial(&self, position: usize, direction: usize, n: usize) -> Result<Vec<f64>, String> {
        let Some(value) = self.call.optional(position) else { return Ok(vec![0.0; self.hidden]) };
        let row = if self.batch_first { n * self.directions + direction } else { direction * self.batch + n };
        let all = value.reals()?;
        let part = all.get(row * self.hidden..(row + 1) * self.hidden);
        Ok(part.ok_or_else(|| format!("input {position} is {:?}", value.shape))?.to_vec())
    }

    fn clipped(&self, x: f64) -> f64 {
        x.clamp(-self.clip, self.clip)
    }

    /// Runs `step` over time for every direction and sample; gives Y and the last states.
    fn run(
        &self,
        states: &[usize],
        mut step: impl FnMut(usize, &[f64], &mut Vec<Vec<f64>>) -> Result<(), String>,
    ) -> Result<Vec<Value>, String> {
        let Self { time, batch, hidden, directions, batch_first, .. } = *self;
        let mut y = vec![0.0; time * directions * batch * hidden];
        let mut last = vec![vec![0.0; directions * batch * hidden]; states.len()];
        for direction in 0..directions {
            for n in 0..batch {
                let mut state: Vec<Vec<f64>> = states
                    .iter()
                    .map(|position| self.initial(*position, direction, n))
                    .collect::<Result<_, _>>()?;
                let length = self.lengths[n].min(time);
                if length == 0 {
                    state.iter_mut().for_each(|state| state.fill(0.0));
                }
                for step_index in 0..length {
                    let t = if self.backwards(direction) { length - 1 - step_index } else { step_index };
                    step(direction, self.sample(t, n), &mut state)?;
                    let row = if batch_first {
                        (n * time + t) * directions + direction
                    } else {
                        (t * directions + direction) * batch + n
                    };
                    y[row * hidden..(row + 1) * hidden].copy_from_slice(&state[0]);
                }
                let row = if batch_first { n * directions + direction } else { direction * batch + n };
                for (last, state) in last.iter_mut().zip(&state) {
                    last[row * hidden..(row + 1) * hidden].copy_from_slice(state);
                }
            }
        }
        let (whole, end) = if batch_first {
            (vec![batch, time, directions, hidden], vec![batch, directions, hidden])
        } else {
            (vec![time, directions, batch, hidden], vec![directions, batch, hidden])
        };
        let data_type = self.call.input(0)?.data_type;
        let mut values = vec![Value::real(data_type, &whole, y)];
        values.extend(last.into_iter().map(|last| Value::real(data_type, &end, last)));
        Ok(values)
    }
}

/// Row `row` of a matrix times a vector.
fn dot(matrix: &[f64], row: usize, vector: &[f64]) -> f64 {
    matrix[row * vector.len()..(row + 1) * vector.len()].iter().zip(vector).map(|(a, b)| a * b).sum()
}

/// Gates in the order i, o, f, c; peepholes i, o, f.
fn lstm(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let layer = Layer::new(call, &["Sigmoid", "Tanh", "Tanh"])?;
    let (h, k) = (layer.hidden, layer.input);
    let coupled = call.flag("input_forget");
    layer.run(&[5, 6], |direction, x, state| {
        let w = layer.parameter(1, direction, 4 * h * k)?;
        let r = layer.parameter(2, direction, 4 * h * h)?;
        let b = layer.parameter(3, direction, 8 * h)?;
        let p = layer.parameter(7, direction, 3 * h)?;
        let [f, g, out] = [0, 1, 2].map(|i| &layer.functions[direction * 3 + i]);
        let (before, cell) = (state[0].clone(), state[1].clone());
        for j in 0..h {
            let gate = |gate: usize| {
                let row = gate * h + j;
                dot(&w, row, x) + dot(&r, row, &before) + b[row] + b[4 * h + row]
            };
            let input = f(layer.clipped(gate(0) + p[j] * cell[j]));
            let forget =
                if coupled { 1.0 - input } else { f(layer.clipped(gate(2) + p[2 * h + j] * cell[j])) };
            let new = g(layer.clipped(gate(3)));
            let now = forget * cell[j] + input * new;
            let output = f(layer.clipped(gate(1) + p[h + j] * now));
            state[1][j] = now;
            state[0][j] = output * out(now);
        }
        Ok(())
    })
}

/// Gates in the order z, r, h.
fn gru(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let layer = Layer::new(call, &["Sigmoid", "Tanh"])?;
    let (h, k) = (layer.hidden, layer.input);
    let linear_first = call.flag("linear_before_reset");
    layer.run(&[5], |direction, x, state| {
        let w = layer.parameter(1, direction, 3 * h * k)?;
        let r = layer.parameter(2, direction, 3 * h * h)?;
        let b = layer.parameter(3, direction, 6 * h)?;
        let [f, g] = [0, 1].map(|i| &layer.functions[direction * 2 + i]);
        let before = state[0].clone();
        let gate = |gate: usize, j: usize| {
            let row = gate * h + j;
            f(layer.clipped(dot(&w, row, x) + dot(&r, row, &before) + b[row] + b[3 * h + row]))
        };
        let reset: Vec<f64> = (0..h).map(|j| gate(1, j)).collect();
        let kept: Vec<f64> = before.iter().zip(&reset).map(|(state, reset)| state * reset).collect();
        for j in 0..h {
            let update = gate(0, j);
            let row = 2 * h + j;
            let recurrent = if linear_first {
                reset[j] * (dot(&r, row, &before) + b[3 * h + row])
            } else {
                dot(&r, row, &kept) + b[3 * h + row]
            };
            let new = g(layer.clipped(dot(&w, row, x) + recurrent + b[row]));
            state[0][j] = (1.0 - update) * new + update * before[j];
        }
        Ok(())
    })
}

fn rnn(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let layer = Layer::new(call, &["Tanh"])?;
    let (h, k) = (layer.hidden, layer.input);
    layer.run(&[5], |direction, x, state| {
        let w = layer.parameter(1, direction, h * k)?;
        let r = layer.parameter(2, direction, h * h)?;
        let b = layer.parameter(3, direction, 2 * h)?;
        let before = state[0].clone();
        for j in 0..h {
            let sum = dot(&w, j, x) + dot(&r, j, &before) + b[j] + b[h + j];
            state[0][j] = (layer.functions[direction])(layer.clipped(sum));
        }
        Ok(())
    })
}
