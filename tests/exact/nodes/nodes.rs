//! ONNX's own node tests through the engine, held against the state that is on record.
//!
//! `generate.py` writes the cases; `states.tsv` says how each one goes: it passes; it passes `fixed`,
//! with every input but the first a constant, as exporters write axes, scales and pads; or it is
//! refused for a reason, while loading or while running. Promise: a case that stops passing fails the test,
//! and so does one that differs or panics, whatever the list says. A case that has come to pass must
//! be entered: `LINESIDE_EXACT_RECORD=1 cargo test --release --test exact node_tests` writes the list
//! anew, and the table in `docs/models.md` with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lineside::base::{Data, Tensor};
use lineside::config::card::PortSpec;
use lineside::engine::{InferError, Model, Verified, npy};

/// The cases of `onnx` 1.23.2 that count; the others need element types beyond those of
/// [`lineside::base::DataType`], and are here only to see them refused.
const COUNTED: usize = 1274;
/// Fewer would be a step back.
const MUST_PASS: usize = 1080;

/// How a case goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Pass,
    /// Passes once every input but the first is a constant.
    Fixed,
    /// Refused before anything runs, with the reason.
    Load(String),
    /// An error while it runs.
    Run(String),
    /// Another answer than the standard's: never accepted.
    Differs(String),
    /// Never accepted.
    Panics(String),
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fixed => "fixed",
            Self::Load(_) => "load",
            Self::Run(_) => "run",
            Self::Differs(_) => "differs",
            Self::Panics(_) => "panics",
        }
    }

    fn passes(&self) -> bool {
        matches!(self, Self::Pass | Self::Fixed)
    }

    fn reason(&self) -> &str {
        match self {
            Self::Pass | Self::Fixed => "",
            Self::Load(why) | Self::Run(why) | Self::Differs(why) | Self::Panics(why) => why,
        }
    }
}

struct Case {
    name: String,
    operator: String,
    outputs: usize,
    relative: f64,
    absolute: f64,
}

/// A line of `states.tsv`.
struct Record {
    word: String,
    counted: bool,
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exact/nodes")
}

/// Writes the cases, once for each version of the generator.
fn generated() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (folder, stamp) = (root.join("target/exact/nodes"), root.join("target/exact/nodes.stamp"));
    let script = here().join("generate.py");
    let recipe = [&script, &root.join("tests/requirements.txt")]
        .map(|file| std::fs::read(file).expect("the script and its requirements are ours"));
    if std::fs::read(&stamp).is_ok_and(|made_by| made_by == recipe.concat()) {
        return folder;
    }
    let python = std::env::var_os("LINESIDE_TEST_PYTHON")
        .map_or_else(|| root.join("target/test-venv/bin/python"), PathBuf::from);
    let output = Command::new(&python).arg(script).arg(&folder).output().unwrap_or_else(|error| {
        panic!(
            "{}: {error}; set it up with: python3 -m venv target/test-venv && \
             target/test-venv/bin/pip install -r tests/requirements.txt (tests/run does this)",
            python.display()
        )
    });
    assert!(output.status.success(), "generate.py: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(stamp, recipe.concat()).expect("target/ can be written");
    folder
}

fn cases(folder: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(folder.join("cases.tsv")).expect("the generator wrote it");
    let case = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        Case {
            name: fields[0].into(),
            operator: fields[1].into(),
            outputs: fields[2].parse().expect("a number"),
            relative: fields[3].parse().expect("a number"),
            absolute: fields[4].parse().expect("a number"),
        }
    };
    text.lines().map(case).collect()
}

fn recorded() -> BTreeMap<String, Record> {
    let text = std::fs::read_to_string(here().join("states.tsv")).expect("it is committed");
    let record = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        (fields[2].to_owned(), Record { word: fields[0].into(), counted: fields[1] == "counts" })
    };
    text.lines().map(record).collect()
}

/// As it stands; where that is refused, with parameters as constants.
fn tried(case: &Case, folder: &Path) -> State {
    let state = run(case, folder, false);
    if !matches!(state, State::Load(_) | State::Run(_)) {
        return state;
    }
    match run(case, folder, true) {
        State::Pass => State::Fixed,
        State::Load(_) | State::Run(_) => state,
        worse => worse,
    }
}

/// Runs one case, twice in one session: no run may know of the one before.
fn run(case: &Case, folder: &Path, fixed: bool) -> State {
    let file = |kind: &str, i: usize| folder.join(format!("{kind}-{i}.npy"));
    let opened = Verified::read(&folder.join("model.onnx")).and_then(Verified::parse);
    let mut parsed = match opened {
        Ok(parsed) => parsed,
        Err(error) => return State::Load(words(&error, folder)),
    };
    let names: Vec<String> = parsed.inputs().iter().map(|port| port.name.clone()).collect();
    for (i, name) in names.iter().enumerate().skip(1).filter(|_| fixed) {
        let Ok(tensor) = npy::read(&file("in", i)) else { continue };
        if let Err(error) = parsed.fix(name, &tensor) {
            return State::Load(words(&error, folder));
        }
    }
    let mut specs = Vec::new();
    let mut tensors = Vec::new();
    for port in parsed.inputs() {
        let i = names.iter().position(|name| *name == port.name).expect("ports were named before");
        let Ok(tensor) = npy::read(&file("in", i)) else { continue };
        let (data_type, shape) = (tensor.data_type(), tensor.shape.clone());
        specs.push(PortSpec { name: port.name.clone(), data_type, shape });
        tensors.push(tensor);
    }
    let model = match parsed.prepare(&specs) {
        Ok(model) => model,
        Err(error) => {
            let why = words(&error, folder);
            return if why.contains("panicked") { State::Panics(why) } else { State::Load(why) };
        }
    };
    ran(case, &model, &tensors, &file)
}

fn ran(case: &Case, model: &Model, tensors: &[Tensor], file: &dyn Fn(&str, usize) -> PathBuf) -> State {
    let mut session = model.session();
    let inputs: Vec<&Tensor> = tensors.iter().collect();
    let first = match session.run(&inputs) {
        Ok(outputs) => outputs,
        Err(InferError::Panicked { message }) => return State::Panics(message),
        Err(error) => return State::Run(words(&error, Path::new("-"))),
    };
    match session.run(&inputs) {
        Ok(second) if alike(&second, &first) => {}
        _ => return State::Differs("the second run gives another answer".into()),
    }
    if first.len() != case.outputs {
        return State::Differs(format!("{} outputs instead of {}", first.len(), case.outputs));
    }
    for (i, ours) in first.iter().enumerate() {
        let Ok(theirs) = npy::read(&file("out", i)) else {
            return State::Differs(format!("output {i} has no type of ours, and yet an answer"));
        };
        if let Some(why) = difference(ours, &theirs, case) {
            return State::Differs(format!("output {i}: {why}"));
        }
    }
    State::Pass
}

/// NaN equals NaN here.
fn alike(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.shape == b.shape && format!("{:?}", a.data) == format!("{:?}", b.data))
}

/// What is wrong with `ours`: NumPy's `allclose` with the case's own tolerance, types and shapes equal.
fn difference(ours: &Tensor, theirs: &Tensor, case: &Case) -> Option<String> {
    if (ours.data_type(), &ours.shape) != (theirs.data_type(), &theirs.shape) {
        let (a, b) = (ours.data_type(), theirs.data_type());
        return Some(format!("{a} {:?} instead of {b} {:?}", ours.shape, theirs.shape));
    }
    let (Some(a), Some(b)) = (floats(ours), floats(theirs)) else {
        return (ours.data != theirs.data).then(|| "values".into());
    };
    // An element near 0 is a difference of large ones: it can be no more exact than they are in f32.
    let largest = b.iter().filter(|value| value.is_finite()).fold(0_f64, |most, value| most.max(value.abs()));
    let absolute = case.absolute.max(1e-5 * largest);
    let close = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute + case.relative * b.abs()
    };
    let at = a.iter().zip(&b).position(|(a, b)| !close(*a, *b))?;
    Some(format!("element {at} is {} instead of {}", a[at], b[at]))
}

fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(match &tensor.data {
        Data::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::F64(values) => values.clone(),
        Data::F16(bits) => bits.iter().map(|bits| half(*bits)).collect(),
        _ => return None,
    })
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// The error and its causes in one line, without the place of this machine.
fn words(error: &dyn std::error::Error, folder: &Path) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    let path = folder.join("model.onnx").display().to_string();
    let line = text.replace(&format!("{path}: "), "").replace(&path, "it").replace(['\n', '\t'], " ");
    let short: String = line.chars().take(240).collect();
    if short.len() < line.len() { format!("{short} …") } else { short }
}

#[test]
fn onnxs_node_tests_go_as_recorded_and_none_differs_or_panics() {
    let folder = generated();
    let recorded = recorded();
    let mut states = Vec::new();
    let mut wrong = Vec::new();
    for case in cases(&folder) {
        let state = tried(&case, &folder.join(&case.name));
        let expected = recorded.get(&case.name).map_or("missing", |record| &record.word);
        let never = matches!(state, State::Differs(_) | State::Panics(_));
        if never || state.word() != expected {
            let (word, reason) = (state.word(), state.reason());
            wrong.push(format!("{} ({}): {word}, on record {expected} {reason}", case.name, case.operator));
        }
        states.push((case, state));
    }
    let counts = |case: &Case| recorded.get(&case.name).is_some_and(|record| record.counted);
    let counted: Vec<_> = states.iter().filter(|(case, _)| counts(case)).collect();
    let passing = counted.iter().filter(|(_, state)| state.passes()).count();
    println!("{passing} of {} node tests pass", counted.len());
    if std::env::var_os("LINESIDE_EXACT_RECORD").is_some() {
        std::fs::write(here().join("states.tsv"), list(&states, &counts)).expect("the list can be written");
        record_table(&states, &counts);
    } else {
        assert!(wrong.is_empty(), "{} node tests go otherwise:\n{}", wrong.len(), wrong.join("\n"));
    }
    assert_eq!(counted.len(), COUNTED);
    assert!(passing >= MUST_PASS, "{passing} pass, {MUST_PASS} must");
}

fn list(states: &[(Case, State)], counts: &dyn Fn(&Case) -> bool) -> String {
    let mut text = String::new();
    for (case, state) in states {
        let counted = if counts(case) { "counts" } else { "types" };
        let (word, reason) = (state.word(), state.reason());
        let _ = writeln!(text, "{word}\t{counted}\t{}\t{}\t{reason}", case.name, case.operator);
    }
    text
}

/// Puts the table of what does not pass between its marks in `docs/models.md`.
fn record_table(states: &[(Case, State)], counts: &dyn Fn(&Case) -> bool) {
    const BEGIN: &str = "<!-- node tests: written by tests/exact -->\n";
    const END: &str = "<!-- node tests: end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md");
    let page = std::fs::read_to_string(&path).expect("the page is committed");
    let (before, rest) = page.split_once(BEGIN).expect("the page has the mark");
    let (_, after) = rest.split_once(END).expect("the page has the end mark");
    std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table(states, counts)))
        .expect("the page can be written");
}

fn table(states: &[(Case, State)], counts: &dyn Fn(&Case) -> bool) -> String {
    let counted: Vec<_> = states.iter().filter(|(case, _)| counts(case)).collect();
    let of = |word: &str| counted.iter().filter(|(_, state)| state.word() == word).count();
    let mut red: BTreeMap<&str, Vec<&State>> = BTreeMap::new();
    for (case, state) in counted.iter().filter(|(_, state)| !state.passes()) {
        red.entry(&case.operator).or_default().push(state);
    }
    let mut text = format!(
        "| of {} | pass | pass with parameters constant | refused at load | refused at run | differ | panic |\n\
         |---|---|---|---|---|---|---|\n\
         | cases | {} | {} | {} | {} | {} | {} |\n\nWhat does not pass:\n\n| operator | cases | because |\n|---|---|---|\n",
        counted.len(),
        of("pass"),
        of("fixed"),
        of("load"),
        of("run"),
        of("differs"),
        of("panics")
    );
    for (operator, states) in red {
        let all = states.len()
            + counted.iter().filter(|(case, state)| case.operator == operator && state.passes()).count();
        let reason = states[0].reason().replace('|', "\\|");
        let _ = writeln!(text, "| {operator} | {} of {all} | {reason} |", states.len());
    }
    text
}
