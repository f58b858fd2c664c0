//! LinearAttention and CausalConvWithState (opset 27): recurrences over time with a state that goes in
//! and comes out.
//!
//! Source: ONNX, Operators.md. State S of a head is d_k × d_v. Each step: S ← exp(g)·S where the rule
//! is gated; v ← β·(v − Sᵀk) where it is a delta rule; S ← S + k ⊗ v; output = scale · Sᵀq.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_ndarray::{Array3, Array4, Axis, Ix3, Ix4, concatenate, s};

use super::literal::{Built, Inputs, Literal, wrap};
use super::values::{array, floats, from_array};

#[derive(Debug)]
struct LinearAttention {
    query_heads: usize,
    heads: usize,
    scale: f64,
    gated: bool,
    delta: bool,
}

pub(super) fn linear_attention(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (gated, delta) = match node.get_attr_opt::<&str>("update_rule")?.unwrap_or("gated_delta") {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => bail!("update_rule {other:?}"),
    };
    let attention = LinearAttention {
        query_heads: node.get_attr("q_num_heads")?,
        heads: node.get_attr("kv_num_heads")?,
        scale: node.get_attr_opt::<f32>("scale")?.unwrap_or(0.0).into(),
        gated,
        delta,
    };
    let (query_heads, heads) = (attention.query_heads, attention.heads);
    ensure!(
        heads > 0 && query_heads % heads == 0,
        "{query_heads} query heads do not share {heads} key heads"
    );
    wrap(context, node, attention)
}

fn three(tensor: &Tensor) -> TractResult<Array3<f64>> {
    Ok(array(tensor)?.into_dimensionality::<Ix3>()?)
}

impl Literal for LinearAttention {
    fn name(&self) -> &'static str {
        "LinearAttention"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (query, key, value) = (three(inputs.need(0)?)?, three(inputs.need(1)?)?, three(inputs.need(2)?)?);
        let (batches, times, width) = query.dim();
        let (keys, values) = (width / self.query_heads, value.dim().2 / self.heads);
        let optional = |wanted: bool, position| match wanted {
            true => three(inputs.need(position)?).map(Some),
            false => Ok(None),
        };
        let (decay, beta) = (optional(self.gated, 4)?, optional(self.delta, 5)?);
        let mut state = match inputs.get(3) {
            Some(past) => array(past)?.into_dimensionality::<Ix4>()?,
            None => Array4::zeros((batches, self.heads, keys, values)),
        };
        ensure!(
            state.dim() == (batches, self.heads, keys, values),
            "a past state of shape {:?}",
            state.dim()
        );
        let scale = if self.scale == 0.0 { 1.0 / (keys as f64).sqrt() } else { self.scale };
        let mut output = Array3::<f64>::zeros((batches, times, self.query_heads * values));
        for batch in 0..batches {
            for time in 0..times {
                for head in 0..self.heads {
                    let mut state = state.slice_mut(s![batch, head, .., ..]);
                    if let Some(decay) = &decay {
                        let each_key = decay.dim().2 == self.heads * keys;
                        for (at, mut row) in state.outer_iter_mut().enumerate() {
                            let gate = if each_key { head * keys + at } else { head };
                            row *= decay[[batch, time, gate]].exp();
                        }
                    }
                    let of_key = key.slice(s![batch, time, head * keys..(head + 1) * keys]);
                    let mut of_value =
                        value.slice(s![batch, time, head * values..(head + 1) * values]).to_owned();
                    if let Some(beta) = &beta {
                        let rate = beta[[batch, time, if beta.dim().2 == 1 { 0 } else { head }]];
                        of_value = (of_value - state.t().dot(&of_key)) * rate;
                    }
                    for (mut row, k) in state.outer_iter_mut().zip(&of_key) {
                        row.scaled_add(*k, &of_value);
                    }
                    let shared = self.query_heads / self.heads;
                    for query_head in head * shared..(head + 1) * shared {
                        let of_query =
                            query.slice(s![batch, time, query_head * keys..(query_head + 1) * keys]);
                        let answer = state.t().dot(&of_query) * scale;
                        let at = query_head * values;
                        output.slice_mut(s![batch, time, at..at + values]).assign(&answer);
                    }
                }
            }
        }
        let of_state = inputs.get(3).unwrap_or(inputs.need(0)?).datum_type();
        let output = from_array(inputs.need(0)?.datum_type(), &output.into_dyn())?;
        Ok(vec![output, from_array(of_state, &state.into_dyn())?])
    }
}

#[derive(Debug)]
struct CausalConvWithState {
    silu: bool,
}

pub(super) fn causal_conv(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let silu = match node.get_attr_opt::<&str>("activation")?.unwrap_or("none") {
        "none" => false,
        "silu" | "swish" => true,
        other => bail!("activation {other:?}"),
    };
    wrap(context, node, CausalConvWithState { silu })
}

impl Literal for CausalConvWithState {
    fn name(&self) -> &'static str {
        "CausalConvWithState"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, weight) = (three(inputs.need(0)?)?, three(inputs.need(1)?)?);
        let bias = inputs.get(2).map(floats).transpose()?;
        let (batches, channels, length) = x.dim();
        let taps = weight.dim().2;
        ensure!(taps > 0 && weight.dim().0 == channels, "a kernel of shape {:?}", weight.dim());
        let past = match inputs.get(3) {
            Some(past) => three(past)?,
            None => Array3::zeros((batches, channels, taps - 1)),
        };
        let padded = concatenate(Axis(2), &[past.view(), x.view()])?;
        ensure!(padded.dim().2 == length + taps - 1, "a past state of shape {:?}", past.dim());
        let output = Array3::from_shape_fn((batches, channels, length), |(batch, channel, at)| {
            let sum: f64 =
                (0..taps).map(|tap| padded[[batch, channel, at + tap]] * weight[[channel, 0, tap]]).sum();
            let sum = sum + bias.as_ref().map_or(0.0, |bias| bias[channel]);
            if self.silu { sum / (1.0 + (-sum).exp()) } else { sum }
        });
        let present = padded.slice(s![.., .., length..]).to_owned();
        let datum_type = inputs.need(0)?.datum_type();
        Ok(vec![from_array(datum_type, &output.into_dyn())?, from_array(datum_type, &present.into_dyn())?])
    }
}
