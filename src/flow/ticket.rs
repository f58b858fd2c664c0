//! A ticket: what a source gave with a frame so as to learn that the frame is settled.
//!
//! Promise: a ticket is settled at most once. One that is left or dropped unsettled (a stop) leaves the
//! frame with whoever holds it: an MQTT broker delivers it again. One that a panic drops is settled, and
//! whoever catches the panic counts the loss: the frame would come again only to do the same again, and
//! as frames are acknowledged in order, all behind it would wait for ever.

use std::fmt;
use std::sync::Arc;

/// Names a frame to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// As in the frame's identity: equal when it is delivered again.
    pub delivery: u64,
}

/// A source that wants to know what became of its frames.
pub trait Settlement: Send + Sync {
    /// One of the frame's answers is safe.
    fn settled(&self, receipt: Receipt);
    /// The frame has `extra` more answers than were expected: it is settled with the last one.
    fn expect_more(&self, receipt: Receipt, extra: usize);
    /// The frame will not be answered by this process: it stays with its source.
    fn left(&self, receipt: Receipt) {
        let _ = receipt;
    }
}

/// The right to settle one frame. Sources that cannot be told (QoS 0) give an empty one.
pub struct Ticket(Option<(Arc<dyn Settlement>, Receipt)>);

impl Ticket {
    /// A ticket of `source`.
    pub fn new(source: Arc<dyn Settlement>, receipt: Receipt) -> Self {
        Self(Some((source, receipt)))
    }

    /// Nobody waits for it.
    pub fn none() -> Self {
        Self(None)
    }

    /// The frame's answer is safe: its source may forget the frame.
    pub fn settle(mut self) {
        if let Some((source, receipt)) = self.0.take() {
            source.settled(receipt);
        }
    }

    /// The frame stays with its source; so does one whose ticket is dropped.
    pub fn leave(self) {}

    /// One ticket for each of a frame's `answers`; the frame is settled with the last of them.
    pub fn split(mut self, answers: usize) -> Vec<Ticket> {
        match self.0.take() {
            None => (0..answers).map(|_| Ticket(None)).collect(),
            Some((source, receipt)) => {
                if answers > 1 {
                    source.expect_more(receipt, answers - 1);
                }
                (0..answers).map(|_| Ticket(Some((source.clone(), receipt)))).collect()
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((source, receipt)) = self.0.take() {
            if std::thread::panicking() {
                source.settled(receipt);
            } else {
                source.left(receipt);
            }
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.0.as_ref().map(|(_, receipt)| receipt)).finish()
    }
}
