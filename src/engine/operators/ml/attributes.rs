//! A node's attributes, read by the type that the standard gives them.

use tract_core::internal::*;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};

use super::kernel::tensor;

/// The attributes of one node.
pub(super) struct Attributes<'a> {
    context: &'a ParsingContext<'a>,
    node: &'a NodeProto,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(context: &'a ParsingContext<'a>, node: &'a NodeProto) -> Self {
        Self { context, node }
    }

    /// Number of inputs that are wired.
    pub(super) fn input_count(&self) -> usize {
        self.node.input.iter().filter(|name| !name.is_empty()).count()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.node.attribute.iter().any(|attribute| attribute.name == name)
    }

    pub(super) fn float(&self, name: &str) -> TractResult<Option<f32>> {
        self.node.get_attr_opt(name)
    }

    pub(super) fn int(&self, name: &str) -> TractResult<Option<i64>> {
        self.node.get_attr_opt(name)
    }

    pub(super) fn text(&self, name: &str) -> TractResult<Option<String>> {
        self.node.get_attr_opt(name)
    }

    /// Empty when absent, as `ai.onnx.ml` treats lists.
    pub(super) fn floats(&self, name: &str) -> TractResult<Vec<f32>> {
        Ok(self.node.get_attr_opt_vec(name)?.unwrap_or_default())
    }

    /// Empty when absent.
    pub(super) fn ints(&self, name: &str) -> TractResult<Vec<i64>> {
        Ok(self.node.get_attr_opt_vec(name)?.unwrap_or_default())
    }

    /// Empty when absent.
    pub(super) fn texts(&self, name: &str) -> TractResult<Vec<String>> {
        Ok(self.node.get_attr_opt_vec(name)?.unwrap_or_default())
    }

    /// An attribute that is itself a tensor.
    pub(super) fn tensor(&self, name: &str) -> TractResult<Option<Tensor>> {
        let proto: Option<&TensorProto> = self.node.get_attr_opt(name)?;
        proto.map(|proto| self.context.load_tensor(proto)).transpose()
    }

    /// Numbers given as a tensor under `NAME`, in the wider of the float types.
    pub(super) fn tensor_numbers(&self, name: &str) -> TractResult<Option<Vec<f64>>> {
        let Some(tensor) = self.tensor(name)? else { return Ok(None) };
        Ok(Some(tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec()))
    }

    /// Numbers given as floats under `NAME`, or as a tensor under `NAME_as_tensor` (opset 3).
    pub(super) fn numbers(&self, name: &str) -> TractResult<Vec<f64>> {
        match self.tensor_numbers(&format!("{name}_as_tensor"))? {
            Some(numbers) => Ok(numbers),
            None => Ok(self.floats(name)?.into_iter().map(f64::from).collect()),
        }
    }

    /// Class labels: integers under one name or strings under the other; `None` when there are neither.
    pub(super) fn labels(&self, ints: &str, texts: &str) -> TractResult<Option<Tensor>> {
        let (ints_given, texts_given) = (self.ints(ints)?, self.texts(texts)?);
        match (ints_given.len(), texts_given.len()) {
            (0, 0) => Ok(None),
            (count, 0) => Ok(Some(tensor(&[count], ints_given)?)),
            (0, count) => Ok(Some(tensor(&[count], texts_given)?)),
            _ => bail!("{ints} and {texts} are both given; one of them must be"),
        }
    }
}

/// The elements of `values` at these places, in this shape.
pub(super) fn picked(values: &Tensor, places: &[usize], shape: &[usize]) -> TractResult<Tensor> {
    fn of<T: Datum>(values: &Tensor, places: &[usize], shape: &[usize]) -> TractResult<Tensor> {
        let values = values.try_as_plain_ram()?;
        let values = values.as_slice::<T>()?;
        tensor(shape, places.iter().map(|&place| values[place].clone()).collect())
    }
    dispatch_datum!(of(values.datum_type())(values, places, shape))
}
