//! A recording that is being made: its file, and when it is on the disk.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ListenError;
use crate::base::{Micros, UnixMicros};
use crate::cli::{Exit, Failure};
use crate::listen::recording::Recorder;
use crate::stage::acquire::serial::tty::Tty;

/// What was recorded is on its way to the disk after so long.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// A recording that is being made.
pub(super) struct Tape {
    path: PathBuf,
    recorder: Recorder<BufWriter<File>>,
    flush_at: Micros,
}

impl Tape {
    /// A new file, with what is known of the line at its head.
    pub(super) fn create(path: &Path, tty: &Tty, line: &str, began: UnixMicros) -> Result<Self, Failure> {
        let failed = |source: io::Error| {
            let path = path.to_owned();
            let error = match source.kind() {
                ErrorKind::AlreadyExists => ListenError::RecordingExists(path),
                _ => ListenError::Record { path, source },
            };
            Failure::new(Exit::IoErr, error)
        };
        let file = File::create_new(path).map_err(failed)?;
        let port = tty.path.display().to_string();
        let notes = [("port", port.as_str()), ("line", line), ("began", &began.to_string())];
        let recorder = Recorder::begin(BufWriter::new(file), &notes).map_err(failed)?;
        Ok(Self { path: path.to_owned(), recorder, flush_at: Micros(0) })
    }

    fn failed(&self, source: io::Error) -> Failure {
        Failure::new(Exit::IoErr, ListenError::Record { path: self.path.clone(), source })
    }

    /// Bytes came.
    pub(super) fn portion(&mut self, at: Duration, bytes: &[u8]) -> Result<(), Failure> {
        self.recorder.portion(at, bytes).map_err(|error| self.failed(error))
    }

    /// Hands on what is buffered, now and then.
    pub(super) fn flush_if_due(&mut self, now: Micros) -> Result<(), Failure> {
        if now < self.flush_at {
            return Ok(());
        }
        self.flush_at = now + FLUSH_EVERY;
        self.flush()
    }

    /// Hands on what is buffered.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.recorder.flush().map_err(|error| self.failed(error))
    }
}
