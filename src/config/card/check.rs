//! From the card as written to the card as meant: the rules, every complaint at once.
//!
//! Beside its own keys a card is held against itself: what fills an input must have its shape, what a
//! verdict refers to must exist. Not here: the graph's own word on names and shapes (`engine`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::raw::{
    By, FeaturesKind, FitKind, Layout, Means, RawCard, RawChannel, RawDerived, RawFeatures, RawGraph,
    RawOutput, RawState, RawTarget,
};
use super::{
    Activation, AnomalyBy, Card, CardNotes, Channel, Channels, Derived, Distance, Features, Filter, Fit, Gap,
    Golden, Graph, ImageFeatures, ImageLayout, Output, OutputKind, PortSpec, State, TableFeatures, Target,
    WindowFeatures, WindowLayout,
};
use crate::config::check::{band, utf8};
use crate::config::document::{self, Field, Reader, one_of, shorten};
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
            Rules { folder, reader }.card(raw)
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

    fn card(&mut self, raw: RawCard) -> Option<Card> {
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
        let graph = table(raw.graph).and_then(|(_, graph)| self.graph(graph));
        let inputs = graph.as_ref().map(|graph| graph.inputs.as_slice());
        let features = table(raw.features).and_then(|(at, features)| self.features(features, at, inputs));
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
        let output = table(raw.output).and_then(|(at, output)| self.output(output, at, features.as_ref()));
        let golden = table(raw.golden).and_then(|(at, golden)| {
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

    fn graph(&mut self, raw: RawGraph) -> Option<Graph> {
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

    fn features(&mut self, raw: RawFeatures, at: usize, inputs: Option<&[PortSpec]>) -> Option<Features> {
        let kind = *raw.kind.value()?;
        use FeaturesKind::{Image, Table, Window};
        for (key, place, kinds) in [
            ("width", raw.width.at(), &[Image][..]),
            ("height", raw.height.at(), &[Image]),
            ("channels", raw.channels.at(), &[Image]),
            ("fit", raw.fit.at(), &[Image]),
            ("pad", raw.pad.at(), &[Image]),
            ("filter", raw.filter.at(), &[Image]),
            ("layout", raw.layout.at(), &[Image, Window]),
            ("scale", raw.scale.at(), &[Image]),
            ("mean", raw.mean.at(), &[Image]),
            ("std", raw.std.at(), &[Image]),
            ("samples", raw.samples.at(), &[Window]),
            ("stride", raw.stride.at(), &[Window]),
            ("gap", raw.gap.at(), &[Window, Table]),
            ("max_gap_ms", raw.max_gap_ms.at(), &[Window, Table]),
            ("channel", raw.channel.at(), &[Window]),
            ("column", raw.column.at(), &[Table]),
            ("derived", raw.derived.at(), &[Table]),
        ] {
            if let Some(place) = place
                && !kinds.contains(&kind)
            {
                let word = |kind: &FeaturesKind| match kind {
                    Image => "image",
                    Window => "window",
                    Table => "table",
                };
                let words: Vec<&str> = kinds.iter().map(word).collect();
                let message = format!(
                    "{key} belongs to features of kind {}; here kind is {:?}",
                    one_of(&words),
                    word(&kind)
                );
                self.complain(place, message);
            }
        }
        let input = self.word(&raw.input, "input");
        let port = match (&input, inputs) {
            (Some(input), Some(inputs)) => self.port(input, raw.input.at().unwrap_or(at), inputs),
            _ => None,
        };
        if let Some(port) = port
            && port.data_type == crate::base::DataType::Bool
        {
            let at = raw.input.at().unwrap_or(at);
            self.complain(at, format!("input {:?} takes bool; features are numbers", port.name));
        }
        let features = match kind {
            Image => Features::Image(self.image(&raw, at, input?)?),
            Window => Features::Window(self.window(&raw, at, input?)?),
            Table => Features::Table(self.table(&raw, at, input?)?),
        };
        if let Some(port) = port {
            self.shape_fits(&features, port, raw.input.at().unwrap_or(at));
        }
        Some(features)
    }

    fn image(&mut self, raw: &RawFeatures, at: usize, input: String) -> Option<ImageFeatures> {
        let width = self.wanted(&raw.width, at, "width", "kind = \"image\"");
        let height = self.wanted(&raw.height, at, "height", "kind = \"image\"");
        let channels = self.wanted(&raw.channels, at, "channels", "kind = \"image\"");
        let fit = match (&raw.fit, &raw.pad) {
            (Field::Broken, _) | (_, Field::Broken) => None,
            (fit, pad) => match fit.value().unwrap_or(&FitKind::Stretch) {
                FitKind::Letterbox => Some(Fit::Letterbox {
                    pad: pad.value().and_then(|pad| u8::try_from(*pad).ok()).unwrap_or(114),
                }),
                other => {
                    if let Some(at) = pad.at() {
                        self.complain(at, "pad means something with fit = \"letterbox\" only; remove it");
                    }
                    Some(match other {
                        FitKind::CentreCrop => Fit::CentreCrop,
                        FitKind::Exact => Fit::Exact,
                        FitKind::Stretch | FitKind::Letterbox => Fit::Stretch,
                    })
                }
            },
        };
        let layout = match &raw.layout {
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(ImageLayout::Nchw),
            Field::Given(layout) => match layout.get_ref() {
                Layout::Image(layout) => Some(*layout),
                Layout::Window(_) => {
                    self.complain(
                        layout.span().start,
                        "layout of an image is \"nchw\" or \"nhwc\"; this one is a window's",
                    );
                    None
                }
            },
        };
        let scale = or_default(&raw.scale, 1.0 / 255.0).map(|scale| scale as f32);
        if scale == Some(0.0) {
            self.complain(raw.scale.at().unwrap_or(at), "scale is 0; every picture would be the same");
        }
        let count = channels.map(Channels::count);
        let mean = self.per_channel(&raw.mean, "mean", 0.0, count);
        let std = self.per_channel(&raw.std, "std", 1.0, count);
        if let Some(list) = raw.std.given() {
            for value in list.get_ref() {
                self.divisor(*value.get_ref(), "std", value.span().start);
            }
        }
        Some(ImageFeatures {
            input,
            width: usize::try_from(width?).ok()?,
            height: usize::try_from(height?).ok()?,
            channels: channels?,
            fit: fit?,
            filter: or_default(&raw.filter, Filter::Bilinear)?,
            layout: layout?,
            scale: scale?,
            mean: mean?,
            std: std?,
        })
    }

    fn window(&mut self, raw: &RawFeatures, at: usize, input: String) -> Option<WindowFeatures> {
        let samples = self.wanted(&raw.samples, at, "samples", "kind = \"window\"");
        let layout = match &raw.layout {
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(WindowLayout::Nct),
            Field::Given(layout) => match layout.get_ref() {
                Layout::Window(layout) => Some(*layout),
                Layout::Image(_) => {
                    self.complain(
                        layout.span().start,
                        "layout of a window is \"nct\", \"ntc\" or \"tnc\"; this one is an image's",
                    );
                    None
                }
            },
        };
        let gap = self.gap(raw);
        let channels = self.columns(&raw.channel, at, "channel", "kind = \"window\"");
        let samples = samples.and_then(|samples| usize::try_from(samples).ok());
        let stride = match &raw.stride {
            Field::Broken => None,
            stride => stride.value().and_then(|stride| usize::try_from(*stride).ok()).or(samples),
        };
        Some(WindowFeatures {
            input,
            channels: channels?,
            samples: samples?,
            stride: stride?,
            layout: layout?,
            gap: gap?,
        })
    }

    fn table(&mut self, raw: &RawFeatures, at: usize, input: String) -> Option<TableFeatures> {
        let gap = self.gap(raw);
        let columns = self.columns(&raw.column, at, "column", "kind = \"table\"");
        let derived = match &raw.derived {
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(Vec::new()),
            Field::Given(list) => columns.as_ref().and_then(|columns| self.derived(list.get_ref(), columns)),
        };
        Some(TableFeatures { input, columns: columns?, derived: derived?, gap: gap? })
    }

    fn gap(&mut self, raw: &RawFeatures) -> Option<Gap> {
        if let (Some(_), Some(at)) = (raw.gap.at(), raw.max_gap_ms.at()) {
            self.complain(at, "gap = \"ignore\" and max_gap_ms contradict each other; keep one");
            return None;
        }
        match (&raw.gap, &raw.max_gap_ms) {
            (Field::Broken, _) | (_, Field::Broken) => None,
            (_, Field::Given(ms)) => Some(Gap::Reset { max: Duration::from_millis(*ms.get_ref()) }),
            _ => Some(Gap::Ignore),
        }
    }

    fn columns(
        &mut self,
        list: &Field<Vec<Spanned<RawChannel>>>,
        at: usize,
        key: &str,
        because: &str,
    ) -> Option<Vec<Channel>> {
        let list = match list {
            Field::Given(list) if !list.get_ref().is_empty() => list,
            Field::Broken => return None,
            _ => {
                self.complain(at, format!("there is no [[features.{key}]]; {because} needs at least one"));
                return None;
            }
        };
        let mut columns: Vec<Channel> = Vec::new();
        let mut whole = true;
        for raw in list.get_ref() {
            let raw = raw.get_ref();
            let name = self.word(&raw.name, "name");
            if let Some(name) = &name {
                self.new_name(name, columns.iter().map(|column| column.name.as_str()), raw.name.at());
            }
            if let (Some(std), Some(at)) = (raw.std.value(), raw.std.at()) {
                self.divisor(*std, "std", at);
            }
            if let (Some(at), Some(true)) = (raw.impute.at(), raw.allow_nan.value()) {
                self.complain(at, "impute and allow_nan contradict each other: a missing value is filled in or passed on; keep one");
            }
            let column = (|| {
                Some(Channel {
                    name: name?,
                    unit: raw.unit.value()?.clone(),
                    impute: match &raw.impute {
                        Field::Broken => return None,
                        impute => impute.value().copied(),
                    },
                    mean: *raw.mean.value()?,
                    std: *raw.std.value()?,
                    allow_nan: *raw.allow_nan.value()?,
                })
            })();
            match column {
                Some(column) => columns.push(column),
                None => whole = false,
            }
        }
        whole.then_some(columns)
    }

    fn derived(&mut self, list: &[Spanned<RawDerived>], columns: &[Channel]) -> Option<Vec<Derived>> {
        let mut known: Vec<Channel> = columns.to_vec();
        let mut all = Vec::new();
        let mut whole = true;
        for raw in list {
            let raw = raw.get_ref();
            let name = self.word(&raw.name, "name");
            if let Some(name) = &name {
                self.new_name(name, known.iter().map(|column| column.name.as_str()), raw.name.at());
            }
            if let (Some(std), Some(at)) = (raw.std.value(), raw.std.at()) {
                self.divisor(*std, "std", at);
            }
            let of = raw.of.given().and_then(|of| {
                if of.get_ref().len() != 2 {
                    let count = of.get_ref().len();
                    self.complain(of.span().start, format!("of has {count} names; expected two"));
                    return None;
                }
                let names: Vec<&str> = known.iter().map(|column| column.name.as_str()).collect();
                let found: Vec<Option<usize>> =
                    of.get_ref().iter().map(|name| self.find(name, &names, "column above")).collect();
                Some([found[0]?, found[1]?])
            });
            let derived = (|| {
                let of = of?;
                Some(Derived {
                    channel: Channel {
                        name: name?,
                        unit: raw.unit.value()?.clone(),
                        impute: None,
                        mean: *raw.mean.value()?,
                        std: *raw.std.value()?,
                        // A model that takes NaN for a column takes it for what is computed of it.
                        allow_nan: of.iter().any(|index| known[*index].allow_nan),
                    },
                    op: *raw.op.value()?,
                    of,
                })
            })();
            match derived {
                Some(derived) => {
                    known.push(derived.channel.clone());
                    all.push(derived);
                }
                None => whole = false,
            }
        }
        whole.then_some(all)
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

    fn output(&mut self, raw: RawOutput, at: usize, features: Option<&Features>) -> Option<Output> {
        let tensor = self.word(&raw.tensor, "tensor");
        let means = *raw.kind.value()?;
        let by = raw.by.value().copied();
        use Means::{Anomaly, Classification, MultiLabel, Regression};
        for (key, place, kinds) in [
            ("activation", raw.activation.at(), &[Classification, MultiLabel][..]),
            ("labels", raw.labels.at(), &[Classification, MultiLabel]),
            ("pass", raw.pass.at(), &[Classification, MultiLabel]),
            ("threshold", raw.threshold.at(), &[Classification, MultiLabel, Anomaly]),
            ("thresholds", raw.thresholds.at(), &[MultiLabel]),
            ("uncertain", raw.uncertain.at(), &[Classification, MultiLabel, Anomaly]),
            ("range", raw.range.at(), &[Regression]),
            ("target", raw.target.at(), &[Regression]),
            ("by", raw.by.at(), &[Anomaly]),
            ("of", raw.of.at(), &[Anomaly]),
            ("frames_ahead", raw.frames_ahead.at(), &[Anomaly]),
            ("distance", raw.distance.at(), &[Anomaly]),
            ("scale", raw.scale.at(), &[Anomaly]),
            ("smooth_frames", raw.smooth_frames.at(), &[Anomaly]),
        ] {
            let Some(place) = place else { continue };
            if !kinds.contains(&means) {
                let words: Vec<&str> = kinds.iter().map(means_word).collect();
                let message = format!(
                    "{key} belongs to an output of kind {}; here kind is {:?}",
                    one_of(&words),
                    means_word(&means)
                );
                self.complain(place, message);
            } else if means == Anomaly
                && by == Some(By::Score)
                && !["by", "threshold", "uncertain"].contains(&key)
            {
                self.complain(
                    place,
                    format!("{key} belongs to by = \"error\"; a score of the model's own stands as it is"),
                );
            }
        }
        let kind = match means {
            Classification | MultiLabel => self.labelled(&raw, at, means),
            Regression => self.regression(&raw, at),
            Anomaly => self.anomaly(&raw, at, features),
        };
        let uncertain = band(&raw.uncertain, &raw.threshold, self.reader);
        Some(Output {
            tensor: tensor?,
            kind: kind?,
            threshold: match &raw.threshold {
                Field::Broken => return None,
                threshold => threshold.value().map(|threshold| *threshold as f32),
            },
            uncertain: uncertain?,
        })
    }

    fn labelled(&mut self, raw: &RawOutput, at: usize, means: Means) -> Option<OutputKind> {
        let because = format!("kind = {:?}", means_word(&means));
        let labels = match &raw.labels {
            Field::Given(labels) => Some(self.names(labels, "labels")),
            Field::Broken => None,
            Field::Absent | Field::Default(_) => {
                self.complain(at, format!("`labels` is missing in output; {because} needs one name a score"));
                None
            }
        };
        let least = if means == Means::Classification { 2 } else { 1 };
        if let (Some(labels), Some(place)) = (&labels, raw.labels.at())
            && labels.len() < least
        {
            let count = labels.len();
            let remedy =
                if least == 2 { "; for one score of its own use kind = \"multi_label\"" } else { "" };
            self.complain(place, format!("labels has {count}; {because} needs at least {least}{remedy}"));
        }
        let pass = match &raw.pass {
            Field::Given(pass) => {
                let names = self.names(pass, "pass");
                if let Some(labels) = &labels {
                    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                    for name in pass.get_ref() {
                        self.find(name, &labels, "label");
                    }
                }
                Some(names)
            }
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(Vec::new()),
        };
        let activation = or_default(&raw.activation, Activation::None);
        if means == Means::Classification && pass.as_ref().is_some_and(Vec::is_empty) {
            for (place, key) in [(raw.threshold.at(), "threshold"), (raw.uncertain.at(), "uncertain")] {
                if let Some(place) = place {
                    self.complain(place, format!("{key} decides nothing while `pass` names no label that is in order; add pass, or remove it"));
                }
            }
        }
        if matches!(activation, Some(Activation::Softmax | Activation::Sigmoid)) {
            let mut bounded: Vec<(f64, usize)> = Vec::new();
            bounded.extend(raw.threshold.given().map(|t| (*t.get_ref(), t.span().start)));
            for list in [&raw.thresholds, &raw.uncertain] {
                let list = list.given().map(Spanned::get_ref);
                bounded.extend(list.into_iter().flatten().map(|t| (*t.get_ref(), t.span().start)));
            }
            for (value, place) in bounded {
                if !(0.0..=1.0).contains(&value) {
                    self.complain(
                        place,
                        format!("{value} is no probability; after softmax or sigmoid scores lie from 0 to 1"),
                    );
                }
            }
        }
        if means == Means::Classification {
            return Some(OutputKind::Classification {
                labels: labels?,
                pass: pass?,
                activation: activation?,
            });
        }
        let thresholds = match &raw.thresholds {
            Field::Given(list) => {
                if let Some(labels) = &labels
                    && labels.len() != list.get_ref().len()
                {
                    let count = list.get_ref().len();
                    self.complain(
                        list.span().start,
                        format!(
                            "thresholds has {count} numbers for {} labels; expected one a label",
                            labels.len()
                        ),
                    );
                }
                Some(Some(list.get_ref().iter().map(|value| *value.get_ref() as f32).collect()))
            }
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(None),
        };
        if let (Some(_), Some(place)) = (raw.thresholds.at(), raw.threshold.at()) {
            self.complain(
                place,
                "threshold is never used beside thresholds, which has one for each label; keep one",
            );
        }
        Some(OutputKind::MultiLabel {
            labels: labels?,
            pass: pass?,
            activation: activation?,
            thresholds: thresholds?,
        })
    }

    fn regression(&mut self, raw: &RawOutput, at: usize) -> Option<OutputKind> {
        let list: &[Spanned<RawTarget>] = match &raw.target {
            Field::Given(list) if !list.get_ref().is_empty() => list.get_ref(),
            Field::Broken => return None,
            _ => {
                self.complain(at, "there is no [[output.target]]; kind = \"regression\" needs one a score");
                return None;
            }
        };
        let mut targets: Vec<Target> = Vec::new();
        let mut whole = true;
        for raw in list {
            let raw = raw.get_ref();
            let name = self.word(&raw.name, "name");
            if let Some(name) = &name {
                self.new_name(name, targets.iter().map(|target| target.name.as_str()), raw.name.at());
            }
            if let (Some(0.0), Some(at)) = (raw.scale.value(), raw.scale.at()) {
                self.complain(at, "scale is 0; every value would be the offset");
            }
            let target = (|| {
                Some(Target {
                    name: name?,
                    unit: raw.unit.value()?.clone(),
                    scale: *raw.scale.value()?,
                    offset: *raw.offset.value()?,
                })
            })();
            match target {
                Some(target) => targets.push(target),
                None => whole = false,
            }
        }
        let range = match &raw.range {
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(None),
            Field::Given(list) => match list.get_ref().as_slice() {
                [low, high] if low.get_ref() <= high.get_ref() => {
                    Some(Some((*low.get_ref(), *high.get_ref())))
                }
                [low, high] => {
                    let message = format!(
                        "range is [{}, {}]; the lower end comes first",
                        low.get_ref(),
                        high.get_ref()
                    );
                    self.complain(list.span().start, message);
                    None
                }
                other => {
                    let message = format!("range has {} numbers; expected two: [low, high]", other.len());
                    self.complain(list.span().start, message);
                    None
                }
            },
        };
        whole.then_some(OutputKind::Regression { targets, range: range? })
    }

    fn anomaly(&mut self, raw: &RawOutput, at: usize, features: Option<&Features>) -> Option<OutputKind> {
        if self.wanted(&raw.by, at, "by", "kind = \"anomaly\"")? == By::Score {
            return Some(OutputKind::Anomaly { by: AnomalyBy::Score });
        }
        let known: Option<Vec<&str>> = match features {
            None => None,
            Some(Features::Window(window)) => {
                Some(window.channels.iter().map(|channel| channel.name.as_str()).collect())
            }
            Some(Features::Table(table)) => {
                let derived = table.derived.iter().map(|derived| derived.channel.name.as_str());
                Some(table.columns.iter().map(|column| column.name.as_str()).chain(derived).collect())
            }
            Some(Features::Image(_)) => {
                let at = raw.by.at().unwrap_or(at);
                self.complain(at, "by = \"error\" compares named values; for images the model must give the score itself: by = \"score\"");
                None
            }
        };
        let of: Option<Vec<String>> = match &raw.of {
            Field::Given(list) if !list.get_ref().is_empty() => {
                if let Some(known) = &known {
                    for name in list.get_ref() {
                        self.find(name, known, "channel or column");
                    }
                }
                Some(self.names(list, "of"))
            }
            Field::Broken => None,
            _ => {
                let at = raw.of.at().unwrap_or(at);
                self.complain(at, "`of` is missing in output; by = \"error\" needs the names of the values that the model expects");
                None
            }
        };
        let scale = or_default(&raw.scale, 1.0);
        if let (Some(scale), Some(at)) = (scale, raw.scale.at()) {
            self.divisor(scale, "scale", at);
        }
        Some(OutputKind::Anomaly {
            by: AnomalyBy::Error {
                of: of?,
                frames_ahead: usize::try_from(or_default(&raw.frames_ahead, 1)?).ok()?,
                distance: or_default(&raw.distance, Distance::MeanAbsolute)?,
                scale: scale?,
                smooth_frames: usize::try_from(or_default(&raw.smooth_frames, 1)?).ok()?,
            },
        })
    }

    /// Complains where what the features make has another shape than the input that they fill.
    fn shape_fits(&mut self, features: &Features, port: &PortSpec, at: usize) {
        let (wanted, rank, what): (Vec<usize>, usize, String) = match features {
            Features::Image(image) => {
                let (c, h, w) = (image.channels.count(), image.height, image.width);
                let shape = match image.layout {
                    ImageLayout::Nchw => vec![1, c, h, w],
                    ImageLayout::Nhwc => vec![1, h, w, c],
                };
                (shape, 4, format!("one picture of {w}×{h} pixels and {c} channels"))
            }
            Features::Window(window) => {
                let (c, t) = (window.channels.len(), window.samples);
                let shape = match window.layout {
                    WindowLayout::Nct => vec![1, c, t],
                    WindowLayout::Ntc => vec![1, t, c],
                    WindowLayout::Tnc => vec![t, 1, c],
                };
                (shape, 3, format!("one window of {t} samples of {c} channels"))
            }
            Features::Table(table) => {
                let n = table.columns.len() + table.derived.len();
                (vec![1, n], 2, format!("one row of {n} columns"))
            }
        };
        // Axes of length 1 may be more or fewer; where the rank is the usual one the order is known too.
        let same_count = wanted.iter().product::<usize>() == port.shape.iter().product::<usize>();
        if !same_count || (port.shape.len() == rank && port.shape != wanted) {
            self.complain(
                at,
                format!(
                    "input {:?} has shape {:?}, but the features are {what}, shape {wanted:?}; correct one of them",
                    port.name, port.shape
                ),
            );
        }
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

    fn per_channel(
        &mut self,
        field: &Field<Vec<Spanned<f64>>>,
        key: &str,
        default: f32,
        count: Option<usize>,
    ) -> Option<Vec<f32>> {
        match field {
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(vec![default; count?]),
            Field::Given(list) => {
                let found = list.get_ref().len();
                if let Some(count) = count
                    && found != count
                {
                    self.complain(
                        list.span().start,
                        format!("{key} has {found} numbers for {count} channels; expected one a channel"),
                    );
                }
                Some(list.get_ref().iter().map(|value| *value.get_ref() as f32).collect())
            }
        }
    }

    fn divisor(&mut self, value: f64, key: &str, at: usize) {
        // As f32, because that is how the model's input is scaled: 1e-50 would divide by 0 there.
        if value as f32 <= 0.0 {
            self.complain(at, format!("{key} is {value}; what divides must be more than 0"));
        }
    }
}

fn means_word(means: &Means) -> &'static str {
    match means {
        Means::Classification => "classification",
        Means::MultiLabel => "multi_label",
        Means::Regression => "regression",
        Means::Anomaly => "anomaly",
    }
}

fn table<T>(field: Field<T>) -> Option<(usize, T)> {
    match field {
        Field::Given(table) => Some((table.span().start, table.into_inner())),
        Field::Default(table) => Some((0, table)),
        Field::Absent | Field::Broken => None,
    }
}

/// The value, `default` where nothing is written, `None` where it is broken.
fn or_default<T: Copy>(field: &Field<T>, default: T) -> Option<T> {
    match field {
        Field::Broken => None,
        field => Some(field.value().copied().unwrap_or(default)),
    }
}
