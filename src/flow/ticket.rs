//! A ticket: what a source gave with a frame so as to learn that the frame is settled.
//!
//! Promise: a ticket is settled at most once. One that is dropped unsettled (a crash, a stop) leaves
//! the frame with whoever holds it: an MQTT broker delivers it again.

use std::fmt;
use std::sync::Arc;

/// Names a frame to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The connection that it came on.
    pub epoch: u64,
    /// Its place in that connection's order.
    pub sequence: u64,
}

/// A source that wants to know what became of its frames.
pub trait Settlement: Send + Sync {
    /// One of the frame's answers is safe.
    fn settled(&self, receipt: Receipt);
    /// The frame has `extra` more answers than were expected: it is settled with the last one.
    fn expect_more(&self, receipt: Receipt, extra: usize);
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
    pub fn settle(self) {
        if let Some((source, receipt)) = self.0 {
            source.settled(receipt);
        }
    }

    /// One ticket for each of a frame's `answers`; the frame is settled with the last of them.
    pub fn split(self, answers: usize) -> Vec<Ticket> {
        match self.0 {
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

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.0.as_ref().map(|(_, receipt)| receipt)).finish()
    }
}
