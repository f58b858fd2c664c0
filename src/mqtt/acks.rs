//! Which frames may be acknowledged: settled ones, in the order in which they came.
//!
//! MQTT 3.1.1 §4.6 wants PUBACKs in receive order. A frame settled early waits here for those before
//! it. Packet ids belong to one connection: when it ends they are forgotten, and the broker sends
//! unacknowledged frames again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::flow::{Receipt, Settlement};

#[derive(Debug)]
struct Taken {
    pkid: u16,
    /// Answers that are not safe yet.
    open: usize,
}

#[derive(Debug, Default)]
struct Inner {
    epoch: u64,
    /// Sequence number of the first of `waiting`.
    first: u64,
    waiting: VecDeque<Taken>,
}

impl Inner {
    fn find(&mut self, receipt: Receipt) -> Option<&mut Taken> {
        if receipt.epoch != self.epoch {
            return None;
        }
        let index = receipt.sequence.checked_sub(self.first)?;
        self.waiting.get_mut(index as usize)
    }
}

/// Frames taken and not yet acknowledged.
pub struct Ledger {
    inner: Mutex<Inner>,
    /// Called when a frame at the front can be acknowledged.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Ledger {
    /// `wake` is called, from any thread, when [`Ledger::next_ack`] has something new.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { inner: Mutex::default(), wake: Box::new(wake) }
    }

    /// A frame with `pkid` came; it is settled when `answers` of its answers are safe. With no
    /// answers at all it may be acknowledged at once.
    pub fn taken(&self, pkid: u16, answers: usize) -> Receipt {
        let mut inner = self.lock();
        let sequence = inner.first + inner.waiting.len() as u64;
        inner.waiting.push_back(Taken { pkid, open: answers });
        Receipt { epoch: inner.epoch, sequence }
    }

    /// The packet id to acknowledge next, if the oldest unacknowledged frame is settled.
    pub fn next_ack(&self) -> Option<u16> {
        let mut inner = self.lock();
        let settled = inner.waiting.pop_front_if(|taken| taken.open == 0)?;
        inner.first += 1;
        Some(settled.pkid)
    }

    /// Frames taken and not yet acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The connection is gone, and with it the meaning of its packet ids.
    pub fn connection_lost(&self) {
        let mut inner = self.lock();
        inner.epoch += 1;
        inner.first += inner.waiting.len() as u64;
        inner.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settlement for Ledger {
    fn settled(&self, receipt: Receipt) {
        let mut inner = self.lock();
        let Some(taken) = inner.find(receipt) else { return };
        taken.open = taken.open.saturating_sub(1);
        let ready = inner.waiting.front().is_some_and(|front| front.open == 0);
        drop(inner);
        if ready {
            (self.wake)();
        }
    }

    fn expect_more(&self, receipt: Receipt, extra: usize) {
        if let Some(taken) = self.lock().find(receipt) {
            taken.open += extra;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_settled_out_of_order_are_acknowledged_in_order() {
        let ledger = Ledger::new(|| {});
        let receipts: Vec<_> = (1..=3).map(|pkid| ledger.taken(pkid, 1)).collect();
        ledger.settled(receipts[2]);
        ledger.settled(receipts[1]);
        assert_eq!(ledger.next_ack(), None);
        ledger.settled(receipts[0]);
        assert_eq!([ledger.next_ack(), ledger.next_ack(), ledger.next_ack()], [Some(1), Some(2), Some(3)]);
        assert_eq!(ledger.next_ack(), None);
    }

    #[test]
    fn a_frame_for_two_pipelines_waits_for_both() {
        let ledger = Ledger::new(|| {});
        let receipt = ledger.taken(1, 2);
        ledger.settled(receipt);
        assert_eq!(ledger.next_ack(), None);
        ledger.expect_more(receipt, 1);
        ledger.settled(receipt);
        assert_eq!(ledger.next_ack(), None);
        ledger.settled(receipt);
        assert_eq!(ledger.next_ack(), Some(1));
    }

    #[test]
    fn a_receipt_of_an_older_connection_acknowledges_nothing() {
        let ledger = Ledger::new(|| {});
        let old = ledger.taken(1, 1);
        ledger.connection_lost();
        let new = ledger.taken(1, 1);
        ledger.settled(old);
        assert_eq!(ledger.next_ack(), None);
        ledger.settled(new);
        assert_eq!(ledger.next_ack(), Some(1));
    }
}
