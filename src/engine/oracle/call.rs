//! What one operator is given: its node's attributes and inputs.

use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::value::Value;

/// One node, about to be evaluated.
pub(super) struct Call<'a> {
    pub(super) node: &'a NodeProto,
    /// Version of ONNX's own operator set.
    pub(super) opset: i64,
    /// In order; `None` where an optional input is left out.
    pub(super) inputs: Vec<Option<&'a Value>>,
}

impl<'a> Call<'a> {
    pub(super) fn input(&self, position: usize) -> Result<&'a Value, String> {
        self.optional(position).ok_or_else(|| format!("input {position} is missing"))
    }

    pub(super) fn optional(&self, position: usize) -> Option<&'a Value> {
        self.inputs.get(position).copied().flatten()
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.int(name, 0) != 0
    }

    pub(super) fn float(&self, name: &str, default: f64) -> f64 {
        self.attribute(name).map_or(default, |attribute| f64::from(attribute.f))
    }

    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|attribute| attribute.ints.clone())
    }

    pub(super) fn floats(&self, name: &str) -> Option<Vec<f64>> {
        self.attribute(name).map(|attribute| attribute.floats.iter().map(|value| f64::from(*value)).collect())
    }

    pub(super) fn text(&self, name: &str, default: &str) -> String {
        self.attribute(name).map_or_else(
            || default.to_owned(),
            |attribute| String::from_utf8_lossy(&attribute.s).into_owned(),
        )
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let texts = self.attribute(name).into_iter().flat_map(|attribute| &attribute.strings);
        texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    /// Axes from the input at `position`, where newer operator sets have them, or the attribute.
    pub(super) fn axes(&self, position: usize, name: &str) -> Result<Option<Vec<i64>>, String> {
        match self.optional(position) {
            Some(axes) => Ok(Some(axes.ints()?)),
            None => Ok(self.ints(name)),
        }
    }

    /// Whole numbers that are lengths, from an attribute.
    pub(super) fn lengths(&self, name: &str, default: &[usize]) -> Result<Vec<usize>, String> {
        match self.ints(name) {
            None => Ok(default.to_vec()),
            Some(lengths) => lengths
                .into_iter()
                .map(|length| usize::try_from(length).map_err(|_| format!("{name} has {length}")))
                .collect(),
        }
    }
}
