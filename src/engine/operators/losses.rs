//! NegativeLogLikelihoodLoss (opset 13) and SoftmaxCrossEntropyLoss (opset 13).
//!
//! Source: ONNX, Operators.md. loss[n, d…] = −x[n, target[n, d…], d…] · weight[target]; targets equal to
//! `ignore_index` count nothing. `mean` divides by the sum of the weights that were counted.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Inputs, Literal, wrap};
use super::values::{floats, from_floats, ints};

#[derive(Clone, Copy, Debug)]
enum Reduction {
    None,
    Mean,
    Sum,
}

#[derive(Debug)]
struct Loss {
    /// The input is logits: SoftmaxCrossEntropyLoss.
    of_logits: bool,
    reduction: Reduction,
    ignore_index: Option<i64>,
}

pub(super) fn negative_log_likelihood(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    loss(context, node, false)
}

pub(super) fn softmax_cross_entropy(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    loss(context, node, true)
}

fn loss(context: &ParsingContext<'_>, node: &NodeProto, of_logits: bool) -> Built {
    let reduction = match node.get_attr_opt::<&str>("reduction")?.unwrap_or("mean") {
        "none" => Reduction::None,
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        other => bail!("reduction {other:?}"),
    };
    let ignore_index = node.get_attr_opt("ignore_index")?;
    wrap(context, node, Loss { of_logits, reduction, ignore_index })
}

impl Literal for Loss {
    fn name(&self) -> &'static str {
        if self.of_logits { "SoftmaxCrossEntropyLoss" } else { "NegativeLogLikelihoodLoss" }
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, target) = (inputs.need(0)?, inputs.need(1)?);
        let shape = x.shape();
        ensure!(shape.len() > 1, "scores of shape {shape:?} have no axis of classes");
        let (classes, inner) = (shape[1], shape[2..].iter().product::<usize>());
        let mut scores = floats(x)?;
        if self.of_logits {
            log_softmax(&mut scores, classes, inner);
        }
        let weights = inputs.get(2).map(floats).transpose()?;
        let (mut losses, mut counted) = (Vec::new(), 0.0);
        for (position, class) in ints(target)?.into_iter().enumerate() {
            if Some(class) == self.ignore_index {
                losses.push(0.0);
                continue;
            }
            let class = usize::try_from(class).ok().filter(|class| *class < classes);
            let class = class.with_context(|| format!("a target is not one of {classes} classes"))?;
            let weight = weights.as_ref().map_or(1.0, |weights| weights[class]);
            let (row, column) = (position / inner, position % inner);
            losses.push(-scores[(row * classes + class) * inner + column] * weight);
            counted += weight;
        }
        let sum = || losses.iter().sum::<f64>();
        let loss = match self.reduction {
            Reduction::None => from_floats(x.datum_type(), target.shape(), &losses)?,
            Reduction::Mean => from_floats(x.datum_type(), &[], &[sum() / counted])?,
            Reduction::Sum => from_floats(x.datum_type(), &[], &[sum()])?,
        };
        let log_probabilities = from_floats(x.datum_type(), shape, &scores)?;
        Ok(vec![loss, log_probabilities])
    }
}

/// Along the second of three axes.
fn log_softmax(values: &mut [f64], classes: usize, inner: usize) {
    for block in values.chunks_mut(classes * inner) {
        for column in 0..inner {
            let largest =
                (0..classes).fold(f64::NEG_INFINITY, |most, class| most.max(block[class * inner + column]));
            let sum: f64 = (0..classes).map(|class| (block[class * inner + column] - largest).exp()).sum();
            for class in 0..classes {
                block[class * inner + column] -= largest + sum.ln();
            }
        }
    }
}
