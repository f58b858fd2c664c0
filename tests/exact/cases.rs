//! Models with inputs and the answers that another runtime gave, as the Python scripts here write
//! them: `cases.jsonl`, one object a model, beside `.npy` files.
//!
//! Labels (integers, booleans, strings) must be equal. Numbers must be within the case's tolerance of
//! the expected one, or of the largest in its tensor: a score near 0 is as exact as its neighbours.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use lineside::base::{Data, Tensor};
use lineside::config::card::PortSpec;
use lineside::engine::{InferError, Model, npy};
use serde_json::Value;

/// One model with what it must answer.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: PathBuf,
    /// Name and file of each.
    pub(crate) inputs: Vec<(String, PathBuf)>,
    pub(crate) outputs: Vec<(String, PathBuf)>,
    pub(crate) tolerance: f64,
}

/// Runs a script of this folder, which writes cases into `out`, and reads them.
pub(crate) fn written_by(script: &str, out: &Path, arguments: &[&Path]) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python(root))
        .arg(root.join("tests/exact").join(script))
        .arg(out)
        .args(arguments)
        .output()
        .expect("the interpreter was found");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    let listed = fs::read_to_string(out.join("cases.jsonl")).expect("the script wrote its cases");
    let cases: Vec<Case> = listed.lines().map(case).collect();
    assert!(!cases.is_empty(), "{script} wrote no cases");
    cases
}

fn python(root: &Path) -> PathBuf {
    let python = std::env::var_os("LINESIDE_TEST_PYTHON")
        .map_or_else(|| root.join("target/test-venv/bin/python"), PathBuf::from);
    assert!(
        python.is_file(),
        "no {}; set it up with: python3 -m venv target/test-venv && \
         target/test-venv/bin/pip install -r tests/requirements.txt (tests/run does this)",
        python.display()
    );
    python
}

fn case(line: &str) -> Case {
    let line: Value = serde_json::from_str(line).expect("the script writes JSON lines");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let ports = |ports: &Value| {
        let ports = ports.as_array().expect("a list").iter();
        ports.map(|port| (text(&port["name"]), PathBuf::from(text(&port["file"])))).collect()
    };
    Case {
        name: text(&line["name"]),
        model: PathBuf::from(text(&line["model"])),
        inputs: ports(&line["inputs"]),
        outputs: ports(&line["outputs"]),
        tolerance: line["tolerance"].as_f64().expect("a number"),
    }
}

impl Case {
    /// What differs, or why it does not run, in words.
    pub(crate) fn complaint(&self) -> Option<String> {
        match self.fault()? {
            Fault::Refused(what) | Fault::Wrong(what) => Some(format!("{}: {what}", self.name)),
        }
    }

    /// How it fails, if it does.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.compared().err()
    }

    fn compared(&self) -> Result<(), Fault> {
        let answers = answers(self)?;
        for (i, (name, file)) in self.outputs.iter().enumerate() {
            let expected = npy::read(file).map_err(|error| Fault::Refused(error.to_string()))?;
            let seen = answers.get(i).ok_or_else(|| Fault::Wrong(format!("there is no output {i}")))?;
            compare(seen, &expected, self.tolerance)
                .map_err(|what| Fault::Wrong(format!("output {name:?}: {what}")))?;
        }
        Ok(())
    }

    fn run(&self) -> Result<Vec<Tensor>, Fault> {
        let read = |path: &Path| npy::read(path).map_err(|error| Fault::Refused(error.to_string()));
        let mut specs = Vec::new();
        let mut inputs = Vec::new();
        for (name, file) in &self.inputs {
            let tensor = read(file)?;
            let (data_type, shape) = (tensor.data_type(), tensor.shape.clone());
            specs.push(PortSpec { name: name.clone(), data_type, shape });
            inputs.push(tensor);
        }
        let model = Model::open(&self.model, &specs).map_err(|error| Fault::of_load(chain(&error)))?;
        for ((name, _), port) in self.outputs.iter().zip(model.outputs()) {
            assert_eq!(&port.name, name, "{}: order of outputs", self.name);
        }
        let given: Vec<&Tensor> = inputs.iter().collect();
        model.session().run(&given).map_err(|error| match error {
            InferError::Panicked { .. } => Fault::Wrong(chain(&error)),
            error => Fault::Refused(chain(&error)),
        })
    }
}

/// What the engine answers, in the order of the model's outputs.
pub(crate) fn answers(case: &Case) -> Result<Vec<Tensor>, Fault> {
    let panicked = |_| Err(Fault::Wrong("panicked".to_owned()));
    catch_unwind(AssertUnwindSafe(|| case.run())).unwrap_or_else(panicked)
}

/// Why a case does not give the expected answer.
pub(crate) enum Fault {
    /// The engine says that it cannot, or will not.
    Refused(String),
    /// Another answer, or a panic.
    Wrong(String),
}

impl Fault {
    fn of_load(why: String) -> Self {
        if why.contains("panicked") { Self::Wrong(why) } else { Self::Refused(why) }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

pub(crate) fn compare(seen: &Tensor, expected: &Tensor, tolerance: f64) -> Result<(), String> {
    if seen.shape != expected.shape || seen.data_type() != expected.data_type() {
        return Err(format!(
            "{} {:?} instead of {} {:?}",
            seen.data_type(),
            seen.shape,
            expected.data_type(),
            expected.shape
        ));
    }
    let (Some(seen), Some(expected)) = (numbers(&seen.data), numbers(&expected.data)) else {
        return match seen == expected {
            true => Ok(()),
            false => Err(format!("{:?} instead of {:?}", seen.data, expected.data)),
        };
    };
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0_f64, |max, x| max.max(x.abs()));
    for (i, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
        let same = seen == expected || (seen.is_nan() && expected.is_nan());
        let near = (seen - expected).abs() <= tolerance * largest;
        if !same && !near {
            return Err(format!("element {i} is {seen} instead of {expected}"));
        }
    }
    Ok(())
}

/// `None` for labels.
pub(crate) fn numbers(data: &Data) -> Option<Vec<f64>> {
    match data {
        Data::F32(values) => Some(values.iter().map(|x| f64::from(*x)).collect()),
        Data::F64(values) => Some(values.clone()),
        Data::F16(values) => Some(values.iter().map(|bits| half(*bits)).collect()),
        _ => None,
    }
}

/// A number of IEEE 754's binary16: sign, 5 bits of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
    sign * match exponent {
        0 => fraction * 2_f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1.0 + fraction) * 2_f64.powi(exponent - 15),
    }
}

/// Fails with everything that is answered wrongly, and where fewer than so many parts in a hundred run.
pub(crate) fn none_is_wrong(cases: &[Case], fault: impl Fn(&Case) -> Option<Fault>, run_percent: usize) {
    let (mut refused, mut wrong) = (Vec::new(), Vec::new());
    for case in cases {
        match fault(case) {
            None => {}
            Some(Fault::Refused(what)) => refused.push(format!("{}: {what}", case.name)),
            Some(Fault::Wrong(what)) => wrong.push(format!("{}: {what}", case.name)),
        }
    }
    println!("{} models, {} refused, {} wrong", cases.len(), refused.len(), wrong.len());
    println!("refused:\n{}", refused.join("\n"));
    assert!(wrong.is_empty(), "{} of {} models differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let run = cases.len() - refused.len();
    assert!(run * 100 >= cases.len() * run_percent, "{run} of {} models run", cases.len());
}

/// Fails with every complaint.
pub(crate) fn all_answer(cases: &[Case]) {
    let complaints: Vec<String> = cases.iter().filter_map(Case::complaint).collect();
    assert!(
        complaints.is_empty(),
        "{} of {} models differ:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
}
