//! Which frames may be acknowledged: settled ones, in the order in which they came.
//!
//! MQTT 3.1.1 §4.6 wants PUBACKs in receive order. A frame settled early waits here for those before
//! it. Packet ids belong to one connection: when it ends they are forgotten, and the broker sends
//! unacknowledged frames again. What is known of a frame outlives the connection: one that comes again
//! while it is being answered is not answered twice, and one that was settled meanwhile is acknowledged
//! at once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::flow::fail::{self, Point};
use crate::flow::{Receipt, Settlement};

#[derive(Debug)]
struct Taken {
    pkid: u16,
    frame: Receipt,
}

#[derive(Debug, Default)]
struct Inner {
    /// Received on this connection and not acknowledged, in receive order.
    waiting: VecDeque<Taken>,
    /// Frames with answers that are not safe yet, and how many. As many as lanes, workers and outbox
    /// hold.
    open: HashMap<Receipt, usize>,
    /// Frames that this process has given up; they are never acknowledged, and taken anew when they
    /// come again. Few: they come from a stop, or from a mistake of ours.
    left: HashSet<Receipt>,
}

impl Inner {
    fn is_settled(&self, frame: Receipt) -> bool {
        !self.open.contains_key(&frame) && !self.left.contains(&frame)
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

    /// A frame came with `pkid`, as delivery `delivery`; it is settled when `answers` of its answers are
    /// safe, beside those of it that are under way. With no answers at all it may be acknowledged at once.
    pub fn taken(&self, pkid: u16, delivery: u64, answers: usize) -> Receipt {
        let mut inner = self.lock();
        let frame = Receipt { delivery };
        inner.left.remove(&frame);
        if answers > 0 {
            *inner.open.entry(frame).or_default() += answers;
        }
        inner.waiting.push_back(Taken { pkid, frame });
        frame
    }

    /// A frame that this ledger has seen as `delivery` came again, with `pkid`. Whether that is all
    /// there is to do: it is settled already, or will be by the answers under way. `false`: it was
    /// given up; take it anew.
    pub fn taken_again(&self, pkid: u16, delivery: u64) -> bool {
        let mut inner = self.lock();
        let frame = Receipt { delivery };
        if inner.left.contains(&frame) {
            return false;
        }
        // Sent twice on one connection it is acknowledged once: after the first PUBACK the packet id may be
        // another frame's.
        if !inner.waiting.iter().any(|taken| taken.pkid == pkid && taken.frame == frame) {
            inner.waiting.push_back(Taken { pkid, frame });
        }
        true
    }

    /// The packet id to acknowledge next, if the oldest unacknowledged frame is settled.
    pub fn next_ack(&self) -> Option<u16> {
        let mut inner = self.lock();
        let front = inner.waiting.front()?.frame;
        if !inner.is_settled(front) {
            return None;
        }
        inner.waiting.pop_front().map(|taken| taken.pkid)
    }

    /// Frames taken and not yet acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The connection is gone, and with it the meaning of its packet ids.
    pub fn connection_lost(&self) {
        self.lock().waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settlement for Ledger {
    fn settled(&self, receipt: Receipt) {
        let mut inner = self.lock();
        let Some(answers) = inner.open.get_mut(&receipt) else { return };
        *answers -= 1;
        if *answers > 0 {
            return;
        }
        inner.open.remove(&receipt);
        let ready = inner.waiting.front().is_some_and(|front| inner.is_settled(front.frame));
        drop(inner);
        fail::pass(Point::FrameSettled);
        if ready {
            (self.wake)();
        }
    }

    fn expect_more(&self, receipt: Receipt, extra: usize) {
        if let Some(answers) = self.lock().open.get_mut(&receipt) {
            *answers += extra;
        }
    }

    fn left(&self, receipt: Receipt) {
        let mut inner = self.lock();
        if inner.open.remove(&receipt).is_some() {
            inner.left.insert(receipt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_settled_out_of_order_are_acknowledged_in_order() {
        let ledger = Ledger::new(|| {});
        let receipts: Vec<_> = (1..=3).map(|pkid| ledger.taken(pkid, pkid.into(), 1)).collect();
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
        let receipt = ledger.taken(1, 10, 2);
        ledger.settled(receipt);
        assert_eq!(ledger.next_ack(), None);
        ledger.expect_more(receipt, 1);
        ledger.settled(receipt);
        assert_eq!(ledger.next_ack(), None);
        ledger.settled(receipt);
        assert_eq!(ledger.next_ack(), Some(1));
    }

    #[test]
    fn a_packet_id_of_an_older_connection_is_not_acknowledged() {
        let ledger = Ledger::new(|| {});
        let old = ledger.taken(1, 10, 1);
        ledger.connection_lost();
        let new = ledger.taken(1, 11, 1);
        ledger.settled(old);
        assert_eq!(ledger.next_ack(), None);
        ledger.settled(new);
        assert_eq!(ledger.next_ack(), Some(1));
        assert_eq!(ledger.next_ack(), None);
    }

    #[test]
    fn a_frame_that_comes_again_is_acknowledged_by_the_answer_under_way_or_at_once() {
        let ledger = Ledger::new(|| {});
        let receipt = ledger.taken(7, 10, 1);
        ledger.connection_lost();
        assert!(ledger.taken_again(7, 10));
        assert_eq!(ledger.next_ack(), None, "its answer is not safe yet");
        ledger.settled(receipt);
        assert_eq!(ledger.next_ack(), Some(7));
        ledger.connection_lost();
        assert!(ledger.taken_again(9, 10));
        assert_eq!(ledger.next_ack(), Some(9), "answered before");
    }

    #[test]
    fn a_frame_that_is_sent_twice_on_one_connection_is_acknowledged_once() {
        let ledger = Ledger::new(|| {});
        let twice = ledger.taken(5, 10, 1);
        let between = ledger.taken(6, 11, 1);
        assert!(ledger.taken_again(5, 10));
        ledger.settled(twice);
        assert_eq!(ledger.next_ack(), Some(5));
        // The broker gives the packet id out again.
        ledger.taken(5, 12, 1);
        ledger.settled(between);
        assert_eq!([ledger.next_ack(), ledger.next_ack()], [Some(6), None], "its answer is not safe yet");
    }

    #[test]
    fn a_frame_that_is_answered_again_waits_for_all_its_answers() {
        let ledger = Ledger::new(|| {});
        let receipt = ledger.taken(1, 10, 1);
        ledger.taken(2, 10, 2);
        ledger.settled(receipt);
        ledger.settled(receipt);
        assert_eq!(ledger.next_ack(), None);
        ledger.settled(receipt);
        assert_eq!([ledger.next_ack(), ledger.next_ack()], [Some(1), Some(2)]);
    }

    #[test]
    fn a_frame_over_which_a_worker_panics_holds_up_nobody() {
        let ledger = std::sync::Arc::new(Ledger::new(|| {}));
        let first = crate::flow::Ticket::new(ledger.clone(), ledger.taken(1, 10, 1));
        let second = ledger.taken(2, 11, 1);
        let worker = std::thread::spawn(move || {
            let _first = first;
            panic!("a mistake of ours, on purpose");
        });
        assert!(worker.join().is_err());
        ledger.settled(second);
        assert_eq!([ledger.next_ack(), ledger.next_ack()], [Some(1), Some(2)]);
    }

    #[test]
    fn a_frame_that_was_left_is_never_acknowledged_and_is_taken_anew() {
        let ledger = Ledger::new(|| {});
        let receipt = ledger.taken(7, 10, 2);
        ledger.left(receipt);
        ledger.settled(receipt);
        assert_eq!(ledger.next_ack(), None);
        ledger.connection_lost();
        assert!(!ledger.taken_again(7, 10));
        let again = ledger.taken(7, 10, 1);
        ledger.settled(again);
        assert_eq!(ledger.next_ack(), Some(7));
    }
}
