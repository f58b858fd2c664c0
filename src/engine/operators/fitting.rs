//! What an operator asks of its tensors' axes, looked at before tract builds on it.
//!
//! tract takes these for granted (0.23.9): a BatchNormalization of a vector overflows the stack, the DFT of a
//! scalar never ends, a pool without an axis to slide along panics. Here the node is refused with what it
//! was given and what it takes. Promise: a check refuses only what the standard refuses or has no answer for (the
//! largest of no numbers, the end of no steps); what is not known yet passes.
//!
//! Source: ONNX, Operators.md.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::patches::Windows;

/// How many axes the first input has at least, and at most.
const RANKS: &[(&str, usize, usize)] = &[
    ("AveragePool", 3, MANY),
    ("BatchNormalization", 2, MANY),
    ("Col2Im", 3, 3),
    ("Concat", 1, MANY),
    ("Conv", 3, MANY),
    ("ConvInteger", 3, MANY),
    ("ConvTranspose", 3, MANY),
    ("CumSum", 1, MANY),
    ("DFT", 2, MANY),
    ("DepthToSpace", 4, 4),
    ("Det", 2, MANY),
    ("EyeLike", 2, 2),
    ("GRU", 3, 3),
    ("Gather", 1, MANY),
    ("GatherElements", 1, MANY),
    ("GatherND", 1, MANY),
    ("Gemm", 2, 2),
    ("GlobalAveragePool", 3, MANY),
    ("GlobalLpPool", 3, MANY),
    ("GlobalMaxPool", 3, MANY),
    ("GridSample", 3, MANY),
    ("GroupNormalization", 3, MANY),
    ("InstanceNormalization", 3, MANY),
    ("LRN", 3, MANY),
    ("LSTM", 3, 3),
    ("LayerNormalization", 1, MANY),
    ("LpPool", 3, MANY),
    ("MatMul", 1, MANY),
    ("MatMulInteger", 1, MANY),
    ("MaxPool", 3, MANY),
    ("MaxRoiPool", 4, 4),
    ("MaxUnpool", 3, MANY),
    ("NegativeLogLikelihoodLoss", 2, MANY),
    ("QLinearConv", 3, MANY),
    ("QLinearMatMul", 1, MANY),
    ("RMSNormalization", 1, MANY),
    ("RNN", 3, 3),
    ("ReverseSequence", 2, MANY),
    ("RoiAlign", 4, 4),
    ("STFT", 2, 3),
    ("ScatterElements", 1, MANY),
    ("ScatterND", 1, MANY),
    ("Slice", 1, MANY),
    ("SoftmaxCrossEntropyLoss", 2, MANY),
    ("SpaceToDepth", 4, 4),
    ("Split", 1, MANY),
    ("TopK", 1, MANY),
    ("Trilu", 2, MANY),
];

const MANY: usize = usize::MAX;

/// Operators whose `axis` is one of the first input's.
const ALONG: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "Concat",
    "Gather",
    "GatherElements",
    "Hardmax",
    "LayerNormalization",
    "LogSoftmax",
    "LpNormalization",
    "RMSNormalization",
    "ScatterElements",
    "Softmax",
    "Split",
    "TopK",
];

/// Operators that slide a window along all axes behind the second.
const SLIDING: &[&str] =
    &["AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "MaxUnpool", "QLinearConv"];

/// What one node asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Fitting {
    ranks: Option<(usize, usize)>,
    /// An `axis`, and whether the place behind the last one counts as well (Flatten).
    axis: Option<(i64, bool)>,
    /// Names of lists with how many numbers they have for each axis that a window slides along.
    sliding: Vec<(&'static str, usize, Vec<i64>)>,
    /// Numbers that something is divided by.
    divisors: Vec<(&'static str, i64)>,
    unsqueezes: bool,
    is_power: bool,
    is_recurrent: bool,
    /// A pool's windows, and whether one that lies in the padding only has a value.
    windows: Option<(Arc<Windows>, bool)>,
    /// A convolution, and which of its inputs the weights are.
    convolution: Option<(usize, NodeProto)>,
    is_global: bool,
}

impl Fitting {
    pub(super) fn of(node: &NodeProto) -> TractResult<Self> {
        let mut fitting = Self::default();
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Ok(fitting);
        }
        let operator = node.op_type.as_str();
        let int = |name: &str| node.get_attr_opt::<i64>(name);
        let ints = |name: &str| node.get_attr_opt_vec::<i64>(name);
        fitting.ranks = RANKS.iter().find(|(name, ..)| *name == operator).map(|(_, low, high)| (*low, *high));
        fitting.axis = match operator {
            "Flatten" => int("axis")?.or(Some(1)).map(|axis| (axis, true)),
            _ if ALONG.contains(&operator) => int("axis")?.map(|axis| (axis, false)),
            _ => None,
        };
        if SLIDING.contains(&operator) {
            for (name, each) in [("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("pads", 2)] {
                fitting.sliding.extend(ints(name)?.map(|list| (name, each, list)));
            }
        }
        let divisors = match operator {
            "DepthToSpace" | "SpaceToDepth" => &["blocksize"][..],
            "GroupNormalization" => &["num_groups"],
            "Conv" | "ConvInteger" | "ConvTranspose" | "QLinearConv" => &["group"],
            _ => &[],
        };
        for name in divisors {
            fitting.divisors.extend(int(name)?.map(|value| (*name, value)));
        }
        fitting.unsqueezes = operator == "Unsqueeze";
        fitting.is_power = operator == "Pow";
        fitting.is_recurrent = matches!(operator, "GRU" | "LSTM" | "RNN");
        if matches!(operator, "AveragePool" | "LpPool" | "MaxPool") {
            let zeros = operator == "LpPool" || int("count_include_pad")?.is_some_and(|yes| yes != 0);
            fitting.windows = Some((Arc::new(Windows::of(node)?), zeros));
        }
        fitting.is_global = matches!(operator, "GlobalAveragePool" | "GlobalMaxPool");
        fitting.convolution = match operator {
            "Conv" | "ConvInteger" => Some((1, node.clone())),
            "QLinearConv" => Some((3, node.clone())),
            _ => None,
        };
        Ok(fitting)
    }

    /// Refuses inputs that do not fit: their shapes and values, as far as they are known.
    pub(super) fn check(&self, at: &str, inputs: &[(Option<usize>, Option<Arc<Tensor>>)]) -> TractResult<()> {
        for (name, value) in &self.divisors {
            ensure!(*value > 0, "{at}: {name} is {value}; it must be 1 at least");
        }
        if self.is_power {
            let nothing =
                |(_, value): &(_, Option<Arc<Tensor>>)| value.as_ref().is_some_and(|value| value.len() == 0);
            ensure!(!inputs.iter().any(nothing), "{at}: a constant without elements; give it one at least");
        }
        let Some(rank) = inputs.first().and_then(|(rank, _)| *rank) else { return Ok(()) };
        if let Some((low, high)) = self.ranks {
            let wanted = match (low, high) {
                (low, MANY) => format!("{low} or more"),
                (low, _) if low == high => format!("{low}"),
                _ => format!("{low} to {high}"),
            };
            ensure!(
                (low..=high).contains(&rank),
                "{at} takes a tensor of {wanted} axes; it is given one of {rank}"
            );
        }
        if let Some((axis, behind)) = self.axis {
            within(at, axis, rank, behind)?;
        }
        for (name, each, list) in &self.sliding {
            let wanted = each * rank.saturating_sub(2);
            ensure!(
                list.len() == wanted,
                "{at}: {name} has {} numbers; a tensor of {rank} axes takes {wanted}",
                list.len()
            );
            ensure!(
                *name == "pads" || list.iter().all(|length| *length >= 1),
                "{at}: {name} is {list:?}; each must be 1 at least"
            );
        }
        if self.unsqueezes
            && let Some((_, Some(axes))) = inputs.get(1)
        {
            let axes = super::values::ints(axes)?;
            axes.iter().try_for_each(|axis| within(at, *axis, rank + axes.len(), false))?;
        }
        Ok(())
    }
}

impl Fitting {
    /// Refuses lengths that do not fit, where all of an input's are known.
    pub(super) fn check_lengths(&self, at: &str, inputs: &[Option<Vec<usize>>]) -> TractResult<()> {
        let lengths = |slot: usize| inputs.get(slot).and_then(Option::as_ref);
        if self.is_recurrent {
            for (slot, name) in [(0, "X"), (1, "W"), (2, "R")] {
                ensure!(
                    !lengths(slot).is_some_and(|lengths| lengths.contains(&0)),
                    "{at}: {name} has the shape {:?}; a recurrent layer takes one step of one sequence at least, with \
                     one number and one hidden number",
                    lengths(slot)
                );
            }
        }
        let of_space = |slot: usize| lengths(slot).and_then(|lengths| lengths.get(2..));
        if let Some(space) = of_space(0).filter(|_| self.is_global) {
            ensure!(!space.contains(&0), "{at}: a picture of {space:?}; it takes one place at least");
        }
        if let Some((slot, node)) = &self.convolution
            && let (Some(space), Some(kernel)) = (of_space(0), of_space(*slot))
            && space.len() == kernel.len()
            && !kernel.contains(&0)
        {
            let windows = Windows::of_kernel(node, kernel.to_vec())?;
            windows.check(space, true).map_err(|error| error.context(at.to_owned()))?;
        }
        if let (Some((windows, zeros)), Some(lengths)) = (&self.windows, lengths(0)) {
            windows
                .check(lengths.get(2..).unwrap_or_default(), *zeros)
                .map_err(|error| error.context(at.to_owned()))?;
        }
        Ok(())
    }
}

fn within(at: &str, axis: i64, rank: usize, behind: bool) -> TractResult<()> {
    // A scalar counts as one number along its only axis, where an operator takes scalars at all.
    let count = rank.max(1) as i64;
    let last = if behind { rank as i64 } else { count - 1 };
    let first = if behind { -(rank as i64) } else { -count };
    ensure!(
        (first..=last).contains(&axis),
        "{at}: axis is {axis}; a tensor of {rank} axes has {first} to {last}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::base::DataType;
    use crate::engine::sample::{Attribute, Sample};

    /// What is said of one operator that is given one tensor of this shape.
    fn refusal(operator: &str, shape: &[i64], with: &[Attribute<'_>]) -> String {
        let constants = if operator == "BatchNormalization" { &["w"; 4][..] } else { &[] };
        let inputs: Vec<&str> = ["x"].iter().chain(constants).copied().collect();
        let sample = Sample::default().input("x", DataType::F32, shape).weights("w", &[1], &[1.0]);
        sample.node(operator, &inputs, &["y"], with).output("y").refusal()
    }

    #[test]
    fn too_few_axes_are_refused_by_the_node_and_never_end_the_process() {
        for (operator, shape) in [
            ("BatchNormalization", &[3][..]),
            ("BatchNormalization", &[]),
            ("DFT", &[]),
            ("DFT", &[4]),
            ("LayerNormalization", &[]),
            ("GlobalMaxPool", &[2, 3]),
            ("Trilu", &[3]),
            ("Split", &[]),
        ] {
            let refusal = refusal(operator, shape, &[]);
            let told = format!("({operator}) takes a tensor of ");
            assert!(
                refusal.contains(&told) && refusal.contains(&format!("one of {}", shape.len())),
                "{refusal}"
            );
        }
    }

    #[test]
    fn attributes_that_do_not_fit_the_axes_are_refused_with_both_numbers() {
        let axis = |axis| [Attribute::Int("axis", axis)];
        let told = refusal("Flatten", &[2, 3], &axis(3));
        assert!(told.contains("axis is 3; a tensor of 2 axes has -2 to 2"), "{told}");
        let told = refusal("Softmax", &[2, 3], &axis(i64::MIN));
        assert!(told.contains("a tensor of 2 axes has -2 to 1"), "{told}");
        let told = refusal("AveragePool", &[1, 1, 4], &[Attribute::Ints("kernel_shape", &[2, 2])]);
        assert!(told.contains("kernel_shape has 2 numbers; a tensor of 3 axes takes 1"), "{told}");
        let told = refusal("MaxPool", &[1, 1, 4], &[Attribute::Ints("kernel_shape", &[0])]);
        assert!(told.contains("kernel_shape is [0]"), "{told}");
        let told = refusal("DepthToSpace", &[1, 4, 2, 2], &[Attribute::Int("blocksize", 0)]);
        assert!(told.contains("blocksize is 0"), "{told}");
    }

    #[test]
    fn a_convolution_that_fits_nowhere_is_refused() {
        let of = |length: i64, with: &[Attribute<'_>]| {
            let sample = Sample::default().input("x", DataType::F32, &[1, 1, length]);
            let sample = sample.weights("w", &[1, 1, 3], &[1.0, 2.0, 3.0]);
            sample.node("Conv", &["x", "w"], &["y"], with).output("y").refusal()
        };
        let told = of(2, &[]);
        assert!(told.contains("(Conv)") && told.contains("a window spans 3, the axis 2"), "{told}");
        assert!(of(4, &[Attribute::Ints("dilations", &[2])]).contains("a window spans 5, the axis 4"));
        for (length, with) in [
            (3, vec![]),
            (2, vec![Attribute::Ints("pads", &[0, 1])]),
            (1, vec![Attribute::Text("auto_pad", "SAME_UPPER")]),
        ] {
            let told = of(length, &with);
            assert!(told.contains("it runs"), "{told}");
        }
    }

    #[test]
    fn pools_without_a_window_or_with_one_of_padding_only_are_refused() {
        let with = |kernel, dilations, pads, ceil| {
            let lists = [("kernel_shape", kernel), ("dilations", dilations), ("pads", pads)];
            let mut with = lists.map(|(name, list)| Attribute::Ints(name, list)).to_vec();
            with.push(Attribute::Int("ceil_mode", ceil));
            with
        };
        for operator in ["AveragePool", "MaxPool", "LpPool"] {
            for ceil in [0, 1] {
                let told = refusal(operator, &[1, 1, 2], &with(&[4], &[2], &[1, 3], ceil));
                assert!(told.contains("a window spans 7, the axis 6 with its padding"), "{operator}: {told}");
            }
        }
        for operator in ["AveragePool", "MaxPool"] {
            for pads in [&[2, 0], &[0, 2]] {
                let told = refusal(operator, &[1, 1, 4], &with(&[2], &[1], pads, 0));
                assert!(told.contains("lies in the padding only"), "{operator}: {told}");
            }
            // One place of each window lies inside, until the axis is shorter than a step.
            let told = refusal(operator, &[1, 1, 3], &with(&[2], &[3], &[3, 3], 0));
            assert!(told.contains("it runs"), "{operator}: {told}");
            let told = refusal(operator, &[1, 1, 1], &with(&[2], &[3], &[1, 2], 0));
            assert!(told.contains("lies in the padding only"), "{operator}: {told}");
        }
        for operator in ["GlobalAveragePool", "GlobalMaxPool"] {
            let told = refusal(operator, &[1, 1, 0, 2], &[]);
            assert!(told.contains("a picture of [0, 2]"), "{operator}: {told}");
        }
        let mut zeros = with(&[2], &[1], &[2, 2], 0);
        zeros.push(Attribute::Int("count_include_pad", 1));
        assert!(refusal("AveragePool", &[1, 1, 4], &zeros).contains("it runs"));
    }
}
