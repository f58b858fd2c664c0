//! The ways to answer that are held against the optimised engine, and how near is equal.
//!
//! | opinion | shares with the optimised engine | would show |
//! |---|---|---|
//! | not optimised | operators' own arithmetic | a rewrite that changes answers |
//! | oracle | only the reading of the file | an operator that is not the standard's |
//! | golden cases | nothing | whatever differs from the training framework |
//!
//! Two engines that add in another order differ by roundings, and where a model is ill-conditioned
//! those grow: a label flips, a softmax over huge numbers turns. What moving the *inputs* by a
//! rounding changes in an answer is therefore accepted as a difference as well, and so is one that begins at a node
//! that is right for what it reads (`alone`). Golden cases are exempt: they must hold as they are.

use std::time::{Duration, Instant};

use super::cases::Case;
use super::{Agreement, CompileError, Subject, bisect, graph, probe};
use crate::base::{Data, Tensor};
use crate::engine::golden::{self, Worst};
use crate::engine::oracle::{self, Oracle};
use crate::engine::{Model, Session};

/// Plain arithmetic in f64 is slow; what it has not looked at by then it does not look at.
const ORACLE_BUDGET: Duration = Duration::from_secs(20);

/// Fast sigmoids and exponentials are some 1e-4 off where they saturate. The other opinions look for
/// answers that are wrong; how near is near enough, the golden cases say.
const FAST_FUNCTIONS: f64 = 10.0;

/// A difference within this many times what a rounding of the inputs changes is rounding itself.
const ROUNDINGS: f64 = 8.0;

/// Holds the optimised model against every opinion that can be had.
pub(super) fn compare(
    subject: &Subject,
    model: &Model,
    cases: &[Case],
    tolerance: f64,
) -> Result<Vec<Agreement>, CompileError> {
    let coarse = graph::is_quantised(&subject.proto);
    let measure = |output: usize| Measure { coarse, least: model.least()[output] };
    let names: Vec<String> = model.outputs().iter().map(|port| port.name.clone()).collect();
    let mut optimised = model.session();
    let (mut plain, plain_missing) = match subject.plain() {
        Ok(model) => (Some(model.session()), None),
        Err(error) => (None, Some(format!("it cannot run ({})", crate::base::words::in_words(&error)))),
    };
    let oracle = Oracle::new(&subject.proto);
    let mut tallies =
        [Tally::new("the engine not optimised"), Tally::new("the oracle"), Tally::new("golden cases")];

    for case in cases {
        let ours = answer(subject, &mut optimised, &case.inputs, &format!("golden case {}", case.name))?;
        let reference = |tensor: &str| match names.iter().position(|name| name == tensor) {
            Some(output) => case.outputs.get(output).cloned(),
            None => case.node(tensor),
        };
        let with = format!("golden case {}", case.name);
        for (output, (ours, theirs)) in ours.iter().zip(&case.outputs).enumerate() {
            let found = distance(ours, theirs, measure(output));
            if found.is_none_or(|worst| worst.relative <= tolerance) {
                tallies[2].worst(found);
                continue;
            }
            let search = bisect::Search {
                subject,
                probe: &case.name,
                inputs: &case.inputs,
                output: &names[output],
                with: &with,
                reference: &reference,
                tolerance,
                measure: measure(output),
                inside: case.has_nodes(),
            };
            return Err(CompileError::Differs(Box::new(search.first_difference(ours, theirs))));
        }
        tallies[2].inputs += 1;
    }

    let tolerance = tolerance * FAST_FUNCTIONS;
    let given = cases
        .iter()
        .map(|case| probe::Probe { name: format!("golden case {}", case.name), inputs: case.inputs.clone() });
    let mut oracle_time = Duration::ZERO;
    let mut failure = None;
    let mut answered = 0;
    for probe in given.chain(probe::probes(model.inputs(), &graph::states(&subject.proto))) {
        let ours = optimised.run(&probe.inputs.iter().collect::<Vec<_>>());
        let theirs = plain.as_mut().map(|plain| plain.run(&probe.inputs.iter().collect::<Vec<_>>()));
        let ours = match (ours, &theirs) {
            (Ok(ours), _) => ours,
            // An index out of range, say: both say so, and so will the frame that does this.
            (Err(error), None | Some(Err(_))) => {
                failure.get_or_insert((probe.name, error));
                continue;
            }
            (Err(source), Some(Ok(_))) => {
                let (model, source) = (subject.path.clone(), Box::new(source));
                return Err(CompileError::Fails { model, probe: probe.name, source });
            }
        };
        answered += 1;
        let nudged = probe::nudged(&probe.inputs);
        let mut allowed = vec![tolerance; ours.len()];
        let second = plain.as_mut().unwrap_or(&mut optimised);
        if let (Ok(base), Ok(moved)) = (
            second.run(&probe.inputs.iter().collect::<Vec<_>>()),
            second.run(&nudged.iter().collect::<Vec<_>>()),
        ) {
            for (output, (base, moved)) in base.iter().zip(&moved).enumerate() {
                allowed[output] = allowed_for(base, moved, measure(output), tolerance);
            }
        }
        let against = |tally: &mut Tally, theirs: &[Tensor], reference: &bisect::Reference<'_>| {
            let mut decided = true;
            for (output, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                let found = distance(ours, theirs, measure(output));
                decided &= allowed[output] <= tolerance;
                if found.is_none_or(|worst| worst.relative <= allowed[output]) {
                    if allowed[output] <= tolerance {
                        tally.worst(found);
                    }
                    continue;
                }
                let search = bisect::Search {
                    subject,
                    probe: &probe.name,
                    inputs: &probe.inputs,
                    output: &names[output],
                    with: tally.with,
                    reference,
                    tolerance,
                    measure: measure(output),
                    inside: true,
                };
                match search.first_fault(ours, theirs) {
                    Some(difference) => return Err(CompileError::Differs(Box::new(difference))),
                    None => decided = false,
                }
            }
            *(if decided { &mut tally.inputs } else { &mut tally.undecided }) += 1;
            Ok(())
        };
        if let Some(Ok(theirs)) = &theirs {
            let reference = |tensor: &str| {
                let model = subject.cut(&[tensor]).typed(&subject.specs).ok()?.plain().ok()?;
                model.session().run(&probe.inputs.iter().collect::<Vec<_>>()).ok()?.pop()
            };
            against(&mut tallies[0], theirs, &reference)?;
        }
        if let Ok(oracle) = &oracle
            && oracle_time < ORACLE_BUDGET
        {
            let begun = Instant::now();
            let named: Vec<(&str, &Tensor)> =
                model.inputs().iter().map(|spec| spec.name.as_str()).zip(&probe.inputs).collect();
            let values = oracle.answer(&named);
            oracle_time += begun.elapsed();
            match values {
                Ok(values) => {
                    let theirs: Vec<Tensor> = names.iter().filter_map(|name| values.tensor(name)).collect();
                    if theirs.len() == names.len() {
                        against(&mut tallies[1], &theirs, &|tensor| values.tensor(tensor))?;
                    }
                }
                Err(error) => tallies[1].missing = Some(error.to_string()),
            }
        }
    }
    if let (0, Some((probe, source))) = (answered, failure) {
        return Err(CompileError::Fails { model: subject.path.clone(), probe, source: Box::new(source) });
    }
    let [mut unoptimised, mut standard, mut golden] = tallies;
    unoptimised.missing = unoptimised.missing.or(plain_missing);
    if let Err(oracle::NotCovered(operators)) = &oracle {
        standard.missing = Some(format!("it does not know {}", operators.join(", ")));
    }
    if cases.is_empty() {
        golden.missing = Some("there are none".to_owned());
    }
    Ok([unoptimised, standard, golden].into_iter().map(Tally::agreement).collect())
}

fn answer(
    subject: &Subject,
    session: &mut Session,
    inputs: &[Tensor],
    probe: &str,
) -> Result<Vec<Tensor>, CompileError> {
    session.run(&inputs.iter().collect::<Vec<_>>()).map_err(|source| CompileError::Fails {
        model: subject.path.clone(),
        probe: probe.to_owned(),
        source: Box::new(source),
    })
}

/// The largest difference that counts as rounding, from what a nudge of the inputs changed.
pub(super) fn allowed_for(base: &Tensor, moved: &Tensor, measure: Measure, tolerance: f64) -> f64 {
    let moved = distance(moved, base, measure).map_or(0.0, |worst| worst.relative);
    tolerance.max(ROUNDINGS * moved)
}

/// How a difference in one tensor is measured.
#[derive(Clone, Copy)]
pub(super) struct Measure {
    /// Bytes of a quantised model are numbers and not labels.
    pub(super) coarse: bool,
    /// What it is measured against at least ([`crate::engine::Model::least`]).
    pub(super) least: f64,
}

/// Where two tensors differ most; `None` when they are empty.
pub(super) fn distance(ours: &Tensor, theirs: &Tensor, measure: Measure) -> Option<Worst> {
    let Measure { coarse, least } = measure;
    let apart = Some(Worst { index: 0, relative: f64::INFINITY });
    if ours.shape != theirs.shape || ours.data_type() != theirs.data_type() {
        return apart;
    }
    let reals = |tensor: &Tensor| {
        let values = match &tensor.data {
            Data::U8(values) => values.iter().map(|value| f32::from(*value)).collect(),
            Data::I8(values) => values.iter().map(|value| f32::from(*value)).collect(),
            _ => return None,
        };
        Some(Tensor { shape: tensor.shape.clone(), data: Data::F32(values) })
    };
    match (coarse, reals(ours), reals(theirs)) {
        (true, Some(ours), Some(theirs)) => golden::compare(&ours, &theirs, least),
        _ => golden::compare(ours, theirs, least).map(|worst| {
            if all_next_to_nothing(ours, theirs) { Worst { relative: 0.0, ..worst } } else { worst }
        }),
    }
}

/// Where a tensor is zero but for roundings (a gate that is shut), relative to nothing everything is
/// far: fast sigmoids are good to some 1e-7 of one, not of themselves.
fn all_next_to_nothing(ours: &Tensor, theirs: &Tensor) -> bool {
    const NOTHING: f32 = 2e-6;
    match (ours.as_f32(), theirs.as_f32()) {
        (Some(ours), Some(theirs)) => {
            ours.iter().zip(theirs).all(|(ours, theirs)| ours.abs() < NOTHING && theirs.abs() < NOTHING)
        }
        _ => false,
    }
}

/// An agreement while it is counted.
struct Tally {
    with: &'static str,
    inputs: usize,
    undecided: usize,
    worst_relative: f64,
    missing: Option<String>,
}

impl Tally {
    fn new(with: &'static str) -> Self {
        Self { with, inputs: 0, undecided: 0, worst_relative: 0.0, missing: None }
    }

    fn worst(&mut self, found: Option<Worst>) {
        self.worst_relative = self.worst_relative.max(found.map_or(0.0, |worst| worst.relative));
    }

    fn agreement(self) -> Agreement {
        Agreement {
            with: self.with.to_owned(),
            inputs: self.inputs,
            undecided: self.undecided,
            worst_relative: self.worst_relative,
            none_because: self.missing.filter(|_| self.inputs + self.undecided == 0),
        }
    }
}
