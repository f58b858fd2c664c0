//! Colour for terminals, as text: whether to use it is the caller's choice.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

/// Whether lines carry ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Yes.
    Colour,
    /// No.
    Plain,
}

impl Paint {
    /// `text` in the colour that `code` names (ECMA-48, SGR).
    pub fn with(self, code: &str, text: &str) -> String {
        match self {
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }

    /// What leads.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What may be overlooked.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// What is wrong.
    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    /// What is well.
    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What is doubtful.
    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }
}
