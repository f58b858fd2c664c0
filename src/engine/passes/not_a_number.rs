//! NaN stays NaN, and −∞ is less than the least finite number.
//!
//! tract's Min, Max, Sigmoid, Tanh, Exp and their like clamp with comparisons that give the other
//! operand where one is NaN (0.23.9): a broken sensor's NaN becomes the confident answer of the sigmoid
//! at the end. NumPy and onnxruntime let it through. Its reductions begin at the least finite number.
//! Each such operator of the graph as it will run is wrapped here: where all that it reads is finite,
//! one quick look, it runs as it is; else its answer is put right. Fused into a matrix product they are
//! right already: those kernels keep the computed operand.
//!
//! Goes when tract's comparisons keep NaN.

use std::sync::OnceLock;

use tract_core::internal::*;
use tract_core::ndarray::{ArrayD, Axis, Dimension, indices};
use tract_core::ops::array::Topk;
use tract_core::ops::binary::{BinMiniOp, OptBinByScalar, OptBinChain, OptBinUnicast, TypedBinOp};
use tract_core::ops::cnn::{MaxPool, OptMaxPool, PoolSpec};
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::gru_cell::GruEpilogue;
use tract_core::ops::gru_seq::GruSeq;
use tract_core::ops::logic::IfThenElse;
use tract_core::ops::math::{Erf, Exp, Ln, Max, Min, Tanh};
use tract_core::ops::nn::{GeluApproximate, GeluExact, HardSwish, Reduce, Reducer, Sigmoid, Silu, Softmax};
use tract_core::ops::scan::OptScan;
use tract_core::tract_data::itertools::Itertools;
use tract_core::tract_linalg::reduce::Reduce as Kernel;
use tract_core::tract_linalg::routines::Func;

use super::eight_sums::eight_sums;
use super::{foot, row_by_row, shut_gates, within};

/// Wraps what needs it, loops and branches included.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        // Of loops only the optimised ones: what is not optimised is another opinion, and stays as it is.
        if node.op_is::<OptScan>() || node.op_is::<IfThenElse>() {
            within(model, id, &apply)?;
        } else if let Some(rule) = Rule::of(&*node.op)
            && model.node_input_facts(id)?[0].datum_type.is_float()
        {
            let stock = node.op.clone();
            model.node_mut(id).op = Box::new(Watched { stock, rule });
        }
    }
    Ok(())
}

/// The operator itself, where it is wrapped.
pub(super) fn unwrapped(op: &dyn TypedOp) -> &dyn TypedOp {
    op.downcast_ref::<Watched>().map_or(op, |watched| &*watched.stock)
}

/// What NaN in an input does to the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// The elements at its place are NaN; a smaller input is spread first.
    Spread,
    /// As if its steps ran one by one.
    Chain,
    /// Spread; and its foot is computed anew (`foot`).
    Sigmoid,
    /// Everything along these axes is NaN; so it is where their largest is not finite.
    Along(TVec<usize>),
    Reduced(Reduce),
    /// A window with NaN in it is NaN.
    Pooled(Box<PoolSpec>),
    /// NaN is larger than every number, as in NumPy's and onnxruntime's order.
    Ordered(Topk),
    /// Computed anew in f64, where tract's kernel overflows or clamps as well.
    Anew(Product),
    Lstm(usize),
    Gru(usize),
    Sequence {
        backwards: bool,
    },
}

/// x times a function of it that ends at 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Product {
    HardSwish,
    Silu,
}

impl Product {
    fn of(self, x: f64) -> f64 {
        match self {
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Silu => x * (1.0 / (1.0 + (-x).exp())),
        }
    }
}

/// Six times as much is still a number.
const MODERATE: f32 = 5e37;

impl Rule {
    fn of(op: &dyn TypedOp) -> Option<Self> {
        let binary = (op.downcast_ref::<TypedBinOp>().map(|op| &*op.0))
            .or_else(|| op.downcast_ref::<OptBinByScalar>().map(|op| &*op.binop))
            .or_else(|| op.downcast_ref::<OptBinUnicast>().map(|op| &*op.binop));
        if let Some(binary) = binary {
            return clamps(binary).then_some(Self::Spread);
        }
        if let Some(op) = op.downcast_ref::<ElementWiseOp>() {
            let op = &*op.0;
            if op.is::<HardSwish>() || op.is::<Silu>() {
                let hard = op.is::<HardSwish>();
                return Some(Self::Anew(if hard { Product::HardSwish } else { Product::Silu }));
            }
            if op.is::<Sigmoid>() {
                return Some(Self::Sigmoid);
            }
            let clamps = op.is::<Tanh>()
                || op.is::<Erf>()
                || op.is::<Exp>()
                || op.is::<Ln>()
                || op.is::<GeluExact>()
                || op.is::<GeluApproximate>();
            return clamps.then_some(Self::Spread);
        }
        if let Some(op) = op.downcast_ref::<OptBinChain>() {
            return op.steps.iter().any(|step| clamps(&*step.binop)).then_some(Self::Chain);
        }
        if let Some(op) = row_by_row::reduction(op) {
            use Reducer::{ArgMax, ArgMin};
            let compares = matches!(op.reducer, Reducer::Max | Reducer::Min | ArgMax(_) | ArgMin(_));
            return compares.then(|| Self::Reduced(op.clone()));
        }
        let pool = op.downcast_ref::<OptMaxPool>().map(|op| &op.pool_spec);
        if let Some(pool) = pool.or_else(|| op.downcast_ref::<MaxPool>().map(|op| &op.pool_spec)) {
            return Some(Self::Pooled(Box::new(pool.clone())));
        }
        if let Some(op) = op.downcast_ref::<Topk>() {
            return Some(Self::Ordered(op.clone()));
        }
        if let Some(op) = op.downcast_ref::<Softmax>() {
            return Some(Self::Along(op.axes.clone()));
        }
        let cell = shut_gates::hidden(op).map(Self::Lstm);
        let cell = cell.or_else(|| op.downcast_ref::<GruEpilogue>().map(|op| Self::Gru(op.hidden)));
        cell.or_else(|| op.downcast_ref::<GruSeq>().map(|op| Self::Sequence { backwards: op.chunk < 0 }))
    }
}

/// An operator of tract's with what NaN does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Watched {
    stock: Box<dyn TypedOp>,
    rule: Rule,
}

impl Watched {
    /// The answer, where `run` is the operator itself.
    fn answer(
        &self,
        inputs: TVec<TValue>,
        run: impl FnOnce(TVec<TValue>) -> TractResult<TVec<TValue>>,
    ) -> TractResult<TVec<TValue>> {
        // Of a whole sequence's operator only the samples and the state, not the weights.
        let looked_at = match self.rule {
            Rule::Sequence { .. } => vec![&inputs[0], &inputs[inputs.len() - 1]],
            _ => inputs.iter().collect(),
        };
        let most = if matches!(self.rule, Rule::Anew(_)) { MODERATE } else { f32::INFINITY };
        let stays = |input: &TValue| match self.rule {
            Rule::Sigmoid if input.datum_type() == DatumType::F32 => foot::is_above(input),
            _ => is_below(input, most),
        };
        if looked_at.into_iter().all(stays) {
            return run(inputs);
        }
        match &self.rule {
            Rule::Chain => self.step_by_step(inputs),
            Rule::Reduced(reduce) => Ok(tvec!(reduced(reduce, &inputs[0])?.into_tvalue())),
            Rule::Ordered(top) => ordered(top, &inputs[0], &inputs[1]),
            Rule::Anew(product) => {
                let anew = numbers(&inputs[0])?.mapv(|x| product.of(x)).into_tensor();
                Ok(tvec!(anew.cast_to_dt(inputs[0].datum_type())?.into_owned().into_tvalue()))
            }
            Rule::Pooled(pool) => {
                let held = inputs.clone();
                pooled(pool, &held[0], run(inputs)?)
            }
            _ => {
                // Held, so that the operator does not write over them.
                let held = inputs.clone();
                let mut outputs: TVec<Tensor> = run(inputs)?.into_iter().map(TValue::into_tensor).collect();
                let shapes: Vec<Vec<usize>> = outputs.iter().map(|output| output.shape().to_vec()).collect();
                if matches!(self.rule, Rule::Sigmoid) {
                    foot::apply(&held[0], &mut outputs[0])?;
                }
                for (output, place) in self.rule.places(&held, &shapes)? {
                    blot(&mut outputs[output], place)?;
                }
                Ok(outputs.into_iter().map(IntoTValue::into_tvalue).collect())
            }
        }
    }

    fn step_by_step(&self, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let chain = self.stock.downcast_ref::<OptBinChain>().context("a chain of operators")?;
        let mut all = inputs.remove(0);
        for (step, operand) in chain.steps.iter().zip(inputs) {
            let next = step.binop.eval(all.clone(), operand.clone(), all.datum_type())?;
            let one = Self { stock: Box::new(TypedBinOp(step.binop.clone(), None)), rule: Rule::Spread };
            all = match clamps(&*step.binop) {
                true => one.answer(tvec!(all, operand), |_| Ok(tvec!(next.into_tvalue())))?.remove(0),
                false => next.into_tvalue(),
            };
        }
        Ok(tvec!(all))
    }
}

impl Rule {
    /// Outputs, each with a flat position, that are NaN.
    fn places(&self, inputs: &[TValue], shapes: &[Vec<usize>]) -> TractResult<Vec<(usize, usize)>> {
        let mut places = Vec::new();
        match self {
            Self::Spread | Self::Sigmoid => {
                for input in inputs {
                    places.extend(spread(&numbers(input)?, &shapes[0])?);
                }
            }
            Self::Along(axes) => {
                let mut largest = numbers(&inputs[0])?;
                for axis in axes {
                    let larger = |a: &f64, b: &f64| if b.is_nan() || b > a { *b } else { *a };
                    largest =
                        largest.fold_axis(Axis(*axis), f64::NEG_INFINITY, larger).insert_axis(Axis(*axis));
                }
                // Softmax takes it away from every element, from itself as well.
                places
                    .extend(spread(&largest.mapv(|x| if x.is_finite() { x } else { f64::NAN }), &shapes[0])?);
            }
            Self::Lstm(hidden) => {
                let (gates, cell) = (numbers(&inputs[0])?, numbers(&inputs[1])?);
                let gates: Vec<f64> = gates.iter().copied().collect();
                for (place, before) in cell.iter().enumerate() {
                    // i, o, f, c of each row.
                    let (row, at) = (place / hidden * 4 * hidden, place % hidden);
                    let [i, o, f, c] = [0, 1, 2, 3].map(|gate| gates[row + gate * hidden + at]);
                    let new = before + i + f + c;
                    places.extend(new.is_nan().then_some((1, place)));
                    places.extend((new + o).is_nan().then_some((0, place)));
                }
            }
            Self::Gru(hidden) => {
                let gates: Vec<f64> = (numbers(&inputs[0])? + numbers(&inputs[1])?).iter().copied().collect();
                for (place, before) in numbers(&inputs[2])?.iter().enumerate() {
                    let (row, at) = (place / hidden * 3 * hidden, place % hidden);
                    let sum: f64 = (0..3).map(|gate| gates[row + gate * hidden + at]).sum();
                    places.extend((before + sum).is_nan().then_some((0, place)));
                }
            }
            Self::Sequence { backwards } => {
                let (x, state) = (numbers(&inputs[0])?, numbers(&inputs[inputs.len() - 1])?);
                let &[batch, steps, hidden] = &*shapes[0] else {
                    bail!("an answer of shape {:?}", shapes[0])
                };
                let of_state = shapes[1].iter().product::<usize>() / batch.max(1);
                let rows: Vec<bool> =
                    x.lanes(Axis(2)).into_iter().map(|lane| lane.iter().any(|x| x.is_nan())).collect();
                let times = x.shape()[1];
                for sequence in 0..batch {
                    let begun = state.index_axis(Axis(0), sequence).iter().any(|x| x.is_nan());
                    let mut lost = begun;
                    for step in 0..times {
                        let time = if *backwards { times - 1 - step } else { step };
                        lost |= rows[sequence * times + time];
                        if lost && steps > 0 {
                            let first = (sequence * steps + time) * hidden;
                            places.extend((first..first + hidden).map(|place| (0, place)));
                        }
                    }
                    if lost {
                        places
                            .extend((sequence * of_state..(sequence + 1) * of_state).map(|place| (1, place)));
                    }
                }
            }
            Self::Chain | Self::Reduced(_) | Self::Pooled(_) | Self::Ordered(_) | Self::Anew(_) => {}
        }
        Ok(places)
    }
}

/// The reduction, where something is not finite. NaN is the largest and the smallest at once; as for
/// its place, where the standard is silent, a later number is better where it compares so, as in
/// onnxruntime.
fn reduced(reduce: &Reduce, input: &Tensor) -> TractResult<Tensor> {
    let (from, mut shape) = (numbers(input)?, input.shape().to_vec());
    for axis in &reduce.axes {
        shape[*axis] = 1;
    }
    let (sign, arg, last) = match reduce.reducer {
        Reducer::ArgMax(last) => (1.0, true, last),
        Reducer::ArgMin(last) => (-1.0, true, last),
        Reducer::Min => (-1.0, false, false),
        _ => (1.0, false, false),
    };
    let mut best = ArrayD::from_elem(&*shape, None::<(f64, usize)>);
    for (at, value) in from.indexed_iter() {
        let mut to = at.slice().to_vec();
        let index = reduce.axes.first().map_or(0, |axis| to[*axis]);
        for axis in &reduce.axes {
            to[*axis] = 0;
        }
        let best = &mut best[&*to];
        let better = best.is_none_or(|(so_far, _)| {
            value * sign > so_far * sign || (last && *value == so_far) || (!arg && value.is_nan())
        });
        if better && best.is_none_or(|(so_far, _)| arg || !so_far.is_nan()) {
            *best = Some((*value, index));
        }
    }
    let values = best.mapv(|best| best.map_or(0.0, |(value, index)| if arg { index as f64 } else { value }));
    let datum_type = if arg { DatumType::I64 } else { input.datum_type() };
    Ok(values.into_tensor().cast_to_dt(datum_type)?.into_owned())
}

/// The largest of each window, and its place, where something is not finite; of a window without a number
/// what `stock` has.
fn pooled(pool: &PoolSpec, input: &Tensor, stock: TVec<TValue>) -> TractResult<TVec<TValue>> {
    let lengths: TVec<TDim> = input.shape().iter().map(|length| length.to_dim()).collect();
    let geometry = pool.compute_geo(&lengths)?;
    let geometry = geometry.to_concrete(input.shape())?;
    let (from, to, patch) = (&geometry.input_shape, &geometry.output_shape, &geometry.patch);
    let spec = &patch.spec;
    let values: Vec<f64> = numbers(input)?.into_iter().collect();
    let mut answers: Vec<ArrayD<f64>> =
        stock.iter().map(|tensor| numbers(tensor)).collect::<TractResult<_>>()?;
    let [stride_in, stride_out] =
        [from, to].map(|shape| (*shape.n_stride().unwrap_or(&0), *shape.c_stride()));
    let sum = |at: &[usize], strides: &[usize]| {
        at.iter().zip(strides).map(|(at, stride)| at * stride).sum::<usize>()
    };
    for (n, c) in (0..*from.n().unwrap_or(&1)).cartesian_product(0..*from.c()) {
        for window in indices(&*patch.output_shape) {
            let window = window.slice();
            let mut best: Option<(f64, usize)> = None;
            for tap in indices(&*spec.kernel_shape) {
                let place = |axis: usize| {
                    let at = window[axis] * spec.strides[axis] + tap[axis] * spec.dilations[axis];
                    at.checked_sub(patch.pad_before[axis]).filter(|at| *at < from.hw_dims()[axis])
                };
                let Some(at) = (0..window.len()).map(place).collect::<Option<TVec<usize>>>() else {
                    continue;
                };
                let inside = sum(&at, from.hw_strides());
                let value = values[n * stride_in.0 + c * stride_in.1 + inside];
                if best.is_none_or(|(best, _)| value > best || (value.is_nan() && !best.is_nan())) {
                    best = Some((value, inside / spec.output_inner_stride));
                }
            }
            let flat = n * stride_out.0 + c * stride_out.1 + sum(window, to.hw_strides());
            if let Some((value, place)) = best {
                for (answer, value) in answers.iter_mut().zip([value, place as f64]) {
                    answer.as_slice_mut().context("in order")?[flat] = value;
                }
            }
        }
    }
    let typed = |(answer, stock): (ArrayD<f64>, &TValue)| {
        Ok(answer.into_tensor().cast_to_dt(stock.datum_type())?.into_owned().into_tvalue())
    };
    answers.into_iter().zip(&stock).map(typed).collect()
}

/// The first `k` along the axis, the better ones first, of equals the one that stands before.
fn ordered(top: &Topk, input: &Tensor, k: &Tensor) -> TractResult<TVec<TValue>> {
    let (from, k) = (numbers(input)?, usize::try_from(k.cast_to_scalar::<i64>()?)?);
    let mut shape = input.shape().to_vec();
    ensure!(k <= shape[top.axis], "k is {k}, the axis has {}", shape[top.axis]);
    shape[top.axis] = k;
    let (mut values, mut places) = (ArrayD::<f64>::zeros(&*shape), ArrayD::<i64>::zeros(&*shape));
    let lanes = from.lanes(Axis(top.axis)).into_iter();
    let to = values.lanes_mut(Axis(top.axis)).into_iter().zip(places.lanes_mut(Axis(top.axis)));
    for (lane, (mut values, mut places)) in lanes.zip(to) {
        let mut order: Vec<usize> = (0..lane.len()).collect();
        let up = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
        order.sort_by(|a, b| match top.largest {
            true => up(lane[*b], lane[*a]),
            false => up(lane[*a], lane[*b]),
        });
        for (rank, along) in order.into_iter().take(k).enumerate() {
            (values[rank], places[rank]) = (lane[along], along as i64);
        }
    }
    let values = values.into_tensor().cast_to_dt(input.datum_type())?.into_owned();
    Ok(tvec!(values.into_tvalue(), places.into_tensor().into_tvalue()))
}

/// Where NaN comes to stand when `from` is spread to `shape`, of output 0.
fn spread(from: &ArrayD<f64>, shape: &[usize]) -> TractResult<Vec<(usize, usize)>> {
    let spread = from.broadcast(shape).context("an input larger than its output")?;
    Ok(spread.iter().positions(|x| x.is_nan()).map(|place| (0, place)).collect())
}

fn clamps(op: &dyn BinMiniOp) -> bool {
    op.is::<Min>() || op.is::<Max>()
}

/// Whether every float is finite, and no single further from 0 than `most`.
fn is_below(tensor: &Tensor, most: f32) -> bool {
    fn all<T: Datum + Copy>(tensor: &Tensor, finite: impl Fn(T) -> bool) -> bool {
        let plain = tensor.try_as_plain_ram();
        let slice = plain.as_ref().ok().and_then(|plain| plain.as_slice::<T>().ok());
        // Without an early end, so that it is computed many at a time.
        slice.is_none_or(|slice| slice.iter().fold(true, |all, x| all & finite(*x)))
    }
    match tensor.datum_type() {
        DatumType::F16 => all(tensor, f16::is_finite),
        DatumType::F32 => {
            let plain = tensor.try_as_plain_ram();
            let slice = plain.as_ref().ok().and_then(|plain| plain.as_slice::<f32>().ok());
            most == f32::INFINITY && slice.is_some_and(sum_is_finite) || all(tensor, |x: f32| x.abs() < most)
        }
        DatumType::F64 => all(tensor, f64::is_finite),
        _ => true,
    }
}

/// Whether the sum is finite: nothing that is not can become so again by adding.
pub(super) fn sum_is_finite(numbers: &[f32]) -> bool {
    static SUM: OnceLock<Option<Box<dyn Kernel<f32>>>> = OnceLock::new();
    // Elsewhere tract's kernel adds one number after the other (0.23.9): six times as slow as what follows.
    if cfg!(target_arch = "aarch64")
        && let Some(sum) = SUM.get_or_init(|| Func::ReduceSum.reduce_f32().ok())
    {
        return sum.run(numbers).is_ok_and(f32::is_finite);
    }
    let (sums, rest) = eight_sums(numbers);
    sums.iter().chain(rest).sum::<f32>().is_finite()
}

fn numbers(tensor: &Tensor) -> TractResult<ArrayD<f64>> {
    Ok(tensor.cast_to::<f64>()?.to_plain_array_view::<f64>()?.to_owned())
}

fn blot(tensor: &mut Tensor, place: usize) -> TractResult<()> {
    let datum_type = tensor.datum_type();
    let mut plain = tensor.try_as_plain_ram_mut()?;
    match datum_type {
        DatumType::F16 => plain.as_slice_mut::<f16>()?[place] = f16::NAN,
        DatumType::F32 => plain.as_slice_mut::<f32>()?[place] = f32::NAN,
        DatumType::F64 => plain.as_slice_mut::<f64>()?[place] = f64::NAN,
        _ => {}
    }
    Ok(())
}

/// The state of an operator that has one, handed on.
#[derive(Clone, Debug)]
struct Inner(Box<dyn OpState>);

impl OpState for Inner {
    fn eval(
        &mut self,
        context: &EvalContext,
        op: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let watched = op.downcast_ref::<Watched>().context("an operator of another kind")?;
        watched.answer(inputs, |inputs| self.0.eval(context, watched.stock.as_op(), inputs))
    }

    fn reset_lanes(&mut self, lanes: &[LaneId]) -> TractResult<()> {
        self.0.reset_lanes(lanes)
    }
}

impl Op for Watched {
    fn name(&self) -> StaticName {
        self.stock.name()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.stock.info()
    }

    op_as_typed_op!();
}

impl EvalOp for Watched {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.answer(inputs, |inputs| self.stock.eval(context, inputs))
    }

    fn eval_out_of_plan(&self, _: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        Ok(None)
    }

    fn state(&self, context: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(self.stock.state(context)?.map(|state| Box::new(Inner(state)) as Box<dyn OpState>))
    }

    fn drop_session(&self, session: SessionId, node: usize) {
        self.stock.drop_session(session, node);
    }
}

impl TypedOp for Watched {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.stock.output_facts(inputs)
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        self.stock.cost(inputs)
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use crate::base::{Data, DataType, Tensor};
    use crate::engine::sample::{self, Attribute, Sample};

    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;

    /// Equal, NaN to NaN.
    fn same(ours: &[f32], right: &[f32]) {
        let pairs = ours.iter().zip(right);
        let equal = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6 || a == b || (a.is_nan() && b.is_nan());
        assert!(ours.len() == right.len() && pairs.clone().all(equal), "{ours:?}, not {right:?}");
    }

    /// One operator of `x`, and perhaps of a constant.
    fn of(operator: &str, x: &[f32], with: Option<&[f32]>, attributes: &[Attribute]) -> Vec<f32> {
        let shape = [1, x.len()];
        let mut sample = Sample::default().input("x", DataType::F32, &shape.map(|length| length as i64));
        let mut inputs = vec!["x"];
        if let Some(with) = with {
            sample = sample.weights("w", &[with.len() as u64], with);
            inputs.push("w");
        }
        let sample = sample.node(operator, &inputs, &["y"], attributes).output("y");
        let answer = sample.model().session().run(&[&Tensor::f32(&shape, x.to_vec())]).unwrap();
        answer[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn an_activation_of_nan_is_nan_and_of_its_neighbours_is_not() {
        for operator in [
            "Sigmoid",
            "Tanh",
            "Relu",
            "Exp",
            "Erf",
            "HardSigmoid",
            "HardSwish",
            "Elu",
            "Selu",
            "Celu",
            "LeakyRelu",
            "Softplus",
        ] {
            let whole = of(operator, &[0.5, 0.25, -1.0, 2.0, 0.0], None, &[]);
            let mut right = whole.clone();
            right[1] = NAN;
            same(&of(operator, &[0.5, NAN, -1.0, 2.0, 0.0], None, &[]), &right);
        }
    }

    #[test]
    fn a_window_with_nan_is_nan_and_one_of_nothing_finite_is_what_stands_there() {
        let pool = |x: &[f32], kernel: &[i64], with: &[Attribute]| {
            let attributes = [Attribute::Ints("kernel_shape", kernel)].into_iter();
            let with = with.iter().map(|attribute| match attribute {
                Attribute::Ints(name, values) => Attribute::Ints(name, values),
                _ => unreachable!("lists only"),
            });
            let all: Vec<Attribute> = attributes.chain(with).collect();
            let answers = |outputs: &[&str]| {
                let sample = Sample::default().input("x", DataType::F32, &[1, 2, 2, 3]);
                let sample = sample.node("MaxPool", &["x"], outputs, &all);
                let sample = outputs.iter().fold(sample, |sample, output| sample.output(output));
                sample.model().session().run(&[&Tensor::f32(&[1, 2, 2, 3], x.to_vec())]).unwrap()
            };
            let (one, two) = (answers(&["y"]), answers(&["y", "i"]));
            same(one[0].as_f32().unwrap(), two[0].as_f32().unwrap());
            let Data::I64(places) = &two[1].data else { panic!("{two:?}") };
            (one[0].as_f32().unwrap().to_vec(), places.clone())
        };
        let x = [NAN, 1.0, 2.0, 3.0, 4.0, 5.0, -INF, -INF, 7.0, -INF, -INF, INF];
        let (y, i) = pool(&x, &[2, 2], &[]);
        same(&y, &[NAN, 5.0, -INF, INF]);
        assert_eq!(i, [0, 5, 6, 11]);
        let (y, i) = pool(&x, &[2, 2], &[Attribute::Ints("pads", &[1, 1, 0, 0])]);
        same(&y, &[NAN, NAN, 2.0, NAN, NAN, 5.0, -INF, -INF, 7.0, -INF, -INF, INF]);
        assert_eq!(i[..6], [0, 0, 2, 0, 0, 5]);
        let (y, _) = pool(&x, &[2, 2], &[Attribute::Ints("dilations", &[1, 2])]);
        same(&y, &[NAN, INF]);
    }

    #[test]
    fn nan_comes_before_every_number_in_order_and_a_product_ends_where_it_should() {
        let top = |x: &[f32], k: i64, largest: i64| {
            let sample =
                Sample::default().input("x", DataType::F32, &[1, x.len() as i64]).integers("k", &[k]);
            let sample = sample.node("TopK", &["x", "k"], &["y", "i"], &[Attribute::Int("largest", largest)]);
            let model = sample.output("y").output("i").model();
            let answer = model.session().run(&[&Tensor::f32(&[1, x.len()], x.to_vec())]).unwrap();
            let Data::I64(places) = &answer[1].data else { panic!("{answer:?}") };
            (answer[0].as_f32().unwrap().to_vec(), places.clone())
        };
        let x = [1.0, NAN, 3.0, INF, NAN, -INF, 3.0];
        let (y, i) = top(&x, 5, 1);
        same(&y, &[NAN, NAN, INF, 3.0, 3.0]);
        assert_eq!(i, [1, 4, 3, 2, 6]);
        let (y, i) = top(&x, 7, 0);
        same(&y, &[-INF, 1.0, 3.0, 3.0, INF, NAN, NAN]);
        assert_eq!(i, [5, 0, 2, 6, 3, 1, 4]);

        same(&of("HardSwish", &[3.4e38, -INF, INF, 3.0], None, &[]), &[3.4e38, NAN, INF, 3.0]);
        let silu = Sample::default().input("x", DataType::F32, &[3]).node("Sigmoid", &["x"], &["s"], &[]);
        let silu = silu.node("Mul", &["x", "s"], &["y"], &[]).output("y").model();
        let answer = silu.session().run(&[&Tensor::f32(&[3], vec![-INF, INF, 0.0])]).unwrap();
        same(answer[0].as_f32().unwrap(), &[NAN, INF, 0.0]);
    }

    #[test]
    fn nan_beside_a_number_is_neither_the_larger_nor_the_smaller() {
        for (operator, right) in [("Max", [NAN, 1.0, NAN]), ("Min", [NAN, -2.0, NAN])] {
            same(&of(operator, &[NAN, -2.0, 5.0], Some(&[1.0, 1.0, NAN]), &[]), &right);
            let one = if operator == "Max" { 3.0 } else { -2.0 };
            same(
                &of(operator, &[NAN, -2.0], Some(&[if operator == "Max" { 3.0 } else { 1.0 }]), &[]),
                &[NAN, one],
            );
        }
    }

    #[test]
    fn the_largest_of_nothing_finite_is_what_stands_there() {
        let axes = &[Attribute::Ints("axes", &[1])];
        same(&of("ReduceMax", &[-INF, -INF], None, axes), &[-INF]);
        same(&of("ReduceMin", &[INF, INF], None, axes), &[INF]);
        same(&of("ReduceMax", &[1.0, NAN, 2.0], None, axes), &[NAN]);
        same(&of("Softmax", &[1.0, NAN, 2.0], None, &[Attribute::Int("axis", 1)]), &[NAN, NAN, NAN]);
        same(&of("Softmax", &[1.0, INF, 2.0], None, &[Attribute::Int("axis", 1)]), &[NAN, NAN, NAN]);
        same(&of("Softmax", &[-INF, 0.0, 0.0], None, &[Attribute::Int("axis", 1)]), &[0.0, 0.5, 0.5]);
    }

    #[test]
    fn a_recurrent_layer_has_lost_its_state_from_nan_on() {
        for (sample, steps, width) in [(sample::gru(2), 4, 2), (sample::lstm(), 3, 1)] {
            let model = sample.model();
            let mut series = vec![0.5; steps * width];
            series[width] = NAN;
            let series = Tensor::f32(&[steps, 1, width], series);
            let state = Tensor::zeros(&[1, 1, 2]);
            let given: Vec<&Tensor> = std::iter::once(&series)
                .chain(std::iter::repeat_n(&state, model.inputs().len() - 1))
                .collect();
            let answer = model.session().run(&given).unwrap();
            let y = answer[0].as_f32().unwrap();
            assert!(y[..2].iter().all(|x| x.is_finite()) && y[2..].iter().all(|x| x.is_nan()), "{y:?}");
            assert!(answer[1].as_f32().unwrap().iter().all(|x| x.is_nan()));
        }
    }
}
