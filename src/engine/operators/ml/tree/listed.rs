//! Trees as `TreeEnsembleClassifier` and `TreeEnsembleRegressor` list them: parallel attributes,
//! one entry a node, found by tree id and node id.
//!
//! Standard: ai.onnx.ml 1, and 3 with numbers as tensors. Ids may be any; the root of a tree is the
//! node that none of its nodes leads to.

use std::collections::HashMap;

use tract_core::internal::*;

use super::super::attributes::Attributes;
use super::parts::{Branch, Child, Mode, Parts, feature, target};

/// `class` or `target`: how the operator calls what leaves add to.
pub(super) fn read(attributes: &Attributes<'_>, of: &str, targets: usize) -> TractResult<Parts> {
    ensure!(targets > 0, "it has no {of} to give a score to");
    let tree_ids = attributes.ints("nodes_treeids")?;
    let count = tree_ids.len();
    ensure!(count > 0, "it has no nodes");
    let same_length = |name: &str, length: usize| -> TractResult<()> {
        ensure!(length == count, "nodes_treeids has {count} entries, {name} has {length}");
        Ok(())
    };
    let ints = |name: &str| -> TractResult<Vec<i64>> {
        let ints = attributes.ints(name)?;
        same_length(name, ints.len())?;
        Ok(ints)
    };
    let node_ids = ints("nodes_nodeids")?;
    let features = ints("nodes_featureids")?;
    let (when_true, when_false) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let values = attributes.numbers("nodes_values")?;
    same_length("nodes_values", values.len())?;
    let modes = attributes.texts("nodes_modes")?;
    same_length("nodes_modes", modes.len())?;
    let modes: Vec<Option<Mode>> = modes.iter().map(|mode| Mode::parse(mode)).collect::<TractResult<_>>()?;
    let tracks = attributes.ints("nodes_missing_value_tracks_true")?;
    if !tracks.is_empty() {
        same_length("nodes_missing_value_tracks_true", tracks.len())?;
    }

    // Branches and leaves are numbered apart.
    let mut found = HashMap::with_capacity(count);
    let (mut branches, mut leaves) = (0, 0);
    for (i, mode) in modes.iter().enumerate() {
        let next = match mode {
            Some(_) => &mut branches,
            None => &mut leaves,
        };
        let child = if mode.is_some() { Child::Branch(*next) } else { Child::Leaf(*next) };
        *next += 1;
        let twice = found.insert((tree_ids[i], node_ids[i]), (child, i)).is_some();
        ensure!(!twice, "tree {} has two nodes {}", tree_ids[i], node_ids[i]);
    }
    let mut parts = Parts { targets, leaves: vec![Vec::new(); leaves], ..Parts::default() };
    let mut led_to = vec![false; count];
    for (i, mode) in modes.iter().enumerate() {
        let Some(mode) = *mode else { continue };
        let mut child = |id: i64| {
            let (child, at) = found.get(&(tree_ids[i], id)).with_context(|| {
                format!("node {} of tree {} leads to node {id}, which is not there", node_ids[i], tree_ids[i])
            })?;
            led_to[*at] = true;
            Ok::<_, TractError>(*child)
        };
        parts.branches.push(Branch {
            feature: feature(features[i])?,
            threshold: values[i],
            mode,
            missing_is_true: tracks.get(i).is_some_and(|tracks| *tracks != 0),
            when_true: child(when_true[i])?,
            when_false: child(when_false[i])?,
        });
    }
    let mut rooted = HashMap::new();
    for i in 0..count {
        let has_root = rooted.entry(tree_ids[i]).or_insert(false);
        if !led_to[i] && !*has_root {
            *has_root = true;
            parts.roots.push(found[&(tree_ids[i], node_ids[i])].0);
        }
    }
    if let Some((tree, _)) = rooted.iter().find(|(_, has_root)| !**has_root) {
        bail!("tree {tree} has no root: its nodes lead in a circle");
    }
    weights(attributes, of, &found, &mut parts)?;
    parts.wide = ["nodes_values_as_tensor", &format!("{of}_weights_as_tensor"), "base_values_as_tensor"]
        .iter()
        .map(|name| attributes.tensor(name))
        .collect::<TractResult<Vec<_>>>()?
        .iter()
        .flatten()
        .any(|tensor| tensor.datum_type() == DatumType::F64);
    Ok(parts)
}

/// What the leaves add. Weights of branches are left alone: older exporters wrote some. A single target's
/// weight that is listed again counts once, as in onnxruntime: skl2onnx lists a leaf's number for its
/// `decision_leaf` and `decision_path` as often as there are classes.
fn weights(
    attributes: &Attributes<'_>,
    of: &str,
    found: &HashMap<(i64, i64), (Child, usize)>,
    parts: &mut Parts,
) -> TractResult<()> {
    let ids = attributes.ints(&format!("{of}_ids"))?;
    let node_ids = attributes.ints(&format!("{of}_nodeids"))?;
    let tree_ids = attributes.ints(&format!("{of}_treeids"))?;
    let weights = attributes.numbers(&format!("{of}_weights"))?;
    ensure!(
        node_ids.len() == ids.len() && tree_ids.len() == ids.len() && weights.len() == ids.len(),
        "{of}_ids has {} entries, {of}_nodeids {}, {of}_treeids {}, {of}_weights {}",
        ids.len(),
        node_ids.len(),
        tree_ids.len(),
        weights.len()
    );
    for (i, id) in ids.iter().enumerate() {
        let at = (tree_ids[i], node_ids[i]);
        match found.get(&at) {
            Some((Child::Leaf(leaf), _)) => {
                let contribution = (target(*id, parts.targets)?, weights[i]);
                let leaf = &mut parts.leaves[*leaf];
                if of == "target" && parts.targets == 1 && !leaf.is_empty() {
                    ensure!(
                        leaf[0] == contribution,
                        "leaf {} of tree {} has two weights for its one target: {} and {}",
                        at.1,
                        at.0,
                        leaf[0].1,
                        contribution.1
                    );
                    continue;
                }
                leaf.push(contribution);
            }
            Some((Child::Branch(_), _)) => {}
            None => bail!("{of}_weights has one for node {} of tree {}, which is not there", at.1, at.0),
        }
    }
    Ok(())
}
