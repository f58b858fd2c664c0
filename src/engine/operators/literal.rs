//! The frame around every operator that we evaluate ourselves, so that an operator's own file holds
//! the standard's arithmetic and nothing else.
//!
//! An operator is a [`Literal`]: inputs and outputs stand at ONNX's own positions, an absent optional
//! one is `None`. Promise: types and shapes are known before a run wherever they do not depend on
//! values; a length that does becomes a symbol, which the run binds. Outputs that the graph does not
//! name are dropped here.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::model::{ParsingContext, optional_inputs, optional_outputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::infer::{Factoid, InferenceOp, ShapeFactoid};
use tract_onnx::tract_hir::internal::*;

/// What builds an operator from a node of the graph; the strings are names that inner graphs close over.
pub(super) type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// An operator in the standard's own terms.
pub(super) trait Literal: fmt::Debug + Send + Sync + 'static {
    /// ONNX's name.
    fn name(&self) -> &'static str;

    /// All outputs, at ONNX's positions; trailing optional ones may be left out.
    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>>;

    /// Types and shapes of the outputs. `None`: they do not depend on values, so an evaluation of
    /// zeros shows them. To be given where they do, or where zeros would be refused.
    fn forms(&self, _inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        Ok(None)
    }

    /// Whether the same inputs give the same outputs, so that constants can be folded.
    fn repeatable(&self) -> bool {
        true
    }
}

/// The tensors of one evaluation, at ONNX's positions.
pub(super) struct Inputs<'t>(Vec<Option<&'t Tensor>>);

impl<'t> Inputs<'t> {
    /// The tensor at `position`, if it was given.
    pub(super) fn get(&self, position: usize) -> Option<&'t Tensor> {
        self.0.get(position).copied().flatten()
    }

    /// The tensor at `position`, which the standard requires.
    pub(super) fn need(&self, position: usize) -> TractResult<&'t Tensor> {
        self.get(position).with_context(|| format!("input {position} is missing"))
    }
}

/// What is known of an input before a run.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) datum_type: DatumType,
    pub(super) shape: TVec<TDim>,
    pub(super) value: Option<Arc<Tensor>>,
}

impl Seen {
    /// The shape, where no length depends on values.
    pub(super) fn lengths(&self) -> TractResult<Vec<usize>> {
        let length = |dim: &TDim| dim.to_usize().context("a length that depends on values");
        self.shape.iter().map(length).collect()
    }
}

/// Type and shape of an output; `None` is a length that only a run can tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Form {
    datum_type: DatumType,
    shape: Vec<Option<TDim>>,
}

impl Form {
    /// Every length known.
    pub(super) fn of(datum_type: DatumType, shape: &[TDim]) -> Self {
        Self { datum_type, shape: shape.iter().cloned().map(Some).collect() }
    }

    /// Some lengths known.
    pub(super) fn open(datum_type: DatumType, shape: Vec<Option<TDim>>) -> Self {
        Self { datum_type, shape }
    }
}

/// The input at `position`, which the standard requires.
pub(super) fn seen(inputs: &[Option<Seen>], position: usize) -> TractResult<&Seen> {
    inputs.get(position).and_then(Option::as_ref).with_context(|| format!("input {position} is missing"))
}

/// The engine's operator for `literal` as `node` uses it.
pub(super) fn wrap(context: &ParsingContext<'_>, node: &NodeProto, literal: impl Literal) -> Built {
    Ok((Box::new(wrapped(context, node, literal)), vec![]))
}

fn wrapped(context: &ParsingContext<'_>, node: &NodeProto, literal: impl Literal) -> Wrapped {
    let slots = |present: &mut dyn Iterator<Item = Option<usize>>, count: usize| {
        present.take(count).map(|slot| slot.is_some()).collect::<Vec<_>>()
    };
    Wrapped {
        literal: Arc::new(literal),
        inputs: slots(&mut optional_inputs(node), node.input.len()),
        outputs: slots(&mut optional_outputs(node), node.output.len()),
        symbols: context.template.symbols.clone(),
        open: Arc::default(),
        known: Arc::default(),
    }
}

/// tract's operator for `node`, and `literal` for the inputs that `ours` tells: types, shapes and
/// constants that tract answers wrongly or not at all.
pub(super) fn choose(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    literal: impl Literal,
    ours: fn(&[Option<&TypedFact>]) -> bool,
) -> Built {
    choose_between(context, node, super::stock(context, node), literal, ours)
}

/// The same, with another operator than tract's for all other inputs.
pub(super) fn choose_between(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    others: Built,
    literal: impl Literal,
    ours: fn(&[Option<&TypedFact>]) -> bool,
) -> Built {
    let (theirs, closures) = others?;
    ensure!(closures.is_empty(), "{} holds a graph", node.op_type);
    let literal = wrapped(context, node, literal);
    Ok((Box::new(Choice { theirs, literal, ours }), vec![]))
}

/// tract's operator for some inputs and ours for others; which, is known with types and shapes.
#[derive(Clone, Debug)]
struct Choice {
    theirs: Box<dyn InferenceOp>,
    literal: Wrapped,
    ours: fn(&[Option<&TypedFact>]) -> bool,
}

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        self.literal == other.literal
    }
}

impl Eq for Choice {}

impl Choice {
    fn is_ours(&self, facts: &[&TypedFact]) -> bool {
        (self.ours)(&self.literal.placed(facts.iter().copied()))
    }

    fn is_ours_of(&self, inputs: &[TValue]) -> TractResult<bool> {
        let facts = inputs.iter().map(|value| TypedFact::try_from(value.clone().into_arc_tensor()));
        let facts = facts.collect::<TractResult<Vec<_>>>()?;
        Ok(self.is_ours(&facts.iter().collect::<Vec<_>>()))
    }
}

impl Op for Choice {
    fn name(&self) -> StaticName {
        self.theirs.name()
    }

    not_a_typed_op!();
}

impl EvalOp for Choice {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        match self.is_ours_of(&inputs)? {
            true => EvalOp::eval(&self.literal, context, inputs),
            false => self.theirs.eval(context, inputs),
        }
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        match self.is_ours_of(&inputs)? {
            true => self.literal.eval_out_of_plan(inputs),
            false => self.theirs.eval_out_of_plan(inputs),
        }
    }
}

impl InferenceOp for Choice {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let known = inputs.iter().map(|fact| TypedFact::try_from(*fact)).collect::<TractResult<Vec<_>>>();
        match known {
            Ok(facts) if self.is_ours(&facts.iter().collect::<Vec<_>>()) => {
                self.literal.infer_facts(inputs, outputs, observed)
            }
            _ => self.theirs.infer_facts(inputs, outputs, observed),
        }
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.theirs.observe_outlets(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.literal.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let facts = node.inputs.iter().map(|input| target.outlet_fact(mapping[input]));
        match self.is_ours(&facts.collect::<TractResult<Vec<_>>>()?) {
            true => self.literal.to_typed(source, node, target, mapping),
            false => self.theirs.to_typed(source, node, target, mapping),
        }
    }

    as_op!();
}

/// Types and shapes of outputs, by those of the inputs.
type Known = HashMap<Vec<Option<(DatumType, Vec<usize>)>>, Vec<Form>>;

/// A [`Literal`] with what a node says about it.
#[derive(Clone)]
struct Wrapped {
    literal: Arc<dyn Literal>,
    /// Which of ONNX's positions the node fills.
    inputs: Vec<bool>,
    outputs: Vec<bool>,
    symbols: SymbolScope,
    /// Symbols of lengths that a run tells, by output and axis: the same at every look.
    open: Arc<Mutex<HashMap<(usize, usize), Symbol>>>,
    /// What evaluations of zeros have shown.
    known: Arc<Mutex<Known>>,
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.literal.fmt(f)
    }
}

impl PartialEq for Wrapped {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.literal, &other.literal)
    }
}

impl Eq for Wrapped {}

impl Wrapped {
    /// Items of the filled positions, with `None` between them.
    fn placed<T>(&self, items: impl IntoIterator<Item = T>) -> Vec<Option<T>> {
        let mut items = items.into_iter();
        self.inputs.iter().map(|filled| filled.then(|| items.next()).flatten()).collect()
    }

    fn evaluated(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        self.literal.eval(&Inputs(inputs.to_vec())).with_context(|| format!("in {}", self.literal.name()))
    }

    /// Forms of the outputs that the node names.
    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Vec<Form>> {
        let forms = match self.literal.forms(inputs)? {
            Some(forms) => forms,
            None => self.shown_by_zeros(inputs)?,
        };
        self.named(forms)
    }

    fn shown_by_zeros(&self, inputs: &[Option<Seen>]) -> TractResult<Vec<Form>> {
        let key = inputs
            .iter()
            .map(|seen| seen.as_ref().map(|seen| Ok((seen.datum_type, seen.lengths()?))).transpose())
            .collect::<TractResult<Vec<_>>>()?;
        let constant = inputs.iter().flatten().any(|seen| seen.value.is_some());
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(forms) = known().get(&key).filter(|_| !constant) {
            return Ok(forms.clone());
        }
        let stand_ins = inputs
            .iter()
            .zip(&key)
            .map(|(seen, key)| {
                let (Some(seen), Some((datum_type, shape))) = (seen, key) else { return Ok(None) };
                match &seen.value {
                    Some(value) => Ok(Some(Arc::clone(value))),
                    None => Tensor::zero_dt(*datum_type, shape).map(|zeros| Some(Arc::new(zeros))),
                }
            })
            .collect::<TractResult<Vec<_>>>()?;
        let outputs = self.evaluated(&stand_ins.iter().map(Option::as_deref).collect::<Vec<_>>())?;
        let dims = |tensor: &Tensor| tensor.shape().iter().map(|length| length.to_dim()).collect::<TVec<_>>();
        let forms: Vec<_> =
            outputs.iter().map(|tensor| Form::of(tensor.datum_type(), &dims(tensor))).collect();
        known().insert(key, forms.clone());
        Ok(forms)
    }

    /// Those of ONNX's outputs that the node names.
    fn named<T>(&self, all: Vec<T>) -> TractResult<Vec<T>> {
        let wanted = self.outputs.iter().rposition(|named| *named).map_or(0, |last| last + 1);
        ensure!(all.len() >= wanted, "{} has {} outputs, not {wanted}", self.literal.name(), all.len());
        Ok(all.into_iter().zip(&self.outputs).filter(|(_, named)| **named).map(|(item, _)| item).collect())
    }

    fn symbol(&self, output: usize, axis: usize) -> Symbol {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.entry((output, axis)).or_insert_with(|| self.symbols.new_with_prefix("n")).clone()
    }
}

impl Op for Wrapped {
    fn name(&self) -> StaticName {
        self.literal.name().into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        !self.open.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    op_as_typed_op!();
}

impl EvalOp for Wrapped {
    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let inputs = inputs.iter().map(|value| plain(value)).collect::<TractResult<Vec<_>>>()?;
        let outputs = self.evaluated(&self.placed(inputs.iter().map(AsRef::as_ref)))?;
        Ok(self.named(outputs)?.into_iter().map(IntoTValue::into_tvalue).collect())
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        match self.literal.repeatable() {
            true => EvalOp::eval(self, &EvalContext::out_of_plan(), inputs).map(Some),
            false => Ok(None),
        }
    }
}

/// Shapes that tract computed with are whole numbers to an operator of the standard.
fn plain(tensor: &Tensor) -> TractResult<Cow<'_, Tensor>> {
    match tensor.datum_type() {
        DatumType::TDim => tensor.cast_to::<i64>(),
        _ => Ok(Cow::Borrowed(tensor)),
    }
}

fn plain_type(datum_type: DatumType) -> DatumType {
    match datum_type {
        DatumType::TDim => DatumType::I64,
        other => other,
    }
}

/// A constant, where it has no symbol in it.
fn plain_value(value: Option<Arc<Tensor>>) -> Option<Arc<Tensor>> {
    let value = value?;
    match value.datum_type() {
        DatumType::TDim => value.cast_to::<i64>().ok().map(|whole| Arc::new(whole.into_owned())),
        _ => Some(value),
    }
}

impl TypedOp for Wrapped {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let seen = self.placed(inputs.iter().map(|fact| Seen {
            datum_type: plain_type(fact.datum_type),
            shape: fact.shape.iter().cloned().collect(),
            value: plain_value(fact.konst.clone()),
        }));
        let fact = |(output, form): (usize, Form)| {
            let length =
                |(axis, dim): (usize, Option<TDim>)| dim.unwrap_or_else(|| self.symbol(output, axis).into());
            let shape: TVec<TDim> = form.shape.into_iter().enumerate().map(length).collect();
            form.datum_type.fact(&*shape)
        };
        Ok(self.forms(&seen)?.into_iter().enumerate().map(fact).collect())
    }

    as_op!();
}

impl InferenceOp for Wrapped {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let look = |fact: &&InferenceFact| {
            Some(Seen {
                datum_type: plain_type(fact.datum_type.concretize()?),
                shape: fact.shape.concretize()?,
                value: plain_value(fact.value.concretize()),
            })
        };
        let known: Option<Vec<Seen>> = inputs.iter().map(look).collect();
        let outputs = match known {
            None => outputs.into_iter().cloned().collect(),
            Some(known) => {
                let facts = self.forms(&self.placed(known))?.into_iter().map(|form| {
                    let dims = form
                        .shape
                        .into_iter()
                        .map(|dim| dim.map_or(GenericFactoid::Any, GenericFactoid::Only));
                    InferenceFact::dt_shape(form.datum_type, ShapeFactoid::closed(dims.collect()))
                });
                facts.zip(outputs).map(|(ours, theirs)| ours.unify(theirs)).collect::<TractResult<_>>()?
            }
        };
        Ok((inputs.into_iter().cloned().collect(), outputs, observed.into_iter().cloned().collect()))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs.iter().filter(|named| **named).count())
    }

    fn to_typed(
        &self,
        _source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let inputs: TVec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
        target.wire_node(&node.name, self.clone(), &inputs)
    }

    as_op!();
}
