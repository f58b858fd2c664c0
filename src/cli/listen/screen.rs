//! Frames on standard output, rates drawn live on standard error; neither tears the other.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::cli::live::Live;

/// Where frames and rates are shown.
pub(super) struct Screen {
    /// On standard error, while a person looks at it.
    rates: RefCell<Live>,
    /// Frames go to a terminal as well, and must not be torn by the rates.
    shares: bool,
}

impl Screen {
    /// What there is to be written to.
    pub(super) fn choose(json: bool) -> Self {
        let rates = if json { Live::hidden(true) } else { Live::stderr() };
        Self { rates: RefCell::new(rates), shares: io::stdout().is_terminal() }
    }

    /// Writes what stands in `text`; `false`: nobody reads it any more.
    pub(super) fn write(&self, text: &str) -> io::Result<bool> {
        let write = || {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        let written = if self.shares { self.rates.borrow_mut().aside(write) } else { write() };
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Draws the rates anew, where a person looks.
    pub(super) fn rates(&self, words: impl FnOnce() -> String) {
        self.rates.borrow_mut().draw(|| vec![words()]);
    }

    /// Takes the rates away.
    pub(super) fn clear(&self) {
        self.rates.borrow_mut().clear();
    }
}
