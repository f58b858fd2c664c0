//! Two ways differ: the first node at which they do.
//!
//! The optimised graph has other nodes than the file, so it is asked for each tensor on its own: cut
//! off there, optimised, run. Halving finds a tensor that differs early in the file; from it the
//! search climbs to whatever it was made from, until everything a node reads agrees and what it
//! makes does not. Where the node is right on its own (`alone`), nothing is wrong.

use std::fmt;
use std::path::PathBuf;

use tract_onnx::pb::NodeProto;

use super::opinion::Measure;
use super::{Subject, alone, graph, opinion, probe};
use crate::base::Tensor;
use crate::engine::golden::{self, Worst};
use crate::engine::onnx::operator_name;
use crate::engine::refused::name_of;

/// Where two ways to answer part.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The file.
    pub model: PathBuf,
    /// The other way.
    pub with: String,
    /// On which input.
    pub probe: String,
    /// The graph's output that shows it.
    pub output: Spot,
    /// The first node that differs though all that it reads agrees; `None` where nothing is known of
    /// the tensors between.
    pub node: Option<Node>,
}

/// A node of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, or its output's.
    pub name: String,
    /// `Conv`, `ai.onnx.ml:Scaler`.
    pub operator: String,
    /// Its tensor that differs.
    pub spot: Spot,
}

/// One element, by both.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// The tensor.
    pub tensor: String,
    /// Flat index; `None` where already type or shape differ.
    pub index: Option<usize>,
    /// The optimised engine's.
    pub ours: String,
    /// The other one's.
    pub theirs: String,
    /// |ours − theirs| ÷ largest |theirs|.
    pub relative: f64,
}

impl Spot {
    fn new(tensor: &str, ours: &Tensor, theirs: &Tensor, measure: Measure) -> Self {
        let worst = opinion::distance(ours, theirs, measure).unwrap_or(Worst { index: 0, relative: 0.0 });
        if (ours.data_type(), &ours.shape) != (theirs.data_type(), &theirs.shape) {
            let kind = |tensor: &Tensor| format!("{} {:?}", tensor.data_type(), tensor.shape);
            let (ours, theirs) = (kind(ours), kind(theirs));
            return Self { tensor: tensor.to_owned(), index: None, ours, theirs, relative: f64::INFINITY };
        }
        Self {
            tensor: tensor.to_owned(),
            index: Some(worst.index),
            ours: golden::element(ours, worst.index),
            theirs: golden::element(theirs, worst.index),
            relative: worst.relative,
        }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(
                f,
                "{:?} element {index}: optimised {}, theirs {} (relative difference {:.1e})",
                self.tensor, self.ours, self.theirs, self.relative
            ),
            None => write!(f, "{:?}: optimised it is {}, theirs is {}", self.tensor, self.ours, self.theirs),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: refused, because its answers on this engine differ from those of {}\n  on {}, output {}",
            self.model.display(),
            self.with,
            self.probe,
            self.output
        )?;
        match &self.node {
            Some(node) => write!(
                f,
                "\n  first node that differs: {:?} ({}), tensor {}; all that it reads agrees\n  export the model \
                 without this operator, or report it together with the file",
                node.name, node.operator, node.spot
            ),
            None => write!(
                f,
                "\n  write the golden cases with `models/golden.py --nodes` to see at which node they part"
            ),
        }
    }
}

impl std::error::Error for Difference {}

/// A tensor of the graph by the other way, where it is known.
pub(super) type Reference<'a> = dyn Fn(&str) -> Option<Tensor> + 'a;

/// What is looked for, and where.
pub(super) struct Search<'a> {
    pub(super) subject: &'a Subject,
    pub(super) probe: &'a str,
    pub(super) inputs: &'a [Tensor],
    /// The output that differs.
    pub(super) output: &'a str,
    pub(super) with: &'a str,
    pub(super) reference: &'a Reference<'a>,
    pub(super) tolerance: f64,
    /// How the output is measured.
    pub(super) measure: Measure,
    /// Whether the reference knows the tensors between.
    pub(super) inside: bool,
}

impl Search<'_> {
    /// Where it begins; `ours` and `theirs` are the output's values.
    pub(super) fn first_difference(&self, ours: &Tensor, theirs: &Tensor) -> Difference {
        let output = Spot::new(self.output, ours, theirs, self.measure);
        let found = if self.inside { self.node(&output) } else { None };
        self.difference(found.map(|(node, spot)| described(node, spot)), output)
    }

    /// The same, unless the first node that differs does so because of roundings in what it reads.
    pub(super) fn first_fault(&self, ours: &Tensor, theirs: &Tensor) -> Option<Difference> {
        let output = Spot::new(self.output, ours, theirs, self.measure);
        let found = self.node(&output);
        if let Some((node, spot)) = &found
            && self.is_right_alone(node, &spot.tensor, ours)
        {
            return None;
        }
        Some(self.difference(found.map(|(node, spot)| described(node, spot)), output))
    }

    fn difference(&self, node: Option<Node>, output: Spot) -> Difference {
        Difference {
            model: self.subject.path.clone(),
            with: self.with.to_owned(),
            probe: self.probe.to_owned(),
            node,
            output,
        }
    }

    /// Whether the engine makes of what it gives to a node what the standard says; `output` is what it made of the
    /// whole.
    fn is_right_alone(&self, node: &NodeProto, tensor: &str, output: &Tensor) -> bool {
        let given = |name: &str| match self.subject.specs.iter().position(|spec| spec.name == name) {
            Some(input) => self.inputs.get(input).cloned(),
            // A constant's answer is no one's to compute.
            None => {
                self.run(name, true, self.inputs).map(|(tensor, _)| tensor).or_else(|| (self.reference)(name))
            }
        };
        let made = if tensor == self.output {
            Some((output.clone(), self.measure))
        } else {
            self.run(tensor, true, self.inputs)
        };
        let (Some((ours, measure)), Some(theirs)) =
            (made, alone::answer(&self.subject.proto, node, given, tensor))
        else {
            return false;
        };
        opinion::distance(&ours, &theirs, measure).is_none_or(|worst| worst.relative <= self.tolerance)
    }

    fn node(&self, output: &Spot) -> Option<(&NodeProto, Spot)> {
        let graph = self.subject.proto.graph.as_ref()?;
        let needed = graph::ancestors(graph, &[self.output]);
        let tensors: Vec<(&NodeProto, &str)> = (graph.node.iter().enumerate())
            .filter(|(index, _)| needed.contains(index))
            .flat_map(|(_, node)| node.output.iter().map(move |tensor| (node, tensor.as_str())))
            .filter(|(_, tensor)| !tensor.is_empty())
            .collect();
        let end = tensors.iter().position(|(_, tensor)| *tensor == self.output)?;
        // Before `agrees` all is well as far as it was looked at; at `differs` it is not.
        let (mut agrees, mut differs, mut spot) = (0, end, output.clone());
        while agrees < differs {
            let middle = agrees.midpoint(differs);
            match self.spot(tensors[middle].1) {
                Some(found) => (differs, spot) = (middle, found),
                None => agrees = middle + 1,
            }
        }
        let mut node = tensors[differs].0;
        'climb: loop {
            for (maker, tensor) in &tensors {
                let read = node.input.iter().any(|input| input == tensor);
                if read && let Some(found) = self.spot(tensor) {
                    (node, spot) = (maker, found);
                    continue 'climb;
                }
            }
            return Some((node, spot));
        }
    }

    /// One tensor by the engine, and how it is measured.
    fn run(&self, tensor: &str, optimised: bool, inputs: &[Tensor]) -> Option<(Tensor, Measure)> {
        let typed = self.subject.cut(&[tensor]).typed(&self.subject.specs).ok()?;
        let model = if optimised { typed.optimised() } else { typed.plain() }.ok()?;
        let answer = model.session().run(&inputs.iter().collect::<Vec<_>>()).ok()?.pop()?;
        Some((answer, Measure { least: model.least()[0], ..self.measure }))
    }

    /// How one tensor differs; `None` where it agrees or one side does not know it.
    fn spot(&self, tensor: &str) -> Option<Spot> {
        let theirs = (self.reference)(tensor)?;
        let (ours, measure) = self.run(tensor, true, self.inputs)?;
        let worst = opinion::distance(&ours, &theirs, measure)?;
        if worst.relative <= self.tolerance {
            return None;
        }
        let plain = |inputs: &[Tensor]| self.run(tensor, false, inputs);
        let allowed = match (plain(self.inputs), plain(&probe::nudged(self.inputs))) {
            (Some((base, _)), Some((moved, _))) => {
                opinion::allowed_for(&base, &moved, measure, self.tolerance)
            }
            _ => self.tolerance,
        };
        (worst.relative > allowed).then(|| Spot::new(tensor, &ours, &theirs, measure))
    }
}

fn described(node: &NodeProto, spot: Spot) -> Node {
    let operator = operator_name(&node.domain, &node.op_type);
    Node { name: name_of(node).to_owned(), operator, spot }
}
