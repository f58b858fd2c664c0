//! From the card as written to the card as meant: the rules, every complaint at once.
//!
//! Beside its own keys a card is held against itself: what fills an input must have its shape, what a
//! verdict refers to must exist. Not here: the graph's own word on names and shapes (`engine`).

mod features;
mod output;
mod packet;

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::raw::{RawBatch, RawCard, RawGraph, RawState};
use super::{Batch, Card, CardNotes, Features, Golden, Graph, PortSpec, State};
use crate::base::Tensor;
use crate::config::check::utf8;
use crate::config::document::{self, Field, Reader, shorten};
use crate::config::{Complaint, Complaints};

/// Largest input of a graph, in elements: 1 GiB of f32, far beyond a board, short of overflow.
const MAX_ELEMENTS: u64 = 1 << 28;

fn has_few_elements(shape: &[u64]) -> bool {
    let elements = shape.iter().try_fold(1u64, |product, length| product.checked_mul(*length));
    elements.is_some_and(|elements| elements <= MAX_ELEMENTS)
}

impl Card {
    /// Reads and checks `folder/model.toml`.
    pub fn read(folder: &Path) -> Result<Self, Complaints> {
        let (text, folder) = open(folder)?;
        Self::parse(&text, &folder)
    }

    /// As [`Card::read`], for who fills the graph's inputs by hand: the card may leave some of them open.
    pub fn read_for_arrays(folder: &Path) -> Result<Self, Complaints> {
        let (text, folder) = open(folder)?;
        Self::checked(&text, &folder, false)
    }

    /// Checks the text of a card that lies in `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Complaints> {
        Self::checked(text, folder, true)
    }

    fn checked(text: &str, folder: &Path, fills_all: bool) -> Result<Self, Complaints> {
        document::read::<RawCard, _>(text, &folder.join("model.toml"), None, |raw, reader| {
            Rules { folder, reader, fills_all }.card(&raw)
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
    /// Whether each input must be filled by a frame or a state.
    fills_all: bool,
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
        let fills = features.as_ref().map(Features::inputs);
        let states = self.states(&raw.state, inputs, fills.as_deref().unwrap_or_default());
        if let (true, Some(inputs), Some(states), Some(fills)) = (self.fills_all, inputs, &states, &fills) {
            let filled = |name: &str| fills.contains(&name) || states.iter().any(|state| state.input == name);
            // A slip in a name would be told a second time from the other side.
            let known = |name: &str| inputs.iter().any(|port| port.name == name);
            let slip =
                !fills.iter().all(|fills| known(fills)) || states.iter().any(|state| !known(&state.input));
            for port in inputs.iter().filter(|port| !slip && !filled(&port.name)) {
                let ports = raw.graph.value().and_then(|graph| graph.input.value());
                let written = ports.into_iter().flatten().map(Spanned::get_ref);
                let at =
                    written.filter(|raw| raw.name.value() == Some(&port.name)).find_map(|raw| raw.name.at());
                self.complain(
                    at.unwrap_or(0),
                    format!(
                        "the graph input {:?} is filled by nothing; each input is \
                             features.input, or the input of a column or of a [[state]]",
                        shorten(&port.name)
                    ),
                );
            }
        }
        let packets = self.packets(&raw.packet, features.as_ref());
        let output = raw.output.table().and_then(|(at, output)| self.output(output, at, features.as_ref()));
        let golden = raw.golden.table().and_then(|(at, golden)| {
            let tolerance = *golden.tolerance.value()?;
            if !(0.0..=1.0).contains(&tolerance) {
                let at = golden.tolerance.at().unwrap_or(at);
                self.complain(at, format!("tolerance is {tolerance}; it must be from 0 to 1"));
            }
            Some(Golden { tolerance: tolerance as f32, verified: golden.verified.value().copied() })
        });
        raw.schema.value()?;
        (self.reader.complaints() == before).then_some(())?;
        Some(Card {
            folder: self.folder.to_owned(),
            name: name?,
            version: version?,
            draft: *raw.draft.value()?,
            summary: raw.summary.value()?.clone(),
            licence: licence?,
            graph: graph?,
            features: features?,
            states: states?,
            packets: packets?,
            output: output?,
            golden: golden?,
        })
    }

    fn graph(&mut self, raw: &RawGraph) -> Option<Graph> {
        let file = self.graph_file(&raw.file);
        let sha256 = self.digest(&raw.sha256, "sha256");
        let source_sha256 = self.digest(&raw.source_sha256, "source_sha256");
        let ports = raw.input.given()?;
        if ports.get_ref().is_empty() {
            self.complain(ports.span().start, "input is empty; a graph has at least one input");
        }
        let mut inputs: Vec<PortSpec> = Vec::new();
        let mut fixed: Vec<(PortSpec, Tensor)> = Vec::new();
        let mut whole = true;
        for port in ports.get_ref() {
            let port = port.get_ref();
            let (Some(name), Some(data_type), Some(shape)) =
                (self.word(&port.name, "name"), port.r#type.value(), port.shape.given())
            else {
                whole = false;
                continue;
            };
            let mut earlier = inputs.iter().chain(fixed.iter().map(|(port, _)| port));
            if earlier.any(|earlier| earlier.name == name) {
                let at = port.name.at().unwrap_or(0);
                self.complain(at, format!("name {:?} stands for an earlier input already", shorten(&name)));
            }
            let lengths: Vec<u64> = shape.get_ref().iter().map(|length| *length.get_ref()).collect();
            if !has_few_elements(&lengths) {
                self.complain(
                    shape.span().start,
                    format!("shape {lengths:?} has too many elements; at most {MAX_ELEMENTS} are taken"),
                );
                whole = false;
                continue;
            }
            let shape = lengths.iter().filter_map(|length| usize::try_from(*length).ok()).collect();
            let spec = PortSpec { name, data_type: *data_type, shape };
            let Some(value) = port.value.value().copied() else {
                inputs.push(spec);
                continue;
            };
            match Tensor::uniform(spec.data_type, &spec.shape, value) {
                Some(tensor) => fixed.push((spec, tensor)),
                None => {
                    let at = port.value.at().unwrap_or(0);
                    self.complain(at, format!("value is {value}; no {} can be that", spec.data_type));
                    whole = false;
                }
            }
        }
        let writer = raw.writer.value().cloned();
        let batches = whole.then(|| self.batches(&raw.batch, &inputs)).flatten();
        whole.then_some(Graph {
            file: file?,
            sha256: sha256?,
            writer,
            source_sha256,
            inputs,
            fixed,
            batches: batches?,
        })
    }

    fn graph_file(&mut self, field: &Field<String>) -> Option<PathBuf> {
        let file = field.given()?;
        let text = file.get_ref();
        let plain = !text.contains(['/', '\\', '\0']) && !text.starts_with('.');
        let known = [".onnx", ".nnef.tar", ".nnef.tgz"].iter().any(|end| text.ends_with(end));
        if plain && known {
            return Some(PathBuf::from(text));
        }
        let message = format!(
            "file is {:?}; expected the name of an .onnx, .nnef.tar or .nnef.tgz file in the model's folder",
            shorten(text)
        );
        self.complain(file.span().start, message);
        None
    }

    fn batches(&mut self, list: &Field<Vec<Spanned<RawBatch>>>, inputs: &[PortSpec]) -> Option<Vec<Batch>> {
        let list = match list {
            Field::Given(list) => list,
            Field::Broken => return None,
            Field::Absent | Field::Default(_) => return Some(Vec::new()),
        };
        let mut batches: Vec<Batch> = Vec::new();
        let mut whole = true;
        for raw in list.get_ref() {
            let raw = raw.get_ref();
            let (Some(file), Some(sha256), Some(written)) =
                (self.graph_file(&raw.file), self.digest(&raw.sha256, "sha256"), raw.shapes.given())
            else {
                whole = false;
                continue;
            };
            let lengths = |shape: &Spanned<Vec<Spanned<u64>>>| -> Vec<u64> {
                shape.get_ref().iter().map(|length| *length.get_ref()).collect()
            };
            let shapes: Vec<Vec<u64>> = written.get_ref().iter().map(lengths).collect();
            let at = written.span().start;
            if !shapes.iter().map(Vec::len).eq(inputs.iter().map(|port| port.shape.len())) {
                let wanted: Vec<&[usize]> = inputs.iter().map(|port| port.shape.as_slice()).collect();
                self.complain(
                    at,
                    format!("shapes is {shapes:?}; expected one for each input to fill, with axes as in {wanted:?}"),
                );
                whole = false;
                continue;
            }
            if !shapes.iter().all(|shape| has_few_elements(shape)) {
                self.complain(
                    at,
                    format!(
                        "shapes {shapes:?} has too many elements; at most {MAX_ELEMENTS} an input are taken"
                    ),
                );
                whole = false;
                continue;
            }
            let length = |length: u64| usize::try_from(length).unwrap_or(usize::MAX);
            let shapes: Vec<Vec<usize>> =
                shapes.into_iter().map(|shape| shape.into_iter().map(length).collect()).collect();
            let own = inputs.iter().map(|port| &port.shape).eq(shapes.iter());
            if own || batches.iter().any(|earlier| earlier.shapes == shapes) {
                self.complain(at, format!("shapes {shapes:?} are those of another batch size already"));
            }
            batches.push(Batch { file, sha256, shapes });
        }
        whole.then_some(batches)
    }

    fn digest(&mut self, field: &Field<String>, key: &str) -> Option<String> {
        let sum = field.given()?;
        let text = sum.get_ref().to_ascii_lowercase();
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(text);
        }
        let message = format!(
            "{key} has {} characters; expected the 64 hexadecimal digits that `sha256sum` prints",
            text.chars().count()
        );
        self.complain(sum.span().start, message);
        None
    }

    fn states(
        &mut self,
        list: &Field<Vec<Spanned<RawState>>>,
        inputs: Option<&[PortSpec]>,
        fills: &[&str],
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
            if fills.contains(&input.as_str()) {
                self.complain(
                    at,
                    format!("input {input:?} is filled by features already; a state fills another one"),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::DataType;
    use crate::config::card::{
        Activation, AnomalyBy, Channels, Distance, Filter, Fit, Gap, ImageFeatures, ImageLayout, Note,
        OutputKind, WindowLayout,
    };

    const HEAD: &str =
        "schema = \"lineside.card/1\"\nname = \"m\"\nversion = \"1\"\nsummary = \"s\"\nlicence = \"MIT\"\n";
    const IMAGE: &str =
        "[features]\nkind = \"image\"\ninput = \"x\"\nwidth = 64\nheight = 32\nchannels = \"rgb\"\n";
    const WINDOW: &str = "[features]\nkind = \"window\"\ninput = \"x\"\nsamples = 60\n[[features.channel]]\nname \
        = \"a\"\n[[features.channel]]\nname = \"b\"\nunit = \"bar\"\nimpute = 35\nmean = 1\nstd \
        = 2\n";
    const TABLE: &str = "[features]\nkind = \"table\"\ninput = \"x\"\n[[features.column]]\nname = \"a\"\n\
        allow_nan = true\n[[features.column]]\nname = \"b\"\n[[features.derived]]\nname = \
        \"c\"\nop = \"ratio\"\nof = [\"b\", \"a\"]\n[[features.derived]]\nname = \"d\"\nop = \
        \"product\"\nof = [\"b\", \"b\"]\n";
    const CLASSES: &str = "[output]\nkind = \"classification\"\ntensor = \"y\"\nlabels = [\"ok\", \"pitting\"]\n\
        pass = [\"ok\"]\n";

    fn graph(shape: &str) -> String {
        format!(
            "[graph]\nfile = \"model.onnx\"\nsha256 = \"{}\"\n[[graph.input]]\nname = \"x\"\n\
                type = \"f32\"\nshape = {shape}\n",
            "Ab".repeat(32)
        )
    }

    fn parse(text: &str) -> Result<Card, String> {
        Card::parse(text, Path::new("models/m")).map_err(|complaints| complaints.to_string())
    }

    fn card(shape: &str, features: &str, output: &str) -> Result<Card, String> {
        parse(&format!("{HEAD}{}{features}{output}", graph(shape)))
    }

    fn image_card(output: &str) -> Result<Card, String> {
        card("[1, 3, 32, 64]", IMAGE, output)
    }

    /// The one complaint about a card, without its place.
    fn only(found: Result<Card, String>) -> String {
        let found = found.unwrap_err();
        assert_eq!(found.lines().count(), 1, "{found}");
        found
    }

    #[test]
    fn an_image_card_has_the_defaults_of_the_format() {
        let card = image_card(CLASSES).unwrap();
        assert_eq!(card.folder, Path::new("models/m"));
        assert_eq!(card.graph.sha256, "ab".repeat(32));
        assert_eq!(
            card.graph.inputs[0],
            PortSpec { name: "x".into(), data_type: DataType::F32, shape: vec![1, 3, 32, 64] }
        );
        let Features::Image(image) = card.features else { panic!("an image") };
        assert_eq!(
            image,
            ImageFeatures {
                input: "x".into(),
                width: 64,
                height: 32,
                channels: Channels::Rgb,
                fit: Fit::Stretch,
                filter: Filter::Bilinear,
                layout: ImageLayout::Nchw,
                scale: 1.0 / 255.0,
                mean: vec![0.0; 3],
                std: vec![1.0; 3],
            }
        );
        let OutputKind::Classification { labels, pass, activation } = card.output.kind else {
            panic!("classes")
        };
        assert_eq!(
            (labels, pass, activation),
            (vec!["ok".into(), "pitting".into()], vec!["ok".to_string()], Activation::None)
        );
        assert_eq!((card.output.threshold, card.output.uncertain), (None, None));
        assert_eq!(card.golden.tolerance, 1e-4);
        assert!(card.states.is_empty());
    }

    #[test]
    fn a_window_card_strides_by_its_length_and_a_gap_may_reset_it() {
        let Features::Window(window) = card("[1, 2, 60]", WINDOW, CLASSES).unwrap().features else {
            panic!()
        };
        assert_eq!(
            (window.samples, window.stride, window.layout, window.gap),
            (60, 60, WindowLayout::Nct, Gap::Ignore)
        );
        assert_eq!(
            (window.channels[1].impute, window.channels[1].mean, window.channels[1].std),
            (Some(35.0), 1.0, 2.0)
        );
        let text =
            WINDOW.replace("samples = 60", "samples = 60\nstride = 90\nlayout = \"tnc\"\nmax_gap_ms = 5_000");
        let Features::Window(window) = card("[60, 1, 2]", &text, CLASSES).unwrap().features else { panic!() };
        assert_eq!((window.stride, window.gap), (90, Gap::Reset { max: Duration::from_secs(5) }));
    }

    #[test]
    fn derived_columns_point_at_columns_and_pass_nan_on() {
        let Features::Table(table) = card("[1, 4]", TABLE, CLASSES).unwrap().features else { panic!() };
        assert_eq!((table.derived[0].of, table.derived[1].of), ([1, 0], [1, 1]));
        assert!(table.derived[0].channel.allow_nan && !table.derived[1].channel.allow_nan);
        let later = TABLE.replace("of = [\"b\", \"a\"]", "of = [\"b\", \"d\"]");
        assert!(only(card("[1, 4]", &later, CLASSES)).contains("\"d\" is no column above"));
    }

    #[test]
    fn the_other_outputs_are_read() {
        let labels = "[output]\nkind = \"multi_label\"\ntensor = \"y\"\nlabels = [\"a\"]\nactivation = \
            \"sigmoid\"\nthresholds = [0.4]\n";
        let OutputKind::MultiLabel { thresholds, activation, .. } = image_card(labels).unwrap().output.kind
        else {
            panic!()
        };
        assert_eq!((thresholds, activation), (Some(vec![0.4]), Activation::Sigmoid));
        let values = "[output]\nkind = \"regression\"\ntensor = \"y\"\nrange = [10, 90]\n\
            [[output.target]]\nname = \"t\"\nunit = \"%\"\n";
        let OutputKind::Regression { targets, range } = image_card(values).unwrap().output.kind else {
            panic!()
        };
        assert_eq!((targets[0].scale, targets[0].offset, range), (1.0, 0.0, Some((10.0, 90.0))));
        let error = "[output]\nkind = \"anomaly\"\ntensor = \"y\"\nby = \"error\"\nof = [\"b\"]\nscale = \
            1.7\nsmooth_frames = 12\nthreshold = 3\n";
        let output = card("[1, 2, 60]", WINDOW, error).unwrap().output;
        let OutputKind::Anomaly { by } = output.kind else { panic!() };
        assert_eq!(output.threshold, Some(3.0));
        assert_eq!(
            by,
            AnomalyBy::Error {
                of: vec!["b".into()],
                frames_ahead: 1,
                distance: Distance::MeanAbsolute,
                scale: 1.7,
                smooth_frames: 12
            }
        );
        assert!(card("[1, 4]", TABLE, &error.replace("\"b\"", "\"d\"")).is_ok());
        assert!(only(image_card(error)).contains("by = \"score\""));
        let score = "[output]\nkind = \"anomaly\"\ntensor = \"y\"\nby = \"score\"\n";
        assert!(image_card(score).is_ok());
        assert!(
            only(image_card(&format!("{score}smooth_frames = 3\n"))).contains("belongs to by = \"error\"")
        );
    }

    #[test]
    fn states_name_inputs_and_every_input_is_filled() {
        let ports = format!(
            "{}[[graph.input]]\nname = \"h_in\"\ntype = \"f32\"\nshape = [2, 1, 8]\n",
            graph("[1, 4]")
        );
        let state = "[[state]]\ninput = \"h_in\"\noutput = \"h_out\"\n";
        let whole = parse(&format!("{HEAD}{ports}{TABLE}{CLASSES}{state}")).unwrap();
        assert_eq!(whole.states, [State { input: "h_in".into(), output: "h_out".into() }]);
        assert!(
            only(parse(&format!("{HEAD}{ports}{TABLE}{CLASSES}"))).contains("\"h_in\" is filled by nothing")
        );
        let twice = only(parse(&format!("{HEAD}{ports}{TABLE}{CLASSES}{state}{state}")));
        assert!(twice.contains("earlier [[state]]"), "{twice}");
        let same = parse(&format!("{HEAD}{}{TABLE}{CLASSES}{}", graph("[1, 4]"), state.replace("h_in", "x")));
        assert!(only(same).contains("filled by features already"));
    }

    #[test]
    fn each_rule_complains_once_and_says_what_would_do() {
        let with = |from: &str, to: &str| {
            let text = format!("{HEAD}{}{IMAGE}{CLASSES}", graph("[1, 3, 32, 64]"));
            assert!(text.contains(from), "{from}");
            only(parse(&text.replacen(from, to, 1)))
        };
        for (from, to, why) in [
            ("card/1", "card/2", "expected \"lineside.card/1\""),
            ("name = \"m\"", "name = \"n\"", "the folder is called \"m\""),
            ("version = \"1\"", "version = \" \"", "version is empty"),
            ("version = \"1\"\n", "", "`version` is missing"),
            ("model.onnx", "../model.onnx", "in the model's folder"),
            ("model.onnx", "model.bin", ".onnx, .nnef.tar or .nnef.tgz"),
            ("AbAb", "Ab", "sha256 has 62 characters"),
            ("AbAb", "Abxx", "sha256 has 64 characters"),
            ("\"f32\"", "\"float\"", "type is \"float\""),
            ("\"f32\"", "\"string\"", "a column of its own"),
            ("\"f32\"", "\"bool\"", "features are numbers"),
            ("[1, 3, 32, 64]", "[0, 3, 32, 64]", "shape is 0"),
            ("[1, 3, 32, 64]", "[1, 32, 64, 3]", "shape [1, 3, 32, 64]"),
            ("[1, 3, 32, 64]", "[268435456, 268435456, 268435456]", "too many elements"),
            ("input = \"x\"", "input = \"z\"", "\"z\" is no [[graph.input]]; there are x"),
            ("width = 64\n", "", "`width` is missing"),
            ("\"rgb\"", "\"gray\"", "spelled \"grey\""),
            ("\"rgb\"", "\"rgb\"\nstd = [1, 1, 0]", "more than 0"),
            ("\"rgb\"", "\"rgb\"\nmean = [1]", "1 numbers for 3 channels"),
            ("\"rgb\"", "\"rgb\"\npad = 3", "letterbox"),
            ("\"rgb\"", "\"rgb\"\nlayout = \"ntc\"", "window's"),
            ("\"rgb\"", "\"rgb\"\nsamples = 3", "features of kind \"window\""),
            ("\"rgb\"", "\"rgb\"\nscale = 0", "scale is 0"),
            ("[\"ok\", \"pitting\"]", "[\"ok\", \"ok\"]", "twice"),
            ("[\"ok\", \"pitting\"]", "[\"ok\"]", "multi_label"),
            ("pass = [\"ok\"]", "pass = [\"okay\"]", "\"okay\" is no label"),
            (
                "pass = [\"ok\"]",
                "pass = [\"ok\"]\nthreshold = 0.9\nuncertain = [0.1, 0.5]",
                "outside uncertain",
            ),
            ("pass = [\"ok\"]", "threshold = 0.5", "add pass"),
            ("pass = [\"ok\"]", "pass = [\"ok\"]\nactivation = \"softmax\"\nthreshold = 3", "no probability"),
            ("pass = [\"ok\"]", "pass = [\"ok\"]\nrange = [1, 2]", "output of kind \"regression\""),
            ("pass = [\"ok\"]", "pass = [\"ok\"]\n[golden]\ntolerance = 2", "from 0 to 1"),
        ] {
            let found = with(from, to);
            assert!(found.contains(why), "{to}: {found}");
            assert!(found.starts_with("models/m/model.toml:"), "{found}");
        }
    }

    #[test]
    fn the_mistakes_of_columns_are_all_told() {
        let table = "[features]\nkind = \"table\"\ninput = \"x\"\ngap = \"ignore\"\nmax_gap_ms = 5\n\
            [[features.column]]\nname = \"a\"\nimpute = 1\nallow_nan = true\n\
            [[features.column]]\nname = \"a\"\nstd = -1\n[[features.derived]]\nname = \"b\"\nop \
            = \"sum\"\nof = [\"a\"]\n";
        let found = card("[1, 3]", table, CLASSES).unwrap_err();
        for why in [
            "contradict each other; keep one",
            "filled in or passed on",
            "stands above already",
            "std is -1",
            "op is \"sum\"",
            "of has 1 names",
        ] {
            assert!(found.contains(why), "{why}\n{found}");
        }
        assert_eq!(found.lines().count(), 6, "{found}");
    }

    #[test]
    fn letterbox_bars_are_grey_114() {
        let text = IMAGE.replace("\"rgb\"", "\"grey\"\nfit = \"letterbox\"");
        let Features::Image(image) = card("[1, 1, 32, 64]", &text, CLASSES).unwrap().features else {
            panic!()
        };
        assert_eq!(image.fit, Fit::Letterbox { pad: 114 });
    }

    #[test]
    fn a_folder_that_is_not_there_and_one_without_a_card_say_what_would_do() {
        let folder = tempfile::tempdir().unwrap();
        let found = Card::read(&folder.path().join("none")).unwrap_err();
        assert_eq!((found.0[0].line, found.0[0].column), (1, 1));
        assert!(found.to_string().contains("there is no model folder"), "{found}");
        assert!(Card::read(folder.path()).unwrap_err().to_string().contains("holds a model.toml"));
    }

    #[test]
    fn free_tables_become_notes_and_do_not_disturb() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("m");
        std::fs::create_dir(&folder).unwrap();
        let notes = "[provenance]\ndata = \"BSData\"\nyear = 2021\n[quality]\naccuracy = 0.96\n\
            by_machine = { a = 1 }\nfolds = [1, 2]\n";
        let text = format!("{HEAD}{}{IMAGE}{CLASSES}{notes}", graph("[1, 3, 32, 64]"));
        std::fs::write(folder.join("model.toml"), text).unwrap();
        assert_eq!(Card::read(&folder).unwrap().name, "m");
        let notes = CardNotes::read(&folder).unwrap();
        let text = |text: &str| Note::Text(text.into());
        assert_eq!(
            notes.provenance,
            [("data".into(), text("BSData")), ("year".into(), Note::Number(2021.0))]
        );
        assert_eq!(
            notes.quality,
            [
                ("accuracy".into(), Note::Number(0.96)),
                ("by_machine.a".into(), Note::Number(1.0)),
                ("folds".into(), text("1, 2"))
            ]
        );
    }

    #[test]
    fn columns_with_inputs_of_their_own_take_strings_and_whole_numbers() {
        let graph = |types: [&str; 2]| {
            let mut text = graph("[1, 1]");
            text += &format!("[[graph.input]]\nname = \"w\"\ntype = \"{}\"\nshape = [1, 1]\n", types[0]);
            text + &format!("[[graph.input]]\nname = \"n\"\ntype = \"{}\"\nshape = [1, 1]\n", types[1])
        };
        let features = |words: &str| {
            format!(
                "[features]\nkind = \"table\"\n[[features.column]]\nname = \"a\"\ninput = \"x\"\n\
                 [[features.column]]\nname = \"type\"\ninput = \"w\"\n{words}\
                 [[features.column]]\nname = \"count\"\ninput = \"n\"\n"
            )
        };
        let words = "words = [\"L\", \"M\"]\n";
        let card = |types, words| parse(&format!("{HEAD}{}{}{CLASSES}", graph(types), features(words)));
        let read = card(["string", "i64"], words).unwrap();
        assert_eq!(read.features.inputs(), ["x", "w", "n"]);
        let port = read.features.port(&read.graph.inputs).unwrap();
        assert_eq!((port.data_type, port.shape), (DataType::F64, vec![1, 3]));
        let Features::Table(table) = read.features else { panic!("a table") };
        assert_eq!(table.columns[1].words, ["L", "M"]);
        assert_eq!(table.columns.iter().map(|column| column.whole).collect::<Vec<_>>(), [false, false, true]);
        assert!(
            only(card(["string", "i64"], ""))
                .contains("input \"w\" takes strings; column \"type\" needs words")
        );
        assert!(only(card(["bool", "f32"], "")).contains("a column fills f32, f64, i64, i32 or string"));
        let both = "words = [\"L\"]\nimpute = 1\n";
        assert!(only(card(["string", "i64"], both)).contains("has no mean, std, impute or allow_nan"));
    }

    #[test]
    fn a_table_fills_one_input_or_one_for_each_column() {
        let head = "[features]\nkind = \"table\"\n";
        let column = |more: &str| format!("[[features.column]]\nname = \"a\"\n{more}");
        let of = |features: String| only(card("[1, 1]", &features, CLASSES));
        assert!(of(head.to_owned() + &column("")).contains("fills no input"));
        let both = format!("{head}input = \"x\"\n{}", column("input = \"x\"\n"));
        assert!(of(both).contains("keep one"));
    }
}
