//! The engine, optimised, held against the oracle on random graphs.

use std::path::PathBuf;
use std::time::Instant;

use tract_onnx::pb::ModelProto;

use super::random::{self, Grown};
use super::{Oracle, Values};
use crate::base::Tensor;
use crate::config::card::PortSpec;
use crate::engine::compile::cut;
use crate::engine::{Parsed, golden};

/// f32 against f64 over a dozen nodes; more than this is no rounding.
const TOLERANCE: f64 = 1e-3;

/// What the engine made of one graph.
enum Outcome {
    Agrees,
    /// Refused before it ran.
    Refused(String),
    /// It ran into an error, or a panic; nothing wrong was said.
    Failed(String),
    Differs(String),
}

fn tensors(grown: &Grown) -> Vec<(&str, Tensor)> {
    grown.inputs.iter().map(|(name, value)| (name.as_str(), value.to_tensor())).collect()
}

fn run(proto: ModelProto, inputs: &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>, Outcome> {
    let specs: Vec<PortSpec> = inputs
        .iter()
        .map(|(name, tensor)| PortSpec {
            name: (*name).to_owned(),
            data_type: tensor.data_type(),
            shape: tensor.shape.clone(),
        })
        .collect();
    let parsed = Parsed::of_onnx(PathBuf::from("random.onnx"), proto, 0, String::new(), Instant::now());
    let in_words = |error: &dyn std::error::Error| crate::base::words::in_words(error);
    let model = parsed.prepare(&specs).map_err(|error| Outcome::Refused(in_words(&error)))?;
    let given: Vec<&Tensor> = inputs.iter().map(|(_, tensor)| tensor).collect();
    let outputs = model.session().run(&given).map_err(|error| Outcome::Failed(in_words(&error)))?;
    Ok(model.outputs().iter().map(|port| port.name.clone()).zip(outputs).collect())
}

/// How an output differs from the oracle's, in words.
fn difference(name: &str, ours: &Tensor, theirs: &Values) -> Option<String> {
    let Some(theirs) = theirs.tensor(name) else { return Some(format!("{name} is unknown to the oracle")) };
    if (ours.data_type(), &ours.shape) != (theirs.data_type(), &theirs.shape) {
        return Some(format!(
            "{name} is {} {:?}, by the standard {} {:?}",
            ours.data_type(),
            ours.shape,
            theirs.data_type(),
            theirs.shape
        ));
    }
    let worst = golden::compare(ours, &theirs, 0.0).filter(|worst| worst.relative > TOLERANCE)?;
    Some(format!(
        "{name} element {}: engine {}, standard {} ({:.1e})",
        worst.index,
        golden::element(ours, worst.index),
        golden::element(&theirs, worst.index),
        worst.relative
    ))
}

fn outcome(grown: &Grown) -> Outcome {
    let inputs = tensors(grown);
    let named: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let oracle = match Oracle::new(&grown.proto) {
        Ok(oracle) => oracle,
        Err(unknown) => return Outcome::Differs(format!("the oracle does not know {unknown:?}")),
    };
    let theirs = match oracle.answer(&named) {
        Ok(values) => values,
        Err(error) => return Outcome::Differs(format!("the oracle: {error}")),
    };
    let ours = match run(grown.proto.clone(), &inputs) {
        Ok(ours) => ours,
        Err(outcome) => return outcome,
    };
    let Some(first) = ours.iter().find_map(|(name, ours)| difference(name, ours, &theirs)) else {
        return Outcome::Agrees;
    };
    // The smallest graph that shows it: cut off at each tensor in turn.
    let nodes = &grown.proto.graph.as_ref().expect("it has a graph").node;
    for output in nodes.iter().flat_map(|node| &node.output) {
        let small = cut(&grown.proto, &[output]);
        if let Ok(ours) = run(small.clone(), &inputs)
            && let Some(found) = ours.iter().find_map(|(name, ours)| difference(name, ours, &theirs))
        {
            return Outcome::Differs(format!("{found}\n{}", described(&small, &theirs)));
        }
    }
    Outcome::Differs(format!("{first}, only in the whole graph\n{}", described(&grown.proto, &theirs)))
}

/// A graph that a person can read.
fn described(proto: &ModelProto, values: &Values) -> String {
    let graph = proto.graph.as_ref().expect("it has a graph");
    let shape = |name: &String| {
        values.0.get(name).map_or_else(String::new, |value| format!("{name}{:?}", value.shape))
    };
    let mut lines: Vec<String> = Vec::new();
    for node in &graph.node {
        let with: Vec<String> = node
            .attribute
            .iter()
            .map(|a| match a.r#type {
                1 => format!("{}={}", a.name, a.f),
                3 => format!("{}={}", a.name, String::from_utf8_lossy(&a.s)),
                7 => format!("{}={:?}", a.name, a.ints),
                _ => format!("{}={}", a.name, a.i),
            })
            .collect();
        lines.push(format!(
            "    {}({}) {} -> {}",
            node.op_type,
            node.input.iter().map(shape).collect::<Vec<_>>().join(", "),
            with.join(" "),
            node.output.iter().map(shape).collect::<Vec<_>>().join(", ")
        ));
    }
    let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    lines.push(format!("    outputs {}", outputs.join(", ")));
    lines.join("\n")
}

/// Holds `count` graphs from `first` on against the oracle; says what became of them.
fn hold(first: u64, count: u64) {
    let mut refused = std::collections::BTreeMap::<String, u64>::new();
    let (mut agree, mut failed, mut differ, mut nodes) = (0, Vec::new(), Vec::new(), 0);
    for seed in first..first + count {
        let grown = random::grow(seed);
        nodes += grown.proto.graph.as_ref().map_or(0, |graph| graph.node.len());
        match outcome(&grown) {
            Outcome::Agrees => agree += 1,
            Outcome::Refused(why) => {
                // Without names of nodes, so that one reason is one line.
                let why: String = why.chars().filter(|c| !c.is_ascii_digit()).take(150).collect();
                *refused.entry(why).or_default() += 1;
            }
            Outcome::Failed(why) => failed.push(format!("seed {seed}: {why}")),
            Outcome::Differs(why) => differ.push(format!("seed {seed}: {why}")),
        }
    }
    let turned_away: u64 = refused.values().sum();
    println!(
        "random graphs {first}..{}: {nodes} nodes, {agree} agree, {} differ, {} fail at run time, {turned_away} refused",
        first + count,
        differ.len(),
        failed.len()
    );
    for (why, times) in &refused {
        println!("  refused {times} times: {why}");
    }
    for line in failed.iter().chain(&differ).take(40) {
        println!("  {line}");
    }
    assert!(differ.is_empty(), "{} differ", differ.len());
    assert!(agree >= count * 95 / 100, "only {agree} of {count} ran: the rest says nothing");
}

#[test]
fn a_thousand_random_graphs_answer_as_the_standard_says() {
    hold(0, 1000);
}

/// "Clashing resolution" at every run, before `passes::loops`.
#[test]
fn a_loop_whose_body_the_optimiser_changed_alone_is_optimised_again() {
    for seed in [1_000_557, 1_000_697] {
        let outcome = outcome(&random::grow(seed));
        assert!(matches!(outcome, Outcome::Agrees), "seed {seed}");
    }
}

/// `tests/graphs --seed S --count N` sets both.
#[test]
#[ignore = "minutes; run by tests/graphs and tests/run --long"]
fn many_random_graphs_answer_as_the_standard_says() {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}")))
    };
    hold(number("LINESIDE_GRAPHS_SEED", 1_000_000), number("LINESIDE_GRAPHS_COUNT", 10_000));
}
