//! Why a payload is not content: one enum, written to whoever sends the frames.
//!
//! Every error costs its own frame and nothing else. Each maps to one [`Reason`].

use crate::base::Reason;

/// Why a payload could not be decoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("the payload is empty")]
    Empty,
    /// The bytes are not what `format` says.
    #[error("not usable as {format}: {what}")]
    Malformed {
        /// What the bytes were taken for.
        format: &'static str,
        /// What is wrong, where, and what was expected.
        what: String,
    },
    /// Refused from its header alone.
    #[error(
        "the picture is {width}x{height}, more than max_pixels = {max_pixels}; send a smaller one or raise max_pixels"
    )]
    ImageTooLarge {
        /// Pixels across.
        width: u64,
        /// Pixels down.
        height: u64,
        /// The limit.
        max_pixels: u64,
    },
    /// Colours that have no faithful grey or RGB form.
    #[error("the picture has {seen}; send grey or RGB without transparency")]
    WrongChannels {
        /// What it has instead.
        seen: &'static str,
    },
    /// A count that does not fit the card's columns.
    #[error("{what}; the card has {columns} columns: {names}")]
    WrongLength {
        /// Place and count seen.
        what: String,
        /// Columns of the card.
        columns: usize,
        /// Their names, shortened.
        names: String,
    },
    /// Binary payload that is no whole number of rows.
    #[error("{seen} bytes are no whole number of rows: {columns} columns of {size} bytes make {row} bytes a row",
            row = columns * size)]
    WrongBytes {
        /// Bytes that came.
        seen: usize,
        /// Columns of the card.
        columns: usize,
        /// Bytes a number.
        size: usize,
    },
    /// A field that neither the card nor the config names.
    #[error("field `{field}` is not known to the card{}; rename it, or set unknown_fields = \"ignore\"",
            missing.as_ref().map(|name| format!(", and its `{name}` is missing: renamed?")).unwrap_or_default())]
    UnknownField {
        /// The field.
        field: String,
        /// The missing feature that resembles it most.
        missing: Option<String>,
    },
    /// A packet of a schema that the card does not name.
    #[error(
        "schema {schema} is not known to the card ({known}); add a [[packet]] to model.toml, or take other sensors (`sensors`)"
    )]
    UnknownSchema {
        /// In the packet's header.
        schema: u16,
        /// What the card knows, in words.
        known: String,
    },
    /// A feature without a value, and the card has nothing to put in its place.
    #[error("feature `{feature}` is {how}{}; send it, or give the card an `impute` for it",
            row.map(|row| format!(" in row {row}")).unwrap_or_default())]
    MissingFeature {
        /// The feature.
        feature: String,
        /// `missing`, `null`, `blank` or `NaN`.
        how: &'static str,
        /// 1-based, where the payload has several rows.
        row: Option<usize>,
    },
}

impl DecodeError {
    /// What the frame is counted under.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Empty => Reason::EmptyPayload,
            Self::Malformed { .. } => Reason::Malformed,
            Self::ImageTooLarge { .. } => Reason::ImageTooLarge,
            Self::WrongChannels { .. } => Reason::WrongChannels,
            Self::WrongLength { .. } | Self::WrongBytes { .. } => Reason::WrongLength,
            Self::UnknownField { .. } => Reason::UnknownFeature,
            Self::UnknownSchema { .. } => Reason::UnknownSchema,
            Self::MissingFeature { .. } => Reason::MissingFeature,
        }
    }
}

/// At most the first 40 characters of `text`, so that a message stays a line.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
