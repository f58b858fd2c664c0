//! If (opset 1 to 25) whose condition is known while the model is loaded: the branch that is taken
//! becomes part of the graph, the other one is forgotten.
//!
//! Source: ONNX, Operators.md. Exporters leave such conditions where a shape or an input that the card
//! fixes decides. tract wants both branches to give one shape even then (0.23.9); the branch that is
//! never taken often cannot. Where only a run tells, tract's typed operator decides, each under its node's own name
//! (tract calls all of them "If" and takes no second), and no constant of one branch is taken for the answer.

use std::collections::BTreeSet;

use tract_onnx::model::{ParseResult, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::logic::IfThenElse;
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

impl Branch {
    /// Its body, with what is known of the tensors around it.
    fn typed(
        &self,
        node: &InferenceNode,
        target: &TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TypedModel> {
        let mut body = self.body.clone();
        for (at, input) in self.inputs.iter().enumerate() {
            body.set_input_fact(at, target.outlet_fact(mapping[&node.inputs[*input]])?.into())?;
        }
        body.into_typed()
    }
}

/// Forgets which constants a branch gives: tract takes what is known of one branch's for known of both.
fn without_values(mut body: TypedModel) -> TractResult<TypedModel> {
    for output in body.outputs.clone() {
        let fact = body.outlet_fact(output)?.without_value();
        body.set_outlet_fact(output, fact)?;
    }
    Ok(body)
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
        let Some(condition) = condition else {
            let inputs: TVec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
            let either = IfThenElse {
                then_body: without_values(self.then.typed(node, target, mapping)?)?,
                then_input_mapping: self.then.inputs.clone(),
                else_body: without_values(self.otherwise.typed(node, target, mapping)?)?,
                else_input_mapping: self.otherwise.inputs.clone(),
            };
            return target.wire_node(&node.name, either, &inputs);
        };
        let branch = self.taken(&condition)?;
        let body = branch.typed(node, target, mapping)?;
        let outside = branch.inputs.iter().map(|input| mapping[&node.inputs[*input]]);
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
