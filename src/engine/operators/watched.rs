//! Every operator of a graph, while the graph is read and typed: known by its node, and asked for its
//! shapes before it makes anything.
//!
//! Promise: no tensor beyond the cap is made of constants, whatever an operator's own arithmetic would
//! do; a panic in it names the node (`caught`). What it answers is the operator's own business.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::optim::CONST_FOLD_MEM_BUDGET;
use tract_onnx::tract_hir::infer::{Factoid, InferenceOp};
use tract_onnx::tract_hir::internal::*;

use super::fitting::Fitting;
use super::literal::Built;
use super::unknown;
use crate::engine::caught;
use crate::engine::refused::name_of;
use crate::engine::untrusted::graph::MAX_ELEMENTS;

/// Multiplications of an Einsum of two tensors, which becomes a matrix product: minutes on a board.
const MAX_PRODUCTS: f64 = (1_u64 << 40) as f64;
/// Of one of three and more: tract goes through them one by one, at a microsecond each.
const MAX_PRODUCTS_OF_MANY: f64 = (1_u64 << 24) as f64;

/// Lets `onnx` build each of its operators watched.
pub(super) fn register(onnx: &mut Onnx) {
    onnx.op_register.0.values_mut().for_each(|builder| *builder = build);
}

/// The operator that the register has for `node`.
fn build(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    static OPERATORS: OnceLock<Onnx> = OnceLock::new();
    let operators = OPERATORS.get_or_init(|| {
        let mut all = super::unwatched();
        super::requantized::register(&mut all);
        all
    });
    let Some(builder) = operators.op_register.0.get(&node.op_type) else {
        return node.bail("the engine has no such operator");
    };
    let at: Arc<str> = format!("node {:?} ({})", name_of(node), node.op_type).into();
    let fitting = Fitting::of(node)?;
    let (operator, closures) = caught::at(&at, || builder(context, node))?;
    let equation = (node.op_type == "Einsum").then(|| node.get_attr::<String>("equation")).transpose()?;
    let kind = node.op_type.as_str().into();
    Ok((Box::new(Watched { operator, at, kind, fitting, equation }), closures))
}

/// An operator with what its node is called.
#[derive(Clone, Debug)]
struct Watched {
    operator: Box<dyn InferenceOp>,
    at: Arc<str>,
    /// ONNX's name of the operator.
    kind: Arc<str>,
    fitting: Fitting,
    /// An Einsum's.
    equation: Option<String>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at && self.operator.as_op().dyn_eq(other.operator.as_op())
    }
}

impl Eq for Watched {}

impl Watched {
    /// Refuses outputs that no board holds, and work that never ends.
    fn bounded(&self, inputs: &[InferenceFact], outputs: &[InferenceFact]) -> TractResult<()> {
        for output in outputs {
            let lengths = output.shape.dims().map(|dim| dim.concretize().and_then(|dim| dim.to_i64().ok()));
            let lengths: Vec<Option<i64>> = lengths.collect();
            let elements = lengths.iter().flatten().map(|length| (*length).max(1) as f64).product::<f64>();
            let words =
                || lengths.iter().map(|length| length.map_or("?".to_owned(), |length| length.to_string()));
            ensure!(
                elements <= MAX_ELEMENTS as f64 && lengths.iter().flatten().all(|length| *length >= 0),
                "{} would make a tensor of [{}]; at most {MAX_ELEMENTS} elements are taken",
                self.at,
                words().collect::<Vec<_>>().join(", ")
            );
        }
        let Some(equation) = &self.equation else { return Ok(()) };
        let shapes: Option<Vec<Vec<usize>>> = inputs.iter().map(|fact| lengths(&fact.shape)).collect();
        let Some(shapes) = shapes else { return Ok(()) };
        let most = if shapes.len() > 2 { MAX_PRODUCTS_OF_MANY } else { MAX_PRODUCTS };
        let products = products(equation, &shapes);
        ensure!(
            products <= most,
            "{} would multiply {products:.0} times; at most {most:.0} are taken of {} tensors: split it",
            self.at,
            shapes.len()
        );
        Ok(())
    }

    /// Whether tract would keep what comes of these constants; what it would not, it need not compute.
    fn worth_folding(inputs: &[InferenceFact], outputs: &[InferenceFact]) -> bool {
        let constants: Option<Vec<u64>> =
            inputs.iter().map(|fact| fact.value.concretize().map(|value| bytes(&value))).collect();
        let Some(constants) = constants else { return true };
        let bytes = |fact: &InferenceFact| -> Option<u64> {
            let each = fact.datum_type.concretize()?.size_of() as u64;
            lengths(&fact.shape)?.iter().try_fold(each, |all, length| all.checked_mul(*length as u64))
        };
        // A length that depends on values, which only an evaluation tells, counts as short.
        let made: u64 = outputs.iter().filter_map(bytes).sum();
        made <= constants.iter().sum::<u64>().max(CONST_FOLD_MEM_BUDGET)
    }
}

fn bytes(tensor: &Tensor) -> u64 {
    (tensor.len() * tensor.datum_type().size_of()) as u64
}

fn lengths(shape: &ShapeFactoid) -> Option<Vec<usize>> {
    shape.concretize()?.iter().map(|dim| dim.to_usize().ok()).collect()
}

/// How often an equation multiplies: once for each value of all of its letters together. Axes under an
/// ellipsis count from the end.
fn products(equation: &str, shapes: &[Vec<usize>]) -> f64 {
    let equation: String = equation.chars().filter(|letter| !letter.is_whitespace()).collect();
    let inputs = equation.split("->").next().unwrap_or_default();
    let mut axes: HashMap<Result<char, usize>, usize> = HashMap::new();
    let mut see = |axis, length: usize| {
        let known = axes.entry(axis).or_insert(1);
        *known = length.max(*known);
    };
    for (term, shape) in inputs.split(',').zip(shapes) {
        let (front, back) = term.split_once("...").unwrap_or((term, ""));
        let behind = shape.len().saturating_sub(back.chars().count());
        front.chars().zip(shape).for_each(|(letter, length)| see(Ok(letter), *length));
        back.chars().zip(&shape[behind..]).for_each(|(letter, length)| see(Ok(letter), *length));
        let hidden = front.chars().count().min(behind)..behind;
        hidden.rev().enumerate().for_each(|(from_end, axis)| see(Err(from_end), shape[axis]));
    }
    axes.values().map(|length| *length as f64).product()
}

impl Op for Watched {
    fn name(&self) -> StaticName {
        self.operator.name()
    }

    fn validation(&self) -> Validation {
        self.operator.validation()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.operator.info()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.operator.mints_runtime_symbols()
    }

    not_a_typed_op!();
}

impl EvalOp for Watched {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        caught::at(&self.at, || self.operator.eval(context, inputs))
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        caught::at(&self.at, || self.operator.eval_out_of_plan(inputs))
    }

    fn state(&self, context: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.operator.state(context)
    }
}

/// Facts of inputs, outputs and what is observed.
type Facts = (TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>);

impl InferenceOp for Watched {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<Facts> {
        let at = Arc::clone(&self.at);
        let seen = |fact: &&InferenceFact| {
            (
                fact.shape.rank().concretize().and_then(|rank| usize::try_from(rank).ok()),
                fact.value.concretize(),
            )
        };
        self.fitting.check(&at, &inputs.iter().map(seen).collect::<Vec<_>>())?;
        let known = |fact: &&InferenceFact| lengths(&fact.shape);
        self.fitting.check_lengths(&at, &inputs.iter().map(known).collect::<Vec<_>>())?;
        caught::at(&at, || {
            let facts = self.operator.infer_facts(inputs.clone(), outputs.clone(), observed.clone());
            let facts = facts.context("Infering facts")?;
            self.bounded(&facts.0, &facts.1)?;
            match Self::worth_folding(&facts.0, &facts.1) {
                true => self.operator.infer(inputs, outputs, observed),
                false => Ok(facts),
            }
        })
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<Facts> {
        self.operator.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.operator.observe_outlets(model, node)
    }

    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<InferenceModelPatch>> {
        self.operator.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.operator.nboutputs()
    }

    fn as_op(&self) -> &dyn Op {
        self.operator.as_op()
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self.operator.as_op_mut()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let seen = |input: &OutletId| -> TractResult<_> {
            let fact = target.outlet_fact(mapping[input])?;
            Ok((Some(fact.rank()), fact.konst.clone()))
        };
        self.fitting.check(&self.at, &node.inputs.iter().map(seen).collect::<TractResult<Vec<_>>>()?)?;
        let known = |input: &OutletId| -> TractResult<_> {
            Ok(target.outlet_fact(mapping[input])?.shape.as_concrete().map(<[usize]>::to_vec))
        };
        self.fitting
            .check_lengths(&self.at, &node.inputs.iter().map(known).collect::<TractResult<Vec<_>>>()?)?;
        caught::at(&self.at, || self.operator.to_typed(source, node, target, mapping)).map_err(|error| {
            let inputs: Vec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
            match unknown::remedy(&self.kind, target, &inputs) {
                Some(remedy) => error.context(format!("{}: {remedy}", self.at)),
                None => error,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_einsum_multiplies_once_for_each_value_of_its_letters() {
        let times = |equation: &str, shapes: &[&[usize]]| {
            products(equation, &shapes.iter().map(|shape| shape.to_vec()).collect::<Vec<_>>())
        };
        assert_eq!(times("ab,bc->ac", &[&[2, 3], &[3, 5]]), 30.0);
        assert_eq!(times("a, b, c -> abc", &[&[7], &[7], &[7]]), 343.0);
        assert_eq!(times("...a,ab->...b", &[&[2, 5, 3], &[3, 4]]), 120.0);
        assert_eq!(times("b...n,bn...->b", &[&[2, 4, 6, 3], &[2, 3, 6]]), 144.0);
        assert_eq!(times("aa->a", &[&[9, 9]]), 9.0);
    }
}
