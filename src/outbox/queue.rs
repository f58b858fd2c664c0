//! The queue as a machine without disk and threads: what waits in memory, what was read back from disk,
//! what is under way.
//!
//! Promise: an entry leaves by its acknowledgement, by a drop that is handed back to be counted, or by
//! being safe on disk. Live entries go in order and before the backlog, which gets its turns at its
//! pace; what a broken connection may have delivered goes out again, first of its kind.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::policy::{BACKLOG_TURN, Line, Pace, Throughput, Waiting};
use super::record::Record;
use super::{Entry, Outgoing, Settled, Token};
use crate::base::{Back, Micros, UnixMicros};
use crate::config;
use crate::flow::Ticket;

/// As many are told apart; beyond them the backlog's messages are retained again.
const RETAINED_TOPICS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Never,
    UnderWay,
    /// The connection broke before an acknowledgement came, or the broker refused it.
    Unsure,
}

/// What became of the attempts to hand a message over that the broker refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Refusals {
    /// Those between which it has taken other messages.
    count: u32,
    /// Messages that it had taken by the last one.
    taken_by_then: u64,
    /// Not sent again before.
    until: Micros,
}

impl Refusals {
    fn another(&mut self, taken: u64, until: Micros) -> u32 {
        if self.count == 0 || taken > self.taken_by_then {
            self.count += 1;
        }
        (self.taken_by_then, self.until) = (taken, until);
        self.count
    }
}

/// An entry in memory.
struct Live {
    token: Token,
    entry: Entry,
    sent: Sent,
    refusals: Refusals,
    /// It is in the group that is being written.
    writing: bool,
}

impl Live {
    fn waits(&self) -> bool {
        self.sent != Sent::UnderWay && !self.writing
    }

    fn is_due(&self, now: Micros) -> bool {
        self.waits() && now >= self.refusals.until
    }
}

/// A record that was read back.
struct Stored {
    token: Token,
    segment: u64,
    record: Record,
    /// In memory.
    bytes: u64,
    sent: Sent,
    refusals: Refusals,
}

impl Stored {
    fn is_due(&self, now: Micros) -> bool {
        self.sent != Sent::UnderWay && now >= self.refusals.until
    }
}

/// A segment that was read back and has records left.
struct Loaded {
    segment: u64,
    left: usize,
}

pub(super) struct Queue {
    /// In the order of their tokens.
    live: VecDeque<Live>,
    live_bytes: u64,
    live_under_way: usize,
    /// In the order of their tokens.
    stored: VecDeque<Stored>,
    stored_under_way: usize,
    loaded: Vec<Loaded>,
    /// Segments without records left, to be removed.
    pub(super) emptied: Vec<u64>,
    next_token: u64,
    turn: u32,
    pace: Pace,
    throughput: Throughput,
    /// Messages whose acknowledgement has said that the broker has them.
    taken: u64,
    /// Those that travel alone.
    suspects: Vec<Token>,
    /// Those of them that went to disk and were not read back yet: topic, payload, and what became of them.
    written_suspects: Vec<(Arc<str>, Bytes, Refusals)>,
    /// Topics of retained messages whose newest has gone out: what the backlog has for them is older, and must
    /// not take its place at the broker.
    newest_is_out: HashSet<Arc<str>>,
    max_inflight: usize,
    line: Line,
    pub(super) closing: bool,
    /// The connection is gone for good: nothing is handed out any more.
    pub(super) finishing: bool,
    /// The keeper is to end.
    pub(super) ended: bool,
}

/// Bytes that an entry counts for: its text and its own book-keeping.
pub(super) fn size(entry: &Entry) -> u64 {
    text_bytes(&entry.topic, &entry.payload, entry.back.as_deref()) + size_of::<Live>() as u64
}

fn text_bytes(topic: &str, payload: &[u8], back: Option<&Back>) -> u64 {
    (topic.len() + payload.len() + back.map_or(0, Back::bytes)) as u64
}

impl Queue {
    /// Down since `now`. Of what is read back at most half of `max_inflight` is under way at a time.
    pub(super) fn new(config: &config::Outbox, max_inflight: usize, now: Micros) -> Self {
        Self {
            live: VecDeque::new(),
            live_bytes: 0,
            live_under_way: 0,
            stored: VecDeque::new(),
            stored_under_way: 0,
            loaded: Vec::new(),
            emptied: Vec::new(),
            next_token: 0,
            turn: 0,
            pace: Pace::new(config.backlog_per_sec.get()),
            throughput: Throughput::new(config.spill_after, now),
            taken: 0,
            suspects: Vec::new(),
            written_suspects: Vec::new(),
            newest_is_out: HashSet::new(),
            max_inflight,
            line: Line::Down { since: now },
            closing: false,
            finishing: false,
            ended: false,
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Entries and bytes in memory that are not on disk.
    pub(super) fn live(&self) -> (usize, u64) {
        (self.live.len(), self.live_bytes)
    }

    /// Records read back, and how many of them wait to be sent.
    pub(super) fn stored(&self) -> (usize, usize) {
        (self.stored.len(), self.stored.len() - self.stored_under_way)
    }

    /// Bytes of the records read back, but for those that the broker refuses: they hold up no other.
    pub(super) fn stored_bytes(&self) -> u64 {
        let wanted = self.stored.iter().filter(|stored| stored.refusals.count == 0);
        wanted.map(|stored| stored.bytes).sum()
    }

    /// Whether everything in memory has been acknowledged or written.
    pub(super) fn is_quiet(&self) -> bool {
        self.live.is_empty() && self.stored_under_way == 0
    }

    pub(super) fn append(&mut self, entry: Entry) {
        let token = self.token();
        self.live_bytes += size(&entry);
        self.live.push_back(Live {
            token,
            entry,
            sent: Sent::Never,
            refusals: Refusals::default(),
            writing: false,
        });
    }

    /// Takes out the oldest entry in memory that waits; what is under way may have arrived already: it
    /// is not ours to drop.
    pub(super) fn drop_oldest(&mut self) -> Option<Entry> {
        let index = self.live.iter().position(Live::waits)?;
        self.remove_live(index)
    }

    fn remove_live(&mut self, index: usize) -> Option<Entry> {
        let live = self.live.remove(index)?;
        self.live_bytes -= size(&live.entry);
        self.live_under_way -= usize::from(live.sent == Sent::UnderWay);
        Some(live.entry)
    }

    /// The next entry to send; from now on it is under way.
    pub(super) fn take(&mut self, now: Micros, index_of: impl Fn(&str) -> Option<usize>) -> Option<Outgoing> {
        if self.finishing {
            return None;
        }
        if let Some(token) = self.due_suspect(now) {
            if self.live_under_way + self.stored_under_way > 0 {
                return None;
            }
            return match self.live_index(token) {
                Some(index) => Some(Outgoing { alone: true, ..self.send_live(index) }),
                None => {
                    let index = self.stored_index(token)?;
                    Some(Outgoing { alone: true, ..self.send_stored(index, index_of) })
                }
            };
        }
        self.turn = self.turn.wrapping_add(1);
        let backlog_first = self.turn.is_multiple_of(BACKLOG_TURN);
        if backlog_first && let Some(outgoing) = self.take_stored(now, &index_of) {
            return Some(outgoing);
        }
        self.take_live(now).or_else(|| self.take_stored(now, &index_of))
    }

    fn take_live(&mut self, now: Micros) -> Option<Outgoing> {
        if self.live_under_way == self.live.len() {
            return None;
        }
        let index = self.live.iter().position(|live| live.is_due(now))?;
        Some(self.send_live(index))
    }

    fn send_live(&mut self, index: usize) -> Outgoing {
        let live = &mut self.live[index];
        let again = live.sent == Sent::Unsure;
        live.sent = Sent::UnderWay;
        self.live_under_way += 1;
        if live.entry.retain {
            if self.newest_is_out.len() >= RETAINED_TOPICS {
                self.newest_is_out.clear();
            }
            self.newest_is_out.insert(live.entry.topic.clone());
        }
        Outgoing {
            token: live.token,
            pipeline: Some(live.entry.pipeline),
            topic: live.entry.topic.clone(),
            payload: live.entry.payload.clone(),
            qos: live.entry.qos,
            retain: live.entry.retain,
            back: live.entry.back.clone(),
            again,
            alone: false,
        }
    }

    fn take_stored(&mut self, now: Micros, index_of: impl Fn(&str) -> Option<usize>) -> Option<Outgoing> {
        let none_waits = self.stored_under_way == self.stored.len();
        let enough = self.stored_under_way >= (self.max_inflight / 2).max(1);
        if none_waits || enough || self.closing || self.pace.allowed(now) == 0 {
            return None;
        }
        let index = self.stored.iter().position(|stored| stored.is_due(now))?;
        Some(self.send_stored(index, index_of))
    }

    fn send_stored(&mut self, index: usize, index_of: impl Fn(&str) -> Option<usize>) -> Outgoing {
        let stored = &mut self.stored[index];
        let again = stored.sent == Sent::Unsure || stored.record.sent_before;
        stored.sent = Sent::UnderWay;
        self.stored_under_way += 1;
        self.pace.spend();
        Outgoing {
            token: stored.token,
            pipeline: index_of(&stored.record.pipeline),
            topic: stored.record.topic.clone(),
            payload: stored.record.payload.clone(),
            qos: stored.record.qos,
            retain: stored.record.retain && !self.newest_is_out.contains(&stored.record.topic),
            back: stored.record.back.clone(),
            again,
            alone: false,
        }
    }

    fn live_index(&self, token: Token) -> Option<usize> {
        self.live.binary_search_by_key(&token, |live| live.token).ok()
    }

    fn stored_index(&self, token: Token) -> Option<usize> {
        self.stored.binary_search_by_key(&token, |stored| stored.token).ok()
    }

    /// It travels alone from now on, before all others.
    pub(super) fn suspect(&mut self, token: Token) {
        if !self.suspects.contains(&token) {
            self.suspects.push(token);
        }
    }

    /// A suspect that may go now. Those that have left, to the disk too, are forgotten.
    fn due_suspect(&mut self, now: Micros) -> Option<Token> {
        let mut suspects = std::mem::take(&mut self.suspects);
        suspects.retain(|token| self.describe(*token).is_some());
        let is_due = |token: &&Token| match (self.live_index(**token), self.stored_index(**token)) {
            (Some(index), _) => self.live[index].is_due(now),
            (None, Some(index)) => !self.closing && self.stored[index].is_due(now),
            (None, None) => false,
        };
        let due = suspects.iter().find(is_due).copied();
        self.suspects = suspects;
        due
    }

    pub(super) fn describe(&self, token: Token) -> Option<(Arc<str>, usize)> {
        if let Some(index) = self.live_index(token) {
            let entry = &self.live[index].entry;
            return Some((entry.topic.clone(), entry.payload.len()));
        }
        let record = &self.stored[self.stored_index(token)?].record;
        Some((record.topic.clone(), record.payload.len()))
    }

    /// Whether the backlog has something to send at this moment.
    pub(super) fn backlog_is_due(&mut self, now: Micros) -> bool {
        let (_, waiting) = self.stored();
        self.is_up() && waiting > 0 && !self.closing && self.pace.allowed(now) > 0
    }

    /// The broker has it; or will never have it, and it is no proof that others are taken.
    pub(super) fn settle(
        &mut self,
        token: Token,
        now: Micros,
        is_taken: bool,
        index_of: impl Fn(&str) -> Option<usize>,
    ) -> Option<Settled> {
        self.moved(now);
        // At QoS 0 nobody has said that it was taken.
        let counts = |qos| u64::from(is_taken && qos == config::Qos::AtLeastOnce);
        if let Some(index) = self.live_index(token) {
            let Entry { pipeline, kind, ticket, queued_at, qos, .. } = self.remove_live(index)?;
            self.taken += counts(qos);
            return Some(Settled { pipeline: Some(pipeline), kind, ticket, queued_at: Some(queued_at) });
        }
        let index = self.stored_index(token)?;
        let stored = self.remove_stored(index)?;
        self.taken += counts(stored.record.qos);
        Some(Settled {
            pipeline: index_of(&stored.record.pipeline),
            kind: stored.record.kind,
            ticket: Ticket::none(),
            queued_at: None,
        })
    }

    fn remove_stored(&mut self, index: usize) -> Option<Stored> {
        let stored = self.stored.remove(index)?;
        self.stored_under_way -= usize::from(stored.sent == Sent::UnderWay);
        if let Some(at) = self.loaded.iter().position(|loaded| loaded.segment == stored.segment) {
            self.loaded[at].left -= 1;
            if self.loaded[at].left == 0 {
                self.loaded.remove(at);
                self.emptied.push(stored.segment);
            }
        }
        Some(stored)
    }

    /// The broker refused it, and may take it another time: handed out again, not before `until`. How
    /// often it has been refused while others were taken.
    pub(super) fn refused(&mut self, token: Token, until: Micros) -> u32 {
        if let Some(index) = self.live_index(token) {
            let live = &mut self.live[index];
            self.live_under_way -= usize::from(live.sent == Sent::UnderWay);
            live.sent = Sent::Unsure;
            return live.refusals.another(self.taken, until);
        }
        let Some(index) = self.stored_index(token) else { return 0 };
        let stored = &mut self.stored[index];
        self.stored_under_way -= usize::from(stored.sent == Sent::UnderWay);
        stored.sent = Sent::Unsure;
        stored.refusals.another(self.taken, until)
    }

    /// The connection is gone: whatever was under way is handed out again, in order.
    pub(super) fn connection_lost(&mut self, now: Micros) {
        for live in self.live.iter_mut().filter(|live| live.sent == Sent::UnderWay) {
            live.sent = Sent::Unsure;
        }
        for stored in self.stored.iter_mut().filter(|stored| stored.sent == Sent::UnderWay) {
            stored.sent = Sent::Unsure;
        }
        self.live_under_way = 0;
        self.stored_under_way = 0;
        if self.is_up() {
            self.line = Line::Down { since: now };
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.line, Line::Up { .. })
    }

    /// There is a connection.
    pub(super) fn connected(&mut self, now: Micros) {
        if !self.finishing {
            self.line = Line::Up { moved: now };
        }
    }

    fn moved(&mut self, now: Micros) {
        self.throughput.count(now);
        if let Line::Up { moved } = &mut self.line {
            *moved = now;
        }
    }

    /// Whether another entry is to wait outside: the link is up, and those before it are late already.
    pub(super) fn makes_wait(&self) -> bool {
        // A link whose rate is not known yet always finds the next two flights ready.
        let may_wait = self.throughput.of_a_window().max(2 * self.max_inflight);
        self.is_up() && self.live.len() - self.live_under_way >= may_wait
    }

    /// When the oldest entry was queued that is in memory and not under way.
    fn oldest(&self) -> Option<Micros> {
        if self.live_under_way == self.live.len() {
            return None;
        }
        self.live.iter().find(|live| live.waits()).map(|live| live.entry.queued_at)
    }

    /// What the decision to write looks at; `None`: nothing waits in memory.
    pub(super) fn waiting(&self, memory_max: u64) -> Option<Waiting> {
        let oldest = self.oldest()?;
        Some(Waiting {
            line: self.line,
            oldest,
            memory_is_short: self.live_bytes > memory_max / 2,
            closing: self.closing,
        })
    }

    /// The oldest entries that wait, as records of about `max_bytes` in all; until [`Queue::written`]
    /// nobody else gets them.
    pub(super) fn begin_write(
        &mut self,
        max_bytes: u64,
        names: &[Arc<str>],
        now: Micros,
        wall: UnixMicros,
    ) -> Vec<Record> {
        let mut group = Vec::new();
        let mut bytes = 0;
        for live in self.live.iter_mut().filter(|live| live.waits()) {
            let entry = &live.entry;
            let age_us = now.since(entry.queued_at).as_micros() as u64;
            let record = Record {
                pipeline: names[entry.pipeline].clone(),
                topic: entry.topic.clone(),
                payload: entry.payload.clone(),
                qos: entry.qos,
                retain: entry.retain,
                kind: entry.kind,
                back: entry.back.clone(),
                sent_before: live.sent == Sent::Unsure,
                key: entry.identity.key,
                delivery: entry.identity.delivery,
                at: UnixMicros(wall.0.saturating_sub(age_us)),
            };
            bytes += record.bytes() as u64;
            if bytes > max_bytes && !group.is_empty() {
                break;
            }
            live.writing = true;
            group.push(record);
        }
        group
    }

    /// The group is on disk: the tickets of its entries, to be settled. Or it is not, and all waits as
    /// before.
    pub(super) fn written(&mut self, is_safe: bool) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        if is_safe {
            let (written, kept) = std::mem::take(&mut self.live).into_iter().partition(|live| live.writing);
            self.live = kept;
            let written: VecDeque<Live> = written;
            for live in written {
                self.live_bytes -= size(&live.entry);
                self.newest_is_out.remove(&live.entry.topic);
                if self.suspects.contains(&live.token) {
                    let Entry { topic, payload, .. } = &live.entry;
                    self.written_suspects.push((topic.clone(), payload.clone(), live.refusals));
                }
                tickets.push(live.entry.ticket);
            }
        } else {
            self.live.iter_mut().for_each(|live| live.writing = false);
        }
        tickets
    }

    /// Takes in what a segment holds. `maybe_sent`: an earlier process wrote it, and may have sent it.
    pub(super) fn load(&mut self, segment: u64, records: Vec<Record>, maybe_sent: bool) {
        if records.is_empty() {
            self.emptied.push(segment);
            return;
        }
        self.loaded.push(Loaded { segment, left: records.len() });
        for mut record in records {
            record.sent_before |= maybe_sent;
            let token = self.token();
            let known = |(topic, payload, _): &(Arc<str>, Bytes, Refusals)| {
                *topic == record.topic && *payload == record.payload
            };
            let known = self.written_suspects.iter().position(known);
            let refusals = known.map_or_else(Refusals::default, |at| {
                self.suspects.push(token);
                self.written_suspects.swap_remove(at).2
            });
            let bytes = text_bytes(&record.topic, &record.payload, record.back.as_deref());
            self.stored.push_back(Stored { token, segment, record, bytes, sent: Sent::Never, refusals });
        }
    }

    pub(super) fn is_loaded(&self, segment: u64) -> bool {
        self.loaded.iter().any(|loaded| loaded.segment == segment) || self.emptied.contains(&segment)
    }

    /// Whether a record of `segment` is under way: it is not ours to drop.
    pub(super) fn has_under_way(&self, segment: u64) -> bool {
        self.stored.iter().any(|stored| stored.segment == segment && stored.sent == Sent::UnderWay)
    }

    /// Forgets what was read back of a segment; its records, to be counted.
    pub(super) fn unload(&mut self, segment: u64) -> Vec<Record> {
        let (dropped, kept) =
            std::mem::take(&mut self.stored).into_iter().partition(|stored| stored.segment == segment);
        self.stored = kept;
        self.loaded.retain(|loaded| loaded.segment != segment);
        let dropped: VecDeque<Stored> = dropped;
        dropped.into_iter().map(|stored| stored.record).collect()
    }

    /// Everything that is left in memory; its frames stay with their source.
    pub(super) fn leave_all(&mut self) -> usize {
        let left = self.live.len();
        self.live_bytes = 0;
        self.live_under_way = 0;
        self.live.drain(..).for_each(|live| live.entry.ticket.leave());
        left
    }
}
