//! The side that overhears: another master asks, units answer, and we keep what concerns us.
//!
//! A reply names neither address nor count, so it is worth nothing without the request before it. The
//! stream is cut by length and CRC, not by silences: those do not survive an adapter's buffers. A
//! silence only ends what was begun and not finished.
//!
//! Promise: any bytes, any portions: the same values come out of the same stream, at most 256 bytes
//! are held, and a bad byte costs the exchange that it fell into and the next one at most (a million
//! seeded cases never cost the next one), but for the one in 65,536 whose CRC holds by chance.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::register::Register;
use super::timing::Timing;
use super::trouble::Trouble;
use super::wire::{Asked, BROADCAST, Fault, MAX_ADU, MAX_UNIT, Reply, Unfinished, is_sealed};
use crate::base::Micros;
use crate::base::counters::ModbusCounters;

/// What a listener has to tell.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// Every register was overheard since the last round, or a period is over: then with nothing for
    /// those that were not. At least one value is there.
    Round(&'a [Option<f64>]),
    /// The first fault of its kind of this unit since it was well.
    #[expect(missing_docs, reason = "said above")]
    Trouble { unit: u8, fault: Fault },
    /// It has answered everything for a while.
    #[expect(missing_docs, reason = "said above")]
    Recovered { unit: u8 },
}

/// What stands at the start of the buffer.
enum Start {
    /// An ADU of this many bytes.
    Request(Asked, usize),
    Answer(usize),
    /// It depends on bytes that have not come.
    Unfinished,
    /// No ADU begins here.
    Nothing,
}

/// The side that overhears.
pub struct Listener {
    timing: Timing,
    /// Longest time that one round may take.
    period: Duration,
    registers: Vec<Register>,
    counters: Arc<ModbusCounters>,
    troubles: Vec<(u8, Trouble)>,
    held: heapless::Vec<u8, MAX_ADU>,
    last_byte_at: Micros,
    /// A request that waits for its reply, and until when.
    asked: Option<(Asked, Micros)>,
    values: Vec<Option<f64>>,
    round_since: Option<Micros>,
}

impl Listener {
    /// Listens for `registers`.
    pub fn new(
        timing: Timing,
        period: Duration,
        registers: Vec<Register>,
        counters: Arc<ModbusCounters>,
    ) -> Self {
        let mut units: Vec<u8> = registers.iter().map(|register| register.unit).collect();
        units.sort_unstable();
        units.dedup();
        Self {
            timing,
            period,
            values: alloc::vec![None; registers.len()],
            registers,
            counters,
            troubles: units.into_iter().map(|unit| (unit, Trouble::default())).collect(),
            held: heapless::Vec::new(),
            last_byte_at: Micros(0),
            asked: None,
            round_since: None,
        }
    }

    /// The port is (again) open: what was begun is over. Half a round of before is nothing to act on now.
    pub fn restart(&mut self) {
        self.round_since = None;
        self.values.fill(None);
        self.counters.stray_bytes.add(self.held.len() as u64);
        self.held.clear();
        self.asked = None;
    }

    /// When to call [`tick`](Self::tick) at the latest, if nothing comes before.
    pub fn wake_at(&self) -> Micros {
        let silence = (!self.held.is_empty()).then(|| self.last_byte_at + self.timing.is_over_after());
        let round = self.round_since.map(|since| since + self.period);
        let unanswered = self.asked.map(|(_, until)| until);
        [silence, round, unanswered].into_iter().flatten().min().unwrap_or(Micros(u64::MAX))
    }

    /// Bytes came.
    pub fn received(&mut self, now: Micros, bytes: &[u8], tell: &mut impl FnMut(Event<'_>)) {
        self.tick(now, tell);
        self.last_byte_at = now;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = MAX_ADU - self.held.len();
            let (portion, later) = rest.split_at(room.min(rest.len()));
            self.held.extend_from_slice(portion).expect("no more than there is room for");
            rest = later;
            self.take_whole(now, false, tell);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Micros, tell: &mut impl FnMut(Event<'_>)) {
        if !self.held.is_empty() && now.since(self.last_byte_at) >= self.timing.is_over_after() {
            self.take_whole(now, true, tell);
        }
        if self.asked.is_some_and(|(_, until)| now >= until) {
            self.unanswered(tell);
        }
        if self.round_since.is_some_and(|since| now.since(since) >= self.period) {
            self.end_round(tell);
        }
    }

    /// Takes every ADU from the front of what is held. `is_over`: nothing more belongs to it.
    fn take_whole(&mut self, now: Micros, is_over: bool, tell: &mut impl FnMut(Event<'_>)) {
        // What is full and undecided will not be decided by waiting.
        while !self.held.is_empty() {
            let used = match self.start(is_over) {
                Start::Unfinished if !is_over && !self.held.is_full() => return,
                // A function that we do not know has no length that we know: a silence tells it.
                Start::Unfinished | Start::Nothing if is_over && is_sealed(&self.held) => self.held.len(),
                Start::Unfinished | Start::Nothing => {
                    self.counters.stray_bytes.bump();
                    1
                }
                Start::Request(asked, len) => {
                    self.unanswered(tell);
                    self.counters.requests.bump();
                    let until = now + self.timing.time_out(0, asked.reply_len());
                    self.asked = (asked.unit != BROADCAST).then_some((asked, until));
                    len
                }
                Start::Answer(len) => {
                    self.answered(now, tell);
                    len
                }
            };
            self.held.copy_within(used.., 0);
            self.held.truncate(self.held.len() - used);
        }
    }

    /// The first that fits, in an order that does not depend on how the bytes were portioned. `is_over`: an
    /// answer that is not whole will not become whole, and what looks like one may be the next request.
    fn start(&self, is_over: bool) -> Start {
        let bytes = &self.held[..];
        if let Some((asked, _)) = &self.asked {
            if let Some((_, len)) = asked.answer_at_start(bytes) {
                return Start::Answer(len);
            }
            if !is_over && asked.is_unfinished(bytes) {
                return Start::Unfinished;
            }
        }
        if bytes.first().is_some_and(|unit| *unit > MAX_UNIT) {
            return Start::Nothing;
        }
        match Asked::overheard(bytes) {
            Ok(Some((asked, len))) => Start::Request(asked, len),
            Err(Unfinished) => Start::Unfinished,
            // A reply whose request was not heard is worth nothing, nor is a function that we do not know.
            Ok(None) => Start::Nothing,
        }
    }

    fn trouble(&mut self, unit: u8) -> Option<&mut Trouble> {
        self.troubles.iter_mut().find(|(id, _)| *id == unit).map(|(_, trouble)| trouble)
    }

    fn fault(&mut self, unit: u8, fault: Fault, tell: &mut impl FnMut(Event<'_>)) {
        self.counters.fault(fault.kind()).bump();
        if self.trouble(unit).is_some_and(|trouble| trouble.fault(fault.kind() as u8)) {
            tell(Event::Trouble { unit, fault });
        }
    }

    /// The request that is open will have no reply any more.
    fn unanswered(&mut self, tell: &mut impl FnMut(Event<'_>)) {
        if let Some((asked, _)) = self.asked.take() {
            self.fault(asked.unit, Fault::Silent, tell);
        }
    }

    fn answered(&mut self, now: Micros, tell: &mut impl FnMut(Event<'_>)) {
        let Some((asked, _)) = self.asked.take() else { return };
        let held = core::mem::take(&mut self.held);
        match asked.answer_at_start(&held) {
            Some((Ok(reply), _)) => {
                self.counters.replies.bump();
                self.store(now, &asked, reply);
                if self.trouble(asked.unit).is_some_and(|trouble| trouble.well(now)) {
                    tell(Event::Recovered { unit: asked.unit });
                }
            }
            Some((Err(exception), _)) => self.fault(asked.unit, Fault::Exception(exception), tell),
            None => {}
        }
        self.held = held;
        if self.round_since.is_some() && self.values.iter().all(Option::is_some) {
            self.end_round(tell);
        }
    }

    fn store(&mut self, now: Micros, asked: &Asked, reply: Reply<'_>) {
        let (Reply::Bits(data) | Reply::Registers(data), Some(table)) = (reply, asked.table()) else {
            return;
        };
        for (register, slot) in self.registers.iter().zip(&mut self.values) {
            let is_inside = (register.unit, register.table) == (asked.unit, table)
                && register.address >= asked.address
                && register.end() <= u32::from(asked.address) + u32::from(asked.operand);
            if is_inside {
                *slot = register.value(asked.address, data);
                self.round_since.get_or_insert(now);
            }
        }
    }

    fn end_round(&mut self, tell: &mut impl FnMut(Event<'_>)) {
        self.round_since = None;
        let missing = self.values.iter().filter(|value| value.is_none()).count();
        self.counters.rounds.bump();
        self.counters.values_missing.add(missing as u64);
        if missing < self.values.len() {
            tell(Event::Round(&self.values));
        }
        self.values.fill(None);
    }
}
