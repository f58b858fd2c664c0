//! The card as written: each key with its type, range, default and meaning, once.
//!
//! `[features]` and `[output]` list the keys of all their kinds; which key belongs to which kind is a
//! rule of `check`. What a default depends on (the kind, the channels) is said in words.

use serde_json::{Value as Json, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Activation, Channels, DerivedOp, Distance, Filter, ImageLayout, Note, VerifiedBy, WindowLayout};
use crate::base::DataType;
use crate::config::document::{Flag, List, Number, Reader, Text, Whole, Written, keys, words};

keys! {
    /// A whole `model.toml`.
    RawCard {
        /// Form of this file.
        schema: SchemaWord [required],
        /// Written by `lineside compile` and not looked at yet; `check` warns until it is gone.
        draft: Flag = false,
        /// Name of the model; the same as its folder's.
        name: Text [required],
        /// Version of the weights; published with each prediction.
        version: Text [required],
        /// One sentence on what it decides.
        summary: Text [required],
        /// Licence of the weights, as SPDX where there is one.
        licence: Text [required],
        /// The graph.
        graph: RawGraph [required],
        /// How a frame becomes the model's input.
        features: RawFeatures [required],
        /// Tensors carried from one run to the next, for each origin; zero at first.
        state: List<RawState>,
        /// What the packets of sensors carry; one table for each schema id that is known.
        packet: List<RawPacket>,
        /// How scores become a verdict.
        output: RawOutput [required],
        /// The golden cases in `golden/`.
        golden: RawGolden = RawGolden::default(),
        /// Where data and weights come from; free keys, for people.
        provenance: Notes,
        /// What was measured; free keys, for people.
        quality: Notes,
    }
}

words! {
    SchemaWord: () {
        "lineside.card/1" => (),
    }
}

keys! {
    /// `[graph]`
    RawGraph {
        /// File in the folder: `.onnx`, or NNEF as `.nnef.tar` or `.nnef.tgz`.
        file: Text [required],
        /// SHA-256 of that file, 64 hexadecimal digits.
        sha256: Text [required],
        /// What wrote an NNEF file; another version of the engine may not read it.
        writer: Text,
        /// SHA-256 of the ONNX file that it was compiled from; golden cases are held against it.
        source_sha256: Text,
        /// Every input of the graph.
        input: List<RawPort> [required],
        /// The graph once more for each other batch size; `lineside compile --batch 1,8` writes them.
        batch: List<RawBatch>,
    }
}

keys! {
    /// `[[graph.batch]]`
    RawBatch {
        /// File in the folder; the same as `graph.file` where its batch is open.
        file: Text [required],
        /// SHA-256 of that file, 64 hexadecimal digits.
        sha256: Text [required],
        /// Concrete shape of each `[[graph.input]]` without a `value`, in their order.
        shapes: List<List<Whole<1, 268_435_456>>> [required],
    }
}

keys! {
    /// `[[graph.input]]`
    RawPort {
        /// Name in the graph.
        name: Text [required],
        /// Element type.
        r#type: DataTypeWord [required],
        /// Concrete shape, batch included; `[]` for a scalar.
        shape: List<Whole<1, 268_435_456>> [required],
        /// A number that every element of it has for good, such as a sample rate: no frame fills it, and
        /// branches that it decides are decided when the model is loaded.
        value: Number,
    }
}

words! {
    DataTypeWord: DataType {
        "f32" => DataType::F32,
        "f64" => DataType::F64,
        "f16" => DataType::F16,
        "i64" => DataType::I64,
        "i32" => DataType::I32,
        "i16" => DataType::I16,
        "i8" => DataType::I8,
        "u64" => DataType::U64,
        "u32" => DataType::U32,
        "u16" => DataType::U16,
        "u8" => DataType::U8,
        "bool" => DataType::Bool,
        "string" => DataType::Text,
    }
}

/// What a frame is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeaturesKind {
    Image,
    Window,
    Table,
}

words! {
    FeaturesKindWord: FeaturesKind {
        "image" => FeaturesKind::Image,
        "window" => FeaturesKind::Window,
        "table" => FeaturesKind::Table,
    }
}

keys! {
    /// `[features]`
    RawFeatures {
        /// What a frame is to the model: a picture, some samples of several channels, or one row.
        kind: FeaturesKindWord [required],
        /// The graph input to fill. Needed, except for a table whose columns each name their own.
        input: Text,
        /// image: pixels across.
        width: Whole<1, 16_384>,
        /// image: pixels down.
        height: Whole<1, 16_384>,
        /// image: colours and their order.
        channels: ChannelsWord,
        /// image: how a picture of another shape is made to fit. Default: stretch.
        fit: FitWord,
        /// image, `fit = "letterbox"`: grey level of the bars. Default: 114.
        pad: Whole<0, 255>,
        /// image: how pixels are made from pixels, named as in Pillow; `_fast` does not widen when
        /// it shrinks, as OpenCV. Default: bilinear.
        filter: FilterWord,
        /// Order of the tensor's axes. Default: nchw for an image, nct for a window.
        layout: LayoutWord,
        /// image: multiplies each byte (0 to 255) first. Default: 1/255.
        scale: Number,
        /// image: subtracted after scaling, one number a channel. Default: 0.
        mean: List<Number>,
        /// image: divides last, one number a channel. Default: 1.
        std: List<Number>,
        /// window: samples in a window.
        samples: Whole<1, 1_048_576>,
        /// window: new samples between one window and the next; more than `samples` skips some.
        /// Default: `samples`.
        stride: Whole<1, 1_048_576>,
        /// window, table: what a pause between frames does. Default: ignore; `max_gap_ms` says
        /// otherwise.
        gap: GapWord,
        /// window, table: a longer pause, in milliseconds, empties the window and the recurrent
        /// state.
        max_gap_ms: Whole<1, 31_536_000_000>,
        /// window: its channels, in the model's order.
        channel: List<RawChannel>,
        /// table: its columns, in the model's order.
        column: List<RawChannel>,
        /// table: columns computed from others; they come behind `column`, in order.
        derived: List<RawDerived>,
    }
}

words! {
    ChannelsWord: Channels {
        "rgb" => Channels::Rgb,
        "bgr" => Channels::Bgr,
        "grey" => Channels::Grey,
        refused {
            "gray" => "it is spelled \"grey\" here",
        }
    }
}

/// `fit`, without its bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FitKind {
    Stretch,
    Letterbox,
    CentreCrop,
    Exact,
}

words! {
    FitWord: FitKind {
        "stretch" => FitKind::Stretch,
        "letterbox" => FitKind::Letterbox,
        "centre_crop" => FitKind::CentreCrop,
        "exact" => FitKind::Exact,
    }
}

words! {
    FilterWord: Filter {
        "nearest" => Filter::Nearest,
        "box" => Filter::Box,
        "bilinear" => Filter::Bilinear,
        "bilinear_fast" => Filter::BilinearFast,
        "bicubic" => Filter::Bicubic,
        "bicubic_fast" => Filter::BicubicFast,
        "lanczos" => Filter::Lanczos,
    }
}

/// `layout`, of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Image(ImageLayout),
    Window(WindowLayout),
}

words! {
    LayoutWord: Layout {
        "nchw" => Layout::Image(ImageLayout::Nchw),
        "nhwc" => Layout::Image(ImageLayout::Nhwc),
        "nct" => Layout::Window(WindowLayout::Nct),
        "ntc" => Layout::Window(WindowLayout::Ntc),
        "tnc" => Layout::Window(WindowLayout::Tnc),
    }
}

words! {
    GapWord: () {
        "ignore" => (),
    }
}

keys! {
    /// `[[features.channel]]` and `[[features.column]]`
    RawChannel {
        /// Field in JSON, header in CSV.
        name: Text [required],
        /// Unit, for people.
        unit: Text = String::new(),
        /// Stands in for a missing, null or blank value. Default: such a frame is refused.
        impute: Number,
        /// Subtracted before dividing.
        mean: Number = 0.0,
        /// Divides; more than 0.
        std: Number = 1.0,
        /// Missing values reach the model as NaN, because it imputes itself.
        allow_nan: Flag = false,
        /// table: the texts that may stand here. A string input gets the text, any other its place
        /// in this list, from 0. Default: the column holds numbers.
        words: List<Text>,
        /// table: the graph input that this column fills alone; then every column names one.
        input: Text,
    }
}

keys! {
    /// `[[features.derived]]`
    RawDerived {
        /// Its own name.
        name: Text [required],
        /// Unit, for people.
        unit: Text = String::new(),
        /// What is computed: first ÷ second, first − second, first × second.
        op: DerivedOpWord [required],
        /// Names of two columns, or of derived ones above.
        of: List<Text> [required],
        /// Subtracted before dividing.
        mean: Number = 0.0,
        /// Divides; more than 0.
        std: Number = 1.0,
    }
}

words! {
    DerivedOpWord: DerivedOp {
        "ratio" => DerivedOp::Ratio,
        "difference" => DerivedOp::Difference,
        "product" => DerivedOp::Product,
    }
}

keys! {
    /// `[[state]]`
    RawState {
        /// Graph input that is fed.
        input: Text [required],
        /// Graph output of the last run that becomes it.
        output: Text [required],
    }
}

keys! {
    /// `[[packet]]`
    RawPacket {
        /// Schema id in the packet's header.
        schema: Whole<0, 65_535> [required],
        /// What the numbers of a sample are, in the packet's order.
        channel: List<RawPacketChannel> [required],
    }
}

keys! {
    /// `[[packet.channel]]`
    RawPacketChannel {
        /// Name of the feature that it is; a name that the model does not know is passed over.
        name: Text [required],
        /// Unit once it is scaled; the same as the feature's.
        unit: Text,
        /// Multiplies the number in the packet. Default: 1.
        scale: Number = 1.0,
        /// Added after that. Default: 0.
        offset: Number = 0.0,
    }
}

/// What scores mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    Classification,
    MultiLabel,
    Regression,
    Anomaly,
}

words! {
    MeansWord: Means {
        "classification" => Means::Classification,
        "multi_label" => Means::MultiLabel,
        "regression" => Means::Regression,
        "anomaly" => Means::Anomaly,
    }
}

/// Where an anomaly score comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Error,
    Score,
}

words! {
    ByWord: By {
        "error" => By::Error,
        "score" => By::Score,
    }
}

keys! {
    /// `[output]`
    RawOutput {
        /// What the scores mean: one label of several, any number of labels, quantities, or how
        /// unusual the frame is.
        kind: MeansWord [required],
        /// Graph output with the scores.
        tensor: Text [required],
        /// classification, multi_label: applied to the scores first. Default: none.
        activation: ActivationWord,
        /// classification, multi_label: names, in the order of the scores.
        labels: List<Text>,
        /// classification, multi_label: the labels that are in order. Default: none of them, which
        /// gives a classification no verdict.
        pass: List<Text>,
        /// Decides between pass and fail. classification: the summed score of labels that are not
        /// in `pass`; without it the best label decides. multi_label: each label (default 0.5).
        /// anomaly: the score; without it there is no verdict.
        threshold: Number,
        /// multi_label: one threshold a label, in the order of `labels`.
        thresholds: List<Number>,
        /// `[low, high]`: deciding scores inside give `uncertain`.
        uncertain: List<Number>,
        /// regression: `[low, high]`, the passing range of the first target, in its unit.
        range: List<Number>,
        /// regression: the quantities, in the order of the scores.
        target: List<RawTarget>,
        /// anomaly: the model gives the score itself, or what it expected.
        by: ByWord,
        /// anomaly by error: names of the channels or columns that it expects, in the order of the
        /// scores.
        of: List<Text>,
        /// anomaly by error: 1 for a forecast, held against the next frame; 0 for a reconstruction.
        /// Default: 1.
        frames_ahead: Whole<0, 1_000_000>,
        /// anomaly by error: how distances of several values become one. Default: mean_absolute.
        distance: DistanceWord,
        /// anomaly by error: divides the distance; more than 0. Default: 1.
        scale: Number,
        /// anomaly by error: frames over which the score is averaged exponentially. Default: 1,
        /// not at all.
        smooth_frames: Whole<1, 1_000_000>,
    }
}

words! {
    ActivationWord: Activation {
        "none" => Activation::None,
        "softmax" => Activation::Softmax,
        "sigmoid" => Activation::Sigmoid,
    }
}

words! {
    DistanceWord: Distance {
        "mean_absolute" => Distance::MeanAbsolute,
        "root_mean_square" => Distance::RootMeanSquare,
        "largest" => Distance::Largest,
    }
}

keys! {
    /// `[[output.target]]`
    RawTarget {
        /// Field in the prediction.
        name: Text [required],
        /// Unit, published beside the value.
        unit: Text = String::new(),
        /// Multiplies the model's number; not 0.
        scale: Number = 1.0,
        /// Added afterwards.
        offset: Number = 0.0,
    }
}

keys! {
    /// `[golden]`
    RawGolden {
        /// Largest accepted |ours − theirs| ÷ largest |theirs| of a tensor; 0 to 1.
        tolerance: Number = 1e-4,
        /// Who stands behind the answers: golden cases, or only the engine itself (then `check`
        /// warns). Written by `lineside compile`.
        verified: VerifiedWord,
    }
}

words! {
    VerifiedWord: VerifiedBy {
        "golden" => VerifiedBy::Golden,
        "self" => VerifiedBy::Itself,
    }
}

/// A table with free keys; tables in it are written out with dots.
pub(crate) struct Notes;

impl Written for Notes {
    type Value = Vec<(String, Note)>;

    fn expected() -> String {
        "a table".into()
    }

    fn read(value: &Spanned<DeValue<'_>>, name: &str, reader: &mut Reader<'_>) -> Option<Self::Value> {
        // Every key is known here, so that only the type is complained about.
        let words: Vec<&str> = match value.get_ref() {
            DeValue::Table(table) => table.keys().map(|key| key.get_ref().as_ref()).collect(),
            _ => Vec::new(),
        };
        let table = reader.table(value, name, &words)?;
        let mut notes = Vec::new();
        collect(table, "", &mut notes);
        Some(notes)
    }

    fn schema() -> Json {
        json!({"type": "object"})
    }

    fn shown(_: &Self::Value) -> Json {
        Json::Null
    }
}

/// The parser bounds how deep tables nest, and with it this recursion.
fn collect(table: &DeTable<'_>, before: &str, notes: &mut Vec<(String, Note)>) {
    for (key, value) in table {
        let name = format!("{before}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(table) => collect(table, &format!("{name}."), notes),
            value => notes.push((name, note(value))),
        }
    }
}

fn note(value: &DeValue<'_>) -> Note {
    let number = match value {
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n as f64)
        }
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    number.map_or_else(|| Note::Text(plain(value)), Note::Number)
}

/// A value in words, for people.
fn plain(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(array) => {
            array.iter().map(|value| plain(value.get_ref())).collect::<Vec<_>>().join(", ")
        }
        DeValue::Table(table) => {
            let pairs =
                table.iter().map(|(key, value)| format!("{}: {}", key.get_ref(), plain(value.get_ref())));
            pairs.collect::<Vec<_>>().join(", ")
        }
    }
}
