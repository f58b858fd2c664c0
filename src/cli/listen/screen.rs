//! Frames on standard output, rates drawn live on standard error; neither tears the other.

use std::io::{self, ErrorKind, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where frames and rates are shown.
pub(super) struct Screen {
    /// On standard error, while a person looks at it.
    bar: Option<ProgressBar>,
    /// Frames go to a terminal as well, and must not be torn by the bar.
    shares: bool,
}

impl Screen {
    /// What there is to be written to.
    pub(super) fn choose(json: bool) -> Self {
        let shares = io::stdout().is_terminal();
        let bar = (!json && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{wide_msg}").expect("the template is a constant");
            bar.with_style(style)
        });
        Self { bar, shares }
    }

    /// Writes what stands in `text`; `false`: nobody reads it any more.
    pub(super) fn write(&self, text: &str) -> io::Result<bool> {
        let write = || {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        let written = match &self.bar {
            Some(bar) if self.shares => bar.suspend(write),
            _ => write(),
        };
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Draws the rates anew, where a person looks.
    pub(super) fn rates(&self, words: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(words());
            bar.tick();
        }
    }

    /// Takes the rates away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
