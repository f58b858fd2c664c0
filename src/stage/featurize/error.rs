//! Why content is not features: at boot the card, later a frame.

use crate::base::Reason;

/// The card contradicts itself, or asks for what nobody can fill. Found at boot.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FeaturizeSetupError {
    /// The graph's input and the features do not have the same shape.
    #[error("input `{input}` has the shape {seen:?}, but the features give {given:?} ({how})")]
    Shape {
        /// Graph input.
        input: String,
        /// Its shape.
        seen: Vec<usize>,
        /// What the features make.
        given: Vec<usize>,
        /// Where that comes from, in words.
        how: String,
    },
    /// The graph's input has an element type that these features cannot become.
    #[error("input `{input}` takes {seen}; {remedy}")]
    DataType {
        /// Graph input.
        input: String,
        /// Its element type.
        seen: &'static str,
        /// What would do.
        remedy: &'static str,
    },
    /// Another value of the card is out of range.
    #[error("{what}")]
    Card {
        /// Key, value seen, rule.
        what: String,
    },
}

/// Why a frame's content gives no features. Windows and states stay as they were before it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FeaturizeError {
    /// A picture where rows belong, or the other way round: `compatible` asks this at boot.
    #[error("the frame holds {seen}; the model decides on {expected}")]
    WrongContent {
        /// What came.
        seen: &'static str,
        /// What the card wants.
        expected: &'static str,
    },
    /// `fit = "exact"` and a picture of another size.
    #[error("the picture is {seen_width}x{seen_height}; fit = \"exact\" wants {width}x{height}")]
    WrongSize {
        /// Pixels across that came.
        seen_width: usize,
        /// Pixels down that came.
        seen_height: usize,
        /// Pixels across that the card wants.
        width: usize,
        /// Pixels down that the card wants.
        height: usize,
    },
    /// A picture whose bytes do not fit its sides, or without any.
    #[error(
        "a picture of {width}x{height} with {channels} channels in {bytes} bytes; 1 or 3 channels and all pixels were expected"
    )]
    BadPicture {
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
        /// Channels.
        channels: usize,
        /// Bytes.
        bytes: usize,
    },
    /// Rows of another width than the card's, or none.
    #[error("{values} values in rows of {seen}; the card has {expected} columns")]
    WrongColumns {
        /// Numbers that came.
        values: usize,
        /// Numbers in a row.
        seen: usize,
        /// Columns of the card.
        expected: usize,
    },
    /// One frame would fill more model inputs than memory should hold at once.
    #[error(
        "{rows} rows in one frame make {count} model inputs of {bytes} bytes each; send at most {limit} a frame"
    )]
    TooMany {
        /// Rows that came.
        rows: usize,
        /// Inputs that they would fill.
        count: usize,
        /// Bytes of one.
        bytes: usize,
        /// Inputs that one frame may fill.
        limit: usize,
    },
    /// A value is missing and the card neither imputes it nor lets the model do so.
    #[error("feature `{feature}` is missing in row {row}; send it, or give the card an `impute` for it")]
    Missing {
        /// Column, channel or derived column.
        feature: String,
        /// 1-based.
        row: usize,
    },
    /// The graph input that this column fills takes integers.
    #[error("feature `{feature}` is {value} in row {row}; its input takes integers")]
    NotWhole {
        /// Column.
        feature: String,
        /// As it came.
        value: f64,
        /// 1-based.
        row: usize,
    },
    /// A value is infinite, or becomes so on its way.
    #[error("feature `{feature}` is {value} in row {row}{how}; a finite number was expected")]
    NotFinite {
        /// Column, channel or derived column.
        feature: String,
        /// What it is.
        value: f64,
        /// 1-based.
        row: usize,
        /// How it came about, where it did not come so.
        how: &'static str,
    },
}

impl FeaturizeError {
    /// What the frame is counted under.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::WrongContent { .. } | Self::NotWhole { .. } => Reason::Malformed,
            Self::BadPicture { .. } => Reason::WrongChannels,
            Self::WrongSize { .. } | Self::WrongColumns { .. } | Self::TooMany { .. } => Reason::WrongLength,
            Self::Missing { .. } => Reason::MissingFeature,
            Self::NotFinite { .. } => Reason::NotFinite,
        }
    }
}
