//! If (opset 1 to 25) whose condition is known while the model is loaded: the branch that is taken
//! becomes part of the graph, the other one is forgotten.
//!
//! Source: ONNX, Operators.md. Exporters leave such conditions where a shape or an input that the card
//! fixes decides. tract wants both branches to give one shape even then (0.23.9); the branch that is
//! never taken often cannot. A condition that only a run tells stays tract's.

use std::collections::BTreeSet;

use tract_onnx::model::{ParseResult, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::source::TypedSource;

use super::literal::Built;
use super::stock;

/// One branch, and which of the node's inputs each of its own is.
#[derive(Clone, Debug)]
struct Branch {
    body: InferenceModel,
    inputs: Vec<usize>,
}

#[derive(Clone, Debug)]
struct If {
    stock: Box<dyn InferenceOp>,
    then: Branch,
    otherwise: Branch,
}

pub(super) fn branch(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (stock, closures) = stock(context, node)?;
    let parsed = |name| -> TractResult<ParseResult> { context.parse_graph(node.get_attr(name)?) };
    let (then, otherwise) = (parsed("then_branch")?, parsed("else_branch")?);
    // Both branches' names from outside, sorted: the order that tract's own operator has.
    let names: BTreeSet<&String> =
        then.unresolved_inputs.iter().chain(&otherwise.unresolved_inputs).collect();
    let names: Vec<&String> = names.into_iter().collect();
    ensure!(names.iter().copied().eq(&closures), "names from outside the branches");
    let placed = |parsed: &ParseResult| -> TractResult<Branch> {
        let place = |name: &String| Some(names.iter().position(|known| *known == name)? + 1);
        let inputs = parsed.unresolved_inputs.iter().map(place).collect::<Option<_>>();
        Ok(Branch { body: parsed.model.clone(), inputs: inputs.context("a name from nowhere")? })
    };
    let taken = If { stock, then: placed(&then)?, otherwise: placed(&otherwise)? };
    Ok((Box::new(taken), closures))
}

impl If {
    fn taken(&self, condition: &Tensor) -> TractResult<&Branch> {
        Ok(if condition.cast_to_scalar::<bool>()? { &self.then } else { &self.otherwise })
    }
}

impl PartialEq for If {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for If {}

impl Op for If {
    fn name(&self) -> StaticName {
        "If".into()
    }

    not_a_typed_op!();
}

impl EvalOp for If {
    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let branch = self.taken(&inputs[0])?;
        let inputs = branch.inputs.iter().map(|at| inputs[*at].clone()).collect();
        branch.body.clone().into_runnable()?.run(inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        EvalOp::eval(self, &EvalContext::out_of_plan(), inputs).map(Some)
    }
}

impl InferenceOp for If {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let untouched = |facts: TVec<&InferenceFact>| facts.into_iter().cloned().collect::<TVec<_>>();
        let Some(condition) = inputs[0].value.concretize() else {
            // Not known yet. What the branches disagree in may be settled when it is.
            let mut stock = self.stock.clone();
            return Ok(match stock.infer_facts(inputs.clone(), outputs.clone(), observed.clone()) {
                Ok(inferred) => {
                    self.stock = stock;
                    inferred
                }
                Err(_) => (untouched(inputs), untouched(outputs), untouched(observed)),
            });
        };
        let branch = if condition.cast_to_scalar::<bool>()? { &mut self.then } else { &mut self.otherwise };
        for (at, input) in branch.inputs.iter().enumerate() {
            let mut fact = inputs[*input].clone();
            branch.body.input_fact_mut(at)?.unify_with_mut(&mut fact)?;
        }
        branch.body.analyse(false)?;
        let inferred = (0..outputs.len()).map(|at| Ok(branch.body.output_fact(at)?.clone()));
        Ok((untouched(inputs), inferred.collect::<TractResult<_>>()?, untouched(observed)))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.then.body.outputs.len())
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let condition = target.outlet_fact(mapping[&node.inputs[0]])?.konst.clone();
        let condition = condition.or(source.outlet_fact(node.inputs[0])?.value.concretize());
        let Some(condition) = condition else { return self.stock.to_typed(source, node, target, mapping) };
        let Branch { body, inputs } = self.taken(&condition)?;
        let mut body = body.clone();
        let mut outside = Vec::new();
        for (at, input) in inputs.iter().enumerate() {
            let outlet = mapping[&node.inputs[*input]];
            body.set_input_fact(at, target.outlet_fact(outlet)?.into())?;
            outside.push(outlet);
        }
        let body = body.into_typed()?;
        let mut placed: HashMap<OutletId, OutletId> =
            body.input_outlets()?.iter().copied().zip(outside).collect();
        for id in body.eval_order()? {
            let inner = body.node(id);
            if inner.op_is::<TypedSource>() {
                continue;
            }
            let inputs: TVec<OutletId> = inner.inputs.iter().map(|input| placed[input]).collect();
            let name = target.unique_name(format!("{}.{}", node.name, inner.name));
            let outputs = target.wire_node(name, inner.op.clone(), &inputs)?;
            placed.extend(
                outputs.into_iter().enumerate().map(|(slot, outlet)| (OutletId::new(id, slot), outlet)),
            );
        }
        Ok(body.output_outlets()?.iter().map(|outlet| placed[outlet]).collect())
    }

    as_op!();
}
