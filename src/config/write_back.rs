//! `[pipeline.write_back]` as meant: which port hears the verdict, and as what.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::serial::Line;
use crate::base::Verdict;

/// `[pipeline.write_back]`
#[derive(Clone, Debug, PartialEq)]
pub struct WriteBack {
    /// Path or pattern of the port.
    pub port: String,
    /// How bits stand on the wire; `None`: as the source that reads the same port says.
    pub line: Option<Line>,
    /// What is written.
    pub form: Form,
    /// Bytes of text that a frame of the port's codec carries; `None`: no frame is written.
    pub frame_bytes: Option<RangeInclusive<usize>>,
    /// A verdict that is not on the wire by then is dropped.
    pub expires_after: Duration,
}

/// What a verdict is written as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text and a line feed.
    Line(Vec<Piece>),
    /// Text as a frame of the port's own codec.
    Frame(Vec<Piece>),
    /// A coil that is on for these outcomes, and off for all others.
    #[expect(missing_docs, reason = "said above")]
    Coil { unit: u8, address: u16, on: Vec<Outcome> },
    /// A holding register, and its value for each outcome in the order of [`Outcome::ALL`].
    #[expect(missing_docs, reason = "said above")]
    Register { unit: u8, address: u16, values: [u16; Outcome::ALL.len()] },
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These characters.
    Words(String),
    /// `{verdict}`: `pass`, `fail`, `uncertain`, `none`, or `error`.
    Verdict,
    /// `{label}`: the winning label, or the reason of an error.
    Label,
    /// `{score}`: its score, the anomaly's, or the first value.
    Score,
    /// `{id}`: of the prediction.
    Id,
    /// `{frame_id}`: what the frame called itself.
    FrameId,
    /// `{pipeline}`
    Pipeline,
}

impl Piece {
    /// Names that may stand in braces.
    pub const NAMES: [&str; 6] = ["verdict", "label", "score", "id", "frame_id", "pipeline"];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "verdict" => Self::Verdict,
            "label" => Self::Label,
            "score" => Self::Score,
            "id" => Self::Id,
            "frame_id" => Self::FrameId,
            "pipeline" => Self::Pipeline,
            _ => return None,
        })
    }

    /// Bytes that it becomes, at least and at most; `None`: anyone's, as labels and ids are.
    pub fn bytes(&self, pipeline: &str) -> (usize, Option<usize>) {
        let exactly = |bytes| (bytes, Some(bytes));
        match self {
            Self::Words(words) => exactly(words.len()),
            Self::Verdict => {
                let words = Outcome::ALL.map(|outcome| outcome.as_str().len());
                (words.into_iter().min().unwrap_or(0), words.into_iter().max())
            }
            Self::Label | Self::Score | Self::FrameId => (0, None),
            // 128 bits in hexadecimal.
            Self::Id => exactly(32),
            Self::Pipeline => exactly(pipeline.len()),
        }
    }

    /// The pieces of a text; `Err`: what is wrong with it.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            if at > 0 {
                pieces.push(Self::Words(rest[..at].into()));
            }
            let inside = rest[at..].strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let Some((name, after)) = inside else {
                return Err("has a brace that belongs to no other".into());
            };
            let known = Self::NAMES.map(|name| format!("{{{name}}}")).join(", ");
            pieces.push(Self::named(name).ok_or(format!("has {{{name}}}; known are {known}"))?);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Self::Words(rest.into()));
        }
        Ok(pieces)
    }
}

/// What became of a frame, as far as a machine acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// [`Verdict::Pass`]
    Pass,
    /// [`Verdict::Fail`]
    Fail,
    /// [`Verdict::Uncertain`]
    Uncertain,
    /// [`Verdict::None`]
    None,
    /// There is no prediction.
    Error,
}

impl Outcome {
    /// Every one, in the order of the words.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Fail, Self::Uncertain, Self::None, Self::Error];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Uncertain => "uncertain",
            Self::None => "none",
            Self::Error => "error",
        }
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Fail => Self::Fail,
            Verdict::Uncertain => Self::Uncertain,
            Verdict::None => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_falls_into_words_and_names() {
        let words = |text: &str| Piece::Words(text.into());
        assert_eq!(Piece::parse("plain"), Ok(vec![words("plain")]));
        assert_eq!(Piece::parse(""), Ok(Vec::new()));
        assert_eq!(
            Piece::parse("V={verdict};{label}\t{score}"),
            Ok(vec![words("V="), Piece::Verdict, words(";"), Piece::Label, words("\t"), Piece::Score])
        );
        for name in Piece::NAMES {
            assert_eq!(Piece::parse(&format!("{{{name}}}")).unwrap().len(), 1);
        }
        for wrong in ["{", "}", "{verdict", "verdict}", "{ verdict }", "{colour}", "{{verdict}}"] {
            assert!(Piece::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Piece::parse("{colour}").unwrap_err().starts_with("has {colour}; known are {verdict}, "));
    }
}
