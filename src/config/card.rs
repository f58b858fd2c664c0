//! The card: what belongs to a model and not to a site. `models/NAME/model.toml`, as meant.
//!
//! Units and order are those of training: whoever trained the model writes them down once, here.
//! Its keys are in `raw`, its rules in `check`: [`Card::read`] tells every mistake at once.
//! Not here: reading golden cases or the graph itself (`engine`).

mod check;
pub(super) mod raw;

use std::path::PathBuf;
use std::time::Duration;

use crate::base::{DataType, Tensor};

/// One model folder's `model.toml`.
#[derive(Clone, Debug)]
pub struct Card {
    /// The folder that the card lies in.
    pub folder: PathBuf,
    /// Same as the folder's name.
    pub name: String,
    /// Version of the weights, published with each prediction.
    pub version: String,
    /// Written by `compile` and not looked at yet.
    pub draft: bool,
    /// One sentence on what it decides.
    pub summary: String,
    /// Licence of the weights (SPDX where there is one).
    pub licence: String,
    /// The graph.
    pub graph: Graph,
    /// How a frame becomes the model's input.
    pub features: Features,
    /// Tensors carried from one run to the next, per origin.
    pub states: Vec<State>,
    /// What packets of sensors carry, by schema id.
    pub packets: Vec<PacketSchema>,
    /// How scores become a verdict.
    pub output: Output,
    /// Golden cases: how near is equal.
    pub golden: Golden,
}

/// `[[packet]]`: what the samples of a sensor's packets are.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketSchema {
    /// Schema id in the packet's header.
    pub schema: u16,
    /// In the packet's order.
    pub channels: Vec<PacketChannel>,
}

/// `[[packet.channel]]`
#[derive(Clone, Debug, PartialEq)]
pub struct PacketChannel {
    /// Index of the feature that it is; `None`: the model does not want it.
    pub column: Option<usize>,
    /// Multiplies the number in the packet.
    pub scale: f64,
    /// Added after that.
    pub offset: f64,
}

/// `[graph]`
#[derive(Clone, Debug)]
pub struct Graph {
    /// `.onnx`, or NNEF as `.nnef.tgz`; inside the folder.
    pub file: PathBuf,
    /// SHA-256 of the file, lower-case hex; checked before it is parsed.
    pub sha256: String,
    /// What wrote the file, of a compiled one: `tract 0.23.9`.
    pub writer: Option<String>,
    /// SHA-256 of the ONNX file that it was compiled from, where that is another file.
    pub source_sha256: Option<String>,
    /// Every input of the graph that is to be filled, with its concrete shape; by the graph's own names.
    pub inputs: Vec<PortSpec>,
    /// Inputs that have one value for good.
    pub fixed: Vec<(PortSpec, Tensor)>,
    /// The same graph for other batch sizes.
    pub batches: Vec<Batch>,
}

/// `[[graph.batch]]`: the graph once more, for inputs of another batch size.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// As `graph.file`.
    pub file: PathBuf,
    /// SHA-256 of that file.
    pub sha256: String,
    /// Of each input of the graph, in order.
    pub shapes: Vec<Vec<usize>>,
}

impl Card {
    /// One card for each batch size, this one first: with that size's graph, and the other sizes beside it.
    pub fn sizes(&self) -> Vec<Self> {
        let own = Batch {
            file: self.graph.file.clone(),
            sha256: self.graph.sha256.clone(),
            shapes: self.graph.inputs.iter().map(|port| port.shape.clone()).collect(),
        };
        let all: Vec<Batch> = std::iter::once(own).chain(self.graph.batches.iter().cloned()).collect();
        let of = |nth: usize| {
            let mut card = self.clone();
            let mut others = all.clone();
            let Batch { file, sha256, shapes } = others.remove(nth);
            (card.graph.file, card.graph.sha256, card.graph.batches) = (file, sha256, others);
            for (port, shape) in card.graph.inputs.iter_mut().zip(shapes) {
                port.shape = shape;
            }
            card
        };
        (0..all.len()).map(of).collect()
    }
}

/// `[[graph.input]]`
#[derive(Clone, Debug, PartialEq)]
pub struct PortSpec {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub data_type: DataType,
    /// Concrete shape, batch included.
    pub shape: Vec<usize>,
}

impl PortSpec {
    /// `x [8, 5], h [1, 8]`
    pub fn shapes_in_words(ports: &[Self]) -> String {
        let each = ports.iter().map(|port| format!("{} {:?}", port.name, port.shape));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// `[features]`: by what a frame is to the model.
#[derive(Clone, Debug)]
pub enum Features {
    /// A picture.
    Image(ImageFeatures),
    /// The last samples of several channels.
    Window(WindowFeatures),
    /// One row of named quantities.
    Table(TableFeatures),
}

impl Features {
    /// The columns of a row as it comes; none for pictures.
    pub fn columns(&self) -> &[Channel] {
        match self {
            Self::Image(_) => &[],
            Self::Window(window) => &window.channels,
            Self::Table(table) => &table.columns,
        }
    }

    /// The graph inputs that they fill: one, or one for each column.
    pub fn inputs(&self) -> Vec<&str> {
        match self {
            Self::Image(image) => vec![&image.input],
            Self::Window(window) => vec![&window.input],
            Self::Table(table) => match &table.input {
                Some(input) => vec![input],
                None => table.columns.iter().filter_map(|column| column.input.as_deref()).collect(),
            },
        }
    }

    /// What the features are laid out as: the graph input that they fill, or, where each column fills
    /// one of its own, a row of all of them, from which they are handed out.
    pub fn port(&self, inputs: &[PortSpec]) -> Option<PortSpec> {
        if let Self::Table(TableFeatures { input: None, columns, .. }) = self {
            let shape = vec![1, columns.len()];
            return Some(PortSpec { name: "columns".to_owned(), data_type: DataType::F64, shape });
        }
        inputs.iter().find(|port| self.inputs() == [port.name.as_str()]).cloned()
    }
}

/// `features.kind = "image"`
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFeatures {
    /// Graph input to fill.
    pub input: String,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Colours and their order.
    pub channels: Channels,
    /// How a picture of another shape is made to fit.
    pub fit: Fit,
    /// How pixels are made from pixels.
    pub filter: Filter,
    /// Order of axes in the tensor.
    pub layout: ImageLayout,
    /// Multiplies each byte (0–255) first; 1/255 for models trained on 0–1.
    pub scale: f32,
    /// Subtracted after scaling; one a channel.
    pub mean: Vec<f32>,
    /// Divides last; one a channel.
    pub std: Vec<f32>,
}

/// Colours of the model's input, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red (OpenCV's order).
    Bgr,
    /// One channel of luma.
    Grey,
}

impl Channels {
    /// How many.
    pub const fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// How a picture of another shape is made to fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fit {
    /// Both sides are scaled on their own; shapes distort.
    Stretch,
    /// The whole picture, centred, with bars of this grey level (0–255).
    Letterbox {
        /// Grey level of the bars.
        pad: u8,
    },
    /// The middle, cut to the right shape, then scaled.
    CentreCrop,
    /// No resizing: a picture of another size is refused.
    Exact,
}

/// Resampling filter, named as in Pillow. `bilinear`, `bicubic` and `lanczos` widen when they
/// shrink (as Pillow and torchvision with antialias do), `*_fast` do not (as OpenCV does).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the filter")]
pub enum Filter {
    Nearest,
    Box,
    Bilinear,
    BilinearFast,
    Bicubic,
    BicubicFast,
    Lanczos,
}

/// Order of an image tensor's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageLayout {
    /// Batch, channel, row, column (PyTorch).
    Nchw,
    /// Batch, row, column, channel (TensorFlow).
    Nhwc,
}

/// `features.kind = "window"`
#[derive(Clone, Debug, PartialEq)]
pub struct WindowFeatures {
    /// Graph input to fill.
    pub input: String,
    /// Channels in the model's order.
    pub channels: Vec<Channel>,
    /// Samples in a window.
    pub samples: usize,
    /// New samples between one window and the next; `samples` for windows that do not overlap.
    pub stride: usize,
    /// Order of axes in the tensor.
    pub layout: WindowLayout,
    /// What a pause does to a window that is half full.
    pub gap: Gap,
}

/// One channel of a window, or one column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Field in JSON, header in CSV.
    pub name: String,
    /// Unit, for people.
    pub unit: String,
    /// Stands in for a missing, null or blank value (the training data's median); `None`: refused.
    pub impute: Option<f64>,
    /// Subtracted before dividing.
    pub mean: f64,
    /// Divides.
    pub std: f64,
    /// Missing values reach the model as NaN (it imputes itself).
    pub allow_nan: bool,
    /// The texts that a frame may hold here, each standing for its place in this list; empty: numbers.
    pub words: Vec<String>,
    /// The graph input that this column of a table fills alone.
    pub input: Option<String>,
    /// That input takes integers: only whole numbers fit.
    pub whole: bool,
}

/// Order of a window tensor's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowLayout {
    /// Batch, channel, time.
    Nct,
    /// Batch, time, channel.
    Ntc,
    /// Time, batch, channel (recurrent networks).
    Tnc,
}

/// What a pause between two frames of one origin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Nothing: samples count, not seconds.
    Ignore,
    /// A pause longer than this empties the window and the recurrent state.
    Reset {
        /// Longest pause that still joins two frames.
        max: Duration,
    },
}

/// `features.kind = "table"`
#[derive(Clone, Debug, PartialEq)]
pub struct TableFeatures {
    /// Graph input to fill, `[batch, columns + derived]`, or another shape of as many elements; `None`:
    /// each column names its own.
    pub input: Option<String>,
    /// Columns as they come, in the model's order.
    pub columns: Vec<Channel>,
    /// Columns computed from others, behind them, in order.
    pub derived: Vec<Derived>,
    /// What a pause does to recurrent state.
    pub gap: Gap,
}

/// A column computed from two others (before they are scaled).
#[derive(Clone, Debug, PartialEq)]
pub struct Derived {
    /// Its own name, mean and std.
    pub channel: Channel,
    /// What is computed.
    pub op: DerivedOp,
    /// Indices into `columns`, then into earlier derived ones.
    pub of: [usize; 2],
}

/// How a derived column comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivedOp {
    /// First ÷ second; a zero divisor is refused as not finite.
    Ratio,
    /// First − second.
    Difference,
    /// First × second.
    Product,
}

/// `[[state]]`: zero at first, then what the last run gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Graph input.
    pub input: String,
    /// Graph output that becomes it.
    pub output: String,
}

/// `[output]`
#[derive(Clone, Debug)]
pub struct Output {
    /// Graph output with the scores.
    pub tensor: String,
    /// What they mean.
    pub kind: OutputKind,
    /// Decides between pass and fail; see each kind for what is compared.
    pub threshold: Option<f32>,
    /// Deciding scores inside `[low, high]` give `uncertain`.
    pub uncertain: Option<(f32, f32)>,
}

/// What scores mean. Detections and masks come as further variants.
#[derive(Clone, Debug)]
pub enum OutputKind {
    /// One label of several. The deciding score is the sum over labels that are not in `pass`;
    /// without a threshold the best label decides.
    Classification {
        /// In the order of the scores.
        labels: Vec<String>,
        /// Labels that are in order; empty: no verdict.
        pass: Vec<String>,
        /// Applied to the scores first.
        activation: Activation,
    },
    /// Any number of labels; `threshold` (default 0.5) decides each. Fails when a label fires that
    /// is not in `pass`.
    MultiLabel {
        /// In the order of the scores.
        labels: Vec<String>,
        /// Labels that do no harm when they fire.
        pass: Vec<String>,
        /// Applied to the scores first.
        activation: Activation,
        /// Own thresholds, in the order of `labels`; `None`: the common one.
        thresholds: Option<Vec<f32>>,
    },
    /// Named quantities; verdict by `range` of the first where given.
    Regression {
        /// Name, unit, and what to multiply and add to come from the model's numbers to the unit.
        targets: Vec<Target>,
        /// Passing range of the first target, in its unit.
        range: Option<(f64, f64)>,
    },
    /// How unusual; fails at or over `threshold`.
    Anomaly {
        /// Where the score comes from.
        by: AnomalyBy,
    },
}

/// `[[output.target]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Field in the prediction.
    pub name: String,
    /// Unit, published beside the value.
    pub unit: String,
    /// Multiplies the model's number.
    pub scale: f64,
    /// Added afterwards.
    pub offset: f64,
}

/// Where an anomaly score comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum AnomalyBy {
    /// The model gives it.
    Score,
    /// The model gives what it expects; the score is the distance to what came.
    Error {
        /// Names of the channels or columns that it expects, in the order of the scores; held against
        /// the newest row in its units. Empty or all of them, with `frames_ahead` 0 and as many scores
        /// as the input has elements: a reconstruction, held against the input as it is scaled.
        of: Vec<String>,
        /// 1 for a forecast: it is held against the next frame. 0: against this one.
        frames_ahead: usize,
        /// How distances of several values become one.
        distance: Distance,
        /// Divides the distance (the training residual's spread, say).
        scale: f64,
        /// Frames over which the score is averaged, exponentially: α = 2 ÷ (frames + 1). 1: not at all.
        smooth_frames: usize,
    },
}

/// Distance between what was expected and what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Mean of absolute differences.
    MeanAbsolute,
    /// Root of the mean of squares.
    RootMeanSquare,
    /// Largest absolute difference.
    Largest,
}

/// Applied to raw scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// They are probabilities already.
    None,
    /// exp, normalised over labels.
    Softmax,
    /// 1 ÷ (1 + e⁻ˣ), each on its own.
    Sigmoid,
}

/// `[golden]`: `golden/NAME/{input,output}-INDEX.npy`, in the graph's order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Golden {
    /// Largest accepted |ours − theirs| ÷ largest |theirs| of the tensor.
    pub tolerance: f32,
    /// Who stands behind the answers; `None` where the card does not say.
    pub verified: Option<VerifiedBy>,
}

/// Who stands behind a model's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifiedBy {
    /// Golden cases of the framework that trained it.
    Golden,
    /// Only the engine itself: two of its own ways to answer agree.
    Itself,
}

/// The free tables of a card: for people, `inspect` and model pages; nothing decides by them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CardNotes {
    /// `[provenance]`: where data and weights come from. Tables in it are named with dots.
    pub provenance: Vec<(String, Note)>,
    /// `[quality]`: what was measured.
    pub quality: Vec<(String, Note)>,
}

/// One entry of a free table.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is what it holds")]
pub enum Note {
    Text(String),
    Number(f64),
}
