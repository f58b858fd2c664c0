//! The side that asks: a list of registers, round after round, each request answered or given up.
//!
//! A machine of bytes and time: [`Master::pump`] moves time on and may hand out one request,
//! [`Master::received`] takes what came, [`Master::wake_at`] says when to look again.
//!
//! Promise: one request under way at a time, each after a silence of t3.5; a request ends with its
//! reply or with its time-out; a unit that is silent is not asked for more in that round, and after
//! three such rounds less often, so that it does not hold up the others; every fault is counted and
//! each kind told once. Writes go between two requests, and however many there are or whoever does not
//! confirm them, the poll and the writes to other units have their turn. Not here: a port, a thread, a log.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::register::{Fetch, Register, plan};
use super::timing::Timing;
use super::trouble::Trouble;
use super::wire::{Adu, Asked, Exception, Fault, Found, MAX_ADU, Reply, Request};
use crate::base::Micros;
use crate::base::counters::{ModbusCounters, ModbusFault};

/// Rounds in a row in which a unit was silent before it is asked less often.
const SILENT_ROUNDS: u32 = 3;
/// A silent unit is asked at least this often.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// A bus that is not silent for so long is somebody else's.
const BABBLE_AFTER: Duration = Duration::from_secs(1);
/// Writes in a row that nobody confirmed, after which each costs a round no more than one of them.
const SILENT_WRITES: u32 = 3;
/// Writes that may wait. Each is gone at its expiry at the latest; the oldest makes room.
const MAX_WRITES: usize = 64;
/// All units that answer without being asked, put together, fill no more than this.
const RECEIVED_BYTES: usize = 2 * MAX_ADU;

/// How a master behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Times of the line.
    pub timing: Timing,
    /// From the start of one round to the start of the next.
    pub period: Duration,
    /// How often a request without a good answer is repeated.
    pub retries: u32,
}

/// A value to be written to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose it is, for whoever handed it in.
    pub tag: usize,
    /// To whom; 0: to all.
    pub unit: u8,
    /// A coil or a register.
    pub request: Request<'static>,
    /// From then on it is too late.
    pub expires_at: Micros,
}

/// Why a write did not happen, or not for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// Its time had come before its turn, or before anybody confirmed it.
    #[error("it was too late: {0}")]
    Expired(Fault),
    /// The unit will not have it.
    #[error(transparent)]
    Refused(Fault),
    /// More waited than is held, and it was the oldest.
    #[error("newer ones came before the bus had time for it")]
    Overtaken,
}

/// What a master has to tell.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// A round is over: a value or nothing for each register. At least one is there.
    Round(&'a [Option<f64>]),
    /// The first fault of its kind of this unit since it was well; the registers that it concerns.
    #[expect(missing_docs, reason = "said above")]
    Trouble { unit: u8, registers: &'a [usize], fault: Fault },
    /// It has answered everything for a while.
    #[expect(missing_docs, reason = "said above")]
    Recovered { unit: u8 },
    /// The unit refused these in one piece; from now on they are asked for one by one.
    #[expect(missing_docs, reason = "said above")]
    Apart { unit: u8, registers: &'a [usize] },
    /// The bus is never silent; told once until it has been.
    Babble,
    /// A write was confirmed; one to all units: sent.
    Written(Write),
    /// A write was not.
    #[expect(missing_docs, reason = "said above")]
    NotWritten { write: Write, why: NotWritten },
}

struct Unit {
    id: u8,
    trouble: Trouble,
    /// In this round.
    faults: u32,
    silent_rounds: u32,
    ask_again_at: Micros,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// The request at the cursor.
    Fetch,
    Write(Write),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Until the next round is due.
    Resting,
    /// Inside a round: the next request goes out when the bus is silent.
    Asking,
    /// A request is out.
    Waiting { asked: Asked, purpose: Purpose, until: Micros, in_round: bool },
}

/// What goes before the next write, if it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// One request of the poll.
    Fetch,
    /// All that is left of the round.
    Round,
}

/// The side that asks.
pub struct Master {
    settings: Settings,
    registers: Vec<Register>,
    plan: Vec<Fetch>,
    units: Vec<Unit>,
    counters: Arc<ModbusCounters>,
    state: State,
    /// Place in the plan, and how often that request has been repeated.
    cursor: usize,
    tries: u32,
    /// When the request at the cursor went out first, and last.
    first_sent_at: Micros,
    sent_at: Micros,
    values: Vec<Option<f64>>,
    writes: VecDeque<Write>,
    owed: Owed,
    /// Without an answer, in a row.
    silent_writes: u32,
    received: heapless::Vec<u8, RECEIVED_BYTES>,
    /// What was received came to its end and is wrong; a silence will settle it.
    is_spoilt: bool,
    /// The adapter hands back what we send: learnt from the answers to reads.
    echoes: bool,
    /// When the last byte that we know of was, or will be, over.
    busy_until: Micros,
    next_round: Micros,
    /// Rounds begin.
    polls: bool,
    wants_bus_since: Option<Micros>,
    babble_told: bool,
}

impl Master {
    /// Asks for `registers`, the first time at once. An empty list: writes only.
    pub fn new(
        settings: Settings,
        registers: Vec<Register>,
        counters: Arc<ModbusCounters>,
        now: Micros,
    ) -> Self {
        let plan = plan(&registers);
        let mut units: Vec<Unit> = Vec::new();
        for register in &registers {
            if units.iter().all(|unit| unit.id != register.unit) {
                let unit = Unit {
                    id: register.unit,
                    trouble: Trouble::default(),
                    faults: 0,
                    silent_rounds: 0,
                    ask_again_at: Micros(0),
                };
                units.push(unit);
            }
        }
        Self {
            settings,
            values: alloc::vec![None; registers.len()],
            registers,
            plan,
            units,
            counters,
            state: State::Resting,
            cursor: 0,
            tries: 0,
            first_sent_at: now,
            sent_at: now,
            writes: VecDeque::new(),
            owed: Owed::Nothing,
            silent_writes: 0,
            received: heapless::Vec::new(),
            is_spoilt: false,
            echoes: false,
            busy_until: now,
            next_round: now,
            polls: true,
            wants_bus_since: None,
            babble_told: false,
        }
    }

    /// The names of some registers, for messages.
    pub fn names(&self, registers: &[usize]) -> impl Iterator<Item = &str> {
        registers.iter().map(|index| self.registers[*index].name.as_str())
    }

    /// The port is (again) open: whatever was under way is not any more.
    pub fn restart(&mut self, now: Micros) {
        if let State::Waiting { purpose: Purpose::Write(write), .. } = self.state {
            self.writes.push_front(write);
        }
        self.state = State::Resting;
        self.received.clear();
        self.busy_until = now;
        self.next_round = now;
        self.wants_bus_since = None;
    }

    /// Whether rounds are wanted: while nobody has room for one, none begins. Writes go on.
    pub fn polls(&mut self, polls: bool) {
        self.polls = polls;
    }

    fn is_round_due(&self, now: Micros) -> bool {
        self.polls && !self.plan.is_empty() && now >= self.next_round
    }

    /// One more value to be written, as soon as the bus allows. Forgotten at its expiry, even while
    /// the port is away.
    pub fn write(&mut self, write: Write, tell: &mut impl FnMut(Event<'_>)) {
        if self.writes.len() == MAX_WRITES
            && let Some(oldest) = self.writes.pop_front()
        {
            tell(Event::NotWritten { write: oldest, why: NotWritten::Overtaken });
        }
        self.writes.push_back(write);
    }

    /// Lets go of writes whose time has come; to be called while the port is away, too.
    pub fn expire(&mut self, now: Micros, tell: &mut impl FnMut(Event<'_>)) {
        self.writes.retain(|write| {
            let in_time = now < write.expires_at;
            if !in_time {
                tell(Event::NotWritten { write: *write, why: NotWritten::Expired(Fault::Silent) });
            }
            in_time
        });
    }

    /// When to call [`pump`](Self::pump) at the latest, if nothing comes before.
    pub fn wake_at(&self) -> Micros {
        let quiet_at = self.busy_until + self.settings.timing.silence();
        match self.state {
            State::Waiting { until, .. } if self.is_spoilt => {
                until.min(self.busy_until + self.settings.timing.is_over_after())
            }
            State::Waiting { until, .. } => until,
            State::Asking => quiet_at,
            State::Resting if !self.writes.is_empty() => quiet_at,
            State::Resting if self.plan.is_empty() || !self.polls => Micros(u64::MAX),
            State::Resting => self.next_round.max(quiet_at),
        }
    }

    /// Bytes came.
    pub fn received(&mut self, now: Micros, bytes: &[u8], tell: &mut impl FnMut(Event<'_>)) {
        self.busy_until = self.busy_until.max(now);
        let State::Waiting { .. } = self.state else {
            self.counters.stray_bytes.add(bytes.len() as u64);
            return;
        };
        for portion in bytes.chunks(MAX_ADU) {
            let room = RECEIVED_BYTES - self.received.len();
            if portion.len() > room {
                // The oldest bytes have had their chance; an answer is never longer than what stays.
                let excess = portion.len() - room;
                self.counters.stray_bytes.add(excess as u64);
                self.received.copy_within(excess.., 0);
                self.received.truncate(RECEIVED_BYTES - portion.len());
            }
            self.received.extend_from_slice(portion).expect("room was made");
        }
        self.look(now, tell);
    }

    /// Moves time on. A request that is to be sent now is appended to `out`.
    pub fn pump(&mut self, now: Micros, out: &mut Vec<u8>, tell: &mut impl FnMut(Event<'_>)) {
        self.expire(now, tell);
        let before = out.len();
        // Each turn sends, rests, or comes nearer to one of these.
        loop {
            let state = self.state;
            match state {
                State::Waiting { until, .. } => {
                    self.look(now, tell);
                    if let State::Waiting { asked, .. } = self.state
                        && now >= until
                    {
                        let fault = asked.fault_of(&self.received);
                        self.conclude(now, Err(fault), tell);
                    }
                    if matches!(self.state, State::Waiting { .. }) {
                        return;
                    }
                }
                State::Asking if self.skip_resting(now) => self.end_round(now, tell),
                State::Resting if self.writes.is_empty() && !self.is_round_due(now) => return,
                State::Resting | State::Asking => {
                    if now < self.busy_until + self.settings.timing.silence() {
                        self.wait_for_silence(now, tell);
                        return;
                    }
                    self.wants_bus_since = None;
                    self.babble_told = false;
                    let in_round = matches!(self.state, State::Asking);
                    let yields = (in_round || self.is_round_due(now)) && self.owed != Owed::Nothing;
                    if let Some(write) = (!yields).then(|| self.writes.pop_front()).flatten() {
                        self.owed = Owed::Fetch;
                        self.send(
                            now,
                            write.unit,
                            &write.request,
                            Purpose::Write(write),
                            in_round,
                            out,
                            tell,
                        );
                    } else if in_round {
                        if self.owed == Owed::Fetch {
                            self.owed = Owed::Nothing;
                        }
                        let Fetch { unit, .. } = self.plan[self.cursor];
                        let request = self.plan[self.cursor].request();
                        self.send(now, unit, &request, Purpose::Fetch, true, out, tell);
                    } else {
                        self.begin_round(now);
                    }
                    if out.len() > before {
                        return;
                    }
                }
            }
        }
    }

    fn wait_for_silence(&mut self, now: Micros, tell: &mut impl FnMut(Event<'_>)) {
        let since = *self.wants_bus_since.get_or_insert(now);
        if now.since(since) < BABBLE_AFTER {
            return;
        }
        self.wants_bus_since = Some(now);
        self.counters.rounds_skipped.bump();
        if !self.babble_told {
            self.babble_told = true;
            tell(Event::Babble);
        }
    }

    fn begin_round(&mut self, now: Micros) {
        let behind = now.since(self.next_round).as_micros() / self.settings.period.as_micros().max(1);
        let behind = u32::try_from(behind).unwrap_or(u32::MAX - 1);
        self.counters.rounds_skipped.add(behind.into());
        self.next_round = self.next_round + self.settings.period * (behind + 1);
        self.values.fill(None);
        self.units.iter_mut().for_each(|unit| unit.faults = 0);
        self.cursor = 0;
        self.tries = 0;
        self.state = State::Asking;
    }

    /// Passes over units that are given a rest. Whether that was the end of the plan.
    fn skip_resting(&mut self, now: Micros) -> bool {
        while let Some(fetch) = self.plan.get(self.cursor) {
            let unit = self.units.iter().find(|unit| unit.id == fetch.unit);
            if unit.is_none_or(|unit| now >= unit.ask_again_at) {
                return false;
            }
            self.cursor += 1;
            self.tries = 0;
        }
        true
    }

    fn end_round(&mut self, now: Micros, tell: &mut impl FnMut(Event<'_>)) {
        self.state = State::Resting;
        self.owed = Owed::Nothing;
        for unit in self.units.iter_mut().filter(|unit| unit.faults == 0 && now >= unit.ask_again_at) {
            if unit.trouble.well(now) {
                tell(Event::Recovered { unit: unit.id });
            }
        }
        let missing = self.values.iter().filter(|value| value.is_none()).count();
        self.counters.rounds.bump();
        self.counters.values_missing.add(missing as u64);
        if missing < self.values.len() {
            tell(Event::Round(&self.values));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one caller, and all of it is one request")]
    fn send(
        &mut self,
        now: Micros,
        unit: u8,
        request: &Request<'_>,
        purpose: Purpose,
        in_round: bool,
        out: &mut Vec<u8>,
        tell: &mut impl FnMut(Event<'_>),
    ) {
        let mut adu = Adu::new();
        let asked =
            request.encode(unit, &mut adu).expect("registers and writes were checked with the config");
        let Timing { think, .. } = self.settings.timing;
        self.counters.requests.bump();
        self.received.clear();
        self.sent_at = now;
        if self.tries == 0 {
            self.first_sent_at = now;
        }
        self.busy_until = now + self.settings.timing.on_wire(adu.len());
        out.extend_from_slice(&adu);
        if let (super::wire::BROADCAST, Purpose::Write(write)) = (unit, purpose) {
            // Nobody answers; all need a moment to do it ("MODBUS over Serial Line", 2.4.1).
            self.busy_until = self.busy_until + think.min(Duration::from_millis(100));
            self.state = if in_round { State::Asking } else { State::Resting };
            tell(Event::Written(write));
            return;
        }
        let until = now + self.settings.timing.time_out(adu.len(), asked.reply_len());
        self.state = State::Waiting { asked, purpose, until, in_round };
    }

    /// Looks for the answer in what has come.
    fn look(&mut self, now: Micros, tell: &mut impl FnMut(Event<'_>)) {
        let State::Waiting { asked, purpose, .. } = self.state else { return };
        let is_write = matches!(purpose, Purpose::Write(_));
        // The answer to a single write is its echo; where the adapter gives one as well, the first is
        // not the answer yet.
        let echo = if is_write && self.echoes { asked.reply_len().min(self.received.len()) } else { 0 };
        let received = core::mem::take(&mut self.received);
        match asked.find(&received[echo..]) {
            Found::Reply { reply, stray } => {
                if !is_write {
                    self.echoes = stray >= 8 && asked.is_echoed_by(&received);
                }
                let stray = if self.echoes { stray.saturating_sub(8) } else { stray };
                self.counters.stray_bytes.add(stray as u64);
                self.conclude(now, Ok(reply), tell);
            }
            Found::Fault(fault @ Fault::Exception(_)) => self.conclude(now, Err(fault), tell),
            Found::Fault(fault) if now.since(self.busy_until) >= self.settings.timing.is_over_after() => {
                self.conclude(now, Err(fault), tell);
            }
            Found::Fault(_) => (self.received, self.is_spoilt) = (received, true),
            Found::NotYet => (self.received, self.is_spoilt) = (received, false),
        }
    }

    fn conclude(&mut self, now: Micros, outcome: Result<Reply<'_>, Fault>, tell: &mut impl FnMut(Event<'_>)) {
        let State::Waiting { asked, purpose, in_round, .. } = self.state else { return };
        self.state = if in_round { State::Asking } else { State::Resting };
        match outcome {
            Ok(_) => self.counters.replies.bump(),
            Err(fault) => {
                self.counters.fault(fault.kind()).bump();
                self.counters.stray_bytes.add(self.received.len() as u64);
            }
        }
        self.received.clear();
        self.is_spoilt = false;
        match (purpose, outcome) {
            (Purpose::Write(write), outcome) => self.wrote(now, write, outcome.err(), tell),
            (Purpose::Fetch, Ok(reply)) => self.store(now, reply),
            (Purpose::Fetch, Err(fault)) => self.failed(now, asked.unit, fault, tell),
        }
    }

    fn wrote(&mut self, now: Micros, write: Write, fault: Option<Fault>, tell: &mut impl FnMut(Event<'_>)) {
        let fault = match fault {
            Some(fault) if fault.kind() != ModbusFault::Exception => fault,
            answered => {
                self.silent_writes = 0;
                return tell(match answered {
                    None => Event::Written(write),
                    Some(fault) => Event::NotWritten { write, why: NotWritten::Refused(fault) },
                });
            }
        };
        if now >= write.expires_at {
            tell(Event::NotWritten { write, why: NotWritten::Expired(fault) });
        } else {
            self.writes.push_front(write);
        }
        // Those to others first, each unit's in order: who is dead holds up nobody else for long.
        self.writes.make_contiguous().sort_by_key(|waiting| waiting.unit == write.unit);
        self.silent_writes = self.silent_writes.saturating_add(1);
        if self.silent_writes >= SILENT_WRITES {
            self.owed = Owed::Round;
        }
    }

    fn store(&mut self, now: Micros, reply: Reply<'_>) {
        let fetch = &self.plan[self.cursor];
        if let Reply::Bits(data) | Reply::Registers(data) = reply {
            for index in &fetch.registers {
                self.values[*index] = self.registers[*index].value(fetch.address, data);
            }
        }
        if let Some(unit) = self.units.iter_mut().find(|unit| unit.id == fetch.unit) {
            unit.silent_rounds = 0;
        }
        if self.tries > 0 {
            // This may be the late answer to the first try; then the one to the last is still to come, and
            // must not be taken for the answer to the next request.
            let lateness = now.since(self.first_sent_at) + self.settings.timing.is_over_after();
            self.busy_until = self.busy_until.max(self.sent_at + lateness);
        }
        self.cursor += 1;
        self.tries = 0;
    }

    fn failed(&mut self, now: Micros, id: u8, fault: Fault, tell: &mut impl FnMut(Event<'_>)) {
        let fetch = &self.plan[self.cursor];
        let Some(unit) = self.units.iter_mut().find(|unit| unit.id == id) else { return };
        let refused = match fault {
            Fault::Exception(code) => matches!(code.0, 1..=3),
            _ => false,
        };
        let in_one_piece = fetch.registers.len() > 1
            && matches!(fault, Fault::Exception(Exception::ILLEGAL_ADDRESS | Exception::ILLEGAL_VALUE));
        if in_one_piece {
            tell(Event::Apart { unit: id, registers: &fetch.registers });
            let apart = fetch.apart(&self.registers);
            self.plan.splice(self.cursor..=self.cursor, apart);
            self.tries = 0;
            return;
        }
        // A refusal stands, and a unit that has not answered for rounds gets one chance a round.
        if !refused && unit.silent_rounds == 0 && self.tries < self.settings.retries {
            self.tries += 1;
            return;
        }
        unit.faults += 1;
        if unit.trouble.fault(fault.kind() as u8) {
            tell(Event::Trouble { unit: id, registers: &fetch.registers, fault });
        }
        self.tries = 0;
        if fault.kind() == ModbusFault::Exception {
            self.cursor += 1;
            return;
        }
        unit.silent_rounds += 1;
        if unit.silent_rounds >= SILENT_ROUNDS {
            let doublings = (unit.silent_rounds - SILENT_ROUNDS).min(16);
            unit.ask_again_at = now + (self.settings.period * (1 << doublings)).min(LONGEST_REST);
        }
        // Its other registers would only take as long.
        while self.plan.get(self.cursor).is_some_and(|fetch| fetch.unit == id) {
            self.cursor += 1;
        }
    }
}
