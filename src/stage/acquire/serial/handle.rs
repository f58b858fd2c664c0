//! Wakes a port's thread, ends it, and takes what others want written to the port.
//!
//! Promise: waking never waits and never fills anything; what is to be written is bounded, and what
//! does not fit is handed back.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that may wait to be written: a second at 115 200 baud is 11 kB. More means that nobody
/// takes them.
const OUTGOING_BYTES: usize = 64 * 1024;

/// The side of other threads.
#[derive(Clone, Debug)]
pub struct PortHandle(Arc<Shared>);

/// The side of the port's thread: readable when somebody called.
#[derive(Debug)]
pub struct Bell {
    pipe: PipeReader,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pipe: PipeWriter,
    /// A byte is in the pipe: one is enough.
    rung: AtomicBool,
    stopping: AtomicBool,
    outgoing: Mutex<Outgoing>,
}

#[derive(Debug, Default)]
struct Outgoing {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// A pair of both sides.
pub fn pair() -> io::Result<(PortHandle, Bell)> {
    let (reader, writer) = io::pipe()?;
    let shared = Arc::new(Shared {
        pipe: writer,
        rung: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        outgoing: Mutex::default(),
    });
    Ok((PortHandle(shared.clone()), Bell { pipe: reader, shared }))
}

impl PortHandle {
    /// There is room again, or something to write.
    pub fn wake(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // One byte in an empty pipe: this cannot wait, and fails only when nobody listens.
            let _ = (&self.0.pipe).write(&[0]);
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.wake();
    }

    /// Queues bytes to be written to the port, as they are and in one piece. They come back when
    /// too many wait already: the port is away, or nobody takes them.
    pub fn send(&self, message: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut outgoing = self.0.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        if outgoing.bytes + message.len() > OUTGOING_BYTES {
            return Err(message);
        }
        outgoing.bytes += message.len();
        outgoing.messages.push_back(message);
        drop(outgoing);
        self.wake();
        Ok(())
    }
}

impl Bell {
    /// Whether the thread is to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// To be polled.
    pub(super) fn pipe(&self) -> &PipeReader {
        &self.pipe
    }

    /// The bell has been heard. Whoever calls from now on rings again.
    pub(super) fn heard(&mut self) {
        let mut byte = [0];
        // There is exactly one byte when the poll said that it can be read.
        let _ = self.pipe.read(&mut byte);
        self.shared.rung.store(false, Ordering::Release);
    }

    /// Appends what others want written.
    pub(super) fn outgoing(&self, out: &mut Vec<u8>) {
        let mut outgoing = self.shared.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        outgoing.bytes = 0;
        while let Some(message) = outgoing.messages.pop_front() {
            out.extend_from_slice(&message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_calls_leave_one_byte_and_calls_after_it_was_heard_leave_another() {
        let (handle, mut bell) = pair().unwrap();
        for _ in 0..100_000 {
            handle.wake();
        }
        bell.heard();
        handle.wake();
        bell.heard();
        assert!(!bell.is_stopping());
        handle.stop();
        assert!(bell.is_stopping());
    }

    #[test]
    fn what_is_to_be_written_is_bounded_and_handed_back() {
        let (handle, bell) = pair().unwrap();
        handle.send(b"one".to_vec()).unwrap();
        handle.send(b"two".to_vec()).unwrap();
        assert_eq!(handle.send(vec![0; OUTGOING_BYTES]).unwrap_err().len(), OUTGOING_BYTES);
        let mut out = Vec::new();
        bell.outgoing(&mut out);
        assert_eq!(out, b"onetwo");
        handle.send(vec![0; OUTGOING_BYTES]).unwrap();
    }
}
