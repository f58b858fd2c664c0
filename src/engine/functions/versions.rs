//! Whether a function's operators mean the same under the model's operator sets: a graph has one version
//! of each, and a function may have been written for another.
//!
//! onnx.proto wants the schemas of both to be the same. Most versions add types or attributes and change
//! no node that could stand before; those that do, and that the engine tells apart, are [`CHANGES`].

use std::collections::HashMap;

use tract_onnx::pb::{FunctionProto, NodeProto, OperatorSetIdProto};

use super::domain;

/// Versions from which on a node of the standard's own domain is read otherwise, here or in tract 0.23.9.
const CHANGES: &[(&str, &[i64])] = &[
    ("Clip", &[6, 11]),
    ("DFT", &[20]),
    ("GridSample", &[16]),
    ("GroupNormalization", &[21]),
    ("Hardmax", &[13]),
    ("LogSoftmax", &[13]),
    ("Pad", &[2, 11]),
    ("ReduceL1", &[18]),
    ("ReduceL2", &[18]),
    ("ReduceLogSum", &[18]),
    ("ReduceLogSumExp", &[18]),
    ("ReduceMax", &[18]),
    ("ReduceMean", &[18]),
    ("ReduceMin", &[18]),
    ("ReduceProd", &[18]),
    ("ReduceSum", &[13]),
    ("ReduceSumSquare", &[18]),
    ("Resize", &[10, 11, 13, 18]),
    ("RoiAlign", &[16]),
    ("Slice", &[10]),
    ("Softmax", &[13]),
    ("Split", &[13]),
    ("Squeeze", &[13]),
    ("Unsqueeze", &[13]),
];

/// The versions that the model has; the first function that names a domain which the model does not names
/// it for the model.
pub(super) struct Versions {
    of: HashMap<String, i64>,
    added: Vec<OperatorSetIdProto>,
}

impl Versions {
    pub(super) fn of(imported: &[OperatorSetIdProto]) -> Self {
        let of = imported.iter().map(|set| (domain(&set.domain).to_owned(), set.version)).collect();
        Self { of, added: Vec::new() }
    }

    /// What functions named and the model did not.
    pub(super) fn added(self) -> Vec<OperatorSetIdProto> {
        self.added
    }

    /// Refuses a body with an operator that is another one in the model's version.
    pub(super) fn same_meaning(&mut self, function: &FunctionProto) -> Result<(), String> {
        for set in &function.opset_import {
            let domain = domain(&set.domain);
            let Some(models) = self.of.get(domain).copied() else {
                self.of.insert(domain.to_owned(), set.version);
                self.added.push(set.clone());
                continue;
            };
            if domain.is_empty()
                && set.version != models
                && let Some(operator) = changed(&function.node, set.version, models)
            {
                return Err(format!(
                    "it is written for operator set {}, the model for {models}, and {operator} is read otherwise \
                     there; export both for one",
                    set.version
                ));
            }
        }
        Ok(())
    }
}

/// The first operator that changed between the two versions.
fn changed(nodes: &[NodeProto], one: i64, other: i64) -> Option<&str> {
    nodes.iter().find_map(|node| {
        let known = CHANGES.iter().find(|(name, _)| *name == node.op_type && domain(&node.domain).is_empty());
        let differs = |since: &i64| (one < *since) != (other < *since);
        if known.is_some_and(|(_, versions)| versions.iter().any(differs)) {
            return Some(node.op_type.as_str());
        }
        let mut inner = node.attribute.iter().flat_map(|held| held.g.iter().chain(&held.graphs));
        inner.find_map(|graph| changed(&graph.node, one, other))
    })
}
