//! A model that is ready to run: shared, immutable, cheap to clone.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_core::internal::DimLike;
use tract_core::model::memory::eval_tmp_memory_usage;
use tract_core::ops::konst::Const;
use tract_core::ops::scan::Scan;
use tract_core::prelude::{Tensor as TractTensor, TractResult, TypedModel, TypedSimplePlan};

use super::load::Verified;
use super::port::Port;
use super::prepared::{self, Unfit};
use super::{ModelError, Parsed, Session, passes};
use crate::config::Card;
use crate::config::card::PortSpec;

/// An optimised graph. Clones share it; each worker takes a [`Session`] of its own.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    path: PathBuf,
    plan: Arc<TypedSimplePlan>,
    inputs: Vec<PortSpec>,
    outputs: Vec<Port>,
    ready_in: Duration,
    known: Known,
    /// Some operator may remember its last run.
    carries_state: bool,
    /// Why it is not the prepared graph beside it.
    unprepared: Option<Unfit>,
}

/// What a graph tells before it is optimised, and not any more behind that.
pub(super) struct Known {
    pub(super) weights_bytes: u64,
    /// Of each output: see [`super::range`].
    pub(super) least: Vec<f64>,
}

impl fmt::Debug for Model {
    /// The file, not the weights.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({})", self.0.path.display())
    }
}

impl Model {
    pub(super) fn new(
        path: PathBuf,
        plan: Arc<TypedSimplePlan>,
        inputs: Vec<PortSpec>,
        outputs: Vec<Port>,
        known: Known,
        ready_in: Duration,
    ) -> Self {
        let carries_state = passes::carries_state(plan.model());
        Self(Arc::new(Inner {
            path,
            plan,
            inputs,
            outputs,
            ready_in,
            known,
            carries_state,
            unprepared: None,
        }))
    }

    /// The model of a card, with the card's shapes: verified, then as it was prepared, else parsed.
    ///
    /// # Errors
    /// See [`ModelError`]; whatever is wrong, nothing of it is kept.
    pub fn load(card: &Card) -> Result<Self, ModelError> {
        let begun = Instant::now();
        let verified = Verified::of_card(card)?;
        let unfit = match prepared::load(card, begun) {
            Ok(Some(model)) => return Ok(model),
            Ok(None) => None,
            Err(unfit) => Some(unfit),
        };
        let mut model = Parsed::of_verified(verified, card)?.prepare(&card.graph.inputs)?;
        // Nobody shares it yet.
        if let Some(inner) = Arc::get_mut(&mut model.0) {
            inner.unprepared = unfit;
        }
        Ok(model)
    }

    /// Whether it is the prepared graph of its card.
    pub fn is_prepared(&self) -> bool {
        prepared::is_one(&self.0.path)
    }

    /// Why a prepared graph that lies beside this one was not used.
    pub fn unprepared(&self) -> Option<&Unfit> {
        self.0.unprepared.as_ref()
    }

    /// A bare `.onnx` or `.nnef.tgz`. `inputs` fix what the file leaves open, by name; empty: as exported.
    ///
    /// # Errors
    /// See [`ModelError`]; open axes are named with their input.
    pub fn open(path: &Path, inputs: &[PortSpec]) -> Result<Self, ModelError> {
        Verified::read(path)?.parse()?.prepare(inputs)
    }

    /// The file that it came from.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What must be given to a run, in order.
    pub fn inputs(&self) -> &[PortSpec] {
        &self.0.inputs
    }

    /// What a run gives, in order. A length stays a symbol where it depends on the values.
    pub fn outputs(&self) -> &[Port] {
        &self.0.outputs
    }

    /// From opening the file to being ready.
    pub fn ready_in(&self) -> Duration {
        self.0.ready_in
    }

    /// A worker's own hold on it.
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// For each output, the least that a difference is measured against.
    pub(super) fn least(&self) -> &[f64] {
        &self.0.known.least
    }

    pub(super) fn carries_state(&self) -> bool {
        self.0.carries_state
    }

    pub(super) fn plan(&self) -> &Arc<TypedSimplePlan> {
        &self.0.plan
    }

    /// An estimate of what it needs while it runs; `None` where shapes depend on values.
    pub fn memory(&self) -> Option<Memory> {
        let intermediates_bytes = intermediates(&self.0.plan).ok()?;
        Some(Memory { weights_bytes: self.0.known.weights_bytes, intermediates_bytes })
    }
}

/// Bytes that a model needs while one session runs. An estimate: kernels' scratch is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights and constants, shared by all sessions.
    pub weights_bytes: u64,
    /// The most that inputs, outputs and everything between them take at once; per session.
    pub intermediates_bytes: u64,
}

impl Memory {
    /// Both together.
    pub fn peak_bytes(&self) -> u64 {
        self.weights_bytes + self.intermediates_bytes
    }
}

/// The most that tensors between the nodes take at once.
fn intermediates(plan: &TypedSimplePlan) -> TractResult<u64> {
    let steps =
        eval_tmp_memory_usage(plan.model(), plan.order_without_consts(), |node| !node.op_is::<Const>())?;
    let mut most = 0;
    for (_, bytes) in &steps {
        most = most.max(bytes.to_usize()?);
    }
    Ok(most as u64)
}

/// Bytes of the weights of a decluttered graph, inner graphs included. Optimisation packs them into
/// kernels, where they cannot be seen any more, at about the same size.
pub(super) fn weights_bytes(model: &TypedModel) -> u64 {
    let mut tensors = HashMap::new();
    let mut operators = 0;
    collect_weights(model, &mut tensors, &mut operators);
    tensors.values().sum::<u64>() + operators
}

/// By address, because several nodes may hold one tensor; and what operators of ours hold themselves.
fn collect_weights(model: &TypedModel, tensors: &mut HashMap<*const TractTensor, u64>, operators: &mut u64) {
    for node in model.nodes() {
        if let Some(constant) = node.op_as::<Const>() {
            let tensor = constant.val();
            let bytes = tensor.len() * tensor.datum_type().size_of();
            tensors.insert(Arc::as_ptr(tensor), bytes as u64);
        } else if let Some(scan) = node.op_as::<Scan>() {
            collect_weights(&scan.body, tensors, operators);
        }
        *operators += super::operators::ml::weights_bytes(node) as u64;
    }
}
