//! What a quantised layer ends with: operators of ours that `whole_sums` puts into a graph, and no file
//! can name.
//!
//! `Requantized`: q = saturate(round_half_even(clip(sum · factor)) + zero) of sums of whole numbers, with
//! one factor x_scale·w_scale ÷ y_scale in f32 for the tensor or for each channel.
//! `QuantizedSum`: a·(a_scale ÷ y_scale) + b·(b_scale ÷ y_scale) + what the zero points come to.
//! Source: onnxruntime's QLinearConv, QGemm and QLinearAdd, whose order of f32 operations this is.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Form, Inputs, Literal, Seen, seen, wrap};
use super::quantized::range;
use super::values::{axis, pairs};

/// Their names in a graph; the space is in no operator's name.
pub(in crate::engine) const REQUANTIZED: &str = "requantized sums";
pub(in crate::engine) const QUANTIZED_SUM: &str = "quantized sum";

/// Lets a graph that was rewritten be read.
pub(in crate::engine) fn register(onnx: &mut Onnx) {
    onnx.op_register.insert(REQUANTIZED, requantized);
    onnx.op_register.insert(QUANTIZED_SUM, quantized_sum);
}

/// The last step of both: clip, round, move by the zero point, saturate.
#[derive(Clone, Debug)]
struct Steps {
    to: DatumType,
    zero: i32,
    /// Bounds of the scaled number: those of the type around the zero point, or narrower.
    least: f32,
    most: f32,
}

impl Steps {
    fn of(node: &NodeProto) -> TractResult<Self> {
        let to: DatumType = node.get_attr("to")?;
        let zero: i64 = node.get_attr("zero")?;
        let (low, high) = range(to)?;
        Ok(Self {
            to,
            zero: i32::try_from(zero)?,
            least: node.get_attr::<f32>("least")?.max((low - zero as f64) as f32),
            most: node.get_attr::<f32>("most")?.min((high - zero as f64) as f32),
        })
    }

    fn quantised(&self, scaled: f32) -> i32 {
        // Above 2^22 an f32 has no place for a fraction: adding this rounds, halves to the even neighbour.
        const ROUNDS: f32 = 12_582_912.0;
        let bounded = scaled.max(self.least).min(self.most);
        ((bounded + ROUNDS) - ROUNDS) as i32 + self.zero
    }

    fn tensor(&self, shape: &[usize], scaled: impl Iterator<Item = f32>) -> TractResult<Tensor> {
        match self.to {
            DatumType::U8 => {
                Tensor::from_shape(shape, &scaled.map(|x| self.quantised(x) as u8).collect::<Vec<_>>())
            }
            DatumType::I8 => {
                Tensor::from_shape(shape, &scaled.map(|x| self.quantised(x) as i8).collect::<Vec<_>>())
            }
            other => bail!("quantised to {other:?}"),
        }
    }
}

#[derive(Debug)]
struct Requantized {
    factors: Vec<f32>,
    /// Of the factors, where there are several.
    axis: i64,
    steps: Steps,
}

fn requantized(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let factors = node.get_attr_vec("factors")?;
    wrap(context, node, Requantized { factors, axis: node.get_attr("axis")?, steps: Steps::of(node)? })
}

impl Literal for Requantized {
    fn name(&self) -> &'static str {
        "Requantized"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let sums = inputs.need(0)?;
        let plain = sums.try_as_plain_ram()?;
        let values = plain.as_slice::<f32>()?;
        let quantised = match &*self.factors {
            &[factor] => self.steps.tensor(sums.shape(), values.iter().map(|sum| sum * factor))?,
            factors => {
                let at = axis(self.axis, sums.rank())?;
                ensure!(
                    sums.shape()[at] == factors.len(),
                    "{} factors for {:?}",
                    factors.len(),
                    sums.shape()
                );
                let inner: usize = sums.shape()[at + 1..].iter().product();
                let scaled = values.chunks(inner.max(1)).zip(factors.iter().cycle());
                let scaled = scaled.flat_map(|(sums, factor)| sums.iter().map(move |sum| sum * factor));
                self.steps.tensor(sums.shape(), scaled)?
            }
        };
        Ok(vec![quantised])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        Ok(Some(vec![Form::of(self.steps.to, &seen(inputs, 0)?.shape)]))
    }
}

#[derive(Debug)]
struct QuantizedSum {
    /// Scales ÷ that of the answer.
    ratios: [f32; 2],
    /// What the three zero points add.
    fixed: f32,
    steps: Steps,
}

fn quantized_sum(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let ratios: Vec<f32> = node.get_attr_vec("ratios")?;
    let ratios = <[f32; 2]>::try_from(ratios).map_err(|_| format_err!("two ratios"))?;
    wrap(context, node, QuantizedSum { ratios, fixed: node.get_attr("fixed")?, steps: Steps::of(node)? })
}

impl Literal for QuantizedSum {
    fn name(&self) -> &'static str {
        "QuantizedSum"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (a, b) = (inputs.need(0)?, inputs.need(1)?);
        let (left, right) = (a.cast_to::<f32>()?, b.cast_to::<f32>()?);
        let (left, right) = (left.try_as_plain_ram()?, right.try_as_plain_ram()?);
        let (left, right) = (left.as_slice::<f32>()?, right.as_slice::<f32>()?);
        let [of_a, of_b] = self.ratios;
        let sum = |(a, b): (&f32, &f32)| (a * of_a + self.fixed) + b * of_b;
        if a.shape() == b.shape() {
            return Ok(vec![self.steps.tensor(a.shape(), left.iter().zip(right).map(sum))?]);
        }
        let (shape, pairs) = pairs(a.shape(), b.shape())?;
        let sums = pairs.map(|(i, j)| sum((&left[i], &right[j])));
        Ok(vec![self.steps.tensor(&shape, sums)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (a, b) = (seen(inputs, 0)?, seen(inputs, 1)?);
        Ok(Some(vec![Form::of(self.steps.to, &multi_broadcast(&[&a.shape, &b.shape])?)]))
    }
}
