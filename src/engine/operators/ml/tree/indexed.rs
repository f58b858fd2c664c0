//! Trees as `TreeEnsemble` gives them: branches and leaves in arrays of their own, children by index.
//!
//! Standard: ai.onnx.ml 5. `membership_values` holds the sets of the `BRANCH_MEMBER` nodes in the
//! nodes' order, each closed by a NaN. A root whose two children are the same leaf is that leaf.

use tract_core::internal::*;

use super::super::attributes::Attributes;
use super::parts::{Branch, Child, Mode, Parts, feature, target};

pub(super) fn read(attributes: &Attributes<'_>) -> TractResult<Parts> {
    let targets = attributes.int("n_targets")?.and_then(|targets| usize::try_from(targets).ok());
    let targets = targets.filter(|targets| *targets > 0).context("n_targets must be at least 1")?;
    let modes = attributes.tensor("nodes_modes")?.context("nodes_modes is not given")?;
    let modes = modes.cast_to::<i64>()?;
    let modes = modes.try_as_plain_ram()?;
    let modes = modes.as_slice::<i64>()?;
    let count = modes.len();
    let same_length = |name: &str, length: usize| -> TractResult<()> {
        ensure!(length == count, "nodes_modes has {count} entries, {name} has {length}");
        Ok(())
    };
    let ints = |name: &str| -> TractResult<Vec<i64>> {
        let ints = attributes.ints(name)?;
        same_length(name, ints.len())?;
        Ok(ints)
    };
    let features = ints("nodes_featureids")?;
    let (when_true, true_is_leaf) = (ints("nodes_truenodeids")?, ints("nodes_trueleafs")?);
    let (when_false, false_is_leaf) = (ints("nodes_falsenodeids")?, ints("nodes_falseleafs")?);
    let splits = attributes.tensor("nodes_splits")?.context("nodes_splits is not given")?;
    let wide = splits.datum_type() == DatumType::F64;
    let splits = attributes.tensor_numbers("nodes_splits")?.unwrap_or_default();
    same_length("nodes_splits", splits.len())?;
    let tracks = attributes.ints("nodes_missing_value_tracks_true")?;
    if !tracks.is_empty() {
        same_length("nodes_missing_value_tracks_true", tracks.len())?;
    }
    let members = attributes.tensor_numbers("membership_values")?.unwrap_or_default();
    let mut members = members.split(|value| value.is_nan());

    let mut parts = Parts { targets, wide, ..Parts::default() };
    for (i, mode) in modes.iter().enumerate() {
        let mode = Mode::numbered(*mode)?;
        let threshold = if mode == Mode::Member {
            let set = members.next().with_context(|| format!("node {i} has no set in membership_values"))?;
            parts.sets.push(set.to_vec());
            (parts.sets.len() - 1) as f64
        } else {
            splits[i]
        };
        parts.branches.push(Branch {
            feature: feature(features[i])?,
            threshold,
            mode,
            missing_is_true: tracks.get(i).is_some_and(|tracks| *tracks != 0),
            when_true: child(when_true[i], true_is_leaf[i])?,
            when_false: child(when_false[i], false_is_leaf[i])?,
        });
    }
    // A set's number stands where a threshold would, and an f32 counts no further.
    ensure!(parts.sets.len() < 1 << 24, "there are {} sets", parts.sets.len());
    let target_ids = attributes.ints("leaf_targetids")?;
    let weights = attributes.tensor_numbers("leaf_weights")?.context("leaf_weights is not given")?;
    ensure!(
        target_ids.len() == weights.len(),
        "leaf_targetids has {} entries, leaf_weights {}",
        target_ids.len(),
        weights.len()
    );
    for (id, weight) in target_ids.iter().zip(weights) {
        parts.leaves.push(vec![(target(*id, targets)?, weight)]);
    }
    for root in attributes.ints("tree_roots")? {
        let index = usize::try_from(root).ok().filter(|root| *root < count);
        let index = index.with_context(|| format!("tree_roots names node {root} of {count}"))?;
        let branch = parts.branches[index];
        let is_leaf = branch.when_true == branch.when_false && matches!(branch.when_true, Child::Leaf(_));
        parts.roots.push(if is_leaf { branch.when_true } else { Child::Branch(index) });
    }
    ensure!(!parts.roots.is_empty(), "tree_roots names no tree");
    Ok(parts)
}

fn child(id: i64, is_leaf: i64) -> TractResult<Child> {
    let index = usize::try_from(id).with_context(|| format!("a node leads to {id}"))?;
    Ok(if is_leaf != 0 { Child::Leaf(index) } else { Child::Branch(index) })
}
