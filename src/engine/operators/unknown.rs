//! What an operator would have to know before a run, and only a run tells: lengths, pads, axes that are an input of
//! the graph, or are computed from one. tract says "shape input is variable"; here stands which input to fix.

use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_hir::internal::*;

/// Operators whose inputs behind the first one say how their answer looks.
const SHAPED: &[&str] = &[
    "CenterCropPad",
    "ConstantOfShape",
    "Expand",
    "OneHot",
    "Pad",
    "Range",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "TopK",
    "Unsqueeze",
    "Upsample",
];

/// What to do about an operator that could not be built, where the reason may be that it is given such inputs.
pub(super) fn remedy(operator: &str, model: &TypedModel, inputs: &[OutletId]) -> Option<String> {
    if !SHAPED.contains(&operator) {
        return None;
    }
    let first = usize::from(!matches!(operator, "ConstantOfShape" | "Range"));
    let is_open = |input: &&OutletId| model.outlet_fact(**input).is_ok_and(|fact| fact.konst.is_none());
    let mut open: Vec<usize> = inputs.iter().skip(first).filter(is_open).map(|input| input.node).collect();
    if open.is_empty() {
        return None;
    }
    let (mut seen, mut names) = (open.clone(), Vec::new());
    while let Some(id) = open.pop() {
        let node = model.node(id);
        let whole = |fact: &TypedFact| fact.datum_type.is_integer();
        if node.op_is::<TypedSource>() && node.outputs.iter().all(|output| whole(&output.fact)) {
            names.push(node.name.clone());
        }
        let above: Vec<usize> =
            node.inputs.iter().map(|input| input.node).filter(|above| !seen.contains(above)).collect();
        seen.extend(&above);
        open.extend(above);
    }
    names.sort();
    Some(match &*names {
        [] => "how its answer looks depends on what the graph computes in a run; the engine must know it before: export \
               the model with constant shapes"
            .to_owned(),
        names => {
            let fixes: Vec<String> = names.iter().map(|name| format!("--fix {name}=…")).collect();
            format!("how its answer looks must be known before a run: give it with {}", fixes.join(" "))
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::Sample;
    use crate::engine::{Parsed, Verified};

    fn parsed(sample: &Sample) -> Parsed {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, sample.bytes()).unwrap();
        Verified::read(&path).and_then(Verified::parse).unwrap()
    }

    #[test]
    fn an_input_that_says_a_shape_is_named_with_the_way_out() {
        let sample = Sample::default().input("x", DataType::F32, &[2, 3]).input("s", DataType::I64, &[2]);
        for operator in ["Reshape", "Tile", "Expand"] {
            let sample = sample.clone().node("Neg", &["s"], &["n"], &[]).node("Neg", &["n"], &["m"], &[]);
            let sample = sample.node(operator, &["x", "m"], &["y"], &[]).output("y");
            let error = crate::base::words::in_words(&parsed(&sample).prepare(&[]).map(drop).unwrap_err());
            assert!(error.contains("give it with --fix s=…"), "{operator}: {error}");
        }
        let mut fixed = parsed(&sample.node("Reshape", &["x", "s"], &["y"], &[]).output("y"));
        fixed.fix_as_written("s", "3,2").unwrap();
        let model = fixed.prepare(&[]).unwrap();
        assert_eq!(model.session().run(&[&Tensor::zeros(&[2, 3])]).unwrap()[0].shape, [3, 2]);
    }
}
