//! The book: what was published and what came back, written as it happens for the judge to read.
//!
//! Kept in memory as one byte a frame, so that a storm knows when it may end.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

const NAMED: u8 = 1;
const ACCEPTED: u8 = 2;
const HANDED: u8 = 4;
const ANSWERED: u8 = 8;
/// Sent while the broker may forget: owed once it was handed over.
const OWED_WHEN_HANDED: u8 = 16;

struct Inner {
    file: BufWriter<File>,
    /// By frame number.
    frames: Vec<u8>,
    answers: usize,
    dropped: u64,
    forgetful: bool,
    /// The judge reads: what comes now comes too late.
    closed: bool,
}

/// An open book.
pub(crate) struct Book {
    inner: Mutex<Inner>,
    path: PathBuf,
}

impl Book {
    /// An empty one.
    pub(crate) fn create(path: &Path) -> Self {
        let file = BufWriter::new(File::create(path).expect("the storm's folder is writable"));
        let inner =
            Inner { file, frames: Vec::new(), answers: 0, dropped: 0, forgetful: false, closed: false };
        Self { inner: Mutex::new(inner), path: path.into() }
    }

    /// The next frame's number; it is about to be sent. `named` decides whether it carries its id.
    pub(crate) fn sending(&self, named: impl Fn(u64) -> bool) -> (u64, bool) {
        let mut inner = self.lock();
        let frame = inner.frames.len() as u64;
        let named = named(frame);
        let mut flags = if named { NAMED } else { 0 };
        if inner.forgetful {
            flags |= OWED_WHEN_HANDED;
        }
        inner.frames.push(flags);
        inner.write(&json!({"event": "sent", "frame": frame, "named": named}));
        (frame, named)
    }

    /// The broker has acknowledged it to its sender.
    pub(crate) fn accepted(&self, frame: u64) {
        self.lock().mark(frame, ACCEPTED, "accepted");
    }

    /// Its bytes are in the daemon's socket.
    pub(crate) fn handed(&self, frame: u64) {
        self.lock().mark(frame, HANDED, "handed");
    }

    /// From here on the broker may forget what it accepted.
    pub(crate) fn forgetful(&self) {
        let mut inner = self.lock();
        inner.forgetful = true;
        inner.write(&json!({"event": "forgetful"}));
    }

    /// So many frames were dropped by a choice in the config, as the daemon has counted them: not owed.
    pub(crate) fn drop_by_choice(&self, count: u64) {
        let mut inner = self.lock();
        inner.dropped += count;
        inner.write(&json!({"event": "dropped", "count": count}));
    }

    /// Frames that were dropped by choice.
    pub(crate) fn dropped(&self) -> usize {
        self.lock().dropped as usize
    }

    /// A prediction came back.
    pub(crate) fn answer(&self, prediction: &Value) {
        let value = prediction["values"]["y"]["value"].as_f64().unwrap_or(f64::NAN);
        // The value names the frame where the frame does not carry its number.
        let frame = match prediction["source"]["frame_id"].as_str() {
            Some(id) => id.parse().unwrap_or(u64::MAX),
            None => ((value - 0.5) / 2.0).round() as u64,
        };
        let mut inner = self.lock();
        inner.answers += 1;
        if let Some(flags) = usize::try_from(frame).ok().and_then(|frame| inner.frames.get_mut(frame)) {
            *flags |= ANSWERED;
        }
        inner.write(&json!({
            "event": "answer", "frame": frame, "id": prediction["id"], "value": value, "resent": prediction["resent"],
        }));
    }

    /// The daemon refused a frame.
    pub(crate) fn error(&self, text: &str) {
        self.lock().write(&json!({"event": "error", "text": text}));
    }

    /// Frames sent so far; the next one has this number.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().frames.len() as u64
    }

    /// Answers so far, repeated ones included.
    pub(crate) fn answers(&self) -> usize {
        self.lock().answers
    }

    /// Whether a frame with this number or a later one has been answered.
    pub(crate) fn is_answered_since(&self, frame: u64) -> bool {
        self.lock().frames[frame as usize..].iter().any(|flags| flags & ANSWERED != 0)
    }

    /// Frames that are owed an answer and have none yet.
    pub(crate) fn open(&self) -> usize {
        let owed = |flags: u8| flags & if flags & OWED_WHEN_HANDED != 0 { HANDED } else { ACCEPTED } != 0;
        self.lock().frames.iter().filter(|&&flags| owed(flags) && flags & ANSWERED == 0).count()
    }

    /// Everything is on disk; its place.
    pub(crate) fn close(&self) -> &Path {
        let mut inner = self.lock();
        inner.closed = true;
        inner.file.flush().expect("the storm's folder is writable");
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, line: &Value) {
        if self.closed {
            return;
        }
        writeln!(self.file, "{line}").expect("the storm's folder is writable");
    }

    fn mark(&mut self, frame: u64, flag: u8, event: &str) {
        let Some(flags) = self.frames.get_mut(frame as usize) else { return };
        if *flags & flag == 0 {
            *flags |= flag;
            self.write(&json!({"event": event, "frame": frame}));
        }
    }
}
