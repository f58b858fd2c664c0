//! HannWindow, HammingWindow, BlackmanWindow (opset 17) and MelWeightMatrix (opset 17), whose size is
//! an input: constant or not.
//!
//! Source: ONNX, Operators.md. window[n] = a0 − a1·cos(2πn/N) + a2·cos(4πn/N), N the size when
//! `periodic`, size − 1 otherwise. tract wants the size to be a constant (0.23.9).

use std::f64::consts::TAU;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, seen, wrap};
use super::values::{floats, from_floats, ints};
use crate::engine::untrusted::graph::MAX_ELEMENTS;

#[derive(Debug)]
struct Window {
    name: &'static str,
    terms: [f64; 3],
    periodic: bool,
    to: DatumType,
}

fn window(context: &ParsingContext<'_>, node: &NodeProto, name: &'static str, terms: [f64; 3]) -> Built {
    let periodic = node.get_attr_opt::<i64>("periodic")?.unwrap_or(1) != 0;
    let to = node.get_attr_opt("output_datatype")?.unwrap_or(DatumType::F32);
    wrap(context, node, Window { name, terms, periodic, to })
}

pub(super) fn hann(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    window(context, node, "HannWindow", [0.5, 0.5, 0.0])
}

pub(super) fn hamming(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    window(context, node, "HammingWindow", [25.0 / 46.0, 1.0 - 25.0 / 46.0, 0.0])
}

pub(super) fn blackman(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    window(context, node, "BlackmanWindow", [0.42, 0.5, 0.08])
}

impl Literal for Window {
    fn name(&self) -> &'static str {
        self.name
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let size = length(inputs.need(0)?)?;
        let whole = if self.periodic { size } else { size.saturating_sub(1).max(1) };
        let at = |n: usize| {
            let turn = TAU * n as f64 / whole as f64;
            self.terms[0] - self.terms[1] * turn.cos() + self.terms[2] * (2.0 * turn).cos()
        };
        Ok(vec![from_floats(self.to, &[size], &(0..size).map(at).collect::<Vec<_>>())?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let size = seen(inputs, 0)?.value.as_deref().map(length).transpose()?;
        Ok(Some(vec![Form::open(self.to, vec![size.map(|size| size.to_dim())])]))
    }
}

/// The one number of a tensor that says how long another is to be.
fn length(tensor: &Tensor) -> TractResult<usize> {
    let values = ints(tensor)?;
    ensure!(values.len() == 1, "a size of {} numbers", values.len());
    let size = usize::try_from(values[0]).with_context(|| format!("a size of {}", values[0]))?;
    ensure!(size as u64 <= MAX_ELEMENTS, "a size of {size}; at most {MAX_ELEMENTS} elements are taken");
    Ok(size)
}

#[derive(Debug)]
struct MelWeightMatrix {
    to: DatumType,
}

pub(super) fn mel_weight_matrix(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let to = node.get_attr_opt("output_datatype")?.unwrap_or(DatumType::F32);
    wrap(context, node, MelWeightMatrix { to })
}

impl Literal for MelWeightMatrix {
    fn name(&self) -> &'static str {
        "MelWeightMatrix"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (bins, dft) = (length(inputs.need(0)?)?, length(inputs.need(1)?)?);
        let number = |position| -> TractResult<f64> {
            floats(inputs.need(position)?)?.first().copied().context("an empty number")
        };
        let (rate, lower, upper) = (number(2)?, number(3)?, number(4)?);
        let rows = dft / 2 + 1;
        let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / std::f64::consts::LN_10;
        let step = (mel(upper) - mel(lower)) / (bins + 2) as f64;
        let edges: Vec<usize> = (0..bins + 2)
            .map(|bin| {
                let hertz =
                    700.0 * ((mel(lower) + bin as f64 * step) / 2595.0 * std::f64::consts::LN_10).exp_m1();
                ((dft + 1) as f64 * hertz / rate).floor() as usize
            })
            .collect();
        ensure!(edges.iter().all(|edge| *edge < rows), "an edge lies above half the sample rate");
        let mut weights = vec![0.0; rows * bins];
        for bin in 0..bins {
            let [low, centre, high] = [edges[bin], edges[bin + 1], edges[bin + 2]];
            if low == centre {
                weights[centre * bins + bin] = 1.0;
            }
            for row in low..=centre {
                if centre > low {
                    weights[row * bins + bin] = (row - low) as f64 / (centre - low) as f64;
                }
            }
            for row in centre..high {
                weights[row * bins + bin] = (high - row) as f64 / (high - centre) as f64;
            }
        }
        Ok(vec![from_floats(self.to, &[rows, bins], &weights)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let known = |position| -> TractResult<Option<usize>> {
            seen(inputs, position)?.value.as_deref().map(length).transpose()
        };
        let (bins, dft) = (known(0)?, known(1)?);
        let rows = dft.map(|dft| dft / 2 + 1);
        Ok(Some(vec![Form::open(self.to, vec![rows.map(|n| n.to_dim()), bins.map(|n| n.to_dim())])]))
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::Sample;

    #[test]
    fn a_window_of_any_size_is_not_made() {
        let sample = Sample::default().input("x", DataType::I64, &[]).node("HannWindow", &["x"], &["y"], &[]);
        let mut session = sample.output("y").model().session();
        let size = |size| Tensor { shape: vec![], data: crate::base::Data::I64(vec![size]) };
        let told = session.run(&[&size(1 << 40)]).unwrap_err();
        let chain = std::iter::successors(Some(&told as &dyn std::error::Error), |error| error.source());
        let told = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        assert!(told.contains("a size of 1099511627776; at most 268435456"), "{told}");
        assert_eq!(session.run(&[&size(3)]).unwrap()[0].shape, [3]);
    }
}
