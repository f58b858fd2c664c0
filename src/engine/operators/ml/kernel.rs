//! How an operator of ours stands in tract's graphs: one wrapper for all of them.
//!
//! An operator is a [`Kernel`]: it says what its outputs will be from types and shapes, and computes
//! them from values. The wrapper follows tract's two stages (facts while the graph is analysed,
//! values while it runs) and leaves out the outputs that nobody named.

use std::fmt;
use std::sync::Arc;

use tract_core::internal::*;
use tract_onnx::tract_hir::internal::{Expansion, InferenceOp, InferenceResult, Solver, TensorProxy, expand};

/// Type and shape of one tensor.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) datum_type: DatumType,
    pub(super) shape: TVec<TDim>,
}

impl Fact {
    pub(super) fn new(datum_type: DatumType, shape: &[TDim]) -> Self {
        Self { datum_type, shape: shape.into() }
    }

    /// This shape, another type.
    pub(super) fn with_type(&self, datum_type: DatumType) -> Self {
        Self { datum_type, shape: self.shape.clone() }
    }

    /// Rows and columns, as `ai.onnx.ml` reads a feature matrix: `[N, C]`, or `[C]` as one row.
    pub(super) fn matrix(&self) -> TractResult<(TDim, TDim)> {
        match &*self.shape {
            [columns] => Ok((1.to_dim(), columns.clone())),
            [rows, columns] => Ok((rows.clone(), columns.clone())),
            other => bail!("the input has shape {other:?}; it must be [N, C] or [C]"),
        }
    }

    /// Fails when the columns are known and fewer (or more, when `exact`) than the weights cover.
    pub(super) fn expect_columns(&self, expected: usize, exact: bool) -> TractResult<()> {
        if let Ok(columns) = self.matrix()?.1.to_usize()
            && (columns < expected || exact && columns != expected)
        {
            let at_least = if exact { "" } else { "at least " };
            bail!("the input has {columns} columns, the operator's weights are for {at_least}{expected}");
        }
        Ok(())
    }
}

/// Rows and columns of a concrete tensor, read as [`Fact::matrix`] reads them.
pub(super) fn matrix(tensor: &Tensor) -> TractResult<(usize, usize)> {
    match tensor.shape() {
        [columns] => Ok((1, *columns)),
        [rows, columns] => Ok((*rows, *columns)),
        other => bail!("the input has shape {other:?}; it must be [N, C] or [C]"),
    }
}

/// A tensor from its elements in row-major order.
pub(super) fn tensor<T: Datum>(shape: &[usize], values: Vec<T>) -> TractResult<Tensor> {
    Ok(tract_ndarray::ArrayD::from_shape_vec(tract_ndarray::IxDyn(shape), values)?.into())
}

/// What one operator does. It is built once, from a node's attributes, and shared by all sessions.
pub(super) trait Kernel: fmt::Debug + Send + Sync + 'static {
    /// Types and shapes of all outputs; an error when the inputs cannot be used.
    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>>;

    /// All outputs.
    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>>;

    /// What it holds of the model: trees, vectors, coefficients. 0 where that is a handful of numbers.
    fn weights_bytes(&self) -> usize {
        0
    }
}

/// A kernel as tract's operator, under its ONNX name.
#[derive(Clone)]
pub(super) struct Node {
    name: &'static str,
    kernel: Arc<dyn Kernel>,
    /// Which of the kernel's outputs the node has a name for.
    wanted: TVec<usize>,
}

impl Node {
    /// `outputs` are the node's names for its outputs; an empty one is not wanted.
    pub(super) fn boxed(
        name: &'static str,
        kernel: Arc<dyn Kernel>,
        outputs: &[String],
    ) -> Box<dyn InferenceOp> {
        let wanted = outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()).map(|(i, _)| i);
        expand(Self { name, kernel, wanted: wanted.collect() })
    }

    fn select<T>(&self, all: TVec<T>) -> TractResult<TVec<T>> {
        let count = all.len();
        let mut all: Vec<Option<T>> = all.into_iter().map(Some).collect();
        let taken = self.wanted.iter().map(|&i| all.get_mut(i).and_then(Option::take));
        taken.collect::<Option<_>>().with_context(|| format!("{} has {count} outputs", self.name))
    }
}

/// [`Kernel::weights_bytes`] of a node that has one of ours.
pub(in crate::engine) fn weights_bytes(node: &TypedNode) -> usize {
    node.op_as::<Node>().map_or(0, |node| node.kernel.weights_bytes())
}

impl fmt::Debug for Node {
    /// The name, not the weights.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Nodes that share a kernel are the same; weights are not compared.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel) && self.wanted == other.wanted
    }
}
impl Eq for Node {}

impl Expansion for Node {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.wanted.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
                let facts: Vec<Fact> = (types.iter().zip(shapes))
                    .map(|(&datum_type, shape)| Fact { datum_type, shape })
                    .collect();
                for (output, fact) in outputs.iter().zip(self.select(self.kernel.facts(&facts)?)?) {
                    solver.equals(&output.datum_type, fact.datum_type)?;
                    solver.equals(&output.shape, fact.shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Node {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    op_as_typed_op!();
}

impl EvalOp for Node {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let outputs = self.kernel.eval(&inputs).with_context(|| format!("in {}", self.name))?;
        self.select(outputs.into_iter().map(IntoTValue::into_tvalue).collect())
    }
}

impl TypedOp for Node {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let inputs: Vec<Fact> = inputs.iter().map(|fact| Fact::new(fact.datum_type, &fact.shape)).collect();
        let facts = self.kernel.facts(&inputs).with_context(|| format!("in {}", self.name))?;
        Ok(self.select(facts)?.iter().map(|fact| fact.datum_type.fact(&*fact.shape)).collect())
    }

    as_op!();
}
