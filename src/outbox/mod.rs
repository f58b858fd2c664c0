//! The outbox: predictions on their way out, owned here until the broker has acknowledged them.
//!
//! Promise: an entry leaves by [`Outbox::settle`] or by the bound, never because a connection is
//! gone. Bounded in bytes; a full one drops its oldest or makes workers wait, as configured. The
//! MQTT client is a pipe that may break: what it had not delivered is handed out again, in order.
//! Not here: the protocol (`mqtt`), what an entry says (`stage::publish`). Entries live in memory;
//! frames stay with their broker until their entry is settled, so a crash loses neither.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::base::Micros;
use crate::config::{self, OutboxWhenFull, Qos};
use crate::flow::Ticket;

/// One message on its way out.
#[derive(Debug)]
pub struct Entry {
    /// Index of its pipeline, for counters.
    pub pipeline: usize,
    /// Where it goes.
    pub topic: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// How it goes.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// A prediction, or a report that there is none.
    pub kind: Kind,
    /// Settled together with the entry.
    pub ticket: Ticket,
    /// When it was handed in.
    pub queued_at: Micros,
}

/// What an entry is to the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer.
    Prediction,
    /// A frame without an answer.
    Error,
}

/// Names an entry that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

/// An entry to send now; it stays in the outbox until its token is settled.
#[derive(Debug)]
pub struct Outgoing {
    /// Hand this back when the broker has acknowledged it.
    pub token: Token,
    /// Index of its pipeline, for counters.
    pub pipeline: usize,
    /// Where it goes.
    pub topic: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// How it goes.
    pub qos: Qos,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// It was sent before, on a connection that broke.
    pub again: bool,
}

struct Slot {
    token: Token,
    entry: Entry,
    sent: Sent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Never,
    UnderWay,
    /// The connection broke before an acknowledgement came.
    Unsure,
}

#[derive(Default)]
struct Inner {
    /// In the order of their tokens.
    slots: VecDeque<Slot>,
    bytes: u64,
    under_way: usize,
    next_token: u64,
    closed: bool,
}

impl Inner {
    fn index_of(&self, token: Token) -> Option<usize> {
        self.slots.binary_search_by_key(&token.0, |slot| slot.token.0).ok()
    }

    fn remove(&mut self, index: usize) -> Option<Entry> {
        let slot = self.slots.remove(index)?;
        self.bytes -= size(&slot.entry);
        self.under_way -= usize::from(slot.sent == Sent::UnderWay);
        Some(slot.entry)
    }
}

/// Bytes that an entry counts for: its text and its own book-keeping.
fn size(entry: &Entry) -> u64 {
    (entry.topic.len() + entry.payload.len() + size_of::<Slot>()) as u64
}

/// The queue; shared by workers and the publishing connection.
pub struct Outbox {
    inner: Mutex<Inner>,
    space: Condvar,
    max_bytes: u64,
    when_full: OutboxWhenFull,
}

impl Outbox {
    /// An empty outbox with the limits of `[outbox]`.
    pub fn new(config: &config::Outbox) -> Self {
        Self {
            inner: Mutex::default(),
            space: Condvar::new(),
            max_bytes: config.max_bytes.get(),
            when_full: config.when_full,
        }
    }

    /// Takes an entry in. Full and `block`: waits for room. Full and `drop_oldest`: hands back
    /// those that had to go, to be counted and settled. The outbox closed while waiting: hands
    /// the entry itself back.
    pub fn append(&self, entry: Entry) -> Vec<Entry> {
        let mut dropped = Vec::new();
        let mut inner = self.lock();
        while inner.bytes + size(&entry) > self.max_bytes && !inner.slots.is_empty() {
            // What is under way may have arrived already: it is not ours to drop.
            let oldest = inner.slots.iter().position(|slot| slot.sent != Sent::UnderWay);
            match (self.when_full, oldest) {
                (OutboxWhenFull::DropOldest, Some(index)) => dropped.extend(inner.remove(index)),
                _ if inner.closed => {
                    dropped.push(entry);
                    return dropped;
                }
                _ => inner = self.space.wait(inner).unwrap_or_else(PoisonError::into_inner),
            }
        }
        let token = Token(inner.next_token);
        inner.next_token += 1;
        inner.bytes += size(&entry);
        inner.slots.push_back(Slot { token, entry, sent: Sent::Never });
        dropped
    }

    /// The oldest entry that is not under way; from now on it is.
    pub fn take(&self) -> Option<Outgoing> {
        let mut inner = self.lock();
        if inner.under_way == inner.slots.len() {
            return None;
        }
        let slot = inner.slots.iter_mut().find(|slot| slot.sent != Sent::UnderWay)?;
        let again = slot.sent == Sent::Unsure;
        slot.sent = Sent::UnderWay;
        let outgoing = Outgoing {
            token: slot.token,
            pipeline: slot.entry.pipeline,
            topic: slot.entry.topic.clone(),
            payload: slot.entry.payload.clone(),
            qos: slot.entry.qos,
            retain: slot.entry.retain,
            again,
        };
        inner.under_way += 1;
        Some(outgoing)
    }

    /// The broker has it: the entry leaves, for its ticket to be settled and counted.
    pub fn settle(&self, token: Token) -> Option<Entry> {
        let mut inner = self.lock();
        let index = inner.index_of(token)?;
        let entry = inner.remove(index);
        drop(inner);
        self.space.notify_all();
        entry
    }

    /// The connection is gone: whatever was under way is handed out again, in order.
    pub fn connection_lost(&self) {
        let mut inner = self.lock();
        for slot in inner.slots.iter_mut().filter(|slot| slot.sent == Sent::UnderWay) {
            slot.sent = Sent::Unsure;
        }
        inner.under_way = 0;
        drop(inner);
        self.space.notify_all();
    }

    /// Nobody will make room any more: waiting workers get their entries back.
    pub fn close(&self) {
        self.lock().closed = true;
        self.space.notify_all();
    }

    /// Entries and bytes in the outbox, those under way included.
    pub fn depth(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.slots.len(), inner.bytes)
    }

    /// `[outbox] max_bytes`.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;
    use std::path::PathBuf;

    fn outbox(entries: u64, when_full: OutboxWhenFull) -> Outbox {
        Outbox::new(&config::Outbox {
            path: PathBuf::new(),
            max_bytes: NonZeroU64::new(entries * size(&entry(0))).unwrap(),
            when_full,
        })
    }

    fn entry(pipeline: usize) -> Entry {
        Entry {
            pipeline,
            topic: "t".into(),
            payload: Bytes::from_static(b"{}"),
            qos: Qos::AtLeastOnce,
            retain: false,
            kind: Kind::Prediction,
            ticket: Ticket::none(),
            queued_at: Micros(0),
        }
    }

    #[test]
    fn a_lost_connection_hands_everything_out_again_in_order_and_marked() {
        let outbox = outbox(9, OutboxWhenFull::DropOldest);
        for pipeline in 0..3 {
            assert!(outbox.append(entry(pipeline)).is_empty());
        }
        let first = outbox.take().unwrap();
        let second = outbox.take().unwrap();
        assert!(!first.again && !second.again);
        assert_eq!(outbox.settle(second.token).unwrap().pipeline, 1);
        outbox.connection_lost();
        let again = outbox.take().unwrap();
        assert_eq!((again.token, again.again), (first.token, true));
        assert!(!outbox.take().unwrap().again);
        assert!(outbox.take().is_none());
        assert!(outbox.settle(second.token).is_none(), "an acknowledgement counts once");
    }

    #[test]
    fn a_full_outbox_drops_its_oldest_but_nothing_that_is_under_way() {
        let outbox = outbox(2, OutboxWhenFull::DropOldest);
        outbox.append(entry(0));
        outbox.append(entry(1));
        let under_way = outbox.take().unwrap();
        let dropped = outbox.append(entry(2));
        assert_eq!(dropped.iter().map(|entry| entry.pipeline).collect::<Vec<_>>(), [1]);
        assert_eq!(outbox.settle(under_way.token).unwrap().pipeline, 0);
        assert_eq!(outbox.depth(), (1, size(&entry(2))));
    }

    #[test]
    fn a_blocked_worker_goes_on_when_there_is_room_and_gets_its_entry_back_at_the_end() {
        let outbox = outbox(1, OutboxWhenFull::Block);
        outbox.append(entry(0));
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| outbox.append(entry(1)));
            let sent = outbox.take().unwrap();
            outbox.settle(sent.token).unwrap();
            assert!(worker.join().unwrap().is_empty());
            let worker = scope.spawn(|| outbox.append(entry(2)));
            outbox.close();
            assert_eq!(worker.join().unwrap()[0].pipeline, 2);
        });
    }
}
