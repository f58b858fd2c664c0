//! From the card as written to the card as meant: the rules, every complaint at once.
//!
//! Beside its own keys a card is held against itself: what fills an input must have its shape, what a
//! verdict refers to must exist. Not here: the graph's own word on names and shapes (`engine`).

mod features;
mod output;

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::raw::{RawCard, RawGraph, RawState};
use super::{Card, CardNotes, Features, Golden, Graph, PortSpec, State};
use crate::config::check::utf8;
use crate::config::document::{self, Field, Reader, shorten};
use crate::config::{Complaint, Complaints};

/// Largest input of a graph, in elements: 1 GiB of f32, far beyond a board, short of overflow.
const MAX_ELEMENTS: u64 = 1 << 28;

impl Card {
    /// Reads and checks `folder/model.toml`.
    pub fn read(folder: &Path) -> Result<Self, Complaints> {
        let (text, folder) = open(folder)?;
        Self::parse(&text, &folder)
    }

    /// Checks the text of a card that lies in `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Complaints> {
        document::read::<RawCard, _>(text, &folder.join("model.toml"), None, |raw, reader| {
            Rules { folder, reader }.card(&raw)
        })
    }
}

impl CardNotes {
    /// Reads the free tables of `folder/model.toml`.
    pub fn read(folder: &Path) -> Result<Self, Complaints> {
        let (text, folder) = open(folder)?;
        document::read::<RawCard, _>(&text, &folder.join("model.toml"), None, |raw, _| {
            Some(Self {
                provenance: raw.provenance.value().cloned().unwrap_or_default(),
                quality: raw.quality.value().cloned().unwrap_or_default(),
            })
        })
    }
}

/// The card's text, and the folder under a path that ends in its name.
fn open(folder: &Path) -> Result<(String, PathBuf), Complaints> {
    // `.` and `..` have no name of their own to hold the card's against.
    let folder = match folder.file_name() {
        Some(_) => folder.to_owned(),
        None => folder.canonicalize().unwrap_or_else(|_| folder.to_owned()),
    };
    let file = folder.join("model.toml");
    let missing =
        |message: String| Complaints(vec![Complaint { file: file.clone(), line: 1, column: 1, message }]);
    if !folder.is_dir() {
        return Err(missing(format!(
            "there is no model folder {}; copy it there, or correct `model` or [models] path",
            folder.display()
        )));
    }
    let bytes = std::fs::read(&file).map_err(|error| {
        missing(format!("the card of the model cannot be read: {error}; a model folder holds a model.toml"))
    })?;
    Ok((utf8(&bytes, &file)?.to_owned(), folder))
}

struct Rules<'r, 'w> {
    folder: &'r Path,
    reader: &'r mut Reader<'w>,
}

impl Rules<'_, '_> {
    fn complain(&mut self, at: usize, message: impl Into<String>) {
        self.reader.complain(at, message);
    }

    fn card(&mut self, raw: &RawCard) -> Option<Card> {
        let before = self.reader.complaints();
        let name = self.word(&raw.name, "name");
        if let (Some(name), Some(folder)) = (&name, self.folder.file_name())
            && folder.to_string_lossy() != name.as_str()
        {
            let message = format!(
                "name is {:?}, but the folder is called {:?}; rename one of them",
                shorten(name),
                folder.to_string_lossy()
            );
            self.complain(raw.name.at().unwrap_or(0), message);
        }
        let version = self.word(&raw.version, "version");
        let licence = self.word(&raw.licence, "licence");
        let graph = raw.graph.table().and_then(|(_, graph)| self.graph(graph));
        let inputs = graph.as_ref().map(|graph| graph.inputs.as_slice());
        let features = raw.features.table().and_then(|(at, features)| self.features(features, at, inputs));
        let fills = features.as_ref().map(Features::input);
        let states = self.states(&raw.state, inputs, fills);
        if let (Some(inputs), Some(states), Some(fills)) = (inputs, &states, fills) {
            for port in inputs {
                if port.name != fills && !states.iter().any(|state| state.input == port.name) {
                    self.complain(
                        0,
                        format!(
                            "the graph input {:?} is filled by nothing; each input is features.input or the input of a [[state]]",
                            port.name
                        ),
                    );
                }
            }
        }
        let output = raw.output.table().and_then(|(at, output)| self.output(output, at, features.as_ref()));
        let golden = raw.golden.table().and_then(|(at, golden)| {
            let tolerance = *golden.tolerance.value()?;
            if !(0.0..=1.0).contains(&tolerance) {
                let at = golden.tolerance.at().unwrap_or(at);
                self.complain(at, format!("tolerance is {tolerance}; it must be from 0 to 1"));
            }
            Some(Golden { tolerance: tolerance as f32 })
        });
        raw.schema.value()?;
        (self.reader.complaints() == before).then_some(())?;
        Some(Card {
            folder: self.folder.to_owned(),
            name: name?,
            version: version?,
            summary: raw.summary.value()?.clone(),
            licence: licence?,
            graph: graph?,
            features: features?,
            states: states?,
            output: output?,
            golden: golden?,
        })
    }

    fn graph(&mut self, raw: &RawGraph) -> Option<Graph> {
        let file = raw.file.given().and_then(|file| {
            let text = file.get_ref();
            let plain = !text.contains(['/', '\\', '\0']) && !text.starts_with('.');
            let known = text.ends_with(".onnx") || text.ends_with(".nnef.tgz");
            if plain && known {
                return Some(PathBuf::from(text));
            }
            let message = format!(
                "file is {:?}; expected the name of an .onnx or .nnef.tgz file in the model's folder",
                shorten(text)
            );
            self.complain(file.span().start, message);
            None
        });
        let sha256 = raw.sha256.given().and_then(|sum| {
            let text = sum.get_ref().to_ascii_lowercase();
            if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Some(text);
            }
            self.complain(
                sum.span().start,
                format!(
                    "sha256 has {} characters; expected the 64 hexadecimal digits that `sha256sum` prints",
                    text.chars().count()
                ),
            );
            None
        });
        let ports = raw.input.given()?;
        if ports.get_ref().is_empty() {
            self.complain(ports.span().start, "input is empty; a graph has at least one input");
        }
        let mut inputs: Vec<PortSpec> = Vec::new();
        let mut whole = true;
        for port in ports.get_ref() {
            let port = port.get_ref();
            let (Some(name), Some(data_type), Some(shape)) =
                (self.word(&port.name, "name"), port.r#type.value(), port.shape.given())
            else {
                whole = false;
                continue;
            };
            if inputs.iter().any(|earlier| earlier.name == name) {
                let at = port.name.at().unwrap_or(0);
                self.complain(at, format!("name {:?} stands for an earlier input already", shorten(&name)));
            }
            let lengths: Vec<u64> = shape.get_ref().iter().map(|length| *length.get_ref()).collect();
            let elements = lengths.iter().try_fold(1u64, |product, length| product.checked_mul(*length));
            if elements.is_none_or(|elements| elements > MAX_ELEMENTS) {
                self.complain(
                    shape.span().start,
                    format!("shape {lengths:?} has too many elements; at most {MAX_ELEMENTS} are taken"),
                );
                whole = false;
                continue;
            }
            let shape = lengths.iter().filter_map(|length| usize::try_from(*length).ok()).collect();
            inputs.push(PortSpec { name, data_type: *data_type, shape });
        }
        whole.then_some(Graph { file: file?, sha256: sha256?, inputs })
    }

    fn states(
        &mut self,
        list: &Field<Vec<Spanned<RawState>>>,
        inputs: Option<&[PortSpec]>,
        fills: Option<&str>,
    ) -> Option<Vec<State>> {
        let list = match list {
            Field::Given(list) => list,
            Field::Broken => return None,
            Field::Absent | Field::Default(_) => return Some(Vec::new()),
        };
        let mut states: Vec<State> = Vec::new();
        let mut whole = true;
        for raw in list.get_ref() {
            let at = raw.span().start;
            let raw = raw.get_ref();
            let (Some(input), Some(output)) =
                (self.word(&raw.input, "input"), self.word(&raw.output, "output"))
            else {
                whole = false;
                continue;
            };
            let at = raw.input.at().unwrap_or(at);
            if let Some(inputs) = inputs {
                self.port(&input, at, inputs);
            }
            if fills == Some(input.as_str()) {
                self.complain(
                    at,
                    format!("input {input:?} is features.input already; a state fills another one"),
                );
            }
            if states.iter().any(|state| state.input == input) {
                self.complain(at, format!("input {input:?} belongs to an earlier [[state]] already"));
            }
            states.push(State { input, output });
        }
        whole.then_some(states)
    }

    /// The graph input of that name, or a complaint.
    fn port<'p>(&mut self, name: &str, at: usize, inputs: &'p [PortSpec]) -> Option<&'p PortSpec> {
        let found = inputs.iter().find(|port| port.name == name);
        if found.is_none() {
            let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
            self.complain(
                at,
                format!("input {:?} is no [[graph.input]]; there are {}", shorten(name), names.join(", ")),
            );
        }
        found
    }

    /// The index of `name` among `names`, or a complaint.
    fn find(&mut self, name: &Spanned<String>, names: &[&str], what: &str) -> Option<usize> {
        let found = names.iter().position(|known| known == name.get_ref());
        if found.is_none() {
            // A table may have hundreds of columns; the nearest ones of a long list are help enough.
            let listed = if names.len() > 12 { "see the list above".to_owned() } else { names.join(", ") };
            let near = crate::config::nearest::nearest(name.get_ref(), names)
                .map_or(format!("there are: {listed}"), |near| format!("did you mean {near:?}?"));
            self.complain(name.span().start, format!("{:?} is no {what}; {near}", shorten(name.get_ref())));
        }
        found
    }

    /// A list of names: none empty, none twice.
    fn names(&mut self, list: &Spanned<Vec<Spanned<String>>>, key: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in list.get_ref() {
            let text = name.get_ref();
            if text.trim().is_empty() {
                self.complain(name.span().start, format!("{key} holds an empty name"));
            } else if names.contains(text) {
                self.complain(
                    name.span().start,
                    format!("{key} holds {:?} twice; names are unique", shorten(text)),
                );
            }
            names.push(text.clone());
        }
        names
    }

    fn new_name<'n>(&mut self, name: &str, mut earlier: impl Iterator<Item = &'n str>, at: Option<usize>) {
        if let Some(at) = at
            && earlier.any(|earlier| earlier == name)
        {
            self.complain(at, format!("name {:?} stands above already; names are unique", shorten(name)));
        }
    }

    /// A string with something in it.
    fn word(&mut self, field: &Field<String>, key: &str) -> Option<String> {
        let text = field.given()?;
        if text.get_ref().trim().is_empty() {
            self.complain(text.span().start, format!("{key} is empty; it must say something"));
            return None;
        }
        Some(text.get_ref().clone())
    }

    /// A key that this kind cannot do without.
    fn wanted<T: Copy>(&mut self, field: &Field<T>, at: usize, key: &str, because: &str) -> Option<T> {
        if matches!(field, Field::Absent) {
            self.complain(at, format!("`{key}` is missing; {because} needs it"));
        }
        field.value().copied()
    }

    fn divisor(&mut self, value: f64, key: &str, at: usize) {
        // As f32, because that is how the model's input is scaled: 1e-50 would divide by 0 there.
        if value as f32 <= 0.0 {
            self.complain(at, format!("{key} is {value}; what divides must be more than 0"));
        }
    }
}

/// The value, `default` where nothing is written, `None` where it is broken.
fn or_default<T: Copy>(field: &Field<T>, default: T) -> Option<T> {
    match field {
        Field::Broken => None,
        field => Some(field.value().copied().unwrap_or(default)),
    }
}
