//! The rules of `[features]`: how a frame becomes the model's input.

use std::time::Duration;

use toml::Spanned;

use super::{Rules, or_default};
use crate::base::DataType;
use crate::config::card::raw::{FeaturesKind, FitKind, Layout, RawChannel, RawDerived, RawFeatures};
use crate::config::card::{
    Channel, Channels, Derived, Features, Filter, Fit, Gap, ImageFeatures, ImageLayout, PortSpec,
    TableFeatures, WindowFeatures, WindowLayout,
};
use crate::config::document::{Field, one_of};

impl Rules<'_, '_> {
    pub(super) fn features(
        &mut self,
        raw: &RawFeatures,
        at: usize,
        inputs: Option<&[PortSpec]>,
    ) -> Option<Features> {
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
        if kind == Table && matches!(raw.input, Field::Absent) {
            return self.table(raw, at, None, inputs).map(Features::Table);
        }
        if matches!(raw.input, Field::Absent) {
            self.complain(at, "`input` is missing in features; it names the graph input to fill");
        }
        let input = self.word(&raw.input, "input");
        let port = match (&input, inputs) {
            (Some(input), Some(inputs)) => self.port(input, raw.input.at().unwrap_or(at), inputs),
            _ => None,
        };
        if let Some(port) = port
            && matches!(port.data_type, DataType::Bool | DataType::Text)
        {
            let at = raw.input.at().unwrap_or(at);
            let remedy = match port.data_type {
                DataType::Text => "give it a column of its own: [[features.column]] with input and words",
                _ => "features are numbers",
            };
            self.complain(at, format!("input {:?} takes {}; {remedy}", port.name, port.data_type));
        }
        let features = match kind {
            Image => Features::Image(self.image(raw, at, input?)?),
            Window => Features::Window(self.window(raw, at, input?)?),
            Table => Features::Table(self.table(raw, at, Some(input?), inputs)?),
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

    /// `input`: the one that all columns fill together; `None`: each fills one of its own.
    fn table(
        &mut self,
        raw: &RawFeatures,
        at: usize,
        input: Option<String>,
        inputs: Option<&[PortSpec]>,
    ) -> Option<TableFeatures> {
        let gap = self.gap(raw);
        let mut columns = self.columns(&raw.column, at, "column", "kind = \"table\"");
        let before = self.reader.complaints();
        if let (Some(columns), Some(list)) = (&mut columns, raw.column.value()) {
            for (column, raw) in columns.iter_mut().zip(list) {
                self.own_input(column, raw, input.as_deref(), inputs);
            }
        }
        if let (None, Some(at)) = (&input, raw.derived.at()) {
            self.complain(at, "derived columns need features.input: they have no input of their own");
        }
        // What fills nothing, or the wrong thing, would be told a second time from the graph's side.
        (self.reader.complaints() == before).then_some(())?;
        let derived = match &raw.derived {
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(Vec::new()),
            Field::Given(list) => columns.as_ref().and_then(|columns| self.derived(list.get_ref(), columns)),
        };
        Some(TableFeatures { input, columns: columns?, derived: derived?, gap: gap? })
    }

    /// A column and the graph input that it fills alone, if it does.
    fn own_input(
        &mut self,
        column: &mut Channel,
        raw: &Spanned<RawChannel>,
        shared: Option<&str>,
        inputs: Option<&[PortSpec]>,
    ) {
        let at = raw.get_ref().input.at().unwrap_or(raw.span().start);
        let name = &column.name;
        let own = match (&column.input, shared) {
            (Some(_), Some(shared)) => {
                let message = format!(
                    "column {name:?} has an input of its own, and so has features: {shared:?}; keep one"
                );
                return self.complain(at, message);
            }
            (None, None) => {
                let message = format!(
                    "column {name:?} fills no input; name one at each column, or features.input for all"
                );
                return self.complain(at, message);
            }
            (None, Some(_)) => return,
            (Some(own), None) => own.clone(),
        };
        let Some(port) = inputs.and_then(|inputs| self.port(&own, at, inputs)) else { return };
        let (taken, elements) = (port.data_type, port.shape.iter().product::<usize>());
        if elements != 1 {
            let message = format!("input {own:?} has shape {:?}; one column fills one element", port.shape);
            self.complain(at, message);
        }
        match taken {
            DataType::F32 | DataType::F64 => {}
            DataType::I64 | DataType::I32 => column.whole = true,
            DataType::Text if column.words.is_empty() => {
                self.complain(at, format!("input {own:?} takes strings; column {name:?} needs words"));
            }
            DataType::Text => {}
            other => {
                let message =
                    format!("input {own:?} takes {other}; a column fills f32, f64, i64, i32 or string");
                self.complain(at, message);
            }
        }
        if column.whole && column.allow_nan {
            self.complain(at, format!("input {own:?} takes {taken}, which has no NaN; remove allow_nan"));
        }
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
                self.complain(
                    at,
                    "impute and allow_nan contradict each other: a missing value is filled \
                     in or passed on; keep one",
                );
            }
            let words = raw.words.given().map(|words| self.names(words, "words")).unwrap_or_default();
            if let Some(at) = raw.words.at() {
                if words.is_empty() {
                    self.complain(at, "words is empty; without it the column holds numbers");
                }
                let scaled = raw.mean.at().or(raw.std.at()).or(raw.impute.at());
                if scaled.is_some() || raw.allow_nan.value() == Some(&true) {
                    self.complain(at, "a column of words has no mean, std, impute or allow_nan; remove them");
                }
            }
            if let (true, Some(at)) = (key == "channel", raw.words.at().or(raw.input.at())) {
                self.complain(at, "words and input belong to the columns of a table");
            }
            let input = match &raw.input {
                Field::Given(_) => self.word(&raw.input, "input"),
                _ => None,
            };
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
                    words,
                    input,
                    whole: false,
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
                        words: Vec::new(),
                        input: None,
                        whole: false,
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
                    "input {:?} has shape {:?}, but the features are {what}, shape \
                         {wanted:?}; correct one of them",
                    port.name, port.shape
                ),
            );
        }
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
}
