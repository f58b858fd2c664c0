//! tract's operators for the processor, in fewer steps.
//!
//! tract's own optimiser (`Optimizer::codegen`, 0.23.9) makes a change of shape of each change of axes alone and then
//! joins two of them at a time, keeping account of every axis: with a convolution, that is half of the work. Here
//! a chain of them becomes one change of shape at once, without that account, which nothing reads behind it. And
//! it asks each sum and product of two tensors again whether it could be simpler, which a decluttered graph has
//! answered; and all passes run again until none of them has anything to do, also where nothing was rewritten
//! since. All else is tract's own passes in tract's own order.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::change_axes::{AxisOp, IntoShape};
use tract_core::ops::dummy::Dummy;
use tract_core::optim::{Optimizer, OptimizerSession, TypedPass};

/// Rewrites a decluttered graph to the fastest operators that tract has.
pub(super) fn apply(model: &mut TypedModel) -> TractResult<()> {
    let is_settled = |node: &&TypedNode| node.op_is::<TypedBinOp>();
    let settled: Arc<HashSet<String>> =
        Arc::new(model.nodes().iter().filter(is_settled).map(|node| node.name.clone()).collect());
    let rewritten = Arc::new(AtomicUsize::new(0));
    let optimizer = Optimizer::codegen();
    let counted = |pass: Box<dyn TypedPass>| -> Box<dyn TypedPass> {
        let pass = match Question::in_place_of(&*pass) {
            Some(question) => Box::new(EachNode { question, settled: Arc::clone(&settled), next: 0 }),
            None => pass,
        };
        Box::new(Counted { pass, rewritten: Arc::clone(&rewritten), once: HashSet::new() })
    };
    let mut passes: Vec<_> = optimizer.passes.iter().cloned().map(counted).collect();
    // How much was rewritten when a pass had no more to do.
    let mut idle_at = vec![None; passes.len()];
    let now = || Some(rewritten.load(Ordering::Relaxed));
    let _proofs = model.symbols.proof_cache_session();
    model.compact()?;
    let mut session = optimizer.session();
    while idle_at.iter().any(|idle_at| *idle_at != now()) {
        for (pass, idle_at) in passes.iter_mut().zip(&mut idle_at).filter(|(_, idle_at)| **idle_at != now()) {
            let before = now();
            session.run_one_pass_outer(0, &mut **pass, model)?;
            if now() != before {
                model.compact()?;
            }
            *idle_at = now();
        }
    }
    Ok(())
}

/// Tells how often a pass has rewritten something.
#[derive(Clone)]
struct Counted {
    pass: Box<dyn TypedPass>,
    /// By all passes together.
    rewritten: Arc<AtomicUsize>,
    /// Rewrites that are applied at most once: the session leaves out a second one.
    once: HashSet<String>,
}

/// tract writes a pass into each patch that it makes: no more than what it is.
impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pass.fmt(f)
    }
}

impl TypedPass for Counted {
    fn reset(&mut self) -> TractResult<()> {
        self.pass.reset()
    }

    fn next(
        &mut self,
        session: &mut OptimizerSession,
        model: &TypedModel,
    ) -> TractResult<Option<TypedModelPatch>> {
        let patch = self.pass.next(session, model)?;
        let label = patch.as_ref().map(|patch| patch.dont_apply_twice.clone());
        if label.is_some_and(|label| label.is_none_or(|label| self.once.insert(label))) {
            self.rewritten.fetch_add(1, Ordering::Relaxed);
        }
        Ok(patch)
    }

    fn run_direct(&mut self, model: &mut TypedModel) -> TractResult<bool> {
        let changed = self.pass.run_direct(model)?;
        self.rewritten.fetch_add(usize::from(changed), Ordering::Relaxed);
        Ok(changed)
    }
}

/// What a pass asks an operator for.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// The one for the processor.
    Codegen,
    /// A simpler one.
    Declutter,
}

impl Question {
    /// Of the pass of tract's that asks the same.
    fn in_place_of(pass: &dyn TypedPass) -> Option<Self> {
        let name = format!("{pass:?}");
        [Self::Codegen, Self::Declutter].into_iter().find(|question| question.name() == name)
    }

    /// Of that pass.
    fn name(self) -> &'static str {
        match self {
            Self::Codegen => "codegen",
            Self::Declutter => "declutter",
        }
    }
}

/// Asks one node after the other, and goes on where something was rewritten.
#[derive(Clone)]
struct EachNode {
    question: Question,
    /// Nodes that cannot become simpler, by name.
    settled: Arc<HashSet<String>>,
    next: usize,
}

impl fmt::Debug for EachNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.question.name())
    }
}

impl TypedPass for EachNode {
    fn reset(&mut self) -> TractResult<()> {
        self.next = 0;
        Ok(())
    }

    fn next(
        &mut self,
        session: &mut OptimizerSession,
        model: &TypedModel,
    ) -> TractResult<Option<TypedModelPatch>> {
        for node in &model.nodes()[self.next..] {
            self.next = node.id;
            let patch = match self.question {
                _ if node.op_is::<Dummy>() => Ok(None),
                Question::Codegen if changes_shape(model, node) => shape(model, node).map(Some),
                Question::Codegen => node.op.codegen(model, node),
                Question::Declutter if node.op_is::<TypedBinOp>() && self.settled.contains(&node.name) => {
                    Ok(None)
                }
                Question::Declutter => node.op.declutter_with_session(session, model, node),
            };
            if let Some(patch) = patch.with_context(|| format!("node {node}"))? {
                self.next += usize::from(patch.dont_apply_twice.is_some());
                return Ok(Some(patch));
            }
        }
        Ok(None)
    }
}

/// Whether a node changes nothing but the shape, to one that is known.
fn changes_shape(model: &TypedModel, node: &TypedNode) -> bool {
    let moves = |axis: &AxisOp| matches!(axis, AxisOp::Move(..));
    let changes = node.op_as::<AxisOp>().is_some_and(|axis| !moves(axis));
    let plain = |outlet: OutletId| {
        model
            .outlet_fact(outlet)
            .is_ok_and(|fact| fact.exotic_fact.is_none() && fact.shape.as_concrete().is_some())
    };
    changes && plain(node.id.into()) && plain(node.inputs[0])
}

/// One change of shape in place of all that follow on each other from here.
fn shape(model: &TypedModel, first: &TypedNode) -> TractResult<TypedModelPatch> {
    let mut last = first;
    while !model.outputs.iter().any(|output| output.node == last.id)
        && let Some(next) = model.single_succ(last.id)?
        && changes_shape(model, next)
    {
        last = next;
    }
    let from = model.outlet_fact(first.inputs[0])?.shape.as_concrete().context("a known shape")?;
    let dims = last.outputs[0].fact.shape.as_concrete().context("a known shape")?;
    let mut patch = TypedModelPatch::new("one change of shape");
    let mut wire = patch.tap_model(model, first.inputs[0])?;
    if from != dims || model.outputs.contains(&last.id.into()) {
        let op = IntoShape {
            mapping: AxesMapping::new(1, 1, tvec!())?,
            len: dims.iter().product(),
            strides: Tensor::natural_strides(dims),
            dims: dims.into(),
        };
        wire = patch.wire_node(&last.name, op, &[wire])?[0];
    }
    patch.shunt_outside(model, last.id.into(), wire)?;
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
    use tract_core::ops::nn::DataFormat;

    #[test]
    fn the_passes_that_are_replaced_are_there() {
        let passes = Optimizer::codegen().passes;
        assert_eq!(passes.iter().filter_map(|pass| Question::in_place_of(&**pass)).count(), 2);
    }

    /// Operators, and the shapes that they give.
    fn drawn(model: &TypedModel) -> Vec<String> {
        let nodes = model.nodes().iter();
        nodes
            .map(|node| format!("{} {:?} {:?}", node.op.name(), node.outputs[0].fact.shape, node.inputs))
            .collect()
    }

    fn convolutions() -> TypedModel {
        let mut model = TypedModel::default();
        let mut wire = model.add_source("picture", f32::fact([1, 3, 20, 24])).unwrap();
        for (nth, (inputs, outputs)) in [(3, 8), (8, 8)].into_iter().enumerate() {
            let numbers: Vec<f32> = (0..outputs * inputs * 9).map(|n| (n % 17) as f32 / 17.0 - 0.5).collect();
            let weights = Tensor::from_shape(&[outputs, inputs, 3, 3], &numbers).unwrap();
            let weights = model.add_const(format!("weights-{nth}"), weights).unwrap();
            let bias = Tensor::from_shape(&[outputs], &numbers[..outputs]).unwrap();
            let bias = model.add_const(format!("bias-{nth}"), bias).unwrap();
            let padding = PaddingSpec::SameUpper;
            let pool_spec = PoolSpec::new(
                DataFormat::NCHW,
                tvec!(3, 3),
                padding,
                None,
                Some(tvec!(2, 2)),
                inputs,
                outputs,
            );
            let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
            wire = model.wire_node(format!("conv-{nth}"), conv, &[wire, weights, bias]).unwrap()[0];
        }
        // Two changes of shape behind each other, the last of them an output.
        let there = AxisOp::Reshape(1, tvec!(8.into(), 5.into()), tvec!(40.into()));
        wire = model.wire_node("there", there, &[wire]).unwrap()[0];
        wire = model.wire_node("fewer", AxisOp::Rm(0), &[wire]).unwrap()[0];
        model.select_output_outlets(&[wire]).unwrap();
        model.into_decluttered().unwrap()
    }

    #[test]
    fn the_graph_is_the_one_that_tract_makes_and_so_is_its_answer() {
        let (mut ours, mut tracts) = (convolutions(), convolutions());
        apply(&mut ours).unwrap();
        tracts.optimize().unwrap();
        assert_eq!(drawn(&ours), drawn(&tracts));
        assert!(drawn(&ours).iter().any(|node| node.starts_with("IntoShape")), "{:#?}", drawn(&ours));
        let picture =
            Tensor::from_shape(&[1, 3, 20, 24], &(0..1440).map(|n| n as f32 / 1440.0).collect::<Vec<_>>());
        let picture = picture.unwrap().into_tvalue();
        let answer = |model: TypedModel| model.into_runnable().unwrap().run(tvec!(picture.clone())).unwrap();
        assert_eq!(answer(ours), answer(tracts));
    }

    #[test]
    fn a_shape_that_is_changed_back_and_goes_out_stays_an_output_of_its_own() {
        let mut model = TypedModel::default();
        let there = model.add_source("there", f32::fact([3])).unwrap();
        let wire = model.wire_node("more", AxisOp::Add(0), &[there]).unwrap()[0];
        let wire = model.wire_node("less", AxisOp::Rm(0), &[wire]).unwrap()[0];
        model.select_output_outlets(&[wire, there]).unwrap();
        apply(&mut model).unwrap();
        let answer =
            model.into_runnable().unwrap().run(tvec!(tensor1(&[1_f32, 2.0, 3.0]).into_tvalue())).unwrap();
        assert_eq!(answer[0], answer[1]);
    }
}
