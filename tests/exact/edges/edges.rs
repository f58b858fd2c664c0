//! Operators at the ends of their types: zeros, infinities, NaN, the smallest and the largest numbers, ties, and
//! chains that are equal to shorter ones on paper only. What the engine accepts, it answers as onnxruntime does,
//! each number by itself. Of statistics over numbers far from 0 what counts is a part of the largest.

use lineside::engine::npy;

use super::cases::{Case, Fault, answers, none_is_wrong, numbers, written_by};

/// Fewer would mean that the script lost some.
const AT_LEAST: usize = 4000;

/// Of the models that onnxruntime runs, at least so many parts in a hundred must run.
const RUN_PERCENT: usize = 95;

fn is_same(ours: f64, theirs: f64, within: f64, signed: bool) -> bool {
    if ours.is_nan() || theirs.is_nan() {
        return ours.is_nan() && theirs.is_nan();
    }
    if ours == theirs {
        return !signed || ours != 0.0 || ours.is_sign_negative() == theirs.is_sign_negative();
    }
    ours.is_finite() && theirs.is_finite() && (ours - theirs).abs() <= within
}

fn fault(case: &Case) -> Option<Fault> {
    if case.name.starts_with("far from 0") {
        return case.fault();
    }
    let answers = match answers(case) {
        Ok(answers) => answers,
        Err(fault) => return Some(fault),
    };
    let signed = case.name.ends_with(" signed");
    // Fast functions are as exact as their largest numbers.
    let least = if case.name.starts_with("function ") { 1.0 } else { 0.0 };
    let same =
        |ours: f64, theirs: f64| is_same(ours, theirs, case.tolerance * theirs.abs().max(least), signed);
    for ((name, file), ours) in case.outputs.iter().zip(&answers) {
        let theirs = npy::read(file).expect("the script's file");
        if ours.shape != theirs.shape || ours.data_type() != theirs.data_type() {
            let (a, b) = (ours.data_type(), theirs.data_type());
            return Some(Fault::Wrong(format!("{name} is {a} {:?}, not {b} {:?}", ours.shape, theirs.shape)));
        }
        let differ = match (numbers(&ours.data), numbers(&theirs.data)) {
            (Some(a), Some(b)) => {
                let pairs = a.iter().zip(&b).enumerate();
                let differ = pairs.filter(|(_, (a, b))| !same(**a, **b));
                differ.map(|(i, (a, b))| format!("{i}: {a:?}, not {b:?}")).collect::<Vec<_>>()
            }
            _ if ours == &theirs => continue,
            _ => vec![format!("{:?}, not {:?}", ours.data, theirs.data)],
        };
        if !differ.is_empty() {
            let some = differ.iter().take(6).map(String::as_str).collect::<Vec<_>>().join("; ");
            return Some(Fault::Wrong(format!("{} of {name} differ: {some}", differ.len())));
        }
    }
    None
}

#[test]
fn at_the_ends_of_types_operators_answer_as_onnxruntime_does() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let cases = written_by("edges/edges.py", folder.path(), &[]);
    assert!(cases.len() >= AT_LEAST, "{} models were written", cases.len());
    none_is_wrong(&cases, fault, RUN_PERCENT);
}
